//! The operator's key, where Secrets Manager keeps it.

use std::{pin::pin, sync::Arc, time::Duration};

use aws_config::Region;
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use futures_util::FutureExt as _;
use parlance::{
    app::{App, Means},
    domain::{Error, Timestamp},
    providers::{
        aws::Aws,
        operator_key::{OVERLAP_SECONDS, OperatorKey, RotatingKey},
    },
};
use parlance_local::functions;
use serde_json::json;
use tokio::time::advance;

use super::{Log, settings};
use crate::support::{Client, secrets::SecretsManager, world};

const NAME: &str = "master";
const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:master-AbCdEf";
const OLD: &str = "mk_the_old_key_of_the_operator";
const NEW: &str = "mk_the_new_key_of_the_operator";
const WRONG: &str = "mk_a_key_that_somebody_guessed";
/// When the old key was made, in seconds since 1970, and when the new one.
const MADE: i64 = 1_795_000_000;
const ROTATED: i64 = MADE + 30 * OVERLAP_SECONDS;

pub(super) fn aws(http: SharedHttpClient) -> Aws {
    let credentials = Credentials::new("AKIA", "secret", None, None, "test");
    let credentials = SharedCredentialsProvider::new(credentials);
    Aws::new(http, credentials, Some(Region::from_static("eu-west-1")))
}

/// The secret with the old key, and who reads it.
fn kept() -> (SecretsManager, RotatingKey) {
    let manager = SecretsManager::default();
    manager.put(NAME, OLD, MADE);
    let key = aws(manager.http_client()).operator_key(ARN.to_owned());
    (manager, key)
}

async fn at(key: &RotatingKey, secret: &str, seconds: i64) -> Result<bool, Error> {
    let now = Timestamp::from_micros(seconds * 1_000_000);
    OperatorKey::opens(key, secret.as_bytes(), now).await
}

