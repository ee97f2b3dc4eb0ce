//! Sends whose models fail, drag on, break off or never end.

use std::net::TcpListener;

use axum::{
    body::Body,
    http::{Method, Request},
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Duration, Instant, sleep},
};
use tower::ServiceExt;

use super::{
    Team,
    chats::{chat_with, said, say},
    sends::{assert_answered_once, assert_bad_gateway, log},
    streaming::{events, shown, streaming},
    team,
};
use crate::support::{
    Client, Response,
    deployed::serve_on,
    provider::{Act, Provider, Speech, words},
};

/// Far longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_mins(1);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// A chat whose agent's model is at `provider`.
pub async fn chat_at(team: &Team, provider: &Provider, speech: Speech) -> String {
    let key = json!({
        "provider": speech.name(),
        "api_key": "sk-of-the-tests-0123456789",
        "base_url": provider.base(speech),
    });
    let path = format!("/admin/tenants/{}/provider-keys", team.id);
    let kept = team.tenant.server().post(&path, &key).await;
    assert_eq!(kept.status, 201, "{}", kept.raw);
    let agent = json!({ "name": "Far", "provider": speech.name(), "model": "m" });
    let agent = team.sk.post("/agent", &agent).await;
    assert_eq!(agent.status, 200, "{}", agent.raw);
    chat_with(&team.sk, json!({ "agentId": agent.text("id") })).await
}

fn once(client: &Client) -> Client {
    client.clone().with("idempotency-key", "once")
}

#[tokio::test]
async fn what_a_model_says_is_shown_and_stored() {
    for speech in Speech::ALL {
        let (team, provider) = (team().await, Provider::new());
        let chat = chat_at(&team, &provider, speech).await;
        provider.next(Act::Say(words("It costs nothing.")));
        let answer = say(&team.sk, &chat, "What does it cost?").await;
        assert_eq!(answer.text("content"), "It costs nothing.");
        assert_eq!(said(&team.sk, &chat).await[1].1, "It costs nothing.");
    }
}

#[tokio::test]
async fn a_model_that_fails_leaves_the_question_and_the_retry_is_its_one_answer() {
    let failures = [
        Act::Status(500, Vec::new()),
        Act::Status(429, vec![("retry-after", "60".to_owned())]),
        Act::Status(404, Vec::new()),
        Act::Garbage,
        Act::Nothing,
        Act::Page,
        Act::Drop(Vec::new()),
        Act::Drop(words("It costs ")),
        Act::Fail(words("It costs ")),
        Act::LongFailure,
        Act::LongEvent,
    ];
    let (team, provider) = (team().await, Provider::new());
    for failure in failures {
        let name = format!("{failure:?}");
        let team = if provider.asked().is_empty() {
            team.clone()
        } else {
            super::team().await
        };
        let chat = chat_at(&team, &provider, Speech::OpenAi).await;
        let sk = once(&team.sk);
        provider.always(failure);
        assert_bad_gateway(&say(&sk, &chat, "What does it cost?").await);
        let question = [("user".to_owned(), "What does it cost?".to_owned())];
        assert_eq!(said(&team.sk, &chat).await, question, "{name}");

        provider.always(Act::Say(words("Nothing.")));
        let answer = say(&sk, &chat, "What does it cost?").await;

        assert_eq!(answer.status, 200, "{name}: {}", answer.raw);
        let log = log(&team.sk, &chat).await;
        assert_eq!(log.len(), 2, "{name}");
        assert_answered_once(&log);
    }
}

async fn stream(client: &Client, chat: &str) -> Response {
    let body = json!({ "content": "What does it cost?" });
    let path = format!("/chat/{chat}/message");
    streaming(client).post(&path, &body).await
}

#[tokio::test]
async fn a_model_that_breaks_off_ends_the_stream_with_an_error_and_nothing_is_stored() {
    for act in [Act::Drop(words("It costs ")), Act::Fail(words("It costs "))] {
        let (team, provider) = (team().await, Provider::new());
        let chat = chat_at(&team, &provider, Speech::OpenAi).await;
        let sk = once(&team.sk);
        provider.next(act);

        let broken = stream(&sk, &chat).await;

        assert_eq!(broken.status, 200, "{}", broken.raw);
        let broken = events(&broken.raw);
        let (last, deltas) = broken.split_last().unwrap();
        assert_eq!(
            (last.name.as_str(), shown(deltas).as_str()),
            ("error", "It costs ")
        );
        assert_eq!(last.data["error"], "Bad Gateway");
        assert!(last.data["retryable"].is_boolean(), "{}", last.data);
        assert_eq!(said(&team.sk, &chat).await.len(), 1);
        provider.next(Act::Say(words("It costs nothing.")));
        let again = events(&stream(&sk, &chat).await.raw);
        assert_eq!(shown(&again), "It costs nothing.");
        assert_answered_once(&log(&team.sk, &chat).await);
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_and_stored_as_it_was_shown() {
    let (team, provider) = (team().await, Provider::new());
    let chat = chat_at(&team, &provider, Speech::OpenAi).await;
    provider.next(Act::LongWords);

    let stream = stream(&team.sk, &chat).await;

    let events = events(&stream.raw);
    let stored = log(&team.sk, &chat).await[1].clone();
    assert_eq!(events.last().unwrap().name, "done");
    assert_eq!(stored["content"], Value::String(shown(&events)));
    assert_eq!(stored["meta"]["finish"], "length");
    assert!(shown(&events).len() <= 128 * 1024);
}

/// What is heard of a stream until `enough` was said; then the client leaves.
async fn hear(team: &Team, chat: &str, enough: &str) -> String {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/chat/{chat}/message"))
        .header("x-api-key", &team.secret)
        .header("accept", "text/event-stream")
        .header("content-type", "application/json")
        .header("idempotency-key", "once")
        .body(Body::from(
            json!({ "content": "What does it cost?" }).to_string(),
        ))
        .unwrap();
    let Ok(response) = team.tenant.world.api.clone().oneshot(request).await;
    let (mut body, mut heard) = (response.into_body(), String::new());
    while shown(&events(&heard)) != enough {
        let frame = body.frame().await.unwrap().unwrap();
        heard += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
    }
    shown(&events(&heard))
}

/// Waits until `is_so`.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !is_so().await {
        assert!(Instant::now() < end, "waited in vain for {what}");
        sleep(PAUSE).await;
    }
}

