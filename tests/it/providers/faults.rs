//! Providers that fail in every way there is.

use std::{ops::ControlFlow, time::Duration};

use parlance::{
    domain::{
        model::{Finish, ModelFailure, ModelReply, Tokens, ToolCall, Unanswered},
        webhook::Targets,
    },
    providers::models::{DefaultModel, Models},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Question, ask_at, models};
use crate::support::provider::{Act, Provider, Speech, data, words};

const ALL: [Speech; 3] = Speech::ALL;

/// What a provider that always acts like that comes to, and how often it is asked.
async fn failure(speech: Speech, act: Act) -> (ModelFailure, usize) {
    let provider = Provider::new();
    provider.always(act);
    let (reply, _) = Question::new(speech).ask(&provider).await;
    (reply.unwrap_err(), provider.asked().len())
}

/// The same, with what was used of its time.
async fn in_vain(speech: Speech, act: Act) -> (ModelFailure, Tokens, usize) {
    let provider = Provider::new();
    provider.always(act);
    let (reply, _) = Question::new(speech)
        .asked(&provider, |_| ControlFlow::Continue(()))
        .await;
    let Unanswered { why, used } = reply.unwrap_err();
    (why, used, provider.asked().len())
}

fn failed(what: &'static str) -> ModelFailure {
    ModelFailure::Failed { what }
}

/// What providers say was used.
const USED: Tokens = Tokens {
    input: 11,
    output: 7,
};

fn after(name: &'static str, value: &str) -> Vec<(&'static str, String)> {
    vec![(name, value.to_owned())]
}

#[tokio::test]
async fn a_provider_that_fails_is_asked_three_times() {
    for status in [500, 502, 503, 529] {
        let act = Act::Status(status, Vec::new());
        let failure = failure(Speech::OpenAi, act).await;
        assert_eq!(failure, (failed("it failed"), 3), "{status}");
    }
}

#[tokio::test]
async fn a_failure_that_passes_is_not_seen() {
    for speech in ALL {
        let provider = Provider::new();
        provider.next(Act::Status(500, Vec::new()));
        provider.next(Act::Drop(Vec::new()));
        provider.next(Act::Say(words("here I am")));
        let (reply, _) = Question::new(speech).ask(&provider).await;
        assert_eq!(reply.unwrap().text, "here I am", "{speech:?}");
    }
}

