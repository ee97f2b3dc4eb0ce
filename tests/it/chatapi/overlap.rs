//! `overlap_seconds`: for each kind of secret that rotates, in the query and in the body.

use axum::http::Method;
use serde_json::{Value, json};

use crate::support::{Client, Response, Tenant, tenant};

/// A secret that rotates.
struct Secret {
    client: Client,
    rotate: String,
    /// The longest overlap.
    max: u64,
    /// The member of an answer that says when the secret before it ends.
    end: &'static str,
}

impl Secret {
    async fn rotate(&self, query: &str, body: &str) -> Response {
        let path = format!("{}{query}", self.rotate);
        self.client.send(Method::POST, &path, body.to_owned()).await
    }
}

/// One of each kind.
async fn secrets(tenant: &Tenant) -> [Secret; 3] {
    let server = tenant.server();
    let endpoint = json!({ "url": "https://example.com/" });
    let endpoint = server.post("/webhooks", &endpoint).await;
    let keys = format!("/admin/tenants/{}/api-keys", tenant.id);
    let key = json!({ "kind": "secret", "name": "server" });
    let key = server.post(&keys, &key).await;
    [
        Secret {
            client: server.clone(),
            rotate: format!("{keys}/{}/rotate", key.text("key_id")),
            max: 86_400,
            end: "previous_key_expires_at",
        },
        Secret {
            client: server,
            rotate: format!("/webhooks/{}/secret/rotate", endpoint.text("endpoint_id")),
            max: 604_800,
            end: "previous_secret_expires_at",
        },
        // The last: its rotations end the key with which the others are rotated.
        Secret {
            client: tenant.world.operator().anew(),
            rotate: format!("/admin/tenants/{}/keys/rotate", tenant.id),
            max: 86_400,
            end: "previous_key_expires_at",
        },
    ]
}

/// For how long the secret before it holds, in seconds, as an answer to a rotation says.
fn overlap(secret: &Secret, answer: &Response) -> i64 {
    assert_eq!(answer.status, 201, "{} {}", secret.rotate, answer.raw);
    let Value::String(end) = &answer.body[secret.end] else {
        return 0;
    };
    let end: parlance::domain::Timestamp = end.parse().unwrap();
    let now = parlance::http::moment(std::time::Duration::ZERO)
        .unwrap()
        .now;
    // Less the time since the answer, which is no hour.
    (end.seconds() - now.seconds() + 3_599).div_euclid(3_600)
}

#[tokio::test]
async fn an_overlap_is_taken_in_the_query_and_in_the_body_of_each_rotation() {
    for secret in secrets(&tenant().await).await {
        for (query, body, hours) in [
            ("", "", 24),
            ("", "{}", 24),
            ("?overlap_seconds=7200", "", 2),
            ("?overlap_seconds=7200", "{}", 2),
            ("", r#"{"overlap_seconds":10800}"#, 3),
            ("?overlap_seconds=3600", r#"{"overlap_seconds":3600}"#, 1),
            ("?overlap_seconds=0", "", 0),
            ("", r#"{"overlap_seconds":0}"#, 0),
        ] {
            let rotated = secret.rotate(query, body).await;
            let what = format!("{} {query} {body}", secret.rotate);
            assert_eq!(overlap(&secret, &rotated), hours, "{what}");
        }
    }
}

#[tokio::test]
async fn an_overlap_that_is_none_is_refused_and_named_in_either_place() {
    for secret in secrets(&tenant().await).await {
        let over = secret.max + 1;
        for text in ["-1", "soon", "1.5", "", "null", &over.to_string()] {
            let refused = secret.rotate(&format!("?overlap_seconds={text}"), "").await;
            refused.assert_error(400, "VALIDATION_ERROR", Some("overlap_seconds"));
        }
        for value in [
            json!(-1),
            json!(1.5),
            json!("60"),
            json!(true),
            json!([60]),
            Value::Null,
            json!(over),
            json!(u64::MAX),
            json!(1e20),
        ] {
            let body = json!({ "overlap_seconds": value }).to_string();
            let refused = secret.rotate("", &body).await;
            refused.assert_error(400, "VALIDATION_ERROR", Some("overlap_seconds"));
        }
    }
}

#[tokio::test]
async fn two_overlaps_that_do_not_agree_are_refused() {
    for secret in secrets(&tenant().await).await {
        let refused = secret
            .rotate("?overlap_seconds=0", r#"{"overlap_seconds":60}"#)
            .await;
        refused.assert(
            400,
            json!({
                "success": false,
                "error": {
                    "code": "VALIDATION_ERROR",
                    "message": "Invalid overlap_seconds. The query and the body do not agree",
                    "field": "overlap_seconds",
                },
            }),
        );
        let twice = secret
            .rotate("?overlap_seconds=60&overlap_seconds=60", "")
            .await;
        twice.assert_error(400, "VALIDATION_ERROR", Some("overlap_seconds"));
    }
}

#[tokio::test]
async fn a_misspelt_overlap_rotates_nothing_and_is_named() {
    for secret in secrets(&tenant().await).await {
        let refused = secret.rotate("?overlap_second=0", "").await;
        refused.assert_error(400, "VALIDATION_ERROR", Some("overlap_second"));
        let refused = secret.rotate("", r#"{"overlapSeconds":0}"#).await;
        refused.assert_error(400, "VALIDATION_ERROR", Some("overlapSeconds"));
    }
}

#[tokio::test]
async fn a_body_that_is_no_object_rotates_nothing() {
    for secret in secrets(&tenant().await).await {
        for body in ["null", "[]", "0", "{"] {
            let refused = secret.rotate("", body).await;
            refused.assert_error(400, "VALIDATION_ERROR", Some("body"));
        }
    }
}
