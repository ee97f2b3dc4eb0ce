//! A send: what is said is stored, answered from what was said before it, and its answer is shown.

use std::collections::BTreeSet;

use parlance::domain::MessageId;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    Team, assert_error,
    chats::{chat, chat_with, said, say},
    models::chat_at,
    team, team_in,
};
use crate::support::{
    Client, Response,
    faults::Meter,
    provider::{Act, Provider, Speech},
    world,
};

/// How many messages a model is told at most.
const WINDOW: usize = 20;
/// How much the model of these tests tells of each, in bytes.
const TOLD: usize = 64;

/// All messages of a chat, with what each answers.
pub async fn log(client: &Client, chat: &str) -> Vec<Value> {
    let (mut log, mut next) = (Vec::new(), Some(String::new()));
    while let Some(path) = next {
        let path = if path.is_empty() {
            format!("/chat/{chat}/message?limit=100&include=meta")
        } else {
            path
        };
        let page = client.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.raw);
        log.extend(page.body["messages"].as_array().unwrap().iter().cloned());
        next = page.next();
    }
    log
}

/// Fails unless the messages of a log have the places 1 to n.
#[track_caller]
pub fn assert_gap_free(log: &[Value]) {
    for (index, message) in log.iter().enumerate() {
        let id: MessageId = message["id"].as_str().unwrap().parse().unwrap();
        assert_eq!(id.seq().get(), index as u64 + 1);
    }
}

/// Fails unless each question of a log has exactly one answer, which comes after it.
#[track_caller]
pub fn assert_answered_once(log: &[Value]) {
    let places = |role: &str| {
        let of = log.iter().enumerate().filter(|(_, it)| it["role"] == role);
        of.map(|(index, _)| index).collect::<Vec<_>>()
    };
    let mut answered = BTreeSet::new();
    for at in places("assistant") {
        let question = log
            .iter()
            .position(|it| it["id"] == log[at]["inReplyTo"])
            .unwrap();
        assert!(question < at && answered.insert(question), "{}", log[at]);
    }
    assert_eq!(Vec::from_iter(answered), places("user"));
}

#[tokio::test]
async fn a_send_is_answered_with_the_agents_message() {
    let team = team().await;
    let chat = chat(&team.pk).await;

    let answer = say(&team.pk, &chat, "What does it cost?").await;

    answer.assert(
        200,
        json!({
            "id": answer.text("id"),
            "chatId": chat,
            "content": "[echo] You said: What does it cost?",
            "role": "assistant",
            "createdAt": answer.text("createdAt"),
        }),
    );
    assert_eq!(answer.header("idempotent-replayed"), None);
}

#[tokio::test]
async fn who_leaves_the_role_out_speaks_as_the_user() {
    let team = team().await;
    let chat = chat(&team.pk).await;
    let path = format!("/chat/{chat}/message");
    let answer = team.pk.post(&path, &json!({ "content": "Hi" })).await;
    assert_eq!(answer.text("content"), "[echo] You said: Hi");
}

#[tokio::test]
async fn what_breaks_a_rule_is_named_and_not_said() {
    let team = team().await;
    let chat = chat(&team.pk).await;
    let path = format!("/chat/{chat}/message");
    for (body, field) in [
        (json!({ "role": "user" }), "content"),
        (json!({ "content": "", "role": "user" }), "content"),
        (json!({ "content": " \r\n\t\u{2003}" }), "content"),
        (json!({ "content": "a\u{0}b" }), "content"),
        (json!({ "content": "x".repeat(32 * 1024 + 1) }), "content"),
        (json!({ "content": ["Hi"] }), "content"),
        (json!({ "content": "Hi", "role": "assistant" }), "role"),
        (json!({ "content": "Hi", "role": "system" }), "role"),
        (json!({ "content": "Hi", "role": 1 }), "role"),
        (json!("Hi"), "body"),
    ] {
        let refused = team.pk.post(&path, &body).await;
        assert_error(&refused, 400, "Bad Request", Some(field));
    }
    let body = json!({ "content": "Hi" });
    let refused = team.pk.post(&format!("{path}?userId="), &body).await;
    assert_error(&refused, 400, "Bad Request", Some("userId"));
    assert!(said(&team.pk, &chat).await.is_empty());
}

