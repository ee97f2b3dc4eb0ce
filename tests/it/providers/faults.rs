//! Providers that fail in every way there is.

use std::time::Duration;

use parlance::{
    domain::{
        model::{Finish, ModelFailure},
        webhook::Targets,
    },
    providers::models::{DefaultModel, Models},
};
use tokio::time::Instant;

use super::{Question, ask_at, models};
use crate::support::provider::{Act, Provider, Speech, words};

const ALL: [Speech; 3] = Speech::ALL;

/// What a provider that always acts like that comes to, and how often it is asked.
async fn failure(speech: Speech, act: Act) -> (ModelFailure, usize) {
    let provider = Provider::new();
    provider.always(act);
    let (reply, _) = Question::new(speech).ask(&provider).await;
    (reply.unwrap_err(), provider.asked().len())
}

fn failed(what: &'static str) -> ModelFailure {
    ModelFailure::Failed { what }
}

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

#[tokio::test]
async fn an_answer_without_a_word_is_none() {
    for speech in ALL {
        let failure = failure(speech, Act::Nothing).await;
        assert_eq!(failure, (ModelFailure::Empty, 1), "{speech:?}");
    }
}

#[tokio::test]
async fn tokens_that_are_used_up_before_the_first_word_are_said_to_be() {
    for speech in ALL {
        let failure = failure(speech, Act::Cut(Vec::new())).await;
        assert_eq!(failure, (ModelFailure::UsedUp, 1), "{speech:?}");
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