#[tokio::test]
async fn who_leaves_while_the_model_is_silent_ends_it_and_what_was_said_is_stored() {
    let (team, provider) = (team().await, Provider::new());
    let chat = chat_at(&team, &provider, Speech::OpenAi).await;
    provider.next(Act::Pause(words("It costs ")));
    let began = Instant::now();

    hear(&team, &chat, "It costs ").await;

    until("the answer", async || log(&team.sk, &chat).await.len() == 2).await;
    let stored = log(&team.sk, &chat).await[1].clone();
    assert_eq!(stored["content"], "It costs ");
    assert_eq!(stored["meta"]["finish"], "cancelled");
    until("the model to be left", async || provider.left() == 1).await;
    // Nobody waited until the model was given up.
    assert!(began.elapsed() < Duration::from_secs(14));
}

#[tokio::test]
async fn who_leaves_before_the_model_says_anything_can_ask_again_at_once() {
    let (team, provider) = (team().await, Provider::new());
    let chat = chat_at(&team, &provider, Speech::OpenAi).await;
    provider.next(Act::Hang);
    let leaving = tokio::spawn({
        let (team, chat) = (team.clone(), chat.clone());
        async move { hear(&team, &chat, "never").await }
    });
    until("the model to be asked", async || {
        !provider.asked().is_empty()
    })
    .await;
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    until("the model to be left", async || provider.left() == 1).await;

    provider.always(Act::Say(words("Nothing.")));
    let sk = once(&team.sk);
    until("an answer", async || stream(&sk, &chat).await.status == 200).await;

    let log = log(&team.sk, &chat).await;
    assert_eq!(log.len(), 2);
    assert_eq!(log[1]["content"], "Nothing.");
}

#[tokio::test]
async fn who_leaves_without_a_stream_ends_the_model_too() {
    let (team, provider) = (team().await, Provider::new());
    let chat = chat_at(&team, &provider, Speech::OpenAi).await;
    provider.next(Act::Pause(words("It costs ")));
    let leaving = tokio::spawn({
        let (sk, chat) = (once(&team.sk), chat.clone());
        async move { say(&sk, &chat, "What does it cost?").await.status }
    });
    until("the model to be asked", async || {
        !provider.asked().is_empty()
    })
    .await;
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    until("the model to be left", async || provider.left() == 1).await;

    provider.always(Act::Say(words("Nothing.")));
    let sk = once(&team.sk);
    let answered = async || say(&sk, &chat, "What does it cost?").await.status == 200;
    until("an answer", answered).await;

    let log = log(&team.sk, &chat).await;
    assert_eq!(log.len(), 2);
    assert_answered_once(&log);
}

/// A client with a connection of its own, which says that it hangs up by doing so.
async fn asks_over_a_socket(team: &Team, chat: &str, accept: &str) -> TcpStream {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    serve_on(listener, team.tenant.world.api.clone());
    let mut connection = TcpStream::connect(address).await.unwrap();
    let body = json!({ "content": "What does it cost?" }).to_string();
    let request = format!(
        "POST /chat/{chat}/message HTTP/1.1\r\nhost: here\r\nx-api-key: {}\r\naccept: {accept}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        team.secret,
        body.len(),
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    connection
}

#[tokio::test]
async fn a_connection_that_ends_ends_the_model_of_its_request() {
    for accept in ["application/json", "text/event-stream"] {
        let (team, provider) = (team().await, Provider::new());
        let chat = chat_at(&team, &provider, Speech::OpenAi).await;
        provider.next(Act::Pause(words("It costs ")));
        let connection = asks_over_a_socket(&team, &chat, accept).await;
        until("the model to be asked", async || {
            !provider.asked().is_empty()
        })
        .await;
        assert_eq!(provider.left(), 0);

        drop(connection);

        until("the model to be left", async || provider.left() == 1).await;
    }
}