#[track_caller]
fn assert_unavailable(answer: &Result<bool, Error>) {
    assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn the_secret_opens_and_nothing_else_does() {
    let (_manager, key) = kept();
    assert!(at(&key, OLD, ROTATED).await.unwrap());
    for wrong in [WRONG, "", &OLD[1..], &format!("{OLD} ")] {
        assert!(!at(&key, wrong, ROTATED).await.unwrap(), "{wrong:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_secret_is_read_once_in_five_minutes() {
    let (manager, key) = kept();
    for _ in 0..29 {
        assert!(at(&key, OLD, ROTATED).await.unwrap());
        advance(Duration::from_secs(10)).await;
    }
    assert_eq!(manager.asked(), 1);
    advance(Duration::from_secs(10)).await;
    assert!(at(&key, OLD, ROTATED).await.unwrap());
    assert_eq!(manager.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_right_key_does_not_wait_while_a_guess_makes_us_look() {
    let (manager, key) = kept();
    assert!(at(&key, OLD, ROTATED).await.unwrap());
    // From here on a key that does not match may be new.
    advance(Duration::from_secs(5)).await;
    manager.hang();
    let mut guess = pin!(at(&key, WRONG, ROTATED));
    assert!(guess.as_mut().now_or_never().is_none());

    let right = at(&key, OLD, ROTATED).now_or_never();

    assert!(right.expect("it waits").unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_rotated_key_works_at_once() {
    let (manager, key) = kept();
    assert!(at(&key, OLD, ROTATED).await.unwrap());
    manager.put(NAME, NEW, ROTATED);
    advance(Duration::from_secs(5)).await;
    assert!(at(&key, NEW, ROTATED).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_key_before_it_holds_for_a_day_and_no_longer() {
    let (manager, key) = kept();
    manager.put(NAME, NEW, ROTATED);
    let end = ROTATED + OVERLAP_SECONDS;
    assert!(at(&key, OLD, end - 1).await.unwrap());
    assert!(!at(&key, OLD, end).await.unwrap());
    assert!(at(&key, NEW, end).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_key_before_the_one_before_it_is_over() {
    let (manager, key) = kept();
    manager.put(NAME, WRONG, ROTATED);
    manager.put(NAME, NEW, ROTATED + 1);
    assert!(!at(&key, OLD, ROTATED + 2).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_too_short_is_replaced_by_a_longer_one() {
    let manager = SecretsManager::default();
    manager.put(NAME, "changeme", MADE);
    let key = aws(manager.http_client()).operator_key(NAME.to_owned());
    assert_unavailable(&at(&key, "changeme", MADE).await);
    manager.put(NAME, NEW, ROTATED);
    advance(Duration::from_secs(5)).await;
    assert!(at(&key, NEW, ROTATED).await.unwrap());
    assert!(!at(&key, "changeme", ROTATED).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn guesses_make_nobody_ask_more_than_once_in_five_seconds() {
    let (manager, key) = kept();
    for _ in 0..500 {
        assert!(!at(&key, WRONG, ROTATED).await.unwrap());
        advance(Duration::from_millis(20)).await;
    }
    // Ten seconds: at their begin, and five later.
    assert_eq!(manager.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_read_anew_holds_for_an_hour() {
    let (manager, key) = kept();
    assert!(at(&key, OLD, ROTATED).await.unwrap());
    manager.refuse(Some("AccessDeniedException"));
    let log = Log::begin();

    advance(Duration::from_mins(59)).await;
    assert!(at(&key, OLD, ROTATED).await.unwrap());
    let line = log.one();
    assert_eq!(line["message"], "the master key could not be read anew");
    assert!(
        line["cause"].as_str().unwrap().contains("AccessDenied"),
        "{line}"
    );

    advance(Duration::from_mins(1)).await;
    assert_unavailable(&at(&key, OLD, ROTATED).await);

    manager.refuse(None);
    advance(Duration::from_secs(5)).await;
    assert!(at(&key, OLD, ROTATED).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_key_is_not_called_wrong_while_the_new_one_cannot_be_read() {
    let (manager, key) = kept();
    assert!(at(&key, OLD, ROTATED).await.unwrap());
    manager.put(NAME, NEW, ROTATED);
    manager.refuse(Some("AccessDeniedException"));
    advance(Duration::from_secs(5)).await;
    for _ in 0..2 {
        assert_unavailable(&at(&key, NEW, ROTATED).await);
        assert!(at(&key, OLD, ROTATED).await.unwrap());
    }
    manager.refuse(None);
    advance(Duration::from_secs(5)).await;
    assert!(at(&key, NEW, ROTATED).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_key_is_kept_as_a_hash_alone() {
    let (_manager, key) = kept();
    assert!(at(&key, OLD, ROTATED).await.unwrap());
    assert!(!format!("{key:?}").contains(OLD));
}

/// The operator of a service whose key `manager` keeps, with the right key.
async fn operator(manager: &SecretsManager) -> Client {
    let key = aws(manager.http_client()).operator_key(NAME.to_owned());
    let dynamodb = world().await.dynamodb;
    let app = kept_by(&dynamodb, key);
    Client::new(functions::router(&app)).with("x-master-key", OLD)
}

#[tokio::test]
async fn the_operator_is_let_in_with_the_secret() {
    let manager = SecretsManager::default();
    manager.put(NAME, OLD, MADE);
    let operator = operator(&manager).await;
    assert_eq!(operator.get("/admin/tenants").await.status, 200);
    let wrong = Client::new(operator_api(&manager).await).with("x-master-key", WRONG);
    wrong
        .get("/admin/tenants")
        .await
        .assert_error(401, "AUTHENTICATION_ERROR", None);
}

fn kept_by(dynamodb: &aws_sdk_dynamodb::Client, key: RotatingKey) -> App {
    let means = Means {
        master: Some(Arc::new(key)),
        ..Means::default()
    };
    App::with(&settings(), dynamodb, means)
}

async fn operator_api(manager: &SecretsManager) -> axum::Router {
    let key = aws(manager.http_client()).operator_key(NAME.to_owned());
    let dynamodb = world().await.dynamodb;
    functions::router(&kept_by(&dynamodb, key))
}

/// Why a key could not be read, and what a line says of it.
#[tokio::test]
async fn a_key_that_cannot_be_read_is_unavailable_and_one_line_says_why() {
    for (refusal, secret, said) in [
        (Some("AccessDeniedException"), OLD, "AccessDeniedException"),
        (Some("ThrottlingException"), OLD, "ThrottlingException"),
        (Some("InternalServiceError"), OLD, "InternalServiceError"),
        (None, "", "ResourceNotFoundException"),
        (None, "mk_too_short", "has fewer than 24 characters"),
    ] {
        let manager = SecretsManager::default();
        if !secret.is_empty() {
            manager.put(NAME, secret, MADE);
        }
        manager.refuse(refusal);
        let operator = operator(&manager).await;
        let log = Log::begin();

        let answer = operator.get("/admin/tenants").await;

        let error = json!({
            "code": "SERVICE_UNAVAILABLE",
            "message": "Service temporarily unavailable. Send the same request again",
        });
        answer.assert(503, json!({ "success": false, "error": error }));
        assert_eq!(answer.header("retry-after"), Some("1"), "{said}");
        let line = log.one();
        let cause = line["cause"].as_str().unwrap();
        assert!(
            cause.starts_with("secret master: ") && cause.contains(said),
            "{cause}"
        );
        for key in [OLD, "mk_too_short"] {
            assert!(!line.to_string().contains(key), "{line}");
        }
    }
}
