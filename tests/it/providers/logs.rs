//! What is asked, answered and used as a key stays out of logs, at any level.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use parlance::{
    domain::{
        ProviderKeyId,
        model::{ModelFailure, Turn},
        provider_key::Owner,
    },
    http::{moment, telemetry::Lines},
};
use tracing::{level_filters::LevelFilter, subscriber::DefaultGuard};

use super::{
    Question, key,
    keys::{answered, ask, with_base},
    kms::Kms,
};
use crate::{
    kodey::team,
    support::provider::{Act, Provider, Speech, words},
};

const ASKED: &str = "what-is-asked";
const ANSWERED: &str = "what-is-answered";
const KEY: &str = "sk-what-opens";

/// What is logged on this thread from now on, at any level.
fn log() -> (Arc<Mutex<String>>, DefaultGuard) {
    let lines = Arc::new(Mutex::new(String::new()));
    let mine = Arc::clone(&lines);
    let log = Lines::new(LevelFilter::TRACE, move |line| {
        let line = String::from_utf8_lossy(line);
        mine.lock().unwrap().push_str(&line);
    });
    (lines, tracing::subscriber::set_default(log))
}

#[tokio::test]
async fn no_log_holds_what_is_sent_to_aws() {
    let team = team().await;
    let (lines, _log) = log();
    let provider = Provider::new();
    provider.always(Act::Say(words(ANSWERED)));
    with_base(&team.tenant, &provider, KEY).await;
    let agent = answered(&team).await;
    let answer = ask(&team, &agent, ASKED).await;
    assert_eq!(
        (answer.status, answer.text("content").as_str()),
        (200, ANSWERED)
    );
    let vault = Kms::default().vault("alias/parlance");
    let now = moment(Duration::from_secs(5)).unwrap();
    let (owner, id) = (Owner::Operator, ProviderKeyId::at(&now));
    let sealed = vault.seal(&key(KEY), owner, id, &now).await.unwrap();
    vault.open(&sealed, owner, id).await.unwrap();
    let lines = lines.lock().unwrap();
    // The requests themselves are told of.
    assert_eq!(lines.matches("\"message\":\"request\"").count(), 4);
    let in_base64 = STANDARD.encode(KEY);
    for secret in [ASKED, ANSWERED, KEY, &in_base64] {
        assert!(!lines.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn no_log_holds_what_is_asked_or_answered_or_a_key() {
    let (lines, _log) = log();
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
