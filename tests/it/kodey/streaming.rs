//! An answer that is shown while it comes: what is stored is what was shown, however it ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{Method, Request},
    response::Response as HttpResponse,
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

use super::{
    Team, assert_error,
    chats::{chat, chat_with, said},
    sends::{assert_bad_gateway, dumb, log},
    team, team_in,
};
use crate::support::{
    Client, Response,
    faults::{Fault, Gate, Plan, faulty, script},
    world,
};

/// Far longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_mins(1);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// An event as a client reads it.
#[derive(Debug, PartialEq)]
pub struct Event {
    pub name: String,
    pub data: Value,
}

/// The events of a whole stream, comments left out.
#[track_caller]
pub fn events(stream: &str) -> Vec<Event> {
    let blocks = stream.split("\n\n").filter(|block| !block.is_empty());
    let blocks = blocks.filter(|block| !block.starts_with(':'));
    let event = |block: &str| {
        let (name, data) = block.split_once('\n').unwrap();
        Event {
            name: name.strip_prefix("event: ").unwrap().to_owned(),
            data: serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap(),
        }
    };
    blocks.map(event).collect()
}

/// What the deltas of `events` say together.
pub fn shown(events: &[Event]) -> String {
    let deltas = events.iter().filter(|event| event.name == "delta");
    deltas
        .map(|event| event.data["content"].as_str().unwrap())
        .collect()
}

pub fn streaming(client: &Client) -> Client {
    client.clone().with("accept", "text/event-stream")
}

async fn say(client: &Client, chat: &str, content: &str) -> Response {
    let body = json!({ "content": content, "role": "user" });
    let path = format!("/chat/{chat}/message");
    streaming(client).post(&path, &body).await
}

#[tokio::test]
async fn an_answer_is_shown_in_pieces_and_then_as_a_whole() {
    let team = team().await;
    let chat = chat(&team.pk).await;

    let stream = say(&team.pk, &chat, "one two three").await;

    assert_eq!(stream.status, 200, "{}", stream.raw);
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    assert_eq!(
        stream.header("cache-control"),
        Some("no-cache, no-transform")
    );
    assert!(stream.header("x-ratelimit-remaining").is_some());
    let events = events(&stream.raw);
    let (done, deltas) = events.split_last().unwrap();
    assert!(deltas.len() > 1 && deltas.iter().all(|event| event.name == "delta"));
    assert_eq!(shown(deltas), "[echo] You said: one two three");
    let stored = &log(&team.sk, &chat).await[1];
    assert_eq!(done.name, "done");
    assert_eq!(
        done.data,
        json!({
            "id": stored["id"],
            "chatId": chat,
            "content": shown(deltas),
            "role": "assistant",
            "createdAt": stored["createdAt"],
        })
    );
    assert_eq!(stored["content"], done.data["content"]);
}

#[tokio::test]
async fn lines_and_quotes_of_an_answer_are_shown_as_they_are() {
    let team = team().await;
    let chat = chat(&team.pk).await;
    let content = "a\n\nb\r\n\"c\" \u{2028} event: done\ndata: 🦀";

    let stream = say(&team.pk, &chat, content).await;

    let events = events(&stream.raw);
    assert_eq!(shown(&events), format!("[echo] You said: {content}"));
    assert_eq!(events.last().unwrap().name, "done");
}

#[tokio::test]
async fn who_accepts_something_else_is_shown_the_whole() {
    let team = team().await;
    let chat = chat(&team.pk).await;
    let path = format!("/chat/{chat}/message");
    for accept in [
        "application/json",
        "*/*",
        "text/html, application/xml;q=0.9",
        "text/event-stream;q=0, application/json",
        "application/json, text/event-stream; Q=0.000",
        "text/event-stream ; q=0, application/json",
        "text/event-streams",
        &",".repeat(60_000),
    ] {
        let client = team.pk.clone().with("accept", accept);
        let answer = client.post(&path, &json!({ "content": "Hi" })).await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    for accept in [
        "text/event-stream;q=0.9",
        "text/event-stream; q=0.001",
        "application/json, text/event-stream ;q=1",
        "application/json, Text/Event-Stream",
        "*/*;q=0,, what is this, text/event-stream;charset=\"utf-8\";q=1",
    ] {
        let client = team.pk.clone().with("accept", accept);
        let answer = client.post(&path, &json!({ "content": "Hi" })).await;
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    }
}

#[tokio::test]
async fn what_fails_before_the_answer_begins_has_its_usual_status() {
    let team = team().await;
    let gone = say(&team.pk, &format!("chat_{:032x}", 7), "Hi").await;
    assert_error(&gone, 404, "Not Found", None);
    let chat = chat(&team.pk).await;
    assert_error(
        &say(&team.pk, &chat, "").await,
        400,
        "Bad Request",
        Some("content"),
    );
    let silent = chat_with(&team.sk, json!({ "agentId": dumb(&team).await })).await;
    assert_bad_gateway(&say(&team.sk, &silent, "Hi").await);
    assert_eq!(said(&team.sk, &silent).await.len(), 1);
}

#[tokio::test]
async fn an_answer_that_is_repeated_is_shown_at_once() {
    let team = team().await;
    let chat = chat(&team.pk).await;
    let once = team.pk.clone().with("idempotency-key", "once");
    let first = say(&once, &chat, "one two three").await;

    let second = say(&once, &chat, "one two three").await;

    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    let (first, second) = (events(&first.raw), events(&second.raw));
    assert_eq!(second.len(), 2);
    assert_eq!(shown(&second), shown(&first));
    assert_eq!(second.last(), first.last());
    assert_eq!(said(&team.pk, &chat).await.len(), 2);
}

/// A request that streams, whose answer has not been read.
async fn begin(team: &Team, chat: &str, content: &str) -> HttpResponse {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/chat/{chat}/message"))
        .header("x-api-key", &team.secret)
        .header("accept", "text/event-stream")
        .header("content-type", "application/json")
        .header("idempotency-key", "once")
        .body(Body::from(json!({ "content": content }).to_string()))
        .unwrap();
    let Ok(response) = team.tenant.world.api.clone().oneshot(request).await;
    response
}

/// Waits until `is_so`.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !is_so().await {
        assert!(Instant::now() < end, "waited in vain for {what}");
        sleep(PAUSE).await;
    }
}