#[tokio::test]
async fn a_provider_that_asks_to_be_left_alone_is_for_as_long() {
    let provider = Provider::new();
    provider.next(Act::Status(429, after("retry-after-ms", "300")));
    let begun = Instant::now();
    let (reply, _) = Question::new(Speech::OpenAi).ask(&provider).await;
    assert!(reply.is_ok() && provider.asked().len() == 2);
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_wait_that_does_not_fit_is_told_and_not_waited() {
    for (name, value, seconds) in [("retry-after", "60", 60), ("retry-after-ms", "45000", 45)] {
        let act = Act::Status(429, after(name, value));
        let limited = ModelFailure::Limited {
            retry_after: Some(Duration::from_secs(seconds)),
        };
        assert_eq!(failure(Speech::Anthropic, act).await, (limited, 1));
    }
}

#[tokio::test]
async fn a_key_that_the_provider_does_not_know_is_rejected_and_not_tried_again() {
    for speech in ALL {
        let provider = Provider::new();
        provider.reject("sk-right");
        let (reply, _) = Question::new(speech).ask(&provider).await;
        assert_eq!(reply, Err(ModelFailure::KeyRejected), "{speech:?}");
        assert_eq!(provider.asked().len(), 1, "{speech:?}");
    }
}

#[tokio::test]
async fn words_about_keys_in_a_refusal_reject_no_key() {
    let reason = r#"{"error":{"code":400,"details":[{"reason":"API_KEY_INVALID"}]}}"#;
    let quoted = r#"{"error":{"code":400,"message":"There is no model API_KEY_INVALID"}}"#;
    for (speech, words) in [
        (Speech::OpenAi, reason),
        (Speech::Anthropic, reason),
        (Speech::OpenAi, quoted),
        (Speech::Anthropic, quoted),
        (Speech::Google, quoted),
    ] {
        let failure = failure(speech, Act::Refuse(400, words.to_owned())).await;
        let refused = ModelFailure::Refused { status: 400 };
        assert_eq!(failure, (refused, 1), "{speech:?} {words}");
    }
}

#[tokio::test]
async fn a_question_that_the_provider_refuses_is_not_asked_again() {
    for status in [400, 402, 403, 404, 413, 422] {
        let act = Act::Status(status, Vec::new());
        let failure = failure(Speech::Google, act).await;
        assert_eq!(failure, (ModelFailure::Refused { status }, 1));
    }
}

#[tokio::test]
async fn a_redirection_is_not_followed() {
    let to = Provider::new();
    let act = Act::Status(307, after("location", &to.base(Speech::OpenAi)));
    let (failure, _) = failure(Speech::OpenAi, act).await;
    assert_eq!(failure, failed("it redirects, which is not followed"));
    assert!(to.asked().is_empty());
}

#[tokio::test]
async fn a_provider_that_breaks_off_is_not_asked_again() {
    for speech in ALL {
        for act in [Act::Drop(words("I am")), Act::Fail(words("I am"))] {
            let (failure, asked) = failure(speech, act).await;
            assert_eq!((failure, asked), (ModelFailure::BrokeOff, 1), "{speech:?}");
        }
    }
}

#[tokio::test]
async fn a_provider_that_breaks_off_before_its_first_word_is_asked_again() {
    for speech in ALL {
        for act in [Act::Drop(Vec::new()), Act::Fail(Vec::new())] {
            let failure = failure(speech, act).await;
            assert_eq!(failure, (failed("its answer broke off"), 3), "{speech:?}");
        }
    }
}

/// What is estimated that one try read: a token for four bytes of "How are you?".
const READ: u64 = 3;

/// What a provider may have used for nothing that acts so in turn, and then fails.
async fn used_in_vain(speech: Speech, acts: Vec<Act>) -> Tokens {
    let provider = Provider::new();
    provider.always(Act::Status(500, Vec::new()));
    for act in acts {
        provider.next(act);
    }
    let (reply, _) = Question::new(speech)
        .asked(&provider, |_| ControlFlow::Continue(()))
        .await;
    reply.unwrap_err().used
}

#[tokio::test]
async fn each_try_that_had_begun_to_be_answered_may_have_been_used() {
    let used = |tries, output| Tokens {
        input: tries * READ,
        output,
    };
    for speech in ALL {
        for act in [Act::Drop(Vec::new()), Act::Fail(Vec::new())] {
            let nothing = used_in_vain(speech, Vec::new()).await;
            assert_eq!(nothing, used(0, 0), "{speech:?}");
            for tries in 1..=3_u64 {
                let acts = vec![act.clone(); usize::try_from(tries).unwrap()];
                let in_vain = used_in_vain(speech, acts).await;
                assert_eq!(in_vain, used(tries, 0), "{speech:?} {act:?}");
            }
        }
        let cut = used_in_vain(speech, vec![Act::Cut(Vec::new())]).await;
        assert_eq!(cut, USED, "{speech:?}");
        let broken = used_in_vain(speech, vec![Act::Drop(words("I am here"))]).await;
        assert_eq!(broken, used(1, 3), "{speech:?}");
    }
    let thought = vec![Act::Think("What would they hear?"); 2];
    assert_eq!(used_in_vain(Speech::OpenAi, thought).await, used(2, 12));
}

#[tokio::test]
async fn what_was_broken_off_is_used_by_the_answer_that_came_after_it() {
    let provider = Provider::new();
    provider.next(Act::Drop(Vec::new()));
    provider.next(Act::Say(words("here I am")));
    let (reply, _) = Question::new(Speech::OpenAi).ask(&provider).await;
    let used = Tokens {
        input: 11 + READ,
        output: 7,
    };
    assert_eq!(reply.unwrap().tokens, used);
}

#[tokio::test]
async fn an_answer_without_a_word_is_none() {
    for speech in ALL {
        let in_vain = in_vain(speech, Act::Nothing).await;
        // The provider asks for money all the same.
        assert_eq!(in_vain, (ModelFailure::Empty, USED, 1), "{speech:?}");
    }
}

#[tokio::test]
async fn an_answer_of_space_is_none() {
    for speech in ALL {
        let in_vain = in_vain(speech, Act::Say(words(" \n \t"))).await;
        assert_eq!(in_vain, (ModelFailure::Empty, USED, 1), "{speech:?}");
    }
}

#[tokio::test]
async fn what_is_withheld_is_not_asked_for_again() {
    let refusal = delta(&json!({ "refusal": "I cannot do that" }), None);
    let usage = data(&json!({
        "choices": [], "usage": { "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18 },
    }));
    let done = "data: [DONE]\n\n".to_owned();
    let blocked = json!({ "promptFeedback": { "blockReason": "SAFETY" } });
    let stopped = json!({ "candidates": [{ "finishReason": "PROHIBITED_CONTENT", "index": 0 }] });
    let anthropic = |event: Value| {
        format!(
            "event: {}\ndata: {event}\n\n",
            event["type"].as_str().unwrap()
        )
    };
    let refused = vec![
        anthropic(
            json!({ "type": "message_start", "message": { "usage": { "input_tokens": 11 } } }),
        ),
        anthropic(json!({
            "type": "message_delta", "delta": { "stop_reason": "refusal" },
            "usage": { "input_tokens": 11, "output_tokens": 7 },
        })),
        anthropic(json!({ "type": "message_stop" })),
    ];
    let filtered = delta(&json!({}), Some("content_filter"));
    let stop = delta(&json!({}), Some("stop"));
    let estimated = Tokens {
        input: READ,
        output: 0,
    };
    for (speech, events, used) in [
        (
            Speech::OpenAi,
            vec![refusal, stop, usage.clone(), done.clone()],
            USED,
        ),
        (Speech::OpenAi, vec![filtered, usage, done], USED),
        (Speech::Google, vec![data(&blocked)], estimated),
        (Speech::Google, vec![data(&stopped)], estimated),
        (Speech::Anthropic, refused, USED),
    ] {
        let in_vain = in_vain(speech, Act::Events(events.clone())).await;
        assert_eq!(in_vain, (ModelFailure::Withheld, used, 1), "{events:?}");
    }
    let filter = json!({ "error": { "code": "content_filter", "message": "SAID-BY-PROVIDER" } });
    let in_vain = in_vain(Speech::OpenAi, Act::Refuse(400, filter.to_string())).await;
    // No model was told.
    assert_eq!(in_vain, (ModelFailure::Withheld, Tokens::default(), 1));
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_not_waited_for() {
    let quota = json!({ "error": { "type": "insufficient_quota", "code": "insufficient_quota" } });
    let failure = failure(Speech::OpenAi, Act::Refuse(429, quota.to_string())).await;
    assert_eq!(failure, (ModelFailure::NoQuota { retry_after: None }, 1));
}

#[tokio::test]
async fn a_failure_that_says_how_long_it_lasts_is_quoted() {
    let act = Act::Status(503, after("retry-after", "60"));
    let resting = ModelFailure::Resting {
        retry_after: Duration::from_mins(1),
    };
    assert_eq!(failure(Speech::OpenAi, act).await, (resting, 1));
}

#[tokio::test]
async fn tokens_that_are_used_up_before_the_first_word_are_said_to_be() {
    for speech in ALL {
        let in_vain = in_vain(speech, Act::Cut(Vec::new())).await;
        assert_eq!(in_vain, (ModelFailure::UsedUp, USED, 1), "{speech:?}");
    }
}

#[tokio::test]
async fn what_no_provider_says_cannot_be_read() {
    for speech in ALL {
        let garbage = failure(speech, Act::Garbage).await;
        assert_eq!(garbage, (failed("its answer cannot be read"), 1));
        let page = failure(speech, Act::Page).await;
        assert_eq!(page, (failed("its answer is no stream of events"), 1));
        let packed = failure(speech, Act::Packed).await;
        assert_eq!(packed, (failed("its answer is compressed"), 1));
    }
}

#[tokio::test]
async fn an_event_of_ten_megabytes_is_not_read() {
    for speech in ALL {
        let long = failure(speech, Act::LongEvent).await;
        assert_eq!(long, (failed("its answer is too long"), 1), "{speech:?}");
    }
}

#[tokio::test]
async fn of_ten_megabytes_of_words_128_kilobytes_are_kept() {
    for speech in ALL {
        let provider = Provider::new();
        provider.next(Act::LongWords);
        let (reply, heard) = Question::new(speech).ask(&provider).await;
        let reply = reply.unwrap();
        assert_eq!(
            (reply.text.len(), reply.finish),
            (128 * 1_024, Finish::Length),
            "{speech:?}"
        );
        assert!(heard.concat() == reply.text, "{speech:?}");
    }
}

#[tokio::test]
async fn a_failure_of_ten_megabytes_is_a_failure() {
    let failure = failure(Speech::OpenAi, Act::LongFailure).await;
    assert_eq!(failure, (failed("it failed"), 3));
}

#[tokio::test]
async fn a_call_that_nothing_has_room_for_takes_none() {
    let provider = Provider::new();
    provider.next(Act::FarCall);
    let (reply, _) = Question::new(Speech::OpenAi).ask(&provider).await;
    let calls = reply.unwrap().calls;
    assert_eq!(calls.len(), 1);
}

/// An event of almost `OpenAI` with `delta`.
fn delta(delta: &Value, finish: Option<&str>) -> String {
    data(&json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] }))
}

