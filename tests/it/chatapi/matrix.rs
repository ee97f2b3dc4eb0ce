//! Who may call what: every route and every kind of caller.

use std::collections::BTreeSet;

use axum::http::Method;
use serde_json::{Value, json};

use super::send;
use crate::{
    openapi::is_kodey,
    support::{Client, Tenant, tenant},
};

/// The kinds of callers, in the order of the table's columns.
const CALLERS: [&str; 8] = [
    "no key",
    "a wrong key",
    "another tenant's key",
    "a non-member",
    "a member",
    "an admin",
    "the master key",
    "a wrong master key",
];

/// A route and what each caller is answered. The room's admin is `admin`; `member` has written the message and
/// holds the subscription; `third` is a member too.
struct Row {
    operation: &'static str,
    body: Value,
    expected: [u16; 8],
}

#[expect(clippy::too_many_lines, reason = "it is a table")]
fn table() -> Vec<Row> {
    let none = Value::Null;
    let row = |operation, body: &Value, expected| Row {
        operation,
        body: body.clone(),
        expected,
    };
    let group = json!({ "type": "group", "members": ["member"] });
    let message = json!({ "content": "hi" });
    vec![
        row(
            "post /rooms",
            &group,
            [401, 401, 201, 201, 201, 201, 401, 401],
        ),
        row(
            "get /rooms",
            &none,
            [401, 401, 200, 200, 200, 200, 401, 401],
        ),
        row(
            "get /rooms/{room_id}",
            &none,
            [401, 401, 404, 403, 200, 200, 401, 401],
        ),
        row(
            "patch /rooms/{room_id}",
            &json!({ "name": "x" }),
            [401, 401, 404, 403, 403, 200, 401, 401],
        ),
        row(
            "get /rooms/{room_id}/members",
            &none,
            [401, 401, 404, 403, 200, 200, 401, 401],
        ),
        row(
            "post /rooms/{room_id}/members",
            &json!({ "user_ids": ["fourth"] }),
            [401, 401, 404, 403, 403, 201, 401, 401],
        ),
        row(
            "patch /rooms/{room_id}/members",
            &json!({ "role": "member" }),
            [401, 401, 404, 403, 403, 200, 401, 401],
        ),
        row(
            "patch /rooms/{room_id}/members/{user_id}",
            &json!({ "role": "member" }),
            [401, 401, 404, 403, 403, 200, 401, 401],
        ),
        row(
            "delete /rooms/{room_id}/members",
            &none,
            [401, 401, 404, 403, 403, 204, 401, 401],
        ),
        row(
            "delete /rooms/{room_id}/members/{user_id}",
            &none,
            [401, 401, 404, 403, 403, 204, 401, 401],
        ),
        row(
            "post /rooms/{room_id}/messages",
            &message,
            [401, 401, 404, 403, 200, 200, 401, 401],
        ),
        row(
            "get /rooms/{room_id}/messages",
            &none,
            [401, 401, 404, 403, 200, 200, 401, 401],
        ),
        row(
            "get /rooms/{room_id}/messages/{message_id}",
            &none,
            [401, 401, 404, 403, 200, 200, 401, 401],
        ),
        row(
            "put /rooms/{room_id}/messages/{message_id}",
            &message,
            [401, 401, 404, 403, 200, 403, 401, 401],
        ),
        row(
            "delete /rooms/{room_id}/messages/{message_id}",
            &none,
            [401, 401, 404, 403, 204, 403, 401, 401],
        ),
        row(
            "get /rooms/{room_id}/messages/{message_id}/deliveries",
            &none,
            [401, 401, 404, 403, 200, 200, 401, 401],
        ),
        row(
            "post /acks",
            &json!({ "room_id": "{room_id}", "seq": 1 }),
            [401, 401, 404, 403, 200, 200, 401, 401],
        ),
        row(
            "post /notify",
            &json!({ "topic": "t", "payload": {}, "targets": { "room_id": "{room_id}" } }),
            [401, 401, 404, 403, 202, 202, 401, 401],
        ),
        row(
            "get /notifications/{notification_id}",
            &none,
            [401, 401, 404, 404, 404, 200, 401, 401],
        ),
        row(
            "post /subscriptions",
            &json!({ "topic": "u" }),
            [401, 401, 201, 201, 201, 201, 401, 401],
        ),
        row(
            "get /subscriptions",
            &none,
            [401, 401, 200, 200, 200, 200, 401, 401],
        ),
        row(
            "delete /subscriptions/{subscription_id}",
            &none,
            [401, 401, 404, 404, 204, 404, 401, 401],
        ),
        row(
            "post /ws/token",
            &none,
            [401, 401, 200, 200, 200, 200, 401, 401],
        ),
        row(
            "post /webhooks",
            &json!({ "url": "https://example.com/" }),
            [401, 401, 201, 201, 201, 201, 401, 401],
        ),
        row(
            "get /webhooks",
            &none,
            [401, 401, 200, 200, 200, 200, 401, 401],
        ),
        row(
            "get /webhooks/{endpoint_id}",
            &none,
            [401, 401, 404, 200, 200, 200, 401, 401],
        ),
        row(
            "patch /webhooks/{endpoint_id}",
            &json!({ "description": "x" }),
            [401, 401, 404, 200, 200, 200, 401, 401],
        ),
        row(
            "delete /webhooks/{endpoint_id}",
            &none,
            [401, 401, 404, 204, 204, 204, 401, 401],
        ),
        row(
            "post /webhooks/{endpoint_id}/secret/rotate",
            &none,
            [401, 401, 404, 201, 201, 201, 401, 401],
        ),
        row(
            "post /webhooks/{endpoint_id}/test",
            &none,
            [401, 401, 404, 200, 200, 200, 401, 401],
        ),
        row("get /health", &none, [200; 8]),
        row(
            "get /admin/dead-letters",
            &none,
            [401, 401, 403, 200, 200, 200, 200, 401],
        ),
        row(
            "post /admin/dead-letters/redrive",
            &json!({ "tenant_id": "{tenant_id}", "all": true }),
            [401, 401, 403, 202, 202, 202, 202, 401],
        ),
        row(
            "delete /admin/dead-letters",
            &json!({ "tenant_id": "{tenant_id}", "reason": "old", "all": true }),
            [401, 401, 403, 200, 200, 200, 200, 401],
        ),
        row(
            "get /metrics",
            &none,
            [401, 401, 403, 200, 200, 200, 200, 401],
        ),
        row(
            "post /admin/tenants",
            &json!({ "name": "x" }),
            [401, 401, 401, 401, 401, 401, 201, 401],
        ),
        row(
            "get /admin/tenants",
            &none,
            [401, 401, 401, 401, 401, 401, 200, 401],
        ),
        row(
            "get /admin/tenants/{tenant_id}",
            &none,
            [401, 401, 401, 401, 401, 401, 200, 401],
        ),
        row(
            "patch /admin/tenants/{tenant_id}",
            &json!({ "name": "x" }),
            [401, 401, 401, 401, 401, 401, 200, 401],
        ),
        row(
            "post /admin/tenants/{tenant_id}/keys/rotate",
            &none,
            [401, 401, 401, 401, 401, 401, 201, 401],
        ),
        row(
            "get /admin/tenants/{tenant_id}/keys",
            &none,
            [401, 401, 404, 200, 200, 200, 200, 401],
        ),
        // The current key, which nobody ends: the operator alone is told so.
        row(
            "delete /admin/tenants/{tenant_id}/keys/{key_id}",
            &none,
            [401, 401, 401, 401, 401, 401, 409, 401],
        ),
        row(
            "post /admin/tenants/{tenant_id}/api-keys",
            &json!({ "kind": "secret", "name": "x" }),
            [401, 401, 404, 201, 201, 201, 201, 401],
        ),
        row(
            "get /admin/tenants/{tenant_id}/api-keys",
            &none,
            [401, 401, 404, 200, 200, 200, 200, 401],
        ),
        row(
            "delete /admin/tenants/{tenant_id}/api-keys/{key_id}",
            &none,
            [401, 401, 404, 204, 204, 204, 204, 401],
        ),
        row(
            "post /admin/tenants/{tenant_id}/api-keys/{key_id}/rotate",
            &none,
            [401, 401, 404, 201, 201, 201, 201, 401],
        ),
        row(
            "post /admin/tenants/{tenant_id}/provider-keys",
            // Each of its own: one that is there already is a conflict.
            &json!({ "provider": "google", "api_key": "{room_id}" }),
            [401, 401, 404, 201, 201, 201, 201, 401],
        ),
        row(
            "get /admin/tenants/{tenant_id}/provider-keys",
            &none,
            [401, 401, 404, 200, 200, 200, 200, 401],
        ),
        row(
            "put /admin/tenants/{tenant_id}/provider-keys/{key_id}",
            &json!({ "name": "x" }),
            [401, 401, 404, 200, 200, 200, 200, 401],
        ),
        row(
            "delete /admin/tenants/{tenant_id}/provider-keys/{key_id}",
            &none,
            [401, 401, 404, 204, 204, 204, 204, 401],
        ),
        // All tenants of the tests would have it: what cannot be kept shows who is let in.
        row(
            "post /admin/provider-keys",
            &json!({ "provider": "nobody", "api_key": "x" }),
            [401, 401, 401, 401, 401, 401, 400, 401],
        ),
        row(
            "get /admin/provider-keys",
            &none,
            [401, 401, 401, 401, 401, 401, 200, 401],
        ),
        row(
            "put /admin/provider-keys/{key_id}",
            &json!({ "name": "x" }),
            [401, 401, 401, 401, 401, 401, 404, 401],
        ),
        row(
            "delete /admin/provider-keys/{key_id}",
            &none,
            [401, 401, 401, 401, 401, 401, 404, 401],
        ),
        row(
            "get /admin/tenants/{tenant_id}/model-usage",
            &none,
            [401, 401, 404, 200, 200, 200, 200, 401],
        ),
    ]
}

