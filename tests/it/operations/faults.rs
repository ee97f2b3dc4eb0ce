//! A table that is absent, denied, throttled or out of reach: the client is told to send the same request
//! again, one line says which table and why, and it heals by itself.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::http::Method;
use parlance::store::usage::metered;
use parlance_local::{
    clients::embedded_sqs,
    provision::provision,
    sqs::{Sqs, Sync},
    template::Stack,
};
use serde_json::{Value, json};

use super::{Log, function, function_over};
use crate::support::{
    Client, Response, Tenant,
    faults::{Fault, Plan, always, faulty, script},
    tenant_of, world_over,
};

fn table(variable: &str) -> String {
    Stack::compiled_in().unwrap().environment[variable].clone()
}

#[track_caller]
fn assert_unavailable(answer: &Response) {
    let message = "Service temporarily unavailable. Send the same request again";
    let error = json!({ "code": "SERVICE_UNAVAILABLE", "message": message });
    answer.assert(503, json!({ "success": false, "error": error }));
    assert_eq!(answer.header("retry-after"), Some("1"));
}

/// One line of the fault, whose cause names all of `words` and nothing secret.
#[track_caller]
fn assert_said(log: &Log, tenant: &Tenant, words: &[&str]) {
    let line = log.one();
    let level_and_status = (&line["level"], &line["status"]);
    assert_eq!(level_and_status, (&json!("ERROR"), &json!(503)), "{line:#}");
    let cause = line["cause"].as_str().unwrap();
    for word in words {
        assert!(cause.contains(word), "no {word} in {cause}");
    }
    for secret in [&*tenant.key, "Hello"] {
        assert!(!line.to_string().contains(secret), "{line}");
    }
}

async fn alice(tenant: &Tenant, api: axum::Router) -> Client {
    let alice = Client::new(api)
        .with("x-api-key", &tenant.key)
        .with("x-user-id", "alice");
    // The key is known, and the budget leased.
    assert_eq!(alice.post("/rooms", &json!({})).await.status, 400);
    alice
}

/// Refuses the next call of `operation` with `code` whenever `refusing` is set.
fn once(operation: &'static str, code: &'static str, refusing: &Arc<AtomicBool>) -> Plan {
    let refusing = Arc::clone(refusing);
    Arc::new(move |name, _| {
        if name == operation && refusing.swap(false, Ordering::Relaxed) {
            Fault::Refuse(code)
        } else {
            Fault::Pass
        }
    })
}

#[tokio::test]
async fn what_dynamodb_refuses_is_unavailable_until_it_is_not() {
    let world = world_over(|client| client).await;
    let tenant = tenant_of(&world).await;
    let room = tenant.group(&["alice"]).await;
    let room = format!("/rooms/{room}");
    let messages = format!("{room}/messages");
    let hello = json!({ "content": "Hello" });
    let tables = ["ROOMS_TABLE", "MESSAGES_TABLE", "ROOMS_TABLE"].map(table);
    let requests = [
        ("GetItem", Method::GET, &room, Value::Null),
        ("PutItem", Method::POST, &messages, hello),
        (
            "TransactWriteItems",
            Method::POST,
            &"/rooms".to_owned(),
            json!({ "type": "group", "members": ["alice", "bob"] }),
        ),
    ];
    for code in [
        "AccessDeniedException",
        "ResourceNotFoundException",
        "KMSAccessDeniedException",
        "ExpiredTokenException",
        "UnrecognizedClientException",
        "InvalidSignatureException",
    ] {
        for ((operation, method, path, body), table) in requests.iter().zip(&tables) {
            let refusing = Arc::new(AtomicBool::new(false));
            let plan = once(operation, code, &refusing);
            let api = function(&world, |client| faulty(client, plan));
            let alice = alice(&tenant, api).await;
            refusing.store(true, Ordering::Relaxed);
            let log = Log::begin();

            let answer = alice.send(method.clone(), path, body.to_string()).await;

            assert_unavailable(&answer);
            assert_said(&log, &tenant, &[table, code]);
            let answer = alice.send(method.clone(), path, body.to_string()).await;
            assert!(answer.status < 300, "{operation} {code}: {}", answer.raw);
        }
    }
}

#[tokio::test]
async fn a_table_that_is_throttled_is_unavailable_until_it_is_not() {
    let world = world_over(|client| client).await;
    let tenant = tenant_of(&world).await;
    let api = function(&world, |client| {
        // Each is tried twice by the SDK.
        faulty(client, script("Query", [Fault::Throttle, Fault::Throttle]))
    });
    let alice = alice(&tenant, api).await;
    let log = Log::begin();

    assert_unavailable(&alice.get("/subscriptions").await);
    let throttled = "ProvisionedThroughputExceededException";
    assert_said(&log, &tenant, &[&table("TENANTS_TABLE"), throttled]);
    assert_eq!(alice.get("/subscriptions").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_stays_throttled_is_unavailable_at_its_deadline() {
    let world = world_over(|client| client).await;
    let tenant = tenant_of(&world).await;
    let room = tenant.group(&["alice"]).await;
    let api = function(&world, |client| {
        faulty(client, always("PutItem", Fault::Throttle))
    });
    let alice = alice(&tenant, api).await;
    let log = Log::begin();

    let path = format!("/rooms/{room}/messages");
    let begun = tokio::time::Instant::now();
    assert_unavailable(&alice.post(&path, &json!({ "content": "Hello" })).await);

    // A request is given up after ten seconds, and the SDK's last tries are let end.
    assert!(
        (10..20).contains(&begun.elapsed().as_secs()),
        "{:?}",
        begun.elapsed()
    );
    let throttled = "ProvisionedThroughputExceededException";
    assert_said(&log, &tenant, &[&table("MESSAGES_TABLE"), throttled]);
}

#[tokio::test]
async fn a_table_that_is_absent_is_unavailable_until_it_is_there() {
    let world = world_over(|client| client).await;
    let tenant = tenant_of(&world).await;
    let api = function_over(&metered(&world.dynamodb, true));
    let alice = alice(&tenant, api).await;
    let messages = table("MESSAGES_TABLE");
    let gone = world.dynamodb.delete_table().table_name(&messages);
    let room = tenant.group(&["alice"]).await;
    gone.send().await.unwrap();
    let log = Log::begin();

    let path = format!("/rooms/{room}/messages");
    let hello = json!({ "content": "Hello" });
    for _ in 0..2 {
        assert_unavailable(&alice.post(&path, &hello).await);
        assert_said(&log, &tenant, &[&messages, "ResourceNotFoundException"]);
        assert_unavailable(&alice.get(&path).await);
        assert_said(&log, &tenant, &[&messages, "ResourceNotFoundException"]);
    }

    let queues = embedded_sqs(Sqs::open(None, Sync::Normal).unwrap().http_client());
    provision(&Stack::compiled_in().unwrap(), &world.dynamodb, &queues)
        .await
        .unwrap();
    assert_eq!(alice.post(&path, &hello).await.status, 200);
}

#[tokio::test]
async fn a_store_that_is_out_of_reach_is_unavailable_until_it_is_not() {
    let world = world_over(|client| client).await;
    let tenant = tenant_of(&world).await;
    let lost = [Fault::LoseRequest, Fault::LoseRequest];
    let api = function(&world, |client| faulty(client, script("Query", lost)));
    let alice = alice(&tenant, api).await;
    let log = Log::begin();

    assert_unavailable(&alice.get("/subscriptions").await);
    assert_said(
        &log,
        &tenant,
        &[&table("TENANTS_TABLE"), "injected time-out"],
    );
    assert_eq!(alice.get("/subscriptions").await.status, 200);
}
