//! Trying an endpoint out: one sample, now.

use std::net::TcpListener;

use aws_sdk_dynamodb::types::AttributeValue;
use parlance::domain::webhook::EventType;
use serde_json::{Value, json};

use super::{create, events, path};
use crate::support::{Response, Tenant, receiver::Receiver, tenant};

const UNDER_WAY: &str =
    "A test of a webhook endpoint of this tenant is under way. Send this again when it has ended";

async fn try_out(tenant: &Tenant, made: &Response, body: &Value) -> Response {
    let tried = format!("{}/test", path(made));
    tenant.server().post(&tried, body).await
}

/// Fails unless this is what came of a trial.
#[track_caller]
fn assert_trial(trial: &Response, delivered: bool, status: Option<u16>, error: Option<&str>) {
    assert!(trial.body["duration_ms"].is_u64(), "{}", trial.raw);
    trial.assert(
        200,
        json!({
            "delivered": delivered,
            "status": status,
            "error": error,
            "duration_ms": trial.body["duration_ms"],
        }),
    );
}

#[tokio::test]
async fn a_trial_sends_a_sample() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    let made = create(&tenant, &receiver.url).await;

    let trial = try_out(&tenant, &made, &json!({})).await;

    assert_trial(&trial, true, Some(200), None);
    let [got] = <[_; 1]>::try_from(receiver.take()).unwrap();
    assert_eq!(got.headers["content-type"], "application/json");
    assert_eq!(got.headers["x-chatapi-event"], "message.created");
    assert!(got.headers["webhook-id"].starts_with("evt_"));
    let seconds: i64 = got.headers["webhook-timestamp"].parse().unwrap();
    assert!(seconds > 1_700_000_000);
    let (data, message) = (&got.body["data"], &got.body["data"]["message"]);
    super::assert_time(&got.body["timestamp"]);
    assert_eq!(
        got.body,
        json!({
            "type": "message.created",
            "timestamp": got.body["timestamp"],
            "tenant_id": tenant.id,
            "test": true,
            "data": {
                "room_id": data["room_id"],
                "recipient_id": "bob",
                "message": {
                    "message_id": message["message_id"],
                    "sender_id": "alice",
                    "seq": 1,
                    "content": "Hello, world!",
                    "meta": { "type": "text" },
                    "created_at": got.body["timestamp"],
                },
            },
        })
    );
}

#[tokio::test]
async fn a_trial_sends_a_sample_of_any_type_whatever_the_endpoint_wants() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    let body = json!({ "url": receiver.url, "events": ["member.left"] });
    let made = tenant.server().post("/webhooks", &body).await;
    for event in EventType::ALL.map(EventType::name) {
        let trial = try_out(&tenant, &made, &json!({ "type": event })).await;
        assert_trial(&trial, true, Some(200), None);
        let [got] = <[_; 1]>::try_from(receiver.take()).unwrap();
        assert_eq!(got.headers["x-chatapi-event"], event);
        assert_eq!(
            (&got.body["type"], &got.body["test"]),
            (&json!(event), &json!(true))
        );
    }
    let refused = try_out(&tenant, &made, &json!({ "type": "message.read" })).await;
    refused.assert_error(400, "VALIDATION_ERROR", Some("type"));
    assert!(receiver.take().is_empty());
}

#[tokio::test]
async fn a_trial_that_fails_says_why() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    let made = create(&tenant, &receiver.url).await;
    for (status, error) in [
        (500, "HTTP 500"),
        (404, "HTTP 404"),
        (429, "HTTP 429"),
        (302, "HTTP 302 is not followed"),
    ] {
        receiver.answer(status);
        let trial = try_out(&tenant, &made, &json!({})).await;
        assert_trial(&trial, false, Some(status), Some(error));
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let nobody = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    for (url, error) in [
        (nobody.as_str(), "connection refused"),
        ("https://nowhere.invalid/", "host not found"),
        (&receiver.url.replace("http", "https"), "TLS error"),
    ] {
        let made = create(&tenant, url).await;
        let trial = try_out(&tenant, &made, &json!({})).await;
        assert_trial(&trial, false, None, Some(error));
    }
}

#[tokio::test]
async fn a_trial_leaves_an_endpoint_as_it_is() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    let made = create(&tenant, &receiver.url).await;
    let paused = tenant
        .server()
        .patch(&path(&made), &json!({ "status": "paused" }))
        .await;
    receiver.answer(500);

    let trial = try_out(&tenant, &made, &json!({})).await;

    assert_trial(&trial, false, Some(500), Some("HTTP 500"));
    tenant
        .server()
        .get(&path(&made))
        .await
        .assert(200, paused.body);
    assert!(events(&tenant).await.is_empty());
}

#[track_caller]
fn assert_refused(trial: &Response) {
    let error = json!({ "code": "CONFLICT", "message": UNDER_WAY });
    trial.assert(409, json!({ "success": false, "error": error }));
}

/// Each holds a process for as long as a stranger likes.
#[tokio::test]
async fn a_tenant_has_one_trial_at_a_time_and_others_theirs() {
    let (tenant, other) = (tenant().await, tenant().await);
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let receiver = Receiver::new();
    let slow = create(&tenant, &url).await;
    let quick = create(&tenant, &receiver.url).await;
    let theirs = create(&other, &receiver.url).await;

    let meanwhile = async {
        let (connection, _) = silent.accept().await.unwrap();
        let second = try_out(&tenant, &quick, &json!({})).await;
        let of_other = try_out(&other, &theirs, &json!({})).await;
        drop(connection);
        (second, of_other)
    };
    let nothing = json!({});
    let (first, (second, of_other)) = tokio::join!(try_out(&tenant, &slow, &nothing), meanwhile);
    let third = try_out(&tenant, &quick, &json!({})).await;

    assert_refused(&second);
    assert_trial(&of_other, true, Some(200), None);
    assert_eq!(
        (first.status, &first.body["delivered"]),
        (200, &json!(false))
    );
    assert_trial(&third, true, Some(200), None);
}

/// A process that dies with a trial ends none, and a clock that was ahead has written an end that is far off.
#[tokio::test]
async fn a_trial_that_nobody_ended_is_over_by_itself() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    let made = create(&tenant, &receiver.url).await;
    let now = parlance::http::moment(std::time::Duration::ZERO)
        .unwrap()
        .now;
    for (seconds, is_over) in [(-1, true), (20, false), (24 * 3_600, true)] {
        let until = now.plus_seconds(seconds).micros().to_string();
        let put = tenant.world.dynamodb.put_item().table_name("Guards");
        let put = put
            .item("pk", AttributeValue::S(format!("{}#trial", tenant.id)))
            .item("holder", AttributeValue::S("somebody".to_owned()))
            .item("until", AttributeValue::N(until));
        put.send().await.unwrap();

        let trial = try_out(&tenant, &made, &json!({})).await;

        if is_over {
            assert_trial(&trial, true, Some(200), None);
        } else {
            assert_refused(&trial);
        }
    }
}
