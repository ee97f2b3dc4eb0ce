//! What is asked, answered and used as a key stays out of logs, at any level.

use std::sync::{Arc, Mutex};

use parlance::{
    domain::model::{ModelFailure, Turn},
    http::telemetry::Lines,
};
use tracing::level_filters::LevelFilter;

use super::{Question, key};
use crate::support::provider::{Act, Provider, Speech, words};

const ASKED: &str = "what-is-asked";
const ANSWERED: &str = "what-is-answered";
const KEY: &str = "sk-what-opens";

#[tokio::test]
async fn no_log_holds_what_is_asked_or_answered_or_a_key() {
    let lines = Arc::new(Mutex::new(String::new()));
    let mine = Arc::clone(&lines);
    let log = Lines::new(LevelFilter::TRACE, move |line| {
        let line = String::from_utf8_lossy(line);
        mine.lock().unwrap().push_str(&line);
    });
    let _log = tracing::subscriber::set_default(log);
    let answers = words(ANSWERED);
    let failed = Act::Status(400, Vec::new());
    let acts = [
        Act::Say(answers.clone()),
        Act::Drop(answers.clone()),
        Act::Fail(answers.clone()),
        Act::Fail(Vec::new()),
        Act::Call(vec![(ANSWERED.to_owned(), "{\"broken\":1}".to_owned())]),
        Act::Garbage,
        Act::Page,
        Act::LongEvent,
        Act::Nothing,
        failed,
    ];
    let mut failures = Vec::new();
    for speech in Speech::ALL {
        for act in acts.clone() {
            let provider = Provider::new();
            provider.always(act);
            let mut question = Question::new(speech);
            question.key = key(KEY);
            question.turns = vec![Turn::User(ASKED.to_owned())];
            question.system = Some(ASKED);
            failures.extend(question.ask(&provider).await.0.err());
        }
    }
    // They were refused and broke off, and said why in their own words.
    assert!(failures.contains(&ModelFailure::BrokeOff) && failures.len() > 20);
    let lines = lines.lock().unwrap();
    for secret in [ASKED, ANSWERED, KEY, "SAID-BY-PROVIDER"] {
        assert!(!lines.contains(secret), "{secret}");
        assert!(!format!("{failures:?}").contains(secret), "{secret}");
    }
}
