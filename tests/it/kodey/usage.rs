//! What models were used for: counted once for each answer, capped by month.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Team, team, team_in};
use crate::support::{
    Response,
    faults::{Fault, Gate, Plan, faulty, script},
    world,
};

/// A chat of `team` with `agent`, and where its messages are.
async fn chat(team: &Team, agent: &str) -> String {
    let made = team.sk.post("/chat", &json!({ "agentId": agent })).await;
    assert_eq!(made.status, 200, "{}", made.raw);
    format!("/chat/{}/message", made.text("id"))
}

async fn say(team: &Team, chat: &str, content: &str) -> Response {
    let body = json!({ "content": content, "role": "user" });
    team.sk.post(chat, &body).await
}

fn path(team: &Team) -> String {
    format!("/admin/tenants/{}/model-usage", team.id)
}

/// What was used, as the tenant's server reads it.
async fn used(team: &Team) -> Vec<Value> {
    let used = team.tenant.server().get(&path(team)).await;
    assert_eq!(used.status, 200, "{}", used.raw);
    used.body.as_array().unwrap().clone()
}

#[tokio::test]
async fn an_answer_is_counted_with_what_it_used() {
    let team = team().await;
    let chat = chat(&team, "chat").await;
    let answer = say(&team, &chat, "hello").await;
    assert_eq!(answer.status, 200, "{}", answer.raw);
    let messages = team.sk.get(&format!("{chat}?include=meta")).await;
    let meta = &messages.body["messages"][1]["meta"];
    let used = used(&team).await;
    let whole = json!([{
        "date": &answer.text("createdAt")[..10], "agent_id": "chat", "provider": "echo", "model": "echo-1",
        "invocations": 1, "errors": 0,
        "input_tokens": meta["usage"]["inputTokens"], "output_tokens": meta["usage"]["outputTokens"],
        "avg_latency_ms": meta["latencyMs"],
    }]);
    assert_eq!(json!(used), whole);
    assert!(meta["usage"]["outputTokens"].as_u64() > Some(0));
}

#[tokio::test]
async fn many_answers_at_once_are_each_counted_once() {
    let team = team().await;
    let chat = chat(&team, "chat").await;
    let sends = (0..20).map(|number| {
        let sk = team
            .sk
            .clone()
            .with("idempotency-key", &format!("{}", number / 2));
        let chat = chat.clone();
        // Each is sent twice; the second is told to wait, or what the first was.
        let body = json!({ "content": format!("hello {}", number / 2), "role": "user" });
        async move { sk.post(&chat, &body).await.status }
    });
    for status in join_all(sends).await {
        assert!(status == 200 || status == 409, "{status}");
    }
    let messages = team.sk.get(&format!("{chat}?limit=100")).await;
    let messages = messages.body["messages"].as_array().unwrap();
    let answers = messages.iter().filter(|it| it["role"] == "assistant");
    assert_eq!(answers.count(), 10);
    let used = used(&team).await;
    assert_eq!(used.len(), 1);
    assert_eq!(used[0]["invocations"], 10);
    assert_eq!(used[0]["errors"], 0);
}

#[tokio::test]
async fn what_is_answered_again_from_the_log_is_not_counted_again() {
    let team = team().await;
    let chat = chat(&team, "chat").await;
    let sk = team.sk.clone().with("idempotency-key", "once");
    let body = json!({ "content": "hello", "role": "user" });
    for _ in 0..3 {
        assert_eq!(sk.post(&chat, &body).await.status, 200);
    }
    assert_eq!(used(&team).await[0]["invocations"], 1);
}

#[tokio::test]
async fn a_question_without_an_answer_is_counted_as_an_error() {
    let team = team().await;
    let body = json!({ "name": "Ada", "provider": "openai", "model": "gpt-4o" });
    let ada = team.sk.post("/agent", &body).await.text("id");
    let chat = chat(&team, &ada).await;
    let failed = say(&team, &chat, "hello").await;
    failed.assert(
        502,
        json!({
            "error": "Bad Gateway",
            "message": "There is no active openai key. Add one, or give the agent another model",
            "retryable": false,
        }),
    );
    let used = used(&team).await;
    let whole = json!([{
        "date": used[0]["date"], "agent_id": ada, "provider": "openai", "model": "gpt-4o",
        "invocations": 1, "errors": 1, "input_tokens": 0, "output_tokens": 0, "avg_latency_ms": 0,
    }]);
    assert_eq!(json!(used), whole);
}

