//! What each provider is told, and how its answers are heard.

use std::ops::ControlFlow;

use parlance::domain::{
    message::Json,
    model::{Finish, ModelReply, Tokens, ToolCall, ToolSpec, Turn},
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Question, key, user};
use crate::support::provider::{Act, Provider, Speech, words};

const ALL: [Speech; 3] = Speech::ALL;

fn clock() -> ToolSpec {
    let schema = r#"{"type":"object","properties":{"offset":{"type":"string"}}}"#;
    ToolSpec {
        name: "clock",
        description: "Tells the time",
        parameters: Json::object("parameters", schema, 1_000).unwrap(),
    }
}

#[tokio::test]
async fn an_answer_is_heard_piece_by_piece_and_is_what_was_heard() {
    for speech in ALL {
        let provider = Provider::new();
        provider.next(Act::Say(words("I am fine, thänk you")));
        let (reply, heard) = Question::new(speech).ask(&provider).await;
        let expected = ModelReply {
            text: "I am fine, thänk you".to_owned(),
            calls: Vec::new(),
            dropped: 0,
            tokens: Tokens {
                input: 11,
                output: 7,
            },
            finish: Finish::Stop,
        };
        assert_eq!(reply, Ok(expected), "{speech:?}");
        assert_eq!(heard, words("I am fine, thänk you"), "{speech:?}");
    }
}

#[tokio::test]
async fn tokens_are_estimated_where_the_provider_does_not_say() {
    for speech in [Speech::OpenAi, Speech::Google] {
        let provider = Provider::new();
        provider.next(Act::SayOnly(words("12345678")));
        let (reply, _) = Question::new(speech).ask(&provider).await;
        // "How are you?" has 12 bytes, the answer 8.
        let tokens = Tokens {
            input: 3,
            output: 2,
        };
        assert_eq!(reply.unwrap().tokens, tokens, "{speech:?}");
    }
}

#[tokio::test]
async fn an_answer_that_was_cut_says_so() {
    for speech in ALL {
        let provider = Provider::new();
        provider.next(Act::Cut(words("I am")));
        let (reply, _) = Question::new(speech).ask(&provider).await;
        assert_eq!(reply.unwrap().finish, Finish::Length, "{speech:?}");
    }
}

