//! Requests that no route takes.

use axum::http::Method;
use serde_json::json;

use crate::support::{tenant, world};

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let tenant = tenant().await;
    let cases = [
        ("/rooms", "GET, POST"),
        ("/rooms/room_1", "GET, PATCH"),
        ("/rooms/room_1/members", "GET, POST, PATCH, DELETE"),
        ("/rooms/room_1/members/bob", "PATCH, DELETE"),
        ("/rooms/room_1/messages", "GET, POST"),
        ("/rooms/room_1/messages/msg_1", "GET, PUT, DELETE"),
        ("/acks", "POST"),
        ("/notify", "POST"),
        ("/subscriptions", "GET, POST"),
        ("/subscriptions/sub_1", "DELETE"),
        ("/webhooks", "GET, POST"),
        ("/webhooks/ep_1", "GET, PATCH, DELETE"),
        ("/webhooks/ep_1/secret/rotate", "POST"),
        ("/webhooks/ep_1/test", "POST"),
        ("/health", "GET"),
        ("/rooms/room_1/messages/msg_1/deliveries", "GET"),
        ("/notifications/notif_1", "GET"),
        ("/admin/dead-letters", "GET, DELETE"),
        ("/admin/dead-letters/redrive", "POST"),
        ("/admin/tenants", "GET, POST"),
        ("/admin/tenants/tenant_1", "GET, PATCH"),
        ("/admin/tenants/tenant_1/keys", "GET"),
        ("/admin/tenants/tenant_1/keys/tkey_1", "DELETE"),
        ("/admin/tenants/tenant_1/keys/rotate", "POST"),
        ("/metrics", "GET"),
        ("/openapi.json", "GET"),
        ("/docs", "GET"),
    ];
    for (path, allowed) in cases {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"] {
            if allowed.split(", ").any(|one| one == method) {
                continue;
            }
            let client = tenant.user("alice");
            let answer = client.send(method.parse().unwrap(), path, "{").await;
            answer.assert(
                405,
                json!({
                    "success": false,
                    "error": {
                        "code": "METHOD_NOT_ALLOWED",
                        "message": format!("Method not allowed. This path takes: {allowed}"),
                    },
                }),
            );
            assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn an_unknown_path_is_not_found() {
    let world = world().await;
    let stranger = world.stranger();
    let paths = [
        "/",
        "/nope",
        "/rooms/",
        "/rooms/a/b",
        "/rooms/a/members/b/c",
        "/Rooms",
        "/v2/rooms",
        "/rooms/a/messages/b/c",
        "/admin",
        "/admin/",
        "/%00",
        "/%ff",
        "/rooms/../health",
        "/health/",
        "//health",
    ];
    for path in paths {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let answer = stranger.send(method, path, "").await;
            if world.alters(path) {
                answer.assert_error(400, "VALIDATION_ERROR", Some("path"));
                continue;
            }
            assert_eq!(answer.status, 404, "{path}: {}", answer.raw);
            answer.assert(
                404,
                json!({
                    "success": false,
                    "error": { "code": "NOT_FOUND", "message": "Path not found" },
                }),
            );
        }
    }
}

#[tokio::test]
async fn what_is_no_room_id_is_no_room() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice"]).await;
    let alice = tenant.user("alice");
    let bad = [
        "",
        "nope",
        "room_",
        "room_1",
        "%20",
        "%00",
        "%ff",
        "%23",
        "%F0%9F%98%80",
        &room.to_uppercase(),
        &room.replace("room_", "msg_"),
        &format!("{room}0"),
        &format!("{room}%23HEAD"),
        &room[5..],
    ];
    for id in bad {
        for path in [
            format!("/rooms/{id}"),
            format!("/rooms/{id}/members"),
            format!("/rooms/{id}/messages"),
        ] {
            let answer = alice.get(&path).await;
            if tenant.world.alters(&path) {
                answer.assert_error(400, "VALIDATION_ERROR", Some("path"));
            } else {
                answer.assert_error(404, "NOT_FOUND", None);
            }
        }
        let ack = alice
            .post("/acks", &json!({ "room_id": id, "seq": 0 }))
            .await;
        ack.assert_error(404, "NOT_FOUND", None);
    }
}
