//! Agents: what a team starts with, what it makes of it, and what its versions keep.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Team, assert_error, assert_needs_secret, assert_unknown, team};
use crate::support::{Response, world};

/// The agents that every team starts with, in the order they are listed.
const BUILT_IN: [&str; 6] = [
    "chat",
    "web-search",
    "image-generation",
    "code",
    "web-analyzer",
    "orchestrated",
];

async fn made(team: &Team, body: Value) -> String {
    let made = team.sk.post("/agent", &body).await;
    assert_eq!(made.status, 200, "{}", made.raw);
    made.text("id")
}

/// The ids of a page.
fn ids(page: &Response) -> Vec<String> {
    assert_eq!(page.status, 200, "{}", page.raw);
    let agents = page.body["agents"].as_array().unwrap().iter();
    agents
        .map(|agent| agent["id"].as_str().unwrap().to_owned())
        .collect()
}

fn not_found() -> Value {
    json!({ "error": "Not Found", "message": "Agent not found" })
}

#[tokio::test]
async fn a_team_starts_with_six_agents() {
    let team = team().await;
    let page = team.sk.get("/agent").await;
    assert_eq!(ids(&page), BUILT_IN);
    assert!(page.next().is_none() && page.body.get("nextCursor").is_none());
    let chat = &page.body["agents"][0];
    let whole = json!({
        "id": "chat", "name": "Chat", "description": "Answers questions and keeps a conversation going.",
        "teamId": team.id, "createdAt": chat["createdAt"],
    });
    assert_eq!(*chat, whole);
    for id in BUILT_IN {
        let agent = team.sk.get(&format!("/agent/{id}")).await;
        assert_eq!((agent.status, &agent.body["version"]), (200, &json!(1)));
        assert_eq!(agent.body["createdAt"], chat["createdAt"]);
    }
}

#[tokio::test]
async fn an_agent_is_made_and_read_back() {
    let team = team().await;
    let body = json!({
        "name": "Ada", "description": "Counts", "type": "maths", "systemPrompt": "Count.",
        "provider": "openai", "model": "gpt-4o", "temperature": 0.25, "maxTokens": 99,
        "tools": ["calculator", "current_time"],
    });
    let made = team.sk.post("/agent", &body).await;
    let (id, at) = (made.text("id"), made.text("createdAt"));
    assert!(id.starts_with("agent_"));
    let short = json!({
        "id": id, "name": "Ada", "description": "Counts", "teamId": team.id, "createdAt": at,
    });
    made.assert(200, short);
    let whole = json!({
        "id": id, "name": "Ada", "description": "Counts", "type": "maths", "systemPrompt": "Count.",
        "provider": "openai", "model": "gpt-4o", "temperature": 0.25, "maxTokens": 99,
        "tools": ["calculator", "current_time"],
        "version": 1, "teamId": team.id, "createdAt": at, "updatedAt": at,
    });
    team.sk
        .get(&format!("/agent/{id}"))
        .await
        .assert(200, whole);
}

#[tokio::test]
async fn an_agent_needs_no_more_than_a_name() {
    let team = team().await;
    let id = made(
        &team,
        json!({ "name": "Ada", "provider": null, "model": null }),
    )
    .await;
    let agent = team.sk.get(&format!("/agent/{id}")).await;
    for (field, value) in [
        ("description", json!("")),
        ("type", json!("custom")),
        ("systemPrompt", json!("")),
        ("provider", Value::Null),
        ("model", Value::Null),
        ("temperature", Value::Null),
        ("maxTokens", Value::Null),
        ("tools", json!([])),
    ] {
        assert_eq!(agent.body[field], value, "{field}");
    }
}