/// An answer of so many words takes a while.
fn long() -> String {
    let words: Vec<_> = (0..800).map(|n| n.to_string()).collect();
    words.join(" ")
}

#[tokio::test]
async fn a_client_that_leaves_halfway_has_heard_what_is_stored() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    let mut body = begin(&team, &chat, &long()).await.into_body();
    let mut heard = String::new();
    for _ in 0..5 {
        let frame = body.frame().await.unwrap().unwrap();
        heard += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
    }
    drop(body);

    until("the answer", async || log(&team.sk, &chat).await.len() == 2).await;

    let stored = log(&team.sk, &chat).await[1].clone();
    let content = stored["content"].as_str().unwrap();
    assert_eq!(content, shown(&events(&heard)));
    let whole = format!("[echo] You said: {}", long());
    assert!(whole.starts_with(content) && content.len() < whole.len());
    assert_eq!(stored["meta"]["finish"], "cancelled");
}

#[tokio::test]
async fn an_answer_that_ended_with_its_client_is_not_begun_anew() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    let mut body = begin(&team, &chat, &long()).await.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    until("the answer", async || log(&team.sk, &chat).await.len() == 2).await;

    let again = begin(&team, &chat, &long()).await;

    assert_eq!(again.headers()["idempotent-replayed"], "true");
    let again = again.into_body().collect().await.unwrap().to_bytes();
    let again = events(std::str::from_utf8(&again).unwrap());
    assert_eq!(log(&team.sk, &chat).await[1]["content"], shown(&again));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_hears_a_heartbeat() {
    let (gate, commits) = (Gate::default(), AtomicI64::new(i64::MIN));
    let commits = Arc::new(commits);
    let plan: Plan = {
        let (gate, commits) = (gate.clone(), Arc::clone(&commits));
        Arc::new(move |name, _| {
            let is_commit = name == "TransactWriteItems";
            match is_commit.then(|| commits.fetch_add(1, Ordering::Relaxed)) {
                Some(1) => Fault::Hold(gate.clone()),
                Some(_) | None => Fault::Pass,
            }
        })
    };
    let world = world().await.another(|client| faulty(client, plan));
    let team = team_in(&world).await;
    let chat = chat(&team.sk).await;
    // The next one stores the question, and the one after it the answer.
    commits.store(0, Ordering::Relaxed);
    let mut body = begin(&team, &chat, "Hello!").await.into_body();
    let mut heard = String::new();
    while !heard.ends_with("\n\n:\n\n") {
        let frame = body.frame().await.unwrap().unwrap();
        heard += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
    }
    gate.open();

    let rest = body.collect().await.unwrap().to_bytes();

    assert_eq!(shown(&events(&heard)), "[echo] You said: Hello!");
    assert_eq!(events(std::str::from_utf8(&rest).unwrap())[0].name, "done");
}

/// The same team, served by another process whose calls meet `plan`. It knows the key already.
async fn process(team: &Team, plan: Plan) -> Team {
    let world = team.tenant.world.another(|client| faulty(client, plan));
    let team = team.at(&world);
    assert_eq!(team.sk.get("/chat?limit=1").await.status, 200);
    team
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_begins_leaves_nothing_half_done() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    let gate = Gate::default();
    let plan = script("TransactWriteItems", [Fault::Hold(gate.clone())]);
    let process = process(&team, plan).await;
    let beginning = tokio::spawn({
        let (process, chat) = (process.clone(), chat.clone());
        async move { begin(&process, &chat, "Hello!").await.status() }
    });
    gate.reached().await;
    beginning.abort();
    assert!(beginning.await.unwrap_err().is_cancelled());

    let again = begin(&team, &chat, "Hello!").await;

    assert_eq!(again.status(), 200);
    again.into_body().collect().await.unwrap();
    assert_eq!(said(&team.sk, &chat).await.len(), 2);
}

#[tokio::test]
async fn an_answer_that_is_not_stored_ends_with_an_error() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    let gate = Gate::default();
    let fates = [Fault::Pass, Fault::Hold(gate.clone())];
    let process = process(&team, script("TransactWriteItems", fates)).await;
    let mut body = begin(&process, &chat, "Hello!").await.into_body();
    let mut heard = String::new();
    let deleting = async {
        gate.reached().await;
        let deleted = team.sk.delete(&format!("/chat/{chat}")).await;
        assert_eq!(deleted.status, 204, "{}", deleted.raw);
        gate.open();
    };
    let hearing = async {
        while let Some(frame) = body.frame().await {
            heard += std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap();
        }
    };
    tokio::join!(deleting, hearing);

    let events = events(&heard);

    let (last, deltas) = events.split_last().unwrap();
    assert_eq!(shown(deltas), "[echo] You said: Hello!");
    assert_eq!(last.name, "error");
    assert_eq!(
        last.data,
        json!({ "error": "Not Found", "message": "Chat not found" })
    );
}
