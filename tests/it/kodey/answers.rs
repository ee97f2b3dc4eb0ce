//! Answers of models that are not ours: in the words of each provider, with tools between, and whatever goes wrong.

use serde_json::{Value, json};

use super::{Team, streaming::until, team, team_in};
use crate::support::{
    Response,
    provider::{Act, Asked, Provider, Speech, data, words},
    receiver::Receiver,
    world_over,
};

/// A team with a provider's key, an agent, and a chat with it.
struct Line {
    team: Team,
    provider: Provider,
    /// Where the chat's messages are.
    chat: String,
    agent: String,
}

async fn line(speech: Speech, tools: &[&str]) -> Line {
    let (team, provider) = (team().await, Provider::new());
    let keys = format!("/admin/tenants/{}/provider-keys", team.id);
    let body = json!({
        "provider": speech.name(), "api_key": "sk-right", "base_url": provider.base(speech),
    });
    let kept = team.tenant.server().post(&keys, &body).await;
    assert_eq!(kept.status, 201, "{}", kept.raw);
    let body = json!({
        "name": "Ada", "systemPrompt": "Count.", "provider": speech.name(), "model": "some-model",
        "tools": tools,
    });
    let agent = team.sk.post("/agent", &body).await.text("id");
    let chat = team.sk.post("/chat", &json!({ "agentId": agent })).await;
    Line {
        chat: format!("/chat/{}/message", chat.text("id")),
        team,
        provider,
        agent,
    }
}

fn say(text: &str) -> Act {
    Act::Say(words(text))
}

fn call(name: &str, arguments: &str) -> Act {
    Act::Call(vec![(name.to_owned(), arguments.to_owned())])
}

impl Line {
    async fn ask(&self, content: &str) -> Response {
        let body = json!({ "content": content, "role": "user" });
        self.team.sk.post(&self.chat, &body).await
    }

    /// What the chat holds, with how it came about.
    async fn log(&self) -> Vec<Value> {
        let log = self
            .team
            .sk
            .get(&format!("{}?include=meta", self.chat))
            .await;
        log.body["messages"].as_array().unwrap().clone()
    }

    /// The line of usage of its agent.
    async fn used(&self) -> Value {
        let path = format!("/admin/tenants/{}/model-usage", self.team.id);
        let used = self.team.tenant.server().get(&path).await;
        assert_eq!(used.body[0]["agent_id"], json!(self.agent), "{}", used.raw);
        used.body[0].clone()
    }

    fn last_asked(&self) -> Asked {
        self.provider.asked().pop().unwrap()
    }
}

/// Fails unless this is a 502 that may or may not be tried again.
#[track_caller]
fn assert_upstream(answer: &Response, message: &str, retryable: bool) {
    answer.assert(
        502,
        json!({ "error": "Bad Gateway", "message": message, "retryable": retryable }),
    );
}