#[tokio::test]
async fn a_field_that_breaks_a_rule_is_named_and_nothing_is_made_or_changed() {
    let team = team().await;
    let id = made(&team, json!({ "name": "Ada" })).await;
    let long = |length| json!("x".repeat(length));
    for (field, value) in [
        ("name", json!("")),
        ("name", json!(5)),
        ("name", long(257)),
        ("name", json!("a\u{0}b")),
        ("description", long(4_097)),
        ("type", json!("Sales Team")),
        ("type", long(65)),
        ("systemPrompt", long(32_769)),
        ("provider", json!("skynet")),
        ("model", json!("")),
        ("model", long(129)),
        ("model", json!("../x?key=")),
        ("temperature", json!(2.01)),
        ("temperature", json!(-0.01)),
        ("temperature", json!(1e-200)),
        ("temperature", json!(0.000_000_9)),
        ("temperature", json!("hot")),
        ("maxTokens", json!(0)),
        ("maxTokens", json!(32_769)),
        ("maxTokens", json!(1.5)),
        ("tools", json!(["shell"])),
        ("tools", json!("calculator")),
        ("tools", json!(vec!["calculator"; 17])),
    ] {
        let mut body = json!({ "name": "Eve", "model": "echo-1" });
        body[field] = value;
        let refused = team.sk.post("/agent", &body).await;
        let named = refused.body["field"].as_str().unwrap_or_default();
        assert!(named.starts_with(field), "{field}: {}", refused.raw);
        assert_error(&refused, 400, "Bad Request", Some(named));
        let refused = team.sk.put(&format!("/agent/{id}"), &body).await;
        assert_error(&refused, 400, "Bad Request", Some(named));
    }
    let missing = team.sk.post("/agent", &json!({})).await;
    missing.assert(
        400,
        json!({ "error": "Bad Request", "message": "Missing name", "field": "name" }),
    );
    let alone = json!({ "name": "Eve", "provider": "openai" });
    assert_error(
        &team.sk.post("/agent", &alone).await,
        400,
        "Bad Request",
        Some("model"),
    );
    assert_eq!(ids(&team.sk.get("/agent").await).len(), 7);
    let agent = team.sk.get(&format!("/agent/{id}")).await;
    assert_eq!(
        (&agent.body["name"], &agent.body["version"]),
        (&json!("Ada"), &json!(1))
    );
}

#[tokio::test]
async fn a_temperature_is_kept_as_it_was_said() {
    let team = team().await;
    let said = [0.0, 0.000_001, 0.1 + 0.2, 2.0];
    for temperature in said {
        let body = json!({ "name": "Ada", "temperature": temperature });
        let path = format!("/agent/{}", made(&team, body).await);
        let kept = team.sk.get(&path).await.body["temperature"].as_f64();
        assert_eq!(kept, Some(temperature));
    }
}

#[tokio::test]
async fn a_change_keeps_what_it_leaves_out_and_makes_a_version() {
    let team = team().await;
    let body =
        json!({ "name": "Ada", "systemPrompt": "Count.", "temperature": 1, "model": "gpt-4o" });
    let id = made(&team, body).await;
    let path = format!("/agent/{id}");
    let changed = team
        .sk
        .put(&path, &json!({ "name": "Eve", "temperature": null }))
        .await;
    let at = changed.text("updatedAt");
    changed.assert(200, json!({ "id": id, "name": "Eve", "updatedAt": at }));
    let agent = team.sk.get(&path).await;
    assert_eq!(agent.body["systemPrompt"], "Count.");
    assert_eq!(agent.body["temperature"], Value::Null);
    assert_eq!(
        (&agent.body["version"], &agent.body["updatedAt"]),
        (&json!(2), &json!(at))
    );
}

#[tokio::test]
async fn a_change_that_changes_nothing_is_no_version() {
    let team = team().await;
    for id in [
        "chat".to_owned(),
        made(&team, json!({ "name": "Ada" })).await,
    ] {
        let path = format!("/agent/{id}");
        let before = team.sk.get(&path).await;
        for body in [json!({}), json!({ "name": before.body["name"] })] {
            assert_eq!(team.sk.put(&path, &body).await.status, 200);
        }
        assert_eq!(team.sk.get(&path).await.body, before.body);
    }
}