fn caller(kind: &str, tenant: &Tenant, other: &Tenant) -> Client {
    let stranger = tenant.world.stranger();
    match kind {
        "no key" => stranger.with("x-user-id", "admin"),
        "a wrong key" => stranger
            .with("x-user-id", "admin")
            .with("x-api-key", "sk_wrong"),
        "another tenant's key" => other.user("admin"),
        "a non-member" => tenant.user("nobody"),
        "a member" => tenant.user("member"),
        "an admin" => tenant.user("admin"),
        "the master key" => tenant.world.operator().anew(),
        "a wrong master key" => stranger.with("x-master-key", "mk_wrong"),
        other => panic!("who is {other}?"),
    }
}

/// The id of a key of the tenant that is kept at `keys`; it is made of `unique`.
async fn key(tenant: &Tenant, keys: &str, unique: &str) -> String {
    if keys.ends_with("/keys") && keys.starts_with("/admin/tenants/") {
        let listed = tenant.world.operator().anew().get(keys).await;
        return listed.body[0]["key_id"].as_str().unwrap().to_owned();
    }
    let body = if keys.ends_with("/api-keys") {
        json!({ "kind": "secret", "name": unique })
    } else {
        json!({ "provider": "google", "api_key": unique })
    };
    let keys = keys.replace(
        "/admin/provider-keys",
        &format!("/admin/tenants/{}/provider-keys", tenant.id),
    );
    let made = tenant.server().post(&keys, &body).await;
    assert_eq!(made.status, 201, "{}", made.raw);
    made.text("key_id")
}

