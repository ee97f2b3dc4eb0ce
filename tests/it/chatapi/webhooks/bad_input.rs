//! Bad input: the field is named, and nothing is written.

use parlance::domain::webhook::Targets;
use serde_json::{Value, json};

use super::{URL, create, path, stored};
use crate::support::tenant;

#[tokio::test]
async fn a_bad_field_of_an_endpoint_is_named() {
    let tenant = tenant().await;
    let made = create(&tenant, URL).await;
    let (server, path) = (tenant.server(), path(&made));
    let before = server.get(&path).await.body;
    let long = format!("https://example.com/{}", "x".repeat(2_029));
    let with = |field: &str, value: Value| {
        let mut body = json!({ "url": URL });
        body[field] = value;
        body
    };
    let cases = [
        ("url", json!(5)),
        ("url", json!("")),
        ("url", json!("example.com")),
        ("url", json!("/hooks")),
        ("url", json!("ftp://example.com/")),
        ("url", json!("https://")),
        ("url", json!("https://alice:secret@example.com/")),
        ("url", json!("https://example.com/a b")),
        ("url", json!("https://example.com/\u{0}")),
        ("url", json!(long)),
        ("events", json!("message.created")),
        ("events", json!(["message.read"])),
        ("events", json!(["Message.Created"])),
        ("events", json!([""])),
        ("description", json!(7)),
        ("description", json!("x".repeat(257))),
        ("description", json!("a\u{0}b")),
    ];
    for (field, value) in cases {
        let body = with(field, value);
        for refused in [
            server.post("/webhooks", &body).await,
            server.patch(&path, &body).await,
        ] {
            refused.assert_error(400, "VALIDATION_ERROR", Some(field));
        }
    }
    for secret in ["", "secret", "whsec_", "whsec_c2hvcnQ=", "whsec_????"] {
        let refused = server
            .post("/webhooks", &with("secret", json!(secret)))
            .await;
        refused.assert_error(400, "VALIDATION_ERROR", Some("secret"));
        let rotate = format!("{path}/secret/rotate");
        let refused = server.post(&rotate, &json!({ "secret": secret })).await;
        refused.assert_error(400, "VALIDATION_ERROR", Some("secret"));
    }
    for status in [json!("on"), json!("Active"), json!("")] {
        let refused = server.patch(&path, &json!({ "status": status })).await;
        refused.assert_error(400, "VALIDATION_ERROR", Some("status"));
    }
    server
        .post("/webhooks", &json!({}))
        .await
        .assert_error(400, "VALIDATION_ERROR", Some("url"));
    assert_eq!(server.get(&path).await.body, before);
    assert_eq!(stored(&tenant).await, (1, Some(1)));
}

#[tokio::test]
async fn what_is_no_object_is_no_body() {
    let tenant = tenant().await;
    let path = path(&create(&tenant, URL).await);
    for (path, is_optional) in [
        ("/webhooks".to_owned(), false),
        (format!("{path}/test"), true),
        (format!("{path}/secret/rotate"), true),
    ] {
        for body in ["[]", "null", "7", " ", "{"] {
            let refused = tenant
                .server()
                .send(axum::http::Method::POST, &path, body)
                .await;
            refused.assert_error(400, "VALIDATION_ERROR", Some("body"));
        }
        let empty = tenant
            .server()
            .send(axum::http::Method::POST, &path, "")
            .await;
        assert_eq!(empty.status < 300, is_optional, "{path}: {}", empty.raw);
    }
}

#[tokio::test]
async fn an_unknown_type_of_event_is_refused_with_the_known_ones() {
    let tenant = tenant().await;
    let body = json!({ "url": URL, "events": ["message.read"] });
    tenant.server().post("/webhooks", &body).await.assert(
        400,
        json!({
            "success": false,
            "error": {
                "code": "VALIDATION_ERROR",
                "message": "Invalid events. Must be of: message.created, message.edited, message.deleted, \
                            room.created, member.joined, member.left, notification, webhook.paused",
                "field": "events",
            },
        }),
    );
}

#[tokio::test]
async fn a_target_that_is_not_public_is_refused_unless_the_operator_allows_it() {
    let tenant = tenant().await;
    let here = "http://127.0.0.1:8080/";
    let path = path(&create(&tenant, here).await);
    let public = tenant
        .at(&tenant.world.sending_to(Targets::Public))
        .server();
    for (url, rule) in [
        (here, "It must begin with https://"),
        ("http://example.com/", "It must begin with https://"),
        (
            "https://127.0.0.1/",
            "Its address is not one of the public Internet",
        ),
        (
            "https://2130706433/",
            "Its address is not one of the public Internet",
        ),
        (
            "https://169.254.169.254/latest/",
            "Its address is not one of the public Internet",
        ),
        (
            "https://[::ffff:10.0.0.1]/",
            "Its address is not one of the public Internet",
        ),
        (
            "https://[fd00:ec2::254]/",
            "Its address is not one of the public Internet",
        ),
    ] {
        let body = json!({ "url": url });
        for refused in [
            public.post("/webhooks", &body).await,
            public.patch(&path, &body).await,
        ] {
            let error = json!({
                "code": "VALIDATION_ERROR",
                "message": format!(
                    "Invalid url. {rule}. On one machine, the option --webhook-targets any allows others"
                ),
                "field": "url",
            });
            refused.assert(400, json!({ "success": false, "error": error }));
        }
    }
    assert_eq!(stored(&tenant).await, (1, Some(1)));
    // What was stored when it was allowed is not sent to either.
    let trial = public.post(&format!("{path}/test"), &json!({})).await;
    assert_eq!(
        trial.body["error"], "address is not allowed",
        "{}",
        trial.raw
    );
}
