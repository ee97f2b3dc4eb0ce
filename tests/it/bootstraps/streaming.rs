//! Answers word by word, from the process that is behind the function's URL.

use axum::{
    Router,
    body::Body,
    http::{Request, Response},
};
use http_body_util::BodyExt;
use parlance_lambda::FunctionUrl;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::deployment;
use crate::{
    kodey::{
        Team, client,
        streaming::{events, shown},
        team_in,
    },
    support::{
        World,
        provider::{Act, Provider, Speech, words},
    },
};

fn url(world: &World) -> Router {
    let lambda = &world.deployed.as_ref().unwrap().lambda;
    let function = lambda.function("ChatStreamFunction").unwrap();
    FunctionUrl::new(function.clone()).router()
}

async fn say(url: &Router, key: &str, chat: &str) -> Response<Body> {
    let body = json!({ "content": "Hello!", "role": "user" }).to_string();
    let request = Request::post(format!("/chat/{chat}/message"))
        .header("x-api-key", key)
        .header("content-type", "application/json")
        .header("accept", "text/event-stream")
        .body(Body::from(body));
    url.clone().oneshot(request.unwrap()).await.unwrap()
}

/// A chat whose agent's model is `provider`, by a key that was sealed when it was made.
async fn chat_with(team: &Team, provider: &Provider) -> String {
    let key = json!({
        "provider": "openai",
        "api_key": "sk-of-the-team",
        "base_url": provider.base(Speech::OpenAi),
    });
    let path = format!("/admin/tenants/{}/provider-keys", team.id);
    let made = team.tenant.server().post(&path, &key).await;
    assert_eq!(made.status, 201, "{}", made.raw);
    let agent = json!({ "name": "Guide", "provider": "openai", "model": "any" });
    let agent = team.sk.post("/agent", &agent).await.text("id");
    let chat = team.sk.post("/chat", &json!({ "agentId": agent })).await;
    chat.text("id")
}

#[tokio::test]
async fn the_first_words_are_heard_before_the_last_are_said() {
    let Some(world) = deployment().await else {
        return;
    };
    let team = team_in(&world).await;
    let provider = Provider::new();
    let chat = chat_with(&team, &provider).await;
    // It says no more, for as long as somebody listens.
    provider.next(Act::Pause(words("One two ")));

    let answer = say(&url(&world), &team.secret, &chat).await;

    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.into_body();
    let mut heard = String::new();
    while !heard.contains("two") {
        let frame = body.frame().await.unwrap().unwrap();
        heard.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
    }
    assert!(!heard.contains("event: done"), "{heard}");
}

#[tokio::test]
async fn what_is_heard_is_what_is_stored() {
    let Some(world) = deployment().await else {
        return;
    };
    let team = team_in(&world).await;
    let provider = Provider::new();
    let chat = chat_with(&team, &provider).await;
    provider.next(Act::Say(words("The quick brown fox.")));

    let answer = say(&url(&world), &team.secret, &chat).await;

    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let events = events(std::str::from_utf8(&body).unwrap());
    assert_eq!(shown(&events), "The quick brown fox.");
    let log = team.sk.get(&format!("/chat/{chat}/message")).await;
    assert_eq!(log.body["messages"][1]["content"], "The quick brown fox.");
    assert_eq!(
        events.last().unwrap().data["id"],
        log.body["messages"][1]["id"]
    );
    assert_eq!(provider.asked()[0].key(), "sk-of-the-team");
}

#[tokio::test]
async fn who_has_no_key_is_told_so_in_the_dialects_words() {
    let Some(world) = deployment().await else {
        return;
    };
    let team = team_in(&world).await;
    let chat = team.sk.post("/chat", &json!({ "agentId": "chat" })).await;

    let answer = say(&url(&world), "sk_live_none", &chat.text("id")).await;

    assert_eq!(answer.status(), 401);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let misspelt = "Unauthorized: This key is misspelt: its checksum does not match.";
    assert_eq!(body, json!({ "message": misspelt }));
}

/// It is the same function's route that the HTTP API has, where all comes at once.
#[tokio::test]
async fn behind_the_http_api_the_events_come_in_one_piece() {
    let Some(world) = deployment().await else {
        return;
    };
    let team = team_in(&world).await;
    let chat = team.sk.post("/chat", &json!({ "agentId": "chat" })).await;
    let path = format!("/chat/{}/message", chat.text("id"));
    let listener = client(&world, &team.secret).with("accept", "text/event-stream");

    let body = json!({ "content": "Hello!", "role": "user" });
    let answer = listener.post(&path, &body).await;

    assert_eq!(answer.status, 200, "{}", answer.raw);
    assert_eq!(shown(&events(&answer.raw)), "[echo] You said: Hello!");
}