#[tokio::test]
async fn what_is_said_is_stored_and_answered_byte_for_byte() {
    let team = team().await;
    let chat = chat(&team.pk).await;
    let content = format!(" \"ünï\\cödé\"\r\n\t{} ", "🦀".repeat(100));

    let answer = say(&team.pk, &chat, &content).await;

    let echoed = format!("[echo] You said: {content}");
    assert_eq!(answer.text("content"), echoed);
    let of = |role: &str, content: String| (role.to_owned(), content);
    assert_eq!(
        said(&team.pk, &chat).await,
        [of("user", content), of("assistant", echoed)]
    );
}

/// What the model of these tests answers to `/history` if it is told `log`.
fn history(log: &[Value]) -> String {
    let first = log.len().saturating_sub(WINDOW);
    let log = &log[first..];
    // Each question with its answer, as far as it is there.
    let questions = log.iter().filter(|message| message["role"] == "user");
    let told: Vec<_> = questions
        .flat_map(|question| {
            let answer = log.iter().find(|it| it["inReplyTo"] == question["id"]);
            [Some(question), answer]
        })
        .flatten()
        .collect();
    let turns = told.iter().map(|message| {
        let content = message["content"].as_str().unwrap();
        let cut = &content[..content.floor_char_boundary(TOLD)];
        let role = message["role"].as_str().unwrap();
        format!("\n{role}: {}", cut.replace('\n', " "))
    });
    format!("[echo] {} turns{}", told.len(), turns.collect::<String>())
}

/// Fails unless each answer of a log was given from exactly what was said before its question, and with it.
#[track_caller]
fn assert_answered_from_its_prefix(log: &[Value]) {
    for answer in log.iter().filter(|it| it["role"] == "assistant") {
        let question = log.iter().position(|it| it["id"] == answer["inReplyTo"]);
        assert_eq!(answer["content"], history(&log[..=question.unwrap()]));
    }
}

#[tokio::test]
async fn a_model_is_told_the_last_messages_up_to_the_question() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    for _ in 0..13 {
        say(&team.sk, &chat, "/history").await;
    }
    let log = log(&team.sk, &chat).await;
    assert_eq!(log.len(), 26);
    assert_answered_from_its_prefix(&log);
    assert!(
        log[25]["content"]
            .as_str()
            .unwrap()
            .starts_with("[echo] 19 turns")
    );
}

