//! The key that seals tenants' secrets, where Secrets Manager keeps it.

use std::time::Duration;

use parlance::{
    app::{App, Means, Verdict, Webhooks},
    domain::{
        Error, Moment, Timestamp, UserId,
        delivery::{Job, Receipt, Subject},
        webhook::{Sealed, Secret, Targets},
    },
    providers::{sealing::Sealing, webhook::Sender},
    store::Stores,
};
use parlance_local::functions;
use serde_json::json;
use tokio::time::{Instant, advance};

use super::{operator_key::aws, settings};
use crate::support::{
    Tenant,
    receiver::{Got, Receiver},
    secrets::SecretsManager,
    tenant,
};

const NAME: &str = "sealing";
const FIRST: &str = "the_first_key_that_seals_secrets";
const SECOND: &str = "the_second_key_that_seals_secrets";
const THIRD: &str = "the_third_key_that_seals_secrets";
const OWNER: &str = "tenant_1#ep_1";

fn moment(seed: u128) -> Moment {
    Moment::new(
        Timestamp::from_micros(0),
        Instant::now(),
        Duration::ZERO,
        seed,
    )
}

fn secret() -> Secret {
    Secret::from_entropy([7; 32])
}

/// A process that seals with the key that `manager` keeps.
fn process(manager: &SecretsManager) -> Sealing {
    aws(manager.http_client()).sealing(NAME.to_owned())
}

fn kept() -> (SecretsManager, Sealing) {
    let manager = SecretsManager::default();
    manager.put(NAME, FIRST, 0);
    let sealing = process(&manager);
    (manager, sealing)
}

async fn sealed(sealing: &Sealing) -> Sealed {
    sealing.seal(&secret(), OWNER, &moment(1)).await.unwrap()
}

