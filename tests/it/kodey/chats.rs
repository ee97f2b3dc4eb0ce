//! Making, showing and deleting chats: the seed's answers, and who sees whose.

use axum::http::Method;
use serde_json::{Value, json};

use super::{Team, assert_error, team};
use crate::support::{Client, Response};

/// A chat with the agent `chat`, made by `client`; its id.
pub async fn chat(client: &Client) -> String {
    chat_with(client, json!({ "agentId": "chat" })).await
}

/// A chat that `body` describes; its id.
pub async fn chat_with(client: &Client, body: Value) -> String {
    let made = client.post("/chat", &body).await;
    assert_eq!(made.status, 200, "{}", made.raw);
    made.text("id")
}

/// Says `content` in a chat, and waits for the answer.
pub async fn say(client: &Client, chat: &str, content: &str) -> Response {
    let body = json!({ "content": content, "role": "user" });
    client.post(&format!("/chat/{chat}/message"), &body).await
}

/// All that was said in a chat, as `(role, content)`.
pub async fn said(client: &Client, chat: &str) -> Vec<(String, String)> {
    let mut said = Vec::new();
    let mut page = format!("/chat/{chat}/message?limit=100");
    loop {
        let read = client.get(&page).await;
        assert_eq!(read.status, 200, "{}", read.raw);
        for message in read.body["messages"].as_array().unwrap() {
            let text = |name: &str| message[name].as_str().unwrap().to_owned();
            said.push((text("role"), text("content")));
        }
        match read.next() {
            Some(next) => page = next,
            None => return said,
        }
    }
}

/// The names of an object's members, sorted.
#[track_caller]
fn names(object: &Value) -> Vec<&str> {
    let mut names: Vec<_> = object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names
}

#[track_caller]
fn assert_no_chat(answer: &Response) {
    answer.assert(
        404,
        json!({ "error": "Not Found", "message": "Chat not found" }),
    );
}

#[tokio::test]
async fn a_chat_is_made_with_the_seeds_answer() {
    let team = team().await;
    let body = json!({ "agentId": "chat", "userId": "ann", "metadata": { "page": "/prices" } });

    let made = team.pk.post("/chat", &body).await;

    assert_eq!(made.status, 200, "{}", made.raw);
    assert_eq!(names(&made.body), ["agentId", "createdAt", "id", "teamId"]);
    assert_eq!(made.body["agentId"], "chat");
    assert_eq!(made.body["teamId"], team.id.as_str());
    assert!(made.text("id").starts_with("chat_"));
    assert!(made.text("createdAt").ends_with('Z'));
}

#[tokio::test]
async fn a_new_chat_is_shown_without_messages() {
    let team = team().await;
    let made = team.sk.post("/chat", &json!({ "agentId": "code" })).await;

    let shown = team.sk.get(&format!("/chat/{}", made.text("id"))).await;

    shown.assert(
        200,
        json!({
            "id": made.text("id"),
            "agentId": "code",
            "teamId": team.id,
            "messages": [],
            "createdAt": made.text("createdAt"),
        }),
    );
}

#[tokio::test]
async fn whose_a_chat_is_and_what_was_attached_is_shown_to_who_asks() {
    let team = team().await;
    let body = r#"{"agentId":"chat","userId":"ann","metadata":{"z":1.10,"a":[]}}"#;
    let made = team.pk.send(Method::POST, "/chat", body).await;

    let shown = team
        .sk
        .get(&format!("/chat/{}?include=meta", made.text("id")))
        .await;

    assert_eq!(shown.body["userId"], "ann");
    assert!(
        shown.raw.contains(r#""metadata":{"z":1.10,"a":[]}"#),
        "{}",
        shown.raw
    );
}

#[tokio::test]
async fn what_was_attached_to_a_chat_is_not_shown_to_browsers() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    for path in [format!("/chat/{chat}"), format!("/chat/{chat}/message")] {
        let refused = team.pk.get(&format!("{path}?include=meta")).await;
        let message = "include=meta requires a secret key";
        refused.assert(403, json!({ "error": "Forbidden", "message": message }));
    }
}