#[tokio::test]
async fn of_long_messages_no_more_is_read_than_one_page() {
    let (meter, provider) = (Meter::default(), Provider::new());
    let world = world().await.another(|client| meter.meter(client));
    let team = team_in(&world).await;
    let chat = chat_at(&team, &provider, Speech::OpenAi).await;
    // An answer is 128 KB at most.
    provider.always(Act::Say(vec!["y".repeat(128 * 1024)]));
    for _ in 0..11 {
        assert_eq!(say(&team.sk, &chat, "Go on").await.status, 200);
    }
    meter.take();

    let answer = say(&team.sk, &chat, "Go on").await;

    assert_eq!(answer.status, 200, "{}", answer.raw);
    let cost = meter.take();
    let queries = cost.operations.iter().filter(|it| *it == "Query");
    assert_eq!((queries.count(), cost.round_trips), (1, 3), "{cost:?}");
    // 1 MB are 256 units; the head is one more.
    assert!(cost.read_units <= 257.0, "{cost:?}");
    // The last answer alone is more than a model is told.
    let asked = provider.asked().pop().unwrap().body;
    let messages = asked["messages"].as_array().unwrap();
    let of_user = messages.iter().filter(|it| it["role"] == "user");
    assert_eq!(of_user.count(), 1, "{asked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_sends_at_once_are_each_answered_from_their_own_prefix() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    let other = team.at(&team.tenant.world.another(|client| client));
    let mut sending = JoinSet::new();
    for n in 0..50 {
        let (client, chat) = (
            if n % 2 == 0 { &team.sk } else { &other.sk }.clone(),
            chat.clone(),
        );
        sending.spawn(async move { say(&client, &chat, "/history").await });
    }
    let answers = sending.join_all().await;

    let log = log(&team.sk, &chat).await;
    assert_eq!(log.len(), 100);
    assert_gap_free(&log);
    assert_answered_once(&log);
    assert_answered_from_its_prefix(&log);
    for answer in answers {
        assert_eq!(answer.status, 200, "{}", answer.raw);
        let stored = log.iter().find(|it| it["id"] == answer.body["id"]).unwrap();
        assert_eq!(stored["content"], answer.body["content"]);
    }
}

/// An agent whose model nobody can reach: the team has no key for it.
pub async fn dumb(team: &Team) -> String {
    let body = json!({ "name": "Dumb", "provider": "openai", "model": "gpt-4o-mini" });
    let made = team.sk.post("/agent", &body).await;
    assert_eq!(made.status, 200, "{}", made.raw);
    made.text("id")
}

/// Gives an agent a model that answers.
pub async fn heal(team: &Team, agent: &str) {
    let body = json!({ "provider": "echo", "model": "echo-1" });
    let changed = team.sk.put(&format!("/agent/{agent}"), &body).await;
    assert_eq!(changed.status, 200, "{}", changed.raw);
}

#[track_caller]
pub fn assert_bad_gateway(answer: &Response) {
    assert_eq!(answer.status, 502, "{}", answer.raw);
    assert_eq!(answer.body["error"], "Bad Gateway");
    assert!(answer.body["message"].is_string() && answer.body["retryable"].is_boolean());
}

#[tokio::test]
async fn a_model_that_gives_no_answer_leaves_what_was_said() {
    let team = team().await;
    let chat = chat_with(&team.sk, json!({ "agentId": dumb(&team).await })).await;

    let failed = say(&team.sk, &chat, "Hello!").await;

    assert_bad_gateway(&failed);
    assert_eq!(
        said(&team.sk, &chat).await,
        [("user".to_owned(), "Hello!".to_owned())]
    );
}

#[tokio::test]
async fn what_nobody_answered_is_told_with_the_next_question() {
    let team = team().await;
    let agent = dumb(&team).await;
    let chat = chat_with(&team.sk, json!({ "agentId": agent })).await;
    say(&team.sk, &chat, "Hello!").await;
    heal(&team, &agent).await;

    let answer = say(&team.sk, &chat, "/history").await;

    let told = "[echo] 2 turns\nuser: Hello!\nuser: /history";
    assert_eq!(answer.text("content"), told);
}

#[tokio::test]
async fn a_chat_whose_agent_is_gone_is_answered_no_more() {
    let team = team().await;
    let agent = dumb(&team).await;
    let chat = chat_with(&team.sk, json!({ "agentId": agent })).await;
    let deleted = team.sk.delete(&format!("/agent/{agent}")).await;
    assert_eq!(deleted.status, 204, "{}", deleted.raw);

    let refused = say(&team.sk, &chat, "Hello!").await;

    refused.assert(
        404,
        json!({ "error": "Not Found", "message": "Agent not found" }),
    );
    assert!(said(&team.sk, &chat).await.is_empty());
}

#[tokio::test]
async fn an_answer_tells_which_version_of_its_agent_gave_it() {
    let team = team().await;
    let agent = dumb(&team).await;
    heal(&team, &agent).await;
    let chat = chat_with(&team.sk, json!({ "agentId": agent })).await;
    say(&team.sk, &chat, "Hello!").await;
    assert_eq!(log(&team.sk, &chat).await[1]["agentVersion"], 2);
}