async fn opens(sealing: &Sealing, text: &Sealed) -> bool {
    match sealing.open(text, OWNER).await {
        Ok(opened) => opened.secret == secret(),
        Err(Error::Internal(_)) => false,
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_process_sealed_another_one_opens() {
    let (manager, sealing) = kept();
    let text = sealed(&sealing).await;
    assert!(opens(&process(&manager), &text).await);
    let other = SecretsManager::default();
    other.put(NAME, SECOND, 0);
    assert!(!opens(&process(&other), &text).await);
}

#[tokio::test(start_paused = true)]
async fn the_key_is_read_once_in_five_minutes() {
    let (manager, sealing) = kept();
    let text = sealed(&sealing).await;
    for _ in 0..29 {
        advance(Duration::from_secs(10)).await;
        assert!(opens(&sealing, &text).await);
    }
    // The current version, and the one before it.
    assert_eq!(manager.asked(), 2);
    advance(Duration::from_secs(10)).await;
    assert!(opens(&sealing, &text).await);
    assert_eq!(manager.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_sealed_before_a_rotation_opens_after_it() {
    let (manager, sealing) = kept();
    let old = sealed(&sealing).await;
    manager.put(NAME, SECOND, 10);
    let fresh = process(&manager);
    assert!(opens(&fresh, &old).await);
    let new = sealed(&fresh).await;
    // A process that has not noticed meets the new key and looks.
    advance(Duration::from_secs(5)).await;
    assert!(opens(&sealing, &new).await && opens(&sealing, &old).await);
}

#[tokio::test(start_paused = true)]
async fn what_was_sealed_before_two_rotations_is_lost() {
    let (manager, sealing) = kept();
    let old = sealed(&sealing).await;
    manager.put(NAME, SECOND, 10);
    manager.put(NAME, THIRD, 20);
    assert!(!opens(&process(&manager), &old).await);
}

#[tokio::test(start_paused = true)]
async fn a_text_that_nothing_opens_does_not_make_us_ask_for_each_try() {
    let (manager, sealing) = kept();
    let _read = sealed(&sealing).await;
    manager.asked();
    let other = SecretsManager::default();
    other.put(NAME, SECOND, 0);
    let text = sealed(&process(&other)).await;
    advance(Duration::from_secs(5)).await;
    for _ in 0..100 {
        assert!(!opens(&sealing, &text).await);
    }
    assert_eq!(manager.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_read_is_unavailable_and_one_that_was_read_goes_on() {
    let (manager, sealing) = kept();
    manager.refuse(Some("AccessDeniedException"));
    let sealing_fails = sealing.seal(&secret(), OWNER, &moment(1)).await;
    assert!(matches!(sealing_fails, Err(Error::Unavailable(_))));
    manager.refuse(None);
    advance(Duration::from_secs(5)).await;
    let text = sealed(&sealing).await;
    manager.refuse(Some("InternalServiceError"));
    advance(Duration::from_hours(2)).await;
    assert!(opens(&sealing, &text).await);
    let cold = process(&manager).open(&text, OWNER).await;
    assert!(matches!(cold, Err(Error::Unavailable(_))));
}

/// `tenant` in a new process, which seals with the key that `manager` keeps.
fn served(tenant: &Tenant, manager: &SecretsManager) -> Tenant {
    let means = Means {
        webhooks: Some(Webhooks::new(process(manager), Sender::new(Targets::Any))),
        ..Means::default()
    };
    let app = App::with(&settings(), &tenant.world.dynamodb, means);
    let api = functions::router(&app);
    tenant.at(&tenant.world.behind(app, api))
}

#[tokio::test]
async fn a_secret_that_is_used_between_two_rotations_of_the_key_is_kept() {
    let (manager, receiver) = (SecretsManager::default(), Receiver::new());
    manager.put(NAME, FIRST, 0);
    let tenant = tenant().await;
    let endpoint = json!({ "url": receiver.url });
    let server = |manager: &SecretsManager| served(&tenant, manager).server();
    let made = server(&manager).post("/webhooks", &endpoint).await;
    assert_eq!(made.status, 201, "{}", made.raw);
    let path = format!("/webhooks/{}/test", made.text("endpoint_id"));
    for key in [SECOND, THIRD, FIRST] {
        manager.put(NAME, key, 10);
        let trial = server(&manager).post(&path, &json!({})).await;
        assert_eq!(trial.body["delivered"], true, "{key}: {}", trial.raw);
    }
    // It is the same secret still.
    let signed: Vec<_> = receiver.take().iter().map(chatapi_signature).collect();
    let secret = made.text("secret");
    assert!(
        signed
            .iter()
            .all(|(given, body)| *given == expected(&secret, body))
    );
    assert_eq!(signed.len(), 3);
}

#[tokio::test]
async fn a_previous_secret_that_does_not_open_any_more_stops_nothing() {
    let (manager, receiver) = (SecretsManager::default(), Receiver::new());
    manager.put(NAME, FIRST, 0);
    let tenant = tenant().await;
    let endpoint = json!({ "url": receiver.url });
    let server = |manager: &SecretsManager| served(&tenant, manager).server();
    let made = server(&manager).post("/webhooks", &endpoint).await;
    assert_eq!(made.status, 201, "{}", made.raw);
    manager.put(NAME, SECOND, 10);
    manager.put(NAME, THIRD, 20);
    let path = format!("/webhooks/{}", made.text("endpoint_id"));
    let rotate = format!("{path}/secret/rotate");
    let rotated = server(&manager).post(&rotate, &json!({})).await;
    assert_eq!(rotated.status, 201, "{}", rotated.raw);

    let trial = server(&manager)
        .post(&format!("{path}/test"), &json!({}))
        .await;

    assert_eq!(trial.body["delivered"], true, "{}", trial.raw);
    let got = receiver.take();
    let signed = chatapi_signature(&got[0]);
    assert_eq!(signed.0, expected(&rotated.text("secret"), &signed.1));
}

#[tokio::test]
async fn while_the_key_cannot_be_read_no_attempt_counts() {
    let (manager, receiver) = (SecretsManager::default(), Receiver::new());
    manager.put(NAME, FIRST, 0);
    let plain = tenant().await;
    let tenant = served(&plain, &manager);
    let endpoint = json!({ "url": receiver.url });
    let made = tenant.server().post("/webhooks", &endpoint).await;
    assert_eq!(made.status, 201, "{}", made.raw);
    let job = message_for_bob(&plain).await;

    manager.refuse(Some("AccessDeniedException"));
    let failed = attempt(&served(&plain, &manager), &job, 1).await;
    assert!(matches!(failed, Err(Error::Unavailable(_))), "{failed:?}");
    manager.refuse(None);
    let again = attempt(&served(&plain, &manager), &job, 2).await;

    assert_eq!(again.unwrap(), Verdict::Delivered);
    assert_eq!(receiver.take().len(), 1);
    let stores = Stores::new(&plain.world.dynamodb, &settings().tables, false);
    let row = stores.deliveries.get(job.tenant, job.id()).await.unwrap();
    assert_eq!(row.unwrap().delivery.attempts, 1);
}

#[tokio::test]
async fn a_test_of_an_endpoint_whose_secret_does_not_open_says_so_until_it_has_a_new_one() {
    let (manager, receiver) = (SecretsManager::default(), Receiver::new());
    manager.put(NAME, FIRST, 0);
    let plain = tenant().await;
    let endpoint = json!({ "url": receiver.url });
    let made = served(&plain, &manager)
        .server()
        .post("/webhooks", &endpoint)
        .await;
    assert_eq!(made.status, 201, "{}", made.raw);
    let other = SecretsManager::default();
    other.put(NAME, SECOND, 0);
    let server = served(&plain, &other).server();
    let path = format!("/webhooks/{}", made.text("endpoint_id"));

    let trial = server.post(&format!("{path}/test"), &json!({})).await;

    trial.assert(
        409,
        json!({
            "success": false,
            "error": {
                "code": "CONFLICT",
                "message": "The endpoint's secret cannot be opened with the sealing key, so nothing can be signed. Give \
                            it a new one with POST /webhooks/{endpoint_id}/secret/rotate, or have the operator restore \
                            the sealing key",
            },
        }),
    );
    let rotate = format!("{path}/secret/rotate");
    let rotated = server.post(&rotate, &json!({})).await;
    assert_eq!(rotated.status, 201, "{}", rotated.raw);
    let trial = server.post(&format!("{path}/test"), &json!({})).await;
    assert_eq!(trial.body["delivered"], true, "{}", trial.raw);
}

#[tokio::test]
async fn a_dead_letter_tells_that_the_secret_of_its_endpoint_does_not_open() {
    let (manager, receiver) = (SecretsManager::default(), Receiver::new());
    manager.put(NAME, FIRST, 0);
    let plain = tenant().await;
    let once = json!({ "retry": { "attempts": 1 } });
    let path = format!("/admin/tenants/{}", plain.id);
    let patched = plain.world.operator().patch(&path, &once).await;
    assert_eq!(patched.status, 200, "{}", patched.raw);
    let endpoint = json!({ "url": receiver.url });
    let made = served(&plain, &manager)
        .server()
        .post("/webhooks", &endpoint)
        .await;
    assert_eq!(made.status, 201, "{}", made.raw);
    let job = message_for_bob(&plain).await;

    let other = SecretsManager::default();
    other.put(NAME, SECOND, 0);
    let verdict = attempt(&served(&plain, &other), &job, 1).await.unwrap();

    assert_eq!(verdict, Verdict::Dead { fresh: true });
    let path = format!("/admin/dead-letters?tenant_id={}", plain.id);
    let letters = plain.user("alice").get(&path).await;
    let letter = &letters.body["failed_messages"][0];
    assert_eq!(
        letter["error"], "the endpoint's secret cannot be opened with the sealing key",
        "{}",
        letters.raw
    );
    assert_eq!(letter["endpoint_id"], made.body["endpoint_id"]);
    assert!(receiver.take().is_empty());
}

/// The job of telling bob of a message.
async fn message_for_bob(plain: &Tenant) -> Job {
    let room = plain.group(&["alice", "bob"]).await;
    let path = format!("/rooms/{room}/messages");
    let hello = json!({ "content": "Hello!" });
    let sent = plain.user("alice").post(&path, &hello).await;
    Job {
        tenant: plain.id.parse().unwrap(),
        subject: Subject::MessageCreated {
            log: room.parse().unwrap(),
            id: sent.text("message_id").parse().unwrap(),
        },
        user: Some(UserId::parse("user_id", "bob").unwrap()),
    }
}

async fn attempt(tenant: &Tenant, job: &Job, receives: u32) -> Result<Verdict, Error> {
    let moment = parlance::http::moment(Duration::from_secs(30)).unwrap();
    let receipt = Receipt {
        receives,
        sent_at: moment.now,
        made_at: Some(moment.now),
    };
    tenant.world.app.attempt(job, receipt, &moment).await
}

fn chatapi_signature(got: &Got) -> (String, String) {
    (got.headers["x-chatapi-signature"].clone(), got.raw.clone())
}

fn expected(secret: &str, body: &str) -> String {
    let mac = crate::chatapi::hmac(secret.as_bytes(), body.as_bytes());
    format!("sha256={}", hex::encode(mac))
}

#[tokio::test(start_paused = true)]
async fn neither_key_nor_secret_is_shown_by_debug() {
    let (_manager, sealing) = kept();
    let text = sealed(&sealing).await;
    let shown = format!("{sealing:?} {text:?} {:?}", secret());
    assert!(
        !shown.contains(FIRST) && !shown.contains(secret().expose()),
        "{shown}"
    );
    assert!(!shown.contains("s1."), "{shown}");
}