#[tokio::test]
async fn every_caller_may_do_what_the_table_says_and_no_more() {
    let (tenant, other) = (tenant().await, tenant().await);
    let subscription = json!({ "topic": "t" });
    let mut wrong = Vec::new();
    for row in table() {
        let (method, route) = row.operation.split_once(' ').unwrap();
        for (kind, expected) in CALLERS.into_iter().zip(row.expected) {
            // A room of its own for each: some of these calls change it.
            let room = tenant.group(&["admin", "member", "third"]).await;
            let message = send(&tenant.user("member"), &room, "hi")
                .await
                .text("message_id");
            let subscribed = tenant
                .user("member")
                .post("/subscriptions", &subscription)
                .await;
            let notification =
                json!({ "topic": "t", "payload": {}, "targets": { "user_ids": ["third"] } });
            let notified = tenant.user("admin").post("/notify", &notification).await;
            let endpoint = json!({ "url": "http://127.0.0.1:1/" });
            let endpoint = tenant.server().post("/webhooks", &endpoint).await;
            let endpoint = endpoint.text("endpoint_id");
            let mut path = route
                .replace("{room_id}", &room)
                .replace("{message_id}", &message)
                .replace("{user_id}", "third")
                .replace("{subscription_id}", &subscribed.text("id"))
                .replace("{notification_id}", &notified.text("notification_id"))
                .replace("{endpoint_id}", &endpoint)
                .replace("{tenant_id}", &tenant.id);
            if let Some((keys, _)) = path.clone().split_once("/{key_id}") {
                path = path.replace("{key_id}", &key(&tenant, keys, &room).await);
            }
            match row.operation {
                "delete /rooms/{room_id}/members" | "patch /rooms/{room_id}/members" => {
                    path.push_str("?user_id=third");
                }
                "get /admin/dead-letters" | "get /metrics" => {
                    path = format!("{path}?tenant_id={}", tenant.id);
                }
                _ => {}
            }
            let body = match &row.body {
                Value::Null => String::new(),
                body => body
                    .to_string()
                    .replace("{room_id}", &room)
                    .replace("{tenant_id}", &tenant.id),
            };
            let method: Method = method.to_uppercase().parse().unwrap();
            let answer = caller(kind, &tenant, &other)
                .send(method, &path, body)
                .await;
            // A tenant has few.
            tenant
                .server()
                .delete(&format!("/webhooks/{endpoint}"))
                .await;
            if answer.status != expected {
                wrong.push(format!(
                    "{} by {kind}: {} {}",
                    row.operation, answer.status, answer.raw
                ));
            }
            if answer.status >= 400 {
                assert_eq!(answer.body["success"], false, "{} by {kind}", row.operation);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_route_has_a_row() {
    let description: Value = serde_json::from_str(edge::OPENAPI).unwrap();
    let described: BTreeSet<_> = description["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(path, _)| !is_kodey(path))
        .flat_map(|(path, operations)| {
            let methods = operations.as_object().unwrap().keys();
            methods.map(move |method| format!("{method} {path}"))
        })
        .collect();
    let rows: BTreeSet<_> = table().iter().map(|row| row.operation.to_owned()).collect();
    assert_eq!(rows, described);
}