#[tokio::test]
async fn changes_at_once_are_all_versions() {
    let team = team().await;
    for id in [
        "code".to_owned(),
        made(&team, json!({ "name": "Ada" })).await,
    ] {
        let path = format!("/agent/{id}");
        let changes = (0..12).map(|number| {
            let (sk, path) = (team.sk.clone(), path.clone());
            async move {
                sk.put(&path, &json!({ "description": format!("{number}") }))
                    .await
            }
        });
        for changed in join_all(changes).await {
            assert_eq!(changed.status, 200, "{}", changed.raw);
        }
        assert_eq!(team.sk.get(&path).await.body["version"], 13);
        // Each of them can be gone back to.
        let mut descriptions = BTreeSet::new();
        for version in 2..=13 {
            let body = json!({ "version": version });
            let back = team.sk.put(&format!("{path}/rollback"), &body).await;
            assert_eq!(back.status, 200, "{}", back.raw);
            let agent = team.sk.get(&path).await;
            descriptions.insert(agent.text("description"));
        }
        assert_eq!(descriptions.len(), 12);
    }
}

#[tokio::test]
async fn an_agent_is_rolled_back_as_a_new_version() {
    let team = team().await;
    let id = made(&team, json!({ "name": "Ada", "tools": ["calculator"] })).await;
    let path = format!("/agent/{id}");
    let body = json!({ "name": "Eve", "tools": [] });
    assert_eq!(team.sk.put(&path, &body).await.status, 200);
    let back = team
        .sk
        .put(&format!("{path}/rollback"), &json!({ "version": 1 }))
        .await;
    let at = back.text("rolledBackAt");
    back.assert(
        200,
        json!({ "id": id, "name": "Ada", "version": 3, "rolledBackAt": at }),
    );
    let agent = team.sk.get(&path).await;
    assert_eq!(agent.body["tools"], json!(["calculator"]));
    assert_eq!(agent.body["updatedAt"], at);
}

#[tokio::test]
async fn there_is_no_way_back_to_a_version_that_never_was() {
    let team = team().await;
    let id = made(&team, json!({ "name": "Ada" })).await;
    for path in [
        "/agent/chat/rollback".to_owned(),
        format!("/agent/{id}/rollback"),
    ] {
        let refused = team.sk.put(&path, &json!({ "version": 2 })).await;
        refused.assert(
            404,
            json!({ "error": "Not Found", "message": "Version not found" }),
        );
        for bad in [
            json!(0),
            json!(-1),
            json!(10_001),
            json!("1"),
            json!(1.5),
            json!(null),
        ] {
            let refused = team.sk.put(&path, &json!({ "version": bad })).await;
            assert_error(&refused, 400, "Bad Request", Some("version"));
        }
        let refused = team.sk.put(&path, &json!({})).await;
        assert_error(&refused, 400, "Bad Request", Some("version"));
    }
}

#[tokio::test]
async fn versions_are_listed_and_read_as_they_were() {
    let team = team().await;
    for id in [
        "chat".to_owned(),
        made(&team, json!({ "name": "Chat" })).await,
    ] {
        let path = format!("/agent/{id}");
        let first = team.sk.get(&path).await;
        for name in ["Ada", "Eve"] {
            let changed = team.sk.put(&path, &json!({ "name": name })).await;
            assert_eq!(changed.status, 200, "{}", changed.raw);
        }
        let mut listed = Vec::new();
        let mut next = Some(format!("{path}/versions?limit=2"));
        while let Some(path) = next {
            let page = team.sk.get(&path).await;
            listed.extend(page.body["versions"].as_array().unwrap().clone());
            next = page.next();
        }
        let last = team.sk.get(&path).await;
        let of = |version: usize, name, at: &Value| {
            assert_eq!(listed[version - 1]["createdAt"], *at);
            json!({ "version": version, "name": name, "createdAt": at })
        };
        let second = listed[1]["createdAt"].clone();
        let whole = [
            of(1, "Chat", &first.body["createdAt"]),
            of(2, "Ada", &second),
            of(3, "Eve", &last.body["updatedAt"]),
        ];
        assert_eq!(listed, whole);
        let read = team.sk.get(&format!("{path}?version=1")).await;
        read.assert(200, first.body);
        let read = team.sk.get(&format!("{path}?version=3")).await;
        read.assert(200, last.body);
    }
}

