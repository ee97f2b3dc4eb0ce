//! Who is let in, and how far.

use axum::http::Method;
use serde_json::{Value, json};

use parlance::domain::api_key::{KeyText, Kind};

use super::{assert_error, assert_needs_secret, assert_unknown, client, door, team};
use crate::{
    openapi::{document, is_kodey},
    support::{
        Client, World,
        faults::{Cost, Meter},
        world,
    },
};

#[tokio::test]
async fn both_kinds_of_keys_open_their_own_team() {
    let (team, other) = (team().await, team().await);
    let (here, there) = (
        team.at(&door(&team.tenant.world)),
        other.at(&door(&team.tenant.world)),
    );
    let shown = |id: &str, sees: &str| json!({ "tenant": id, "sees": sees, "token_cap": null });
    here.sk
        .get("/chat")
        .await
        .assert(200, shown(&team.id, "team"));
    here.pk
        .get("/chat")
        .await
        .assert(200, shown(&team.id, "named"));
    there
        .sk
        .get("/chat")
        .await
        .assert(200, shown(&other.id, "team"));
    there
        .pk
        .get("/chat")
        .await
        .assert(200, shown(&other.id, "named"));
}

#[tokio::test]
async fn a_missing_or_wrong_key_is_refused_in_the_dialects_one_sentence() {
    let team = team().await;
    let world = door(&team.tenant.world);
    for key in [
        "",
        " ",
        "\u{fffd}",
        "usk_live_000000000000000000000000000000",
        &made_up(),
        &team.secret.to_uppercase(),
        &format!("Bearer {}", team.secret),
        &team.tenant.key.to_uppercase(),
        &team.tenant.key[..66],
        &"x".repeat(10_000),
    ] {
        for path in ["/chat", "/chat/chat_1", "/agent"] {
            assert_unknown(&client(&world, key).get(path).await);
        }
    }
    assert_unknown(&world.stranger().get("/chat").await);
    let bearer = world
        .stranger()
        .with("authorization", &format!("Bearer {}", team.secret));
    assert_unknown(&bearer.get("/chat").await);
    let query = world.stranger();
    assert_unknown(&query.get(&format!("/chat?x-api-key={}", team.secret)).await);
}

/// A key that nobody has, with a checksum that matches.
fn made_up() -> String {
    KeyText::from_entropy(Kind::Secret, [9; 32])
        .expose()
        .to_owned()
}

/// A process whose calls are counted.
async fn counted() -> (World, Meter) {
    let meter = Meter::default();
    let world = world().await.another(|client| meter.meter(client));
    (world, meter)
}

#[tokio::test]
async fn a_misspelt_key_says_so_by_its_checksum_without_a_look() {
    let team = team().await;
    let (world, meter) = counted().await;
    let world = door(&world);
    let mistyped = format!(
        "{}{}",
        &team.secret[..37],
        if team.secret.ends_with('a') { 'b' } else { 'a' }
    );
    for key in [
        "pk_live_",
        "sk_live_000000000000000000000000000000",
        &mistyped,
        &team.secret[..30],
        &format!("{}0", team.secret),
        &team.secret.replace("sk_", "pk_"),
        &team.publishable.replace("pk_", "sk_"),
    ] {
        client(&world, key).get("/chat").await.assert(
            401,
            json!({
                "message": "Unauthorized: This key is misspelt: its checksum does not match.",
            }),
        );
    }
    assert_eq!(meter.take(), Cost::default());
}

#[tokio::test]
async fn a_chatapi_key_at_the_door_of_chats_is_told_so_whether_it_holds_or_not() {
    let team = team().await;
    let (world, meter) = counted().await;
    let world = door(&world);
    let nobodys = format!("sk_{}", "0".repeat(64));
    for key in [&team.tenant.key, &nobodys] {
        client(&world, key).get("/chat").await.assert(
            401,
            json!({
                "message": "Unauthorized: This is a ChatAPI key; chats take sk_live_… or pk_live_… keys.",
            }),
        );
    }
    assert_eq!(meter.take(), Cost::default());
}

#[tokio::test]
async fn a_teams_key_at_the_door_of_chatapi_is_told_so_whether_it_holds_or_not() {
    let team = team().await;
    let (world, meter) = counted().await;
    let wrong_door = json!({
        "success": false,
        "error": {
            "code": "AUTHENTICATION_ERROR",
            "message": "This is a key for chats; ChatAPI takes the tenant's key, which is sk_ and 64 hex digits",
        },
    });
    for key in [&team.secret, &team.publishable, &made_up()] {
        let server = client(&world, key).with("x-user-id", "alice");
        for path in ["/rooms", "/webhooks", "/metrics"] {
            server.get(path).await.assert(401, wrong_door.clone());
        }
    }
    assert_eq!(meter.take(), Cost::default());
}