/// What is heard of `events`, after which the connection breaks.
async fn heard_of(speech: Speech, events: Vec<String>) -> Result<ModelReply, ModelFailure> {
    let provider = Provider::new();
    provider.next(Act::Events(events));
    Question::new(speech).ask(&provider).await.0
}

#[tokio::test]
async fn pieces_of_calls_with_empty_ids_and_names_are_one_call() {
    let piece = |id: &str, name: &str, arguments: &str| {
        let function = json!({ "name": name, "arguments": arguments });
        let call = json!({ "index": 1, "id": id, "type": "function", "function": function });
        delta(&json!({ "tool_calls": [call] }), None)
    };
    let events = vec![
        piece("call_abc", "calculator", ""),
        piece("", "", "{\"expre"),
        piece("", "", "ssion\":\"1\"}"),
        delta(&json!({}), Some("tool_calls")),
    ];
    let calls = heard_of(Speech::OpenAi, events).await.unwrap().calls;
    let whole = ToolCall {
        id: "call_abc".to_owned(),
        name: "calculator".to_owned(),
        arguments: r#"{"expression":"1"}"#.to_owned(),
        signatures: Vec::new(),
    };
    assert_eq!(calls, [whole]);
}

#[tokio::test]
async fn a_call_without_a_place_and_with_an_object_is_one() {
    let function = json!({ "name": "calculator", "arguments": { "expression": "1" } });
    let call = json!({ "id": "a", "function": function });
    let nameless = json!({ "index": 5, "id": "b", "function": {} });
    let events = vec![
        delta(&json!({ "tool_calls": [call, nameless] }), None),
        delta(&json!({}), Some("tool_calls")),
    ];
    let calls = heard_of(Speech::OpenAi, events).await.unwrap().calls;
    let calls: Vec<_> = calls
        .iter()
        .map(|call| (call.name.as_str(), call.arguments.as_str()))
        .collect();
    assert_eq!(calls, [("calculator", r#"{"expression":"1"}"#), ("", "{}")]);
}

#[tokio::test]
async fn an_answer_that_said_why_it_ended_is_whole_whatever_follows() {
    let events = vec![
        delta(&json!({ "content": "I am " }), None),
        delta(&json!({ "content": "here" }), Some("stop")),
    ];
    let reply = heard_of(Speech::OpenAi, events).await.unwrap();
    assert_eq!(
        (reply.text.as_str(), reply.finish),
        ("I am here", Finish::Stop)
    );
}

#[tokio::test]
async fn what_is_torn_after_an_answer_said_why_it_ended_is_not_missed() {
    for torn in [
        "data: {\"choices\":[],\"usa",
        "data: [DON",
        "data:",
        "da",
        ": pi",
    ] {
        let events = vec![
            delta(&json!({ "content": "here" }), Some("stop")),
            torn.to_owned(),
        ];
        let reply = heard_of(Speech::OpenAi, events.clone()).await.unwrap();
        assert_eq!(reply.text, "here", "{torn}");
        // The same if the connection ends as it should.
        let provider = Provider::new();
        provider.next(Act::Ended(events));
        let (reply, _) = Question::new(Speech::OpenAi).ask(&provider).await;
        assert_eq!(reply.unwrap().text, "here", "{torn}");
    }
}

#[tokio::test]
async fn a_last_event_without_an_end_is_heard_if_it_is_whole() {
    let usage = data(&json!({
        "choices": [], "usage": { "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18 },
    }));
    let events = vec![
        delta(&json!({ "content": "here" }), Some("stop")),
        usage.trim_end().to_owned(),
    ];
    for act in [Act::Ended(events.clone()), Act::Events(events)] {
        let provider = Provider::new();
        provider.next(act);
        let (reply, _) = Question::new(Speech::OpenAi).ask(&provider).await;
        assert_eq!(reply.unwrap().tokens, USED);
    }
}

#[tokio::test]
async fn a_character_in_two_halves_is_one() {
    let half = |text: &str, finish: &str| {
        format!(
            r#"data: {{"choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":{finish}}}]}}"#
        ) + "\n\n"
    };
    let events = vec![
        half(r"fine \ud83d", "null"),
        half(r"\ude00!", "null"),
        half("", "\"stop\""),
    ];
    let reply = heard_of(Speech::OpenAi, events).await;
    assert_eq!(reply.unwrap().text, "fine \u{1f600}!");
}

#[tokio::test]
async fn a_provider_that_never_answers_is_left_by_then() {
    for act in [Act::Hang, Act::Pause(Vec::new())] {
        let provider = Provider::new();
        provider.next(act);
        let mut question = Question::new(Speech::Anthropic);
        question.patience = Duration::from_millis(300);
        let (reply, _) = question.ask(&provider).await;
        assert_eq!(reply, Err(ModelFailure::TimedOut));
    }
}

#[tokio::test]
async fn what_was_said_by_the_deadline_is_a_short_answer() {
    for speech in ALL {
        for act in [Act::Chatter, Act::Pause(words("I am"))] {
            let provider = Provider::new();
            provider.next(act);
            let mut question = Question::new(speech);
            question.patience = Duration::from_millis(500);
            let (reply, heard) = question.ask(&provider).await;
            let reply = reply.unwrap();
            assert_eq!(reply.finish, Finish::Length, "{speech:?}");
            assert!(!heard.is_empty() && heard.concat() == reply.text);
        }
    }
}

#[tokio::test]
async fn an_answer_in_crumbs_is_heard_word_by_word() {
    for speech in ALL {
        let provider = Provider::new();
        provider.next(Act::Crumbs(words("I am fine, thänk you")));
        let (reply, heard) = Question::new(speech).ask(&provider).await;
        assert_eq!(reply.unwrap().text, "I am fine, thänk you", "{speech:?}");
        assert_eq!(heard, words("I am fine, thänk you"), "{speech:?}");
    }
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_said_not_to_be() {
    let nobody = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let reply = ask_at(&models(), &format!("http://{address}/v1")).await;
    assert_eq!(reply, Err(failed("connection refused")));
}

#[tokio::test]
async fn no_address_but_a_public_one_is_asked_unless_all_are_allowed() {
    let provider = Provider::new();
    let models = Models::new(Targets::Public, DefaultModel::default());
    for base in [
        provider.base(Speech::OpenAi),
        "https://127.0.0.1/v1".to_owned(),
        "https://169.254.169.254/".to_owned(),
        "https://[::ffff:127.0.0.1]/".to_owned(),
        "https://localhost/v1".to_owned(),
        "http://example.com/v1".to_owned(),
    ] {
        let reply = ask_at(&models, &base).await;
        let Err(ModelFailure::Failed { what }) = reply else {
            panic!("{base}: {reply:?}");
        };
        assert!(what.contains("not allowed"), "{base}: {what}");
    }
    assert!(provider.asked().is_empty());
}