#[tokio::test]
async fn each_providers_model_has_its_tools_called_and_is_told_what_they_gave() {
    for speech in Speech::ALL {
        let line = line(speech, &["calculator"]).await;
        line.provider
            .next(call("calculator", r#"{"expression":"6*7"}"#));
        line.provider.next(say("It is 42."));
        let answer = line.ask("What is six times seven?").await;
        assert_eq!(answer.status, 200, "{speech:?}: {}", answer.raw);
        assert_eq!(answer.text("content"), "It is 42.");
        let asked = line.provider.asked();
        assert_eq!(asked.len(), 2, "{speech:?}");
        assert!(
            asked[0].body.to_string().contains("calculator"),
            "{speech:?}"
        );
        assert!(asked[1].body.to_string().contains("42"), "{speech:?}");
        let meta = &line.log().await[1]["meta"];
        let tools = json!([{ "name": "calculator", "arguments": "{\"expression\":\"6*7\"}", "result": "42" }]);
        assert_eq!(meta["tools"], tools, "{speech:?}");
        assert_eq!(meta["provider"], speech.name());
        let used = line.used().await;
        assert_eq!(
            (&used["invocations"], &used["errors"]),
            (&json!(1), &json!(0))
        );
        assert_eq!(used["output_tokens"], meta["usage"]["outputTokens"]);
    }
}

#[tokio::test]
async fn a_call_of_what_was_not_given_gets_no_further_than_being_told_so() {
    for speech in Speech::ALL {
        let line = line(speech, &["calculator"]).await;
        line.provider
            .next(call("http_fetch", r#"{"url":"https://example.com"}"#));
        line.provider.next(say("I cannot."));
        let answer = line.ask("Fetch it").await;
        assert_eq!(answer.text("content"), "I cannot.", "{speech:?}");
        let told = line.last_asked().body.to_string();
        assert!(told.contains("There is no such tool"), "{speech:?}: {told}");
    }
}

#[tokio::test]
async fn arguments_that_are_no_json_are_told_to_be_none() {
    // The others have no way to say what is no JSON.
    let line = line(Speech::OpenAi, &["calculator"]).await;
    line.provider
        .next(call("calculator", r#"{"expression": 6*"#));
    line.provider.next(say("Sorry."));
    assert_eq!(line.ask("Six?").await.text("content"), "Sorry.");
    let meta = &line.log().await[1]["meta"];
    let result = &meta["tools"][0]["result"];
    assert_eq!(result, "Error: the arguments are not a JSON object");
}

#[tokio::test]
async fn a_model_that_calls_forever_is_left() {
    let line = line(Speech::OpenAi, &["calculator"]).await;
    line.provider
        .always(call("calculator", r#"{"expression":"1"}"#));
    let answer = line.ask("Go on").await;
    let message = "The model kept calling tools and gave no answer";
    assert_upstream(&answer, message, true);
    assert_eq!(line.provider.asked().len(), 6);
    let used = line.used().await;
    assert_eq!(
        (&used["invocations"], &used["errors"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(line.log().await.len(), 1);
}

#[tokio::test]
async fn what_a_model_may_have_used_before_it_broke_off_is_counted() {
    let line = line(Speech::OpenAi, &[]).await;
    line.provider.always(Act::Think("What would they hear?"));
    let answer = line.ask("Hello?").await;
    assert_upstream(&answer, "openai failed: its answer broke off", true);
    let tries = line.provider.asked().len() as u64;
    let used = line.used().await;
    assert_eq!(
        (&used["invocations"], &used["errors"]),
        (&json!(1), &json!(1))
    );
    // A token for four bytes: "Count." and "Hello?", and what was thought.
    assert_eq!(used["input_tokens"], json!(tries * 3), "{used}");
    assert_eq!(used["output_tokens"], json!(tries * 6), "{used}");
}

#[tokio::test]
async fn of_many_calls_at_once_eight_are_made_and_of_the_rest_the_model_is_told() {
    for speech in Speech::ALL {
        let line = line(speech, &["calculator"]).await;
        let one = ("calculator".to_owned(), r#"{"expression":"1"}"#.to_owned());
        line.provider.next(Act::Call(vec![one; 70]));
        line.provider.next(say("One."));
        let answer = line.ask("How much?").await;
        assert_eq!(answer.status, 200, "{speech:?}: {}", answer.raw);
        let meta = &line.log().await[1]["meta"];
        assert_eq!(meta["tools"].as_array().unwrap().len(), 8, "{speech:?}");
        assert_eq!(meta["toolsPassedOver"], 62, "{speech:?}");
        let told = line.last_asked().body.to_string();
        let limits = told.matches("The limit of 8 calls at once is reached");
        assert_eq!(limits.count(), 56, "{speech:?}");
        assert!(
            told.contains("(6 more calls were not heard.)"),
            "{speech:?}"
        );
    }
}

#[tokio::test]
async fn what_is_said_before_and_after_a_failure_is_one_conversation() {
    let line = line(Speech::OpenAi, &[]).await;
    line.provider.next(Act::Status(401, vec![]));
    let refused = line.ask("Hello?").await;
    assert_eq!(refused.status, 502, "{}", refused.raw);
    // The key that was not taken is not tried again.
    let again = line.ask("Anybody?").await;
    let message = "There is no active openai key. Add one, or give the agent another model";
    assert_upstream(&again, message, false);
    let log = line.log().await;
    let said: Vec<_> = log.iter().map(|message| &message["content"]).collect();
    assert_eq!(said, ["Hello?", "Anybody?"]);
}

#[tokio::test]
async fn a_key_of_the_operator_that_is_not_taken_stays_and_is_tried_last() {
    let world = world_over(|http| http).await;
    let (team, other, provider) = (
        team_in(&world).await,
        team_in(&world).await,
        Provider::new(),
    );
    let operator = world.operator().anew();
    for key in ["sk-first", "sk-second"] {
        let body = json!({
            "provider": "openai", "api_key": key, "base_url": provider.base(Speech::OpenAi),
        });
        let kept = operator.post("/admin/provider-keys", &body).await;
        assert_eq!(kept.status, 201, "{}", kept.raw);
    }
    provider.reject("sk-first");
    for team in [&team, &other] {
        let body = json!({ "name": "Ada", "provider": "openai", "model": "some-model" });
        let agent = team.sk.post("/agent", &body).await.text("id");
        let chat = team.sk.post("/chat", &json!({ "agentId": agent })).await;
        let chat = format!("/chat/{}/message", chat.text("id"));
        let answer = team.sk.post(&chat, &json!({ "content": "Hello" })).await;
        assert_eq!(answer.status, 200, "{}", answer.raw);
    }
    let keys: Vec<_> = provider.asked().iter().map(Asked::key).collect();
    assert_eq!(keys, ["sk-first", "sk-second", "sk-second"]);
    let kept = operator.get("/admin/provider-keys").await;
    for key in kept.body.as_array().unwrap() {
        assert_eq!(key["status"], "active", "{}", kept.raw);
    }
}

/// What a provider refuses a question with whose quota is used up.
fn no_quota() -> Act {
    let code = "insufficient_quota";
    Act::Refuse(
        429,
        json!({ "error": { "type": code, "code": code } }).to_string(),
    )
}

#[tokio::test]
async fn a_key_that_may_not_or_has_no_quota_is_followed_by_the_next_and_stays() {
    for act in [
        Act::Status(402, vec![]),
        Act::Status(403, vec![]),
        no_quota(),
    ] {
        let line = line(Speech::OpenAi, &[]).await;
        let keys = format!("/admin/tenants/{}/provider-keys", line.team.id);
        let body = json!({
            "provider": "openai", "api_key": "sk-next",
            "base_url": line.provider.base(Speech::OpenAi),
        });
        let server = line.team.tenant.server();
        assert_eq!(server.post(&keys, &body).await.status, 201);
        line.provider.to_key("sk-right", act.clone());
        let answer = line.ask("Hello?").await;
        assert_eq!(answer.status, 200, "{act:?}: {}", answer.raw);
        let asked: Vec<_> = line.provider.asked().iter().map(Asked::key).collect();
        assert_eq!(asked, ["sk-right", "sk-next"], "{act:?}");
        for key in server.get(&keys).await.body.as_array().unwrap() {
            assert_eq!(key["status"], "active", "{act:?}");
        }
    }
}

#[tokio::test]
async fn keys_that_are_not_answered_for_are_tried_after_others_for_a_while() {
    let line = line(Speech::OpenAi, &[]).await;
    let keys = format!("/admin/tenants/{}/provider-keys", line.team.id);
    let server = line.team.tenant.server();
    let mut names = vec!["sk-right".to_owned()];
    names.extend((2..=5).map(|n| format!("sk-{n}")));
    for name in &names[1..] {
        let base_url = line.provider.base(Speech::OpenAi);
        let body = json!({ "provider": "openai", "api_key": name, "base_url": base_url });
        assert_eq!(server.post(&keys, &body).await.status, 201);
    }
    for name in &names[..4] {
        line.provider.to_key(name, Act::Status(403, vec![]));
    }

    let first = line.ask("Hello?").await;
    let again = line.ask("Hello?").await;

    let message = "openai took none of the first keys, and there are others. Try again";
    assert_upstream(&first, message, true);
    assert_eq!(again.status, 200, "{}", again.raw);
    let asked: Vec<_> = line.provider.asked().iter().map(Asked::key).collect();
    assert_eq!(asked, names);
}

#[tokio::test]
async fn where_no_key_is_left_it_is_said_what_the_last_one_was_refused_for() {
    let refused =
        "openai refused the request with status 403. Check the agent's model and settings";
    let used_up = "The quota of this openai key is used up";
    for (act, message, retryable) in [
        (Act::Status(403, vec![]), refused, false),
        (no_quota(), used_up, true),
    ] {
        let line = line(Speech::OpenAi, &[]).await;
        line.provider.always(act);
        assert_upstream(&line.ask("Hello?").await, message, retryable);
        assert_eq!(line.provider.asked().len(), 1);
    }
}

#[tokio::test]
async fn what_a_provider_refused_is_left_out_of_what_is_asked_later() {
    let filter = json!({ "error": { "code": "content_filter" } }).to_string();
    for act in [Act::Status(400, vec![]), Act::Refuse(400, filter)] {
        let line = line(Speech::OpenAi, &[]).await;
        line.provider.to_words("forbidden", act.clone());
        assert_eq!(line.ask("Hello!").await.status, 200);
        let refused = line.ask("Something forbidden").await;
        assert_eq!(refused.status, 502, "{}", refused.raw);
        assert_eq!(refused.body["retryable"], false, "{}", refused.raw);
        assert_eq!(line.provider.asked().len(), 2, "{act:?}");

        let answer = line.ask("Anything else?").await;

        assert_eq!(answer.status, 200, "{act:?}: {}", answer.raw);
        let told = line.last_asked().body.to_string();
        assert!(
            told.contains("Hello!") && told.contains("Anything else?"),
            "{told}"
        );
        assert!(!told.contains("forbidden"), "{told}");
        assert_eq!(line.provider.asked().len(), 4, "{act:?}");
    }
}

#[tokio::test]
async fn pieces_of_a_call_with_empty_ids_have_their_tool_called() {
    let line = line(Speech::OpenAi, &["calculator"]).await;
    let piece = |id: &str, name: &str, arguments: &str| {
        let function = json!({ "name": name, "arguments": arguments });
        let call = json!({ "index": 0, "id": id, "type": "function", "function": function });
        data(&json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [call] } }] }))
    };
    let end = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "tool_calls" }] });
    line.provider.next(Act::Events(vec![
        piece("call_abc", "calculator", ""),
        piece("", "", "{\"expre"),
        piece("", "", "ssion\":\"6*7\"}"),
        data(&end),
    ]));
    line.provider.next(say("It is 42."));
    assert_eq!(
        line.ask("Six times seven?").await.text("content"),
        "It is 42."
    );
    let told = &line.last_asked().body["messages"];
    let result = told.as_array().unwrap().last().unwrap();
    assert_eq!(result["tool_call_id"], "call_abc", "{told}");
    assert_eq!(result["content"], "42", "{told}");
}

#[tokio::test]
async fn a_call_without_a_name_is_told_to_be_of_no_tool() {
    let line = line(Speech::OpenAi, &["calculator"]).await;
    line.provider.next(call("", "{}"));
    line.provider.next(say("Sorry."));
    assert_eq!(line.ask("Six?").await.text("content"), "Sorry.");
    let result = &line.log().await[1]["meta"]["tools"][0]["result"];
    assert_eq!(result, "Error: There is no such tool");
}

#[tokio::test]
async fn a_failure_that_says_how_long_it_lasts_is_quoted() {
    let line = line(Speech::OpenAi, &[]).await;
    let wait = vec![("retry-after", "77".to_owned())];
    line.provider.always(Act::Status(503, wait));
    let answer = line.ask("Hello?").await;
    assert_upstream(&answer, "openai failed: it failed", true);
    assert_eq!(answer.header("retry-after"), Some("77"));
}

#[tokio::test]
async fn what_is_reported_of_an_answer_without_words_is_counted() {
    for (act, message, retryable) in [
        (Act::Nothing, "openai gave an empty answer", true),
        (say(" \n "), "openai gave an empty answer", true),
        (
            Act::Cut(Vec::new()),
            "The model used all its tokens before a word. Raise the agent's maxTokens",
            false,
        ),
    ] {
        let line = line(Speech::OpenAi, &[]).await;
        line.provider.always(act.clone());
        assert_upstream(&line.ask("Hello?").await, message, retryable);
        let used = line.used().await;
        let tokens = (&used["input_tokens"], &used["output_tokens"]);
        assert_eq!(tokens, (&json!(11), &json!(7)), "{act:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_withheld_is_said_to_be() {
    let line = line(Speech::Google, &[]).await;
    let blocked = json!({ "promptFeedback": { "blockReason": "SAFETY" } });
    line.provider.always(Act::Events(vec![data(&blocked)]));
    let answer = line.ask("Hello?").await;
    assert_upstream(&answer, "google withheld the answer", false);
    assert_eq!(line.provider.asked().len(), 1);
}

#[tokio::test]
async fn each_failure_of_a_provider_is_worded_and_counted() {
    let status = |status| Act::Status(status, vec![]);
    for (act, message, retryable, paid) in [
        (
            status(404),
            "openai refused the request with status 404. Check the agent's model and settings",
            false,
            false,
        ),
        (
            status(400),
            "openai refused the request with status 400. Check the agent's model and settings",
            false,
            false,
        ),
        (Act::Nothing, "openai gave an empty answer", true, true),
        (
            Act::Drop(words("It is")),
            "openai broke off its answer",
            true,
            true,
        ),
    ] {
        let line = line(Speech::OpenAi, &[]).await;
        line.provider.always(act.clone());
        let answer = line.ask("Hello?").await;
        assert_upstream(&answer, message, retryable);
        let used = line.used().await;
        let counts = (&used["invocations"], &used["errors"]);
        assert_eq!(counts, (&json!(1), &json!(1)), "{act:?}");
        // Who was asked and broke off asks for money all the same.
        assert_eq!(used["input_tokens"] != json!(0), paid, "{act:?}");
        assert_eq!(line.log().await.len(), 1, "{act:?}");
    }
}

#[tokio::test]
async fn what_broke_off_counts_against_the_cap_with_all_that_was_asked() {
    let mut line = line(Speech::OpenAi, &["calculator"]).await;
    let change = json!({ "systemPrompt": "Count. ".repeat(4_000) });
    let path = format!("/agent/{}", line.agent);
    assert_eq!(line.team.sk.put(&path, &change).await.status, 200);
    line.team.set(json!({ "monthly_token_cap": 7_000 })).await;
    line.team = line
        .team
        .at(&line.team.tenant.world.another(|client| client));
    line.provider
        .always(Act::Drop(words("It is about this much")));
    assert_upstream(
        &line.ask("Hello?").await,
        "openai broke off its answer",
        true,
    );
    let used = line.used().await;
    assert!(used["input_tokens"].as_u64() > Some(7_000), "{used}");
    assert_eq!(used["output_tokens"], 6);
    let refused = line.ask("Hello?").await;
    assert_eq!(refused.status, 429, "{}", refused.raw);
    assert_eq!(line.provider.asked().len(), 1);
}

#[tokio::test]
async fn who_leaves_while_a_tool_is_called_has_used_what_the_model_said_and_no_more() {
    let (line, receiver) = (line(Speech::OpenAi, &["http_fetch"]).await, Receiver::new());
    receiver.hang();
    let page = json!({ "url": receiver.url }).to_string();
    line.provider.next(call("http_fetch", &page));
    let (sk, chat) = (line.team.sk.clone(), line.chat.clone());
    let long = json!({ "content": "x".repeat(10_000) });
    let asking = tokio::spawn(async move { sk.post(&chat, &long).await });
    until("the page is asked for", async || receiver.asked() == 1).await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    let path = format!("/admin/tenants/{}/model-usage", line.team.id);
    let server = line.team.tenant.server();
    until("it is counted", async || {
        server.get(&path).await.body != json!([])
    })
    .await;
    let used = line.used().await;
    let tokens = (&used["input_tokens"], &used["output_tokens"]);
    assert_eq!(tokens, (&json!(11), &json!(7)));
}

#[tokio::test]
async fn a_provider_that_says_how_long_to_wait_is_quoted() {
    let line = line(Speech::OpenAi, &[]).await;
    let wait = vec![("retry-after", "77".to_owned())];
    line.provider.always(Act::Status(429, wait));
    let answer = line.ask("Hello?").await;
    let message = "openai takes no more requests with this key for now";
    assert_upstream(&answer, message, true);
    assert_eq!(answer.header("retry-after"), Some("77"));
}

#[tokio::test]
async fn what_a_provider_says_of_its_failure_reaches_nobody() {
    for act in [
        Act::Status(400, vec![]),
        Act::LongFailure,
        Act::Garbage,
        Act::Page,
    ] {
        let line = line(Speech::OpenAi, &[]).await;
        line.provider.always(act.clone());
        let answer = line.ask("Hello?").await;
        assert_eq!(answer.status, 502, "{act:?}: {}", answer.raw);
        assert!(answer.raw.len() < 300, "{act:?}");
        assert!(!answer.raw.contains("sk-right"), "{act:?}");
    }
}

#[tokio::test]
async fn what_was_asked_for_somebody_who_left_is_counted() {
    let line = line(Speech::OpenAi, &[]).await;
    line.provider.always(Act::Pause(words("Wait a moment")));
    let (sk, chat) = (line.team.sk.clone(), line.chat.clone());
    let asking = tokio::spawn(async move { sk.post(&chat, &json!({ "content": "Hi" })).await });
    until("it is asked", async || line.provider.asked().len() == 1).await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    let path = format!("/admin/tenants/{}/model-usage", line.team.id);
    let server = line.team.tenant.server();
    until("it is counted", async || {
        server.get(&path).await.body != json!([])
    })
    .await;
    let used = line.used().await;
    assert_eq!(
        (&used["invocations"], &used["errors"]),
        (&json!(1), &json!(1))
    );
    assert!(used["input_tokens"].as_u64() > Some(0));
    assert_eq!(line.log().await.len(), 1);
}

#[tokio::test]
async fn an_answer_of_many_megabytes_is_cut_and_kept() {
    let line = line(Speech::OpenAi, &[]).await;
    line.provider.always(Act::LongWords);
    let answer = line.ask("Tell me everything").await;
    assert_eq!(answer.status, 200);
    let content = answer.text("content");
    assert!((100 * 1024..=128 * 1024).contains(&content.len()));
    let log = line.log().await;
    assert_eq!(log[1]["content"], content);
    assert_eq!(log[1]["meta"]["finish"], "length");
}

#[tokio::test]
async fn an_agent_tells_its_model_what_it_is() {
    let line = line(Speech::OpenAi, &["current_time"]).await;
    let change = json!({ "temperature": 0.5, "maxTokens": 77 });
    let path = format!("/agent/{}", line.agent);
    assert_eq!(line.team.sk.put(&path, &change).await.status, 200);
    line.provider.next(say("Hello."));
    assert_eq!(line.ask("Hi").await.text("content"), "Hello.");
    let asked = line.last_asked();
    assert_eq!(asked.key(), "sk-right");
    assert_eq!(
        (&asked.body["model"], &asked.body["temperature"]),
        (&json!("some-model"), &json!(0.5))
    );
    assert_eq!(asked.body["messages"][0]["content"], "Count.");
    let tools = asked.body["tools"].as_array().unwrap();
    assert_eq!(
        (tools.len(), &tools[0]["function"]["name"]),
        (1, &json!("current_time"))
    );
    assert!(asked.body.to_string().contains("77"));
    // What it is now, and not what it was a moment ago.
    let meta = &line.log().await[1]["meta"];
    assert_eq!(meta["agentVersion"], 2);
}