#[tokio::test]
async fn a_key_sent_twice_is_refused() {
    let team = team().await;
    let team = team.at(&door(&team.tenant.world));
    for key in [&team.secret, &team.publishable] {
        assert_unknown(&team.sk.clone().with("x-api-key", key).get("/chat").await);
    }
}

#[tokio::test]
async fn a_teams_key_opens_nothing_of_the_other_dialect() {
    let team = team().await;
    for key in [&team.secret, &team.publishable] {
        let server = client(&team.tenant.world, key);
        let actor = server.clone().with("x-user-id", "alice");
        actor
            .get("/rooms")
            .await
            .assert_error(401, "AUTHENTICATION_ERROR", None);
        for path in ["/metrics", &super::keys_of(&team.tenant)] {
            server
                .get(path)
                .await
                .assert_error(401, "AUTHENTICATION_ERROR", None);
        }
    }
}

/// Every operation of the door, and whether a publishable key may do it.
const OPERATIONS: [(Method, &str, bool); 12] = [
    (Method::POST, "/chat", true),
    (Method::GET, "/chat", true),
    (Method::GET, "/chat/chat_1", true),
    (Method::DELETE, "/chat/chat_1", true),
    (Method::POST, "/chat/chat_1/message", true),
    (Method::GET, "/chat/chat_1/message", true),
    (Method::PUT, "/chat", false),
    (Method::PUT, "/chat/chat_1", false),
    (Method::DELETE, "/chat/chat_1/message", false),
    (Method::GET, "/agent", false),
    (Method::POST, "/agent", false),
    (Method::PUT, "/agent/agent_1/rollback", false),
];

#[tokio::test]
async fn a_publishable_key_does_what_the_table_says_and_a_secret_one_everything() {
    let team = team().await;
    let team = team.at(&door(&team.tenant.world));
    for (method, path, allowed) in OPERATIONS {
        let what = format!("{method} {path}");
        let server = team.sk.send(method.clone(), path, "").await;
        assert_eq!(server.status, 200, "{what}");
        let browser = team.pk.send(method, path, "").await;
        if allowed {
            assert_eq!(browser.status, 200, "{what}");
        } else {
            assert_needs_secret(&browser);
        }
    }
}

/// Every operation of the dialect: its method, its path with ids that name nothing, and the path as it is described.
fn described() -> Vec<(Method, String, String)> {
    let mut operations = Vec::new();
    for (path, methods) in document()["paths"].as_object().unwrap() {
        if !is_kodey(path) {
            continue;
        }
        let nothing = "00000000000000000000000000000000";
        let filled = path
            .replace("{chatId}", &format!("chat_{nothing}"))
            .replace("{agent_id}", &format!("agent_{nothing}"));
        assert!(!filled.contains('{'), "{filled}");
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_uppercase().parse().unwrap();
            operations.push((method, filled.clone(), path.clone()));
        }
    }
    operations
}

#[tokio::test]
async fn every_described_operation_wants_a_key() {
    let team = team().await;
    for (method, path, _) in described() {
        let stranger = team.tenant.world.stranger();
        let without = stranger.clone().send(method.clone(), &path, "{}").await;
        assert_unknown(&without);
        let of_the_tenant = stranger.with("x-api-key", &team.tenant.key);
        let refused = of_the_tenant.send(method, &path, "{}").await;
        assert_eq!(refused.status, 401, "{}", refused.raw);
    }
}

#[tokio::test]
async fn every_described_operation_beyond_chat_wants_a_secret_key() {
    let team = team().await;
    for (method, path, described) in described() {
        let browser = team.pk.send(method.clone(), &path, "{}").await;
        if described.starts_with("/chat") {
            let expected = match (method, described.as_str()) {
                // A list wants a user, and nothing is made or said of nothing.
                (_, "/chat") | (Method::POST, _) => 400,
                _ => 404,
            };
            assert_eq!(browser.status, expected, "{path}: {}", browser.raw);
        } else {
            assert_needs_secret(&browser);
        }
    }
}