#[tokio::test]
async fn every_team_can_chat_with_each_of_the_agents_it_begins_with() {
    let team = team().await;
    for agent in [
        "chat",
        "web-search",
        "image-generation",
        "code",
        "web-analyzer",
        "orchestrated",
    ] {
        let made = team.pk.post("/chat", &json!({ "agentId": agent })).await;
        assert_eq!((made.status, made.text("agentId").as_str()), (200, agent));
    }
}

#[tokio::test]
async fn a_chat_with_an_agent_that_is_not_there_is_not_made() {
    let team = team().await;
    let unknown = format!("agent_{:032x}", 7);
    for agent in ["nobody", "Chat", "", &unknown] {
        let refused = team.sk.post("/chat", &json!({ "agentId": agent })).await;
        refused.assert(
            404,
            json!({ "error": "Not Found", "message": "Agent not found" }),
        );
    }
    team.sk
        .get("/chat")
        .await
        .assert(200, json!({ "chats": [] }));
}

#[tokio::test]
async fn what_breaks_a_rule_is_named_and_makes_no_chat() {
    let team = team().await;
    let large = json!({ "x": "x".repeat(16 * 1024) });
    let long = "u".repeat(129);
    let bad = [
        (json!({}), "agentId"),
        (json!({ "agentId": 7 }), "agentId"),
        (json!({ "agentId": null }), "agentId"),
        (json!({ "agentId": "chat", "userId": "" }), "userId"),
        (json!({ "agentId": "chat", "userId": "a b" }), "userId"),
        (json!({ "agentId": "chat", "userId": long }), "userId"),
        (json!({ "agentId": "chat", "userId": 7 }), "userId"),
        (json!({ "agentId": "chat", "metadata": [] }), "metadata"),
        (json!({ "agentId": "chat", "metadata": "x" }), "metadata"),
        (json!({ "agentId": "chat", "metadata": large }), "metadata"),
        (json!([]), "body"),
    ];
    for (body, field) in bad {
        let refused = team.sk.post("/chat", &body).await;
        assert_error(&refused, 400, "Bad Request", Some(field));
    }
    team.sk
        .get("/chat")
        .await
        .assert(200, json!({ "chats": [] }));
}