#[tokio::test]
async fn what_was_used_up_in_vain_is_counted_too() {
    let team = team().await;
    let chat = chat(&team, "chat").await;
    let failed = say(&team, &chat, r#"/loop calculator {"expression":"1"}"#).await;
    assert_eq!(failed.status, 502, "{}", failed.raw);
    let used = used(&team).await;
    assert_eq!(
        (&used[0]["invocations"], &used[0]["errors"]),
        (&json!(1), &json!(1))
    );
    assert!(used[0]["input_tokens"].as_u64() > Some(0));
}

/// A team in a process whose calls of `operation` meet these fates in turn, once that is armed; and a chat of it.
async fn armed(operation: &'static str, fates: Vec<Fault>) -> (Team, String, Arc<AtomicBool>) {
    let is_armed = Arc::new(AtomicBool::new(false));
    let (heeds, script) = (Arc::clone(&is_armed), script(operation, fates));
    let plan: Plan = Arc::new(move |name, number| {
        if heeds.load(Ordering::Relaxed) {
            script(name, number)
        } else {
            Fault::Pass
        }
    });
    let world = world().await.another(|client| faulty(client, plan));
    let team = team_in(&world).await;
    let chat = chat(&team, "chat").await;
    assert_eq!(say(&team, &chat, "hello").await.status, 200);
    (team, chat, is_armed)
}

#[tokio::test]
async fn a_failure_is_counted_although_answers_are_in_the_way() {
    let fates = [
        vec![Fault::Conflict; 3],
        vec![Fault::Pass],
        vec![Fault::Conflict; 3],
    ];
    let (team, chat, is_armed) = armed("UpdateItem", fates.concat()).await;
    is_armed.store(true, Ordering::Relaxed);
    let failed = say(&team, &chat, r#"/loop calculator {"expression":"1"}"#).await;
    assert_eq!(failed.status, 502, "{}", failed.raw);
    is_armed.store(false, Ordering::Relaxed);
    let used = used(&team).await;
    assert_eq!(
        (&used[0]["invocations"], &used[0]["errors"]),
        (&json!(2), &json!(1))
    );
}

/// What came of a send whose answer meets these fates, and how much more is counted then.
async fn kept_by(fates: Vec<Fault>) -> (Response, u64, u64) {
    let fates = [vec![Fault::Pass], fates].concat();
    let (team, chat, is_armed) = armed("TransactWriteItems", fates).await;
    let before = used(&team).await;
    is_armed.store(true, Ordering::Relaxed);
    let answer = say(&team, &chat, "hello").await;
    is_armed.store(false, Ordering::Relaxed);
    let after = used(&team).await;
    let more = |of: &str| after[0][of].as_u64().unwrap() - before[0][of].as_u64().unwrap();
    (answer, more("errors"), more("output_tokens"))
}

#[tokio::test(start_paused = true)]
async fn what_was_used_for_an_answer_that_could_not_be_kept_is_counted() {
    let hung = Fault::Hold(Gate::default());
    for fates in [vec![Fault::Throttle; 100_000], vec![hung; 100]] {
        let (answer, errors, tokens) = kept_by(fates).await;
        assert_eq!((answer.status, errors), (503, 1), "{}", answer.raw);
        assert!(tokens > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_kept_without_a_word_of_it_is_shown_and_counted_once() {
    let fates = [vec![Fault::LoseAnswer], vec![Fault::Throttle; 100_000]];
    let (answer, errors, tokens) = kept_by(fates.concat()).await;
    assert_eq!((answer.status, errors), (200, 0), "{}", answer.raw);
    assert!(tokens > 0);
}

#[tokio::test]
async fn usage_is_told_apart_by_agent_and_model() {
    let team = team().await;
    let body = json!({ "name": "Ada", "provider": "echo", "model": "echo-2:b/c" });
    let ada = team.sk.post("/agent", &body).await.text("id");
    for agent in [&ada, "chat", "code"] {
        let chat = chat(&team, agent).await;
        assert_eq!(say(&team, &chat, "hello").await.status, 200);
    }
    let used = used(&team).await;
    let told: Vec<_> = used
        .iter()
        .map(|line| (&line["agent_id"], &line["model"]))
        .collect();
    let (chat, code) = (json!("chat"), json!("code"));
    let (one, odd, ada) = (json!("echo-1"), json!("echo-2:b/c"), json!(ada));
    assert_eq!(told, [(&ada, &odd), (&chat, &one), (&code, &one)]);
}

#[tokio::test]
async fn usage_is_paged_line_by_line() {
    let team = team().await;
    for agent in ["chat", "code", "orchestrated"] {
        let chat = chat(&team, agent).await;
        // Several rows each: the sum of a line is never torn.
        for _ in 0..4 {
            assert_eq!(say(&team, &chat, "hello").await.status, 200);
        }
    }
    let mut listed = Vec::new();
    let mut next = Some(format!("{}?limit=1", path(&team)));
    while let Some(path) = next {
        let page = team.tenant.server().get(&path).await;
        let lines = page.body.as_array().unwrap();
        assert_eq!(lines.len(), 1, "{}", page.raw);
        assert_eq!(lines[0]["invocations"], 4);
        listed.push(lines[0]["agent_id"].clone());
        next = page.next();
    }
    assert_eq!(listed, ["chat", "code", "orchestrated"]);
}

#[tokio::test]
async fn only_the_days_that_are_asked_for_are_told() {
    let team = team().await;
    let chat = chat(&team, "chat").await;
    let today = say(&team, &chat, "hello").await.text("createdAt")[..10].to_owned();
    let server = team.tenant.server();
    for (query, lines) in [
        (format!("from={today}&to={today}"), 1),
        (format!("from={today}"), 1),
        ("to=2020-01-01".to_owned(), 0),
        ("from=2020-01-01&to=2020-02-29".to_owned(), 0),
        ("from=2020-01-01&to=9998-12-31".to_owned(), 1),
    ] {
        let used = server.get(&format!("{}?{query}", path(&team))).await;
        // At midnight the answer may be of the day before.
        let found = used.body.as_array().unwrap().len();
        assert!(found == lines, "{query}: {}", used.raw);
    }
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused_with_its_name() {
    let team = team().await;
    for (query, field) in [
        ("from=yesterday", "from"),
        ("to=2025-02-30", "to"),
        ("from=2025-01-02&to=2025-01-01", "from"),
        ("from=9999-12-31", "from"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("cursor=!", "cursor"),
    ] {
        let refused = team
            .tenant
            .server()
            .get(&format!("{}?{query}", path(&team)))
            .await;
        refused.assert_error(400, "VALIDATION_ERROR", Some(field));
    }
    let long = format!("2025-01-01#chat#echo/{}", "x".repeat(2_000));
    for cursor in [
        "month#2026",
        "2025-01-01",
        "2025-01-01#chat",
        "2025-01-01#chat#x/y",
        "",
        &long,
    ] {
        let path = format!("{}?cursor={}", path(&team), shown(cursor));
        let refused = team.tenant.server().get(&path).await;
        refused.assert_error(400, "VALIDATION_ERROR", Some("cursor"));
    }
    // One that leads beyond the last day leads nowhere.
    let path = format!("{}?cursor={}", path(&team), shown("9998-01-01#chat#echo/x"));
    team.tenant.server().get(&path).await.assert(200, json!([]));
}

fn shown(cursor: &str) -> String {
    parlance::http::reply::shown(&parlance::domain::Cursor(cursor.to_owned()))
}

#[tokio::test]
async fn usage_is_shown_to_the_operator_and_to_its_own_tenant() {
    let (team, other) = (team().await, super::team().await);
    let chat = chat(&team, "chat").await;
    assert_eq!(say(&team, &chat, "hello").await.status, 200);
    let operator = team.tenant.world.operator().anew();
    let used = operator.get(&path(&team)).await;
    assert_eq!(used.body.as_array().unwrap().len(), 1, "{}", used.raw);
    let not_found = json!({
        "success": false, "error": { "code": "NOT_FOUND", "message": "Tenant not found" },
    });
    other
        .tenant
        .server()
        .get(&path(&team))
        .await
        .assert(404, not_found.clone());
    let nobody = format!("/admin/tenants/tenant_{:032x}/model-usage", 7);
    operator.get(&nobody).await.assert(404, not_found);
    let stranger = team.tenant.world.stranger();
    assert_eq!(stranger.get(&path(&team)).await.status, 401);
    // A key of the other dialect opens nothing here.
    assert_eq!(team.sk.get(&path(&team)).await.status, 401);
}

#[tokio::test]
async fn a_team_that_has_used_up_its_tokens_is_told_until_when() {
    let team = team().await;
    let chat = chat(&team, "chat").await;
    team.set(json!({ "monthly_token_cap": 1 })).await;
    let team = team.at(&team.tenant.world.another(|client| client));
    let first = say(&team, &chat, "hello").await;
    assert_eq!(first.status, 200, "{}", first.raw);
    let refused = say(&team, &chat, "hello?").await;
    assert_eq!(refused.status, 429, "{}", refused.raw);
    let message = refused.text("message");
    assert!(message.starts_with("Monthly limit of 1 tokens reached. It begins anew at "));
    assert!(message.ends_with("-01T00:00:00.000000Z"), "{message}");
    let wait = refused.body["retryAfter"].as_u64().unwrap();
    assert_eq!(
        refused.header("retry-after"),
        Some(wait.to_string().as_str())
    );
    assert!((1..=31 * 24 * 3_600).contains(&wait));
    // Nothing was said, and what was said can be read.
    let messages = team.sk.get(&chat).await;
    assert_eq!(messages.body["messages"].as_array().unwrap().len(), 2);
    assert_eq!(used(&team).await[0]["invocations"], 1);
    team.set(json!({ "monthly_token_cap": null })).await;
    let team = team.at(&team.tenant.world.another(|client| client));
    assert_eq!(say(&team, &chat, "hello again").await.status, 200);
}

#[tokio::test]
async fn what_failed_counts_against_the_cap() {
    let team = team().await;
    let chat = chat(&team, "chat").await;
    team.set(json!({ "monthly_token_cap": 10 })).await;
    let team = team.at(&team.tenant.world.another(|client| client));
    let failed = say(&team, &chat, r#"/loop calculator {"expression":"1"}"#).await;
    assert_eq!(failed.status, 502, "{}", failed.raw);
    assert_eq!(say(&team, &chat, "hello").await.status, 429);
}
