//! What a client sees of the gateway in front of the functions.

use axum::http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::deployment;
use crate::support::tenant_of;

#[tokio::test]
async fn a_body_that_the_gateway_encodes_is_read_as_it_was_sent() {
    let Some(world) = deployment().await else {
        return;
    };
    let tenant = tenant_of(&world).await;
    let room = tenant.group(&["alice"]).await;
    let path = format!("/rooms/{room}/messages");
    let alice = tenant.user("alice");
    let say = |content: &str| json!({ "content": content });
    // The gateway hands a body over in Base64 if a header speaks of an encoding.
    let plain = alice.post(&path, &say("wörld, plain")).await;
    let encoded = alice.clone().with("content-encoding", "identity");
    let encoded = encoded.post(&path, &say("wörld, encoded")).await;
    assert_eq!((plain.status, encoded.status), (200, 200));

    let read = alice.get(&path).await;

    let read = read.body.as_array().unwrap().iter();
    let read: Vec<&Value> = read.map(|it| &it["content"]).collect();
    assert_eq!(read, ["wörld, plain", "wörld, encoded"]);
}

#[tokio::test]
async fn a_body_too_large_for_us_is_refused_by_us_and_one_too_large_for_aws_by_aws() {
    let Some(world) = deployment().await else {
        return;
    };
    let tenant = tenant_of(&world).await;
    let room = tenant.group(&["alice"]).await;
    let alice = tenant.user("alice");
    let path = format!("/rooms/{room}/messages");
    let ours = alice.send(Method::POST, &path, "x".repeat(300 << 10)).await;
    ours.assert_error(413, "PAYLOAD_TOO_LARGE", Some("body"));

    let lambdas = alice.send(Method::POST, &path, "x".repeat(7 << 20)).await;
    let gateways = alice.send(Method::POST, &path, "x".repeat(11 << 20)).await;
    // In Base64 it is a third larger.
    let encoded = alice
        .of_type("image/png")
        .send(Method::POST, &path, "x".repeat(5 << 20))
        .await;

    for answer in [lambdas, gateways, encoded] {
        answer.assert(413, json!({ "message": "Request Entity Too Large" }));
    }
}

#[tokio::test]
async fn a_path_that_is_not_routed_is_answered_in_the_dialects_shape() {
    let Some(world) = deployment().await else {
        return;
    };
    let stranger = world.stranger();

    stranger
        .get("/nope")
        .await
        .assert_error(404, "NOT_FOUND", None);

    let wrong = stranger.put("/health", &Value::Null).await;
    wrong.assert_error(405, "METHOD_NOT_ALLOWED", None);
    assert_eq!(wrong.header("allow"), Some("GET"));
}

#[tokio::test]
async fn senders_in_several_processes_leave_no_gap() {
    let Some(world) = deployment().await else {
        return;
    };
    let tenant = tenant_of(&world).await;
    let room = tenant.group(&["alice"]).await;
    let path = format!("/rooms/{room}/messages");
    let mut senders = JoinSet::new();
    for sender in 0..8 {
        let (alice, path) = (tenant.user("alice"), path.clone());
        senders.spawn(async move {
            let mut seqs = Vec::new();
            for n in 0..12 {
                let content = json!({ "content": format!("{sender}-{n}") });
                let sent = alice.post(&path, &content).await;
                assert_eq!(sent.status, 200, "{}", sent.raw);
                seqs.push(sent.body["seq"].as_u64().unwrap());
            }
            seqs
        });
    }

    let mut seqs = senders.join_all().await.concat();

    seqs.sort_unstable();
    assert_eq!(seqs, (1..=96).collect::<Vec<_>>());
    let deployed = tenant.world.deployed.unwrap();
    let messages = deployed.lambda.function("MessagesFunction").unwrap();
    assert!(messages.starts() > 1, "one process did it all");
}