#[tokio::test]
async fn versions_of_what_is_not_there_are_not_found() {
    let (team, other) = (team().await, super::team().await);
    let id = made(&team, json!({ "name": "Ada" })).await;
    let path = format!("/agent/{id}");
    let untouched = team.sk.get("/agent/chat/versions").await;
    assert_eq!(untouched.body["versions"].as_array().unwrap().len(), 1);
    let absent = json!({ "error": "Not Found", "message": "Version not found" });
    team.sk
        .get(&format!("{path}?version=2"))
        .await
        .assert(404, absent);
    for bad in ["0", "10001", "x", "-1"] {
        let refused = team.sk.get(&format!("{path}?version={bad}")).await;
        assert_error(&refused, 400, "Bad Request", Some("version"));
    }
    for cursor in ["x", "MTIzNDU2Nzg5MDEyMw"] {
        let refused = team
            .sk
            .get(&format!("{path}/versions?cursor={cursor}"))
            .await;
        assert_error(&refused, 400, "Bad Request", Some("cursor"));
    }
    assert_needs_secret(&team.pk.get(&format!("{path}/versions")).await);
    for path in [format!("{path}/versions"), format!("{path}?version=1")] {
        other.sk.get(&path).await.assert(404, not_found());
    }
    assert_eq!(team.sk.delete(&path).await.status, 204);
    for path in [format!("{path}/versions"), format!("{path}?version=1")] {
        team.sk.get(&path).await.assert(404, not_found());
    }
}

#[tokio::test]
async fn a_built_in_agent_is_changed_for_its_team_alone_and_goes_back() {
    let (team, other) = (team().await, super::team().await);
    let before = team.sk.get("/agent/chat").await;
    let change = json!({ "systemPrompt": "Be a pirate.", "model": "echo-1" });
    assert_eq!(team.sk.put("/agent/chat", &change).await.status, 200);
    let changed = team.sk.get("/agent/chat").await;
    assert_eq!(changed.body["systemPrompt"], "Be a pirate.");
    assert_eq!(changed.body["version"], 2);
    let others = other.sk.get("/agent/chat").await;
    assert_eq!(others.body["systemPrompt"], before.body["systemPrompt"]);
    let back = team
        .sk
        .put("/agent/chat/rollback", &json!({ "version": 1 }))
        .await;
    assert_eq!(back.status, 200, "{}", back.raw);
    let back = team.sk.get("/agent/chat").await;
    assert_eq!(back.body["systemPrompt"], before.body["systemPrompt"]);
    assert_eq!(
        (&back.body["model"], &back.body["version"]),
        (&Value::Null, &json!(3))
    );
}

#[tokio::test]
async fn a_deleted_agent_is_gone() {
    let team = team().await;
    let id = made(&team, json!({ "name": "Ada" })).await;
    let path = format!("/agent/{id}");
    let gone = team.sk.delete(&path).await;
    assert_eq!((gone.status, gone.raw.as_str()), (204, ""));
    team.sk.delete(&path).await.assert(404, not_found());
    team.sk.get(&path).await.assert(404, not_found());
    team.sk
        .put(&path, &json!({ "name": "Eve" }))
        .await
        .assert(404, not_found());
    let rollback = format!("{path}/rollback");
    team.sk
        .put(&rollback, &json!({ "version": 1 }))
        .await
        .assert(404, not_found());
    assert_eq!(ids(&team.sk.get("/agent").await), BUILT_IN);
}