#[tokio::test]
async fn a_key_of_another_team_finds_nothing_on_any_route_and_changes_nothing() {
    let (mine, other) = (team().await, team().await);
    let alices = other.browser_of("alice").await;
    let chat = json!({ "agentId": "chat", "userId": "alice" });
    let chat = mine.sk.post("/chat", &chat).await.text("id");
    let agent = json!({ "name": "mine", "systemPrompt": "be brief" });
    let agent = mine.sk.post("/agent", &agent).await.text("id");
    let here = [format!("/chat/{chat}"), format!("/agent/{agent}")];
    let mut before = Vec::new();
    for path in &here {
        before.push(mine.sk.get(path).await.body);
    }
    for (method, _, described) in described() {
        if !described.contains('{') {
            continue;
        }
        let path = described
            .replace("{chatId}", &chat)
            .replace("{agent_id}", &agent);
        assert!(!path.contains('{'), "{path}");
        let body = match described.as_str() {
            "/chat/{chatId}/message" => json!({ "content": "hi", "role": "user" }),
            "/agent/{agent_id}" => json!({ "name": "theirs" }),
            _ => json!({ "version": 1 }),
        };
        let body = if method == Method::DELETE {
            String::new()
        } else {
            body.to_string()
        };
        for client in [&other.sk, &other.pk, &alices] {
            let answer = client.send(method.clone(), &path, body.clone()).await;
            if path.starts_with("/agent") && answer.status == 403 {
                assert_needs_secret(&answer);
            } else {
                let what = if path.starts_with("/agent") {
                    "Agent"
                } else {
                    "Chat"
                };
                let message = format!("{what} not found");
                answer.assert(404, json!({ "error": "Not Found", "message": message }));
            }
        }
    }
    for client in [&other.sk, &other.pk, &alices] {
        let listed = client.get("/chat?userId=alice").await;
        assert_eq!(listed.body["chats"], json!([]), "{}", listed.raw);
    }
    for (path, before) in here.iter().zip(before) {
        mine.sk.get(path).await.assert(200, before);
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused_in_the_dialects_words() {
    let team = team().await;
    let large = format!("{{\"agentId\":\"{}\"}}", "x".repeat(300 * 1024));
    let refused = team.pk.send(Method::POST, "/chat", large).await;
    refused.assert(
        413,
        json!({
            "error": "Payload Too Large",
            "message": "Request body is larger than 256 KB",
            "field": "body",
        }),
    );
    for (body, field) in [
        ("", "body"),
        ("[]", "body"),
        ("{", "body"),
        ("{}", "agentId"),
        (r#"{"agentId":5}"#, "agentId"),
        (r#"{"agentId":"chat","userId":[]}"#, "userId"),
    ] {
        let refused = team.pk.send(Method::POST, "/chat", body).await;
        assert_error(&refused, 400, "Bad Request", Some(field));
    }
}

#[tokio::test]
async fn a_publishable_key_shows_what_its_user_or_the_teams_setting_says() {
    let team = team().await;
    let door = door(&team.tenant.world);
    let sees = async |client: &Client| client.get("/chat").await.text("sees");
    let here = team.at(&door);
    let alice = team.browser_of("a#b:c").await.at(&door);

    assert_eq!(sees(&alice).await, "only a#b:c");
    assert_eq!(sees(&here.pk).await, "named");
    assert_eq!(sees(&here.sk).await, "team");

    // Remembered sessions end in the process that changes the setting.
    team.at(&door.another(|client| client))
        .set(json!({ "publishable_list_scope": "team" }))
        .await;
    let fresh = super::door(&team.tenant.world.another(|client| client));
    let there = team.at(&fresh);
    assert_eq!(sees(&there.pk).await, "team");
    assert_eq!(sees(&there.sk).await, "team");
}

#[tokio::test]
async fn a_cap_of_tokens_comes_with_the_key() {
    let team = team().await;
    team.set(json!({ "monthly_token_cap": 12_345 })).await;
    let fresh = door(&team.tenant.world.another(|client| client));
    let cap = team.at(&fresh).sk.get("/chat").await.body["token_cap"].clone();
    assert_eq!(cap, 12_345);
    team.set(json!({ "monthly_token_cap": null })).await;
    let fresh = door(&team.tenant.world.another(|client| client));
    let cap = team.at(&fresh).sk.get("/chat").await.body["token_cap"].clone();
    assert_eq!(cap, Value::Null);
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_are_worded_in_the_dialect() {
    let team = team().await;
    let world = &team.tenant.world;
    for path in ["/chat/a/b/c", "/agent/a/b/c/d", "/chat/", "/agent//"] {
        for client in [&team.sk, &team.pk, &world.stranger()] {
            let answer = client.get(path).await;
            assert_error(&answer, 404, "Not Found", None);
        }
    }
    for (method, path, allowed) in [
        (Method::PUT, "/chat", "GET, POST"),
        (Method::PATCH, "/chat/chat_1", "GET, DELETE"),
        (Method::DELETE, "/chat/chat_1/message", "GET, POST"),
        (Method::DELETE, "/agent", "GET, POST"),
        (Method::GET, "/agent/agent_1/rollback", "PUT"),
    ] {
        for client in [&team.sk, &team.pk, &world.stranger()] {
            let answer = client.send(method.clone(), path, "").await;
            answer.assert(
                405,
                json!({
                    "error": "Method Not Allowed",
                    "message": format!("Method not allowed. This path takes: {allowed}"),
                }),
            );
            assert_eq!(answer.header("allow"), Some(allowed));
        }
    }
    for path in ["/chats", "/agents", "/", "//chat", "/CHAT"] {
        let answer = world.stranger().get(path).await;
        answer.assert_error(404, "NOT_FOUND", None);
    }
}