#[tokio::test]
async fn calls_come_whole() {
    for speech in ALL {
        let provider = Provider::new();
        let call = |arguments: &str| ("clock".to_owned(), arguments.to_owned());
        let calls = vec![call(r#"{"offset":"+01:00"}"#), call(r#"{"offset":"Z"}"#)];
        provider.next(Act::Call(calls));
        let mut question = Question::new(speech);
        question.tools = vec![clock()];
        let (reply, heard) = question.ask(&provider).await;
        let reply = reply.unwrap();
        assert_eq!(
            (reply.text.as_str(), reply.finish, heard.len()),
            ("", Finish::ToolCalls, 0),
            "{speech:?}"
        );
        let made: Vec<_> = reply
            .calls
            .iter()
            .map(|call| (call.name.as_str(), call.arguments.as_str()))
            .collect();
        let expected = [
            ("clock", r#"{"offset":"+01:00"}"#),
            ("clock", r#"{"offset":"Z"}"#),
        ];
        assert_eq!(made, expected, "{speech:?}");
        // They are told apart.
        assert_ne!(reply.calls[0].id, reply.calls[1].id, "{speech:?}");
    }
}

#[tokio::test]
async fn who_leaves_is_answered_what_was_heard_and_the_provider_is_left() {
    for speech in ALL {
        let provider = Provider::new();
        provider.next(Act::Pause(words("one two three")));
        let mut pieces = 0;
        let leaves = move |_: &str| {
            pieces += 1;
            if pieces == 3 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let (reply, _) = Question::new(speech).ask_until(&provider, leaves).await;
        let reply = reply.unwrap();
        assert_eq!(
            (reply.text.as_str(), reply.finish),
            ("one two ", Finish::Cancelled),
            "{speech:?}"
        );
        is_left(&provider).await;
    }
}

#[tokio::test]
async fn a_question_that_is_dropped_leaves_the_provider() {
    for act in [Act::Hang, Act::Pause(words("one"))] {
        let provider = Provider::new();
        provider.next(act);
        let question = Question::new(Speech::OpenAi);
        let mine = provider.clone();
        let asking = tokio::spawn(async move { question.ask(&mine).await });
        while provider.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        asking.abort();
        is_left(&provider).await;
    }
}

/// Waits until `provider` sees that nobody listens.
async fn is_left(provider: &Provider) {
    let left = async {
        while provider.left() == 0 {
            tokio::task::yield_now().await;
        }
    };
    let bound = std::time::Duration::from_secs(10);
    tokio::time::timeout(bound, left).await.unwrap();
}

/// A conversation with a call in it, asked of a fresh provider: what it was told.
async fn told(speech: Speech) -> (Value, Question) {
    let provider = Provider::new();
    let mut question = Question::new(speech);
    let call = |id: &str, arguments: &str| ToolCall {
        id: id.to_owned(),
        name: "clock".to_owned(),
        arguments: arguments.to_owned(),
        signatures: Vec::new(),
    };
    let result = |id: &str, result: &str| Turn::Tool {
        call: id.to_owned(),
        result: result.to_owned(),
    };
    question.system = Some("Be kind");
    question.temperature = Some(1.5);
    question.tools = vec![clock()];
    question.turns = vec![
        // A window may begin in the middle.
        Turn::Assistant {
            text: "Hello".to_owned(),
            calls: Vec::new(),
        },
        user("Hi"),
        Turn::Assistant {
            text: String::new(),
            calls: vec![call("a", "{}"), call("b", r#"{"offset":"Z"}"#)],
        },
        result("a", "noon"),
        result("b", "11"),
    ];
    let (reply, _) = question.ask(&provider).await;
    reply.unwrap();
    (provider.asked()[0].body.clone(), question)
}

#[tokio::test]
async fn openai_is_told_all_in_its_words() {
    let (body, _) = told(Speech::OpenAi).await;
    let called = |id: &str, arguments: &str| {
        let function = json!({ "name": "clock", "arguments": arguments });
        json!({ "type": "function", "id": id, "function": function })
    };
    assert_eq!(
        body["messages"],
        json!([
            { "role": "system", "content": "Be kind" },
            { "role": "user", "content": "Hi" },
            { "role": "assistant", "content": body["messages"][2]["content"],
              "tool_calls": [called("a", "{}"), called("b", r#"{"offset":"Z"}"#)] },
            { "role": "tool", "tool_call_id": "a", "content": "noon" },
            { "role": "tool", "tool_call_id": "b", "content": "11" },
        ])
    );
    assert_eq!(
        (&body["model"], &body["temperature"], &body["max_tokens"]),
        (&json!("some-model"), &json!(1.5), &json!(100))
    );
    assert_eq!(body["stream_options"], json!({ "include_usage": true }));
    assert_eq!(body["tools"][0]["function"]["name"], "clock");
}

#[tokio::test]
async fn anthropic_is_told_all_in_its_words() {
    let (body, _) = told(Speech::Anthropic).await;
    let used = |id: &str, input: Value| json!({ "type": "tool_use", "id": id, "name": "clock", "input": input });
    let result = |id: &str, content: &str| json!({ "type": "tool_result", "tool_use_id": id, "content": content });
    assert_eq!(
        body["messages"],
        json!([
            { "role": "user", "content": "Hi" },
            { "role": "assistant", "content": [used("a", json!({})), used("b", json!({ "offset": "Z" }))] },
            { "role": "user", "content": [result("a", "noon"), result("b", "11")] },
        ])
    );
    // It refuses more than 1.
    assert_eq!(
        (&body["system"], &body["temperature"], &body["max_tokens"]),
        (&json!("Be kind"), &json!(1.0), &json!(100))
    );
    assert_eq!(body["tools"][0]["name"], "clock");
}

#[tokio::test]
async fn google_is_told_all_in_its_words() {
    let (body, _) = told(Speech::Google).await;
    let contents = body["contents"].as_array().unwrap();
    let roles: Vec<_> = contents.iter().map(|turn| &turn["role"]).collect();
    assert_eq!(roles, ["user", "model", "user"]);
    let results = contents[2]["parts"].as_array().unwrap();
    let names: Vec<_> = results
        .iter()
        .map(|part| &part["functionResponse"]["name"])
        .collect();
    assert_eq!(names, ["clock", "clock"]);
    assert_eq!(
        body["systemInstruction"],
        json!({ "parts": [{ "text": "Be kind" }] })
    );
    assert_eq!(
        body["generationConfig"],
        json!({ "temperature": 1.5, "maxOutputTokens": 100 })
    );
}

#[tokio::test]
async fn a_key_goes_where_its_provider_looks_for_it_and_nothing_else_of_ours_does() {
    for (speech, header, value) in [
        (Speech::OpenAi, "authorization", "Bearer sk-mine"),
        (Speech::Anthropic, "x-api-key", "sk-mine"),
        (Speech::Google, "x-goog-api-key", "sk-mine"),
    ] {
        let provider = Provider::new();
        let mut question = Question::new(speech);
        question.key = key("sk-mine");
        question.ask(&provider).await.0.unwrap();
        let asked = provider.asked().remove(0);
        assert_eq!(asked.headers[header], value, "{speech:?}");
        assert!(asked.headers["user-agent"].starts_with("Parlance/"));
        let mut names: Vec<_> = asked.headers.keys().map(String::as_str).collect();
        names.retain(|name| *name != header && *name != "anthropic-version");
        assert_eq!(
            names,
            [
                "accept",
                "content-length",
                "content-type",
                "host",
                "user-agent"
            ],
            "{speech:?}"
        );
    }
}

#[tokio::test]
async fn a_name_of_a_model_is_taken_as_it_is() {
    // Other clients read a wish into its end.
    for model in [
        "qwen-max",
        "o4-mini-high",
        "mistral-medium",
        "org/model:free",
    ] {
        let provider = Provider::new();
        let mut question = Question::new(Speech::OpenAi);
        question.model = model;
        question.ask(&provider).await.0.unwrap();
        let body = provider.asked().remove(0).body;
        assert_eq!(body["model"], model);
        assert_eq!(body.get("reasoning_effort"), None, "{model}");
    }
}

#[tokio::test]
async fn what_cannot_be_the_name_of_a_model_is_asked_of_nobody() {
    for model in ["", "../v1/keys", "a?key=b", "a#b", "a%2fb", "a b", "a::b"] {
        let provider = Provider::new();
        let mut question = Question::new(Speech::Google);
        question.model = model;
        let (reply, _) = question.ask(&provider).await;
        assert!(reply.is_err() && provider.asked().is_empty(), "{model}");
    }
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let (ended, mut end) = tokio::sync::mpsc::channel(1);
    let serving = tokio::spawn(async move {
        // One connection, and no other.
        let (mut stream, _) = listener.accept().await.unwrap();
        // The end would wait for the other side to say that it has the rest.
        stream.set_nodelay(true).unwrap();
        for _ in 0..3 {
            read_request(&mut stream).await;
            let event = r#"data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}"#;
            let events = format!("{event}\n\ndata: [DONE]\n\n");
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            let chunk = format!("{head}{:x}\r\n{events}\r\n", events.len());
            stream.write_all(chunk.as_bytes()).await.unwrap();
            // The end comes by itself, after the last word.
            tokio::task::yield_now().await;
            stream.write_all(b"0\r\n\r\n").await.unwrap();
            ended.send(()).await.unwrap();
        }
    });
    let models = super::models();
    for _ in 0..3 {
        let reply = super::ask_at(&models, &base).await;
        assert_eq!(reply.unwrap().text, "hi");
        end.recv().await.unwrap();
        // Whoever waits for the end has its turn.
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
    }
    serving.await.unwrap();
}

/// Reads a whole request.
async fn read_request(stream: &mut tokio::net::TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
}