#[tokio::test]
async fn a_deleted_built_in_agent_comes_back_when_it_is_rolled_back() {
    let team = team().await;
    let change = json!({ "name": "Coder" });
    assert_eq!(team.sk.put("/agent/code", &change).await.status, 200);
    for id in ["code", "chat"] {
        assert_eq!(team.sk.delete(&format!("/agent/{id}")).await.status, 204);
        let path = format!("/agent/{id}");
        team.sk.get(&path).await.assert(404, not_found());
        team.sk.delete(&path).await.assert(404, not_found());
        team.sk.put(&path, &change).await.assert(404, not_found());
    }
    let left = [
        "web-search",
        "image-generation",
        "web-analyzer",
        "orchestrated",
    ];
    assert_eq!(ids(&team.sk.get("/agent").await), left);
    for (id, version, name) in [("code", 2, "Coder"), ("chat", 1, "Chat")] {
        let body = json!({ "version": version });
        let back = team.sk.put(&format!("/agent/{id}/rollback"), &body).await;
        assert_eq!((back.status, back.text("name").as_str()), (200, name));
        assert_eq!(back.body["version"], version + 1);
    }
    assert_eq!(ids(&team.sk.get("/agent").await), BUILT_IN);
}

#[tokio::test]
async fn agents_are_listed_page_by_page_without_one_twice_or_none() {
    let team = team().await;
    let mut all: Vec<String> = BUILT_IN.map(str::to_owned).into();
    for number in 0..5 {
        all.push(made(&team, json!({ "name": format!("Ada {number}") })).await);
    }
    assert_eq!(team.sk.delete("/agent/image-generation").await.status, 204);
    all.retain(|id| id != "image-generation");
    for limit in [1, 2, 3, 5, 6, 9, 10, 100] {
        let mut listed = Vec::new();
        let mut next = Some(format!("/agent?limit={limit}"));
        while let Some(path) = next {
            let page = team.sk.get(&path).await;
            assert!(ids(&page).len() <= limit && !ids(&page).is_empty());
            listed.extend(ids(&page));
            let cursor = page.body["nextCursor"].as_str();
            next = cursor.map(|cursor| format!("/agent?limit={limit}&cursor={cursor}"));
            assert_eq!(page.next(), next);
        }
        assert_eq!(listed, all, "{limit}");
    }
}

#[tokio::test]
async fn a_page_that_cannot_be_is_refused() {
    let team = team().await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=Y2hhdA%3D%3D", "cursor"),
        ("cursor=cm9vbV8x", "cursor"),
        ("limit=1&limit=2", "limit"),
    ] {
        let refused = team.sk.get(&format!("/agent?{query}")).await;
        assert_error(&refused, 400, "Bad Request", Some(field));
    }
}

#[tokio::test]
async fn an_agent_made_twice_with_one_key_is_one() {
    let team = team().await;
    let sk = team.sk.clone().with("idempotency-key", "once");
    let first = sk.post("/agent", &json!({ "name": "Ada" })).await;
    assert_eq!(first.status, 200, "{}", first.raw);
    let path = format!("/agent/{}", first.text("id"));
    assert_eq!(
        team.sk.put(&path, &json!({ "name": "Eve" })).await.status,
        200
    );
    let again = sk.post("/agent", &json!({ "name": "Ada" })).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let first = first.body;
    again.assert(200, first.clone());
    // Also once it is gone.
    assert_eq!(team.sk.delete(&path).await.status, 204);
    let again = sk.post("/agent", &json!({ "name": "Ada" })).await;
    assert_eq!((again.status, again.body), (200, first));
    let other = sk.post("/agent", &json!({ "name": "Bob" })).await;
    assert_error(&other, 409, "Conflict", None);
    assert_eq!(ids(&team.sk.get("/agent").await), BUILT_IN);
}