#[tokio::test]
async fn metadata_that_not_every_client_can_read_is_refused_by_its_rule() {
    let team = team().await;
    for metadata in [r#"{"x":1e999}"#, r#"{"x":-1e999}"#, r#"{"x":"\ud800"}"#] {
        let body = format!(r#"{{"agentId":"chat","metadata":{metadata}}}"#);
        let refused = team.sk.send(Method::POST, "/chat", body).await;
        let message = "Invalid metadata. It must be a JSON object that every client can read: nested at most 127 levels, its \
                       numbers no larger than a double, its text without lone surrogates";
        refused.assert(
            400,
            json!({ "error": "Bad Request", "message": message, "field": "metadata" }),
        );
    }
}

#[tokio::test]
async fn a_chat_that_is_made_again_with_its_key_is_the_same_chat() {
    let team = team().await;
    let once = team.pk.clone().with("idempotency-key", "once-upon-a-time");
    let body = json!({ "agentId": "chat", "userId": "ann" });

    let first = once.post("/chat", &body).await;
    let second = once.post("/chat", &body).await;

    second.assert(200, first.body.clone());
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    let listed = team.sk.get("/chat").await;
    assert_eq!(listed.body["chats"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_chat_that_was_made_stays_so_when_the_agent_is_gone() {
    let team = team().await;
    let made = team.sk.post("/agent", &json!({ "name": "Ada" })).await;
    let agent = made.text("id");
    let once = team.sk.clone().with("idempotency-key", "once");
    let body = json!({ "agentId": agent, "userId": "ann", "metadata": {} });
    let first = once.post("/chat", &body).await;
    assert_eq!(first.status, 200, "{}", first.raw);
    let deleted = team.sk.delete(&format!("/agent/{agent}")).await;
    assert_eq!(deleted.status, 204, "{}", deleted.raw);

    // One that has never met the agent: who has, remembers it for a minute.
    let fresh = team.at(&team.tenant.world.another(|client| client));
    let once = fresh.sk.clone().with("idempotency-key", "once");
    let second = once.post("/chat", &body).await;
    let other = once.post("/chat", &json!({ "agentId": agent })).await;
    let new = fresh.sk.post("/chat", &body).await;

    second.assert(200, first.body);
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    assert_error(&other, 409, "Conflict", None);
    assert_error(&new, 404, "Not Found", None);
}

#[tokio::test]
async fn a_key_that_made_another_chat_makes_none() {
    let team = team().await;
    let once = team.sk.clone().with("idempotency-key", "once");
    once.post("/chat", &json!({ "agentId": "chat" })).await;

    let refused = once.post("/chat", &json!({ "agentId": "code" })).await;

    refused.assert(
        409,
        json!({ "error": "Conflict", "message": "This Idempotency-Key was used for another request" }),
    );
}

/// Another of a team's servers.
async fn another_server(team: &Team) -> Client {
    let body = json!({ "kind": "secret", "name": "another server" });
    team.with_key(body).await
}

#[tokio::test]
async fn a_chat_is_made_once_whichever_of_a_teams_servers_repeats_it() {
    let team = team().await;
    let other = another_server(&team).await;
    let [one, other] = [&team.sk, &other].map(|it| it.clone().with("idempotency-key", "once"));
    let body = json!({ "agentId": "chat" });

    let first = one.post("/chat", &body).await;
    let second = other.post("/chat", &body).await;
    let refused = other.post("/chat", &json!({ "agentId": "code" })).await;

    second.assert(200, first.body);
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    assert_error(&refused, 409, "Conflict", None);
}

#[tokio::test]
async fn a_server_and_a_browser_with_the_same_key_make_two_chats() {
    let team = team().await;
    let key = "once-upon-a-time";
    let [sk, pk] = [&team.sk, &team.pk].map(|it| it.clone().with("idempotency-key", key));
    assert_ne!(chat(&sk).await, chat(&pk).await);
}

#[tokio::test]
async fn the_same_key_of_two_users_makes_two_chats() {
    let team = team().await;
    let mut made = Vec::new();
    for user in ["ann", "bob"] {
        let browser = team.browser_of(user).await.with("idempotency-key", "once");
        made.push(chat(&browser).await);
    }
    assert_ne!(made[0], made[1]);
}

#[tokio::test]
async fn the_same_key_of_two_visitors_of_one_page_makes_two_chats() {
    for team in of_each_scope().await {
        let once = team.pk.clone().with("idempotency-key", "once");
        let mut made = Vec::new();
        for user in ["ann", "bob", "ann"] {
            made.push(chat_with(&once, json!({ "agentId": "chat", "userId": user })).await);
        }
        assert_ne!(made[0], made[1]);
        assert_eq!(made[0], made[2]);
    }
}

/// Two teams: one whose browsers list the chats of a user, and one whose browsers list all.
async fn of_each_scope() -> [Team; 2] {
    let [named, all] = [team().await, team().await];
    all.set(json!({ "publishable_list_scope": "team" })).await;
    [named, all]
}

#[tokio::test]
async fn a_visitor_without_a_name_needs_a_key_that_no_other_guesses() {
    for team in of_each_scope().await {
        let with = |key: &str| team.pk.clone().with("idempotency-key", key);
        let body = json!({ "agentId": "chat" });
        let refused = with("123456789012345").post("/chat", &body).await;
        assert_error(&refused, 400, "Bad Request", Some("Idempotency-Key"));
        let long = with("1234567890123456");
        assert_eq!(chat(&long).await, chat(&long).await);
    }
}

/// What each route says of a chat to `client`, as `query` names its user.
async fn everywhere(client: &Client, chat: &str, query: &str) -> [Response; 4] {
    let log = format!("/chat/{chat}/message{query}");
    let one = format!("/chat/{chat}{query}");
    [
        client.get(&one).await,
        client.get(&log).await,
        client
            .post(&log, &json!({ "content": "hi", "role": "user" }))
            .await,
        client.delete(&one).await,
    ]
}

#[tokio::test]
async fn a_chat_of_another_team_is_not_there() {
    let (team, other) = (team().await, team().await);
    let chat = chat(&team.sk).await;

    for client in [&other.sk, &other.pk] {
        for answer in everywhere(client, &chat, "").await {
            assert_no_chat(&answer);
        }
    }

    assert_eq!(team.sk.get(&format!("/chat/{chat}")).await.status, 200);
}

#[tokio::test]
async fn what_is_no_chats_id_names_no_chat() {
    let team = team().await;
    let unknown = format!("chat_{:032x}", 7);
    let room = format!("room_{:032x}", 7);
    for bad in ["x", "chat_", &unknown, &room, &unknown.to_uppercase()] {
        for answer in everywhere(&team.sk, bad, "").await {
            assert_no_chat(&answer);
        }
    }
}

#[tokio::test]
async fn a_browser_of_one_user_makes_chats_of_that_user_alone() {
    let team = team().await;
    let ann = team.browser_of("ann").await;

    let own = chat(&ann).await;
    let named = chat_with(&ann, json!({ "agentId": "chat", "userId": "ann" })).await;
    let refused = ann
        .post("/chat", &json!({ "agentId": "chat", "userId": "bob" }))
        .await;

    assert_error(&refused, 403, "Forbidden", None);
    let listed = team.sk.get("/chat?userId=ann").await;
    let listed = listed.body["chats"].as_array().unwrap().clone();
    let ids: Vec<_> = listed
        .iter()
        .map(|chat| chat["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, [named, own]);
}

#[tokio::test]
async fn a_browser_of_one_user_sees_no_chat_of_another() {
    let team = team().await;
    let ann = team.browser_of("ann").await;
    let foreign = [
        chat_with(&team.sk, json!({ "agentId": "chat", "userId": "bob" })).await,
        chat(&team.sk).await,
    ];
    for chat in &foreign {
        for query in ["", "?userId=ann", "?userId=bob"] {
            for answer in everywhere(&ann, chat, query).await {
                assert_no_chat(&answer);
            }
        }
        assert_eq!(team.sk.get(&format!("/chat/{chat}")).await.status, 200);
    }
}

#[tokio::test]
async fn a_user_that_is_named_must_be_the_chats() {
    let team = team().await;
    let of_ann = chat_with(&team.sk, json!({ "agentId": "chat", "userId": "ann" })).await;
    let of_nobody = chat(&team.sk).await;
    for client in [&team.sk, &team.pk] {
        for (chat, user) in [(&of_ann, "bob"), (&of_nobody, "ann")] {
            let query = format!("?userId={user}");
            for answer in everywhere(client, chat, &query).await {
                assert_no_chat(&answer);
            }
        }
        let own = client.get(&format!("/chat/{of_ann}?userId=ann")).await;
        assert_eq!(own.status, 200, "{}", own.raw);
    }
}

#[tokio::test]
async fn a_browser_that_visitors_share_sees_a_chat_whose_id_it_knows() {
    let team = team().await;
    let chat = chat_with(&team.sk, json!({ "agentId": "chat", "userId": "ann" })).await;

    let shown = team.pk.get(&format!("/chat/{chat}")).await;

    assert_eq!(shown.status, 200, "{}", shown.raw);
}

/// What can be asked for of a chat; the parameters of each.
fn asked(team: &Team, chat: &str) -> [(Client, String); 3] {
    [
        (team.sk.clone(), format!("/chat/{chat}")),
        (team.sk.clone(), format!("/chat/{chat}/message")),
        (team.pk.clone(), format!("/chat/{chat}/message")),
    ]
}

#[tokio::test]
async fn parameters_that_break_a_rule_are_named() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    for (client, path) in asked(&team, &chat) {
        for (query, field) in [
            ("userId=", "userId"),
            ("userId=a%20b", "userId"),
            ("include=all", "include"),
            ("include=meta&include=meta", "include"),
        ] {
            let refused = client.get(&format!("{path}?{query}")).await;
            assert_error(&refused, 400, "Bad Request", Some(field));
        }
    }
}
