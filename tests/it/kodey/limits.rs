//! How often a key may ask, and how it is told.

use parlance::domain::api_key::{KeyText, Kind};
use serde_json::json;

use super::{Team, door, team};
use crate::support::{Client, Response};

fn here(team: &Team) -> Team {
    team.at(&door(&team.tenant.world))
}

#[track_caller]
fn number(answer: &Response, name: &str) -> u64 {
    let text = answer.header(name);
    text.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

/// The first answer that is a 429: the budget is refilled all the time, so it may take some.
async fn until_limited(client: &Client, path: &str) -> (u32, Response) {
    for passed in 0..100_000 {
        let answer = client.get(path).await;
        if answer.status == 429 {
            return (passed, answer);
        }
    }
    panic!("never limited");
}

#[track_caller]
fn assert_in_the_dialects_words(limited: &Response) {
    let seconds = number(limited, "retry-after");
    let unit = if seconds == 1 { "second" } else { "seconds" };
    limited.assert(
        429,
        json!({
            "error": "Too Many Requests",
            "message": format!("Rate limit exceeded. Please retry after {seconds} {unit}."),
            "retryAfter": seconds,
        }),
    );
    assert!((1..=60).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_publishable_key_may_ask_a_hundred_times_a_minute() {
    let team = here(&team().await);
    let began = std::time::Instant::now();

    let (passed, limited) = until_limited(&team.pk, "/chat").await;

    assert_in_the_dialects_words(&limited);
    assert_eq!(number(&limited, "x-ratelimit-limit"), 100);
    assert_eq!(number(&limited, "x-ratelimit-remaining"), 0);
    let refilled = began.elapsed().as_secs_f64() / 60.0 * 100.0;
    assert!(passed >= 100, "{passed}");
    assert!(f64::from(passed) <= 100.0 + refilled + 1.0, "{passed}");
}

#[tokio::test]
async fn a_secret_key_may_ask_a_thousand_times_a_minute() {
    let team = here(&team().await);
    let answer = team.sk.get("/chat").await;
    assert_eq!(number(&answer, "x-ratelimit-limit"), 1_000);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let reset = number(&answer, "x-ratelimit-reset");
    assert!((now..=now + 61).contains(&reset), "{reset} after {now}");
}

#[tokio::test]
async fn one_keys_limit_is_no_others() {
    let team = team().await;
    let body = json!({ "kind": "publishable", "name": "other" });
    let other = team.with_key(body).await.at(&door(&team.tenant.world));
    let team = here(&team);
    until_limited(&team.pk, "/chat").await;
    assert_eq!(other.get("/chat").await.status, 200);
    assert_eq!(team.sk.get("/chat").await.status, 200);
    assert_eq!(team.tenant.user("alice").get("/chat").await.status, 401);
}

#[tokio::test]
async fn all_processes_share_a_keys_budget() {
    let team = team().await;
    until_limited(&here(&team).pk, "/chat").await;
    let mut passed = 0;
    for _ in 0..5 {
        let cold = door(&team.tenant.world.another(|client| client));
        passed += u32::from(team.at(&cold).pk.get("/chat").await.status == 200);
    }
    assert!(passed < 5, "five cold functions had a budget of their own");
}

#[tokio::test]
async fn four_processes_that_hammer_one_key_grant_no_more_than_its_limit() {
    let team = team().await;
    let began = std::time::Instant::now();
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let cold = door(&team.tenant.world.another(|client| client));
        for _ in 0..60 {
            let browser = team.at(&cold).pk;
            requests.spawn(async move { browser.get("/chat").await.status });
        }
    }
    let answers = requests.join_all().await;
    assert!(answers.iter().all(|status| [200, 429].contains(status)));
    let passed = answers.iter().filter(|status| **status == 200).count();
    let refilled = began.elapsed().as_secs_f64() / 60.0 * 100.0;
    let most = 100.0 + refilled + 1.0;
    assert!(passed > 50, "{passed}");
    assert!(
        f64::from(u32::try_from(passed).unwrap()) <= most,
        "{passed}"
    );
}

#[tokio::test]
async fn a_refused_request_is_charged_and_told_what_is_left() {
    let team = here(&team().await);
    let before = number(&team.pk.get("/chat").await, "x-ratelimit-remaining");
    let refused = team.pk.get("/agent").await;
    assert_eq!(refused.status, 403);
    assert_eq!(number(&refused, "x-ratelimit-limit"), 100);
    assert!(number(&refused, "x-ratelimit-remaining") < before);
}

#[tokio::test]
async fn who_guesses_keys_is_limited_by_address() {
    let team = here(&team().await);
    let guesser = team
        .tenant
        .world
        .stranger()
        .with("x-api-key", "sk_live_guess");
    let (_, limited) = until_limited(&guesser, "/chat").await;
    assert_in_the_dialects_words(&limited);
    assert_eq!(number(&limited, "x-ratelimit-limit"), 100);
}

#[tokio::test]
async fn a_valid_key_is_looked_up_whatever_strangers_send_from_its_address() {
    let team = team().await;
    let team = team.at(&door(&team.tenant.world.another(|client| client)));
    // Its checksum is right, so that it is looked up.
    let guess = KeyText::from_entropy(Kind::Secret, [7; 32]);
    let guesser = team.tenant.world.stranger();
    until_limited(&guesser.clone().with("x-api-key", guess.expose()), "/chat").await;

    let answer = guesser
        .with("x-api-key", &team.publishable)
        .get("/chat")
        .await;

    assert_eq!(answer.status, 200, "{}", answer.raw);
    assert_eq!(number(&answer, "x-ratelimit-limit"), 100);
}