#[tokio::test]
async fn a_publishable_key_does_nothing_with_agents() {
    let team = team().await;
    let id = made(&team, json!({ "name": "Ada" })).await;
    let path = format!("/agent/{id}");
    let body = json!({ "name": "Eve", "version": 1 });
    let rollback = format!("{path}/rollback");
    for answer in [
        team.pk.get("/agent").await,
        team.pk.post("/agent", &body).await,
        team.pk.get(&path).await,
        team.pk.put(&path, &body).await,
        team.pk.put(&rollback, &body).await,
        team.pk.delete(&path).await,
    ] {
        assert_needs_secret(&answer);
    }
    let agent = team.sk.get(&path).await;
    assert_eq!(
        (&agent.body["name"], &agent.body["version"]),
        (&json!("Ada"), &json!(1))
    );
}

#[tokio::test]
async fn another_teams_agent_is_not_found() {
    let (team, other) = (team().await, super::team().await);
    let id = made(&team, json!({ "name": "Ada" })).await;
    let path = format!("/agent/{id}");
    let (body, version) = (json!({ "name": "Eve" }), json!({ "version": 1 }));
    let rollback = format!("{path}/rollback");
    for answer in [
        other.sk.get(&path).await,
        other.sk.put(&path, &body).await,
        other.sk.put(&rollback, &version).await,
        other.sk.delete(&path).await,
    ] {
        answer.assert(404, not_found());
    }
    assert_eq!(ids(&other.sk.get("/agent").await), BUILT_IN);
    assert_eq!(team.sk.get(&path).await.body["name"], "Ada");
}

#[tokio::test]
async fn without_a_key_there_are_no_agents() {
    let world = world().await;
    for path in ["/agent", "/agent/chat"] {
        assert_unknown(&world.stranger().get(path).await);
    }
}

#[tokio::test]
async fn what_is_no_agent_is_not_found() {
    let team = team().await;
    for id in [
        "nobody",
        "Chat",
        "count",
        "agent_1",
        "agent_00000000000000000000000000000000",
        "chat%23x",
    ] {
        let answer = team.sk.get(&format!("/agent/{id}")).await;
        answer.assert(404, not_found());
    }
}

#[tokio::test]
async fn a_team_makes_no_more_agents_than_it_may() {
    let team = team().await;
    // 498 that were made before, as far as the number of them says.
    let key = |name: &str, value: &str| {
        let value = aws_sdk_dynamodb::types::AttributeValue::S(value.to_owned());
        (name.to_owned(), value)
    };
    let number = |number: u32| aws_sdk_dynamodb::types::AttributeValue::N(number.to_string());
    let row = [
        key("pk", &format!("{}#agents", team.id)),
        key("sk", "count"),
        ("agents".to_owned(), number(498)),
        ("v".to_owned(), number(1)),
    ];
    let world = world().await;
    let put = world.dynamodb.put_item();
    let tables = crate::support::settings().tables;
    put.table_name(tables.tenants)
        .set_item(Some(row.into()))
        .send()
        .await
        .unwrap();
    let making = (0..6).map(|_| async { team.sk.post("/agent", &json!({ "name": "Ada" })).await });
    let made = join_all(making).await;
    let count = |status| made.iter().filter(|made| made.status == status).count();
    assert_eq!((count(200), count(409)), (2, 4));
    let refused = made.iter().find(|made| made.status == 409).unwrap();
    refused.assert(
        409,
        json!({ "error": "Conflict", "message": "A team has at most 500 agents of its own" }),
    );
    // Whoever deletes one may make another.
    let ids = ids(&team.sk.get("/agent").await);
    let path = format!("/agent/{}", ids.last().unwrap());
    assert_eq!(team.sk.delete(&path).await.status, 204);
    assert_eq!(
        team.sk
            .post("/agent", &json!({ "name": "Eve" }))
            .await
            .status,
        200
    );
}
