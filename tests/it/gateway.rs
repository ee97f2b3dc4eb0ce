//! Real events of an API Gateway HTTP API (payload 2.0), which hands over a decoded path.

use axum::http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{Tenant, tenant};

/// What the gateway makes of a request for `path`, which it has decoded, and `query`, which it has not.
fn event(tenant: &Tenant, user: &str, method: &str, path: &str, query: &str) -> String {
    json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {
            "host": "api.example.com",
            "x-api-key": tenant.key,
            "x-user-id": user,
        },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "api",
            "domainName": "api.example.com",
            "domainPrefix": "api",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": "test",
            },
            "requestId": "request",
            "routeKey": "$default",
            "stage": "$default",
            "time": "22/Nov/2026:12:00:00 +0000",
            "timeEpoch": 1_795_348_800_000_u64,
        },
        "isBase64Encoded": false,
    })
    .to_string()
}

/// What the service makes of an event: in process, or the bootstrap that the gateway's routes lead to.
async fn invoke(tenant: &Tenant, event: &str) -> (StatusCode, Value) {
    if let Some(deployed) = &tenant.world.deployed {
        let described: Value = serde_json::from_str(event).unwrap();
        let method = described["requestContext"]["http"]["method"].as_str();
        let path = described["rawPath"].as_str().unwrap();
        let function = deployed.gateway.function(method.unwrap(), path).unwrap();
        let payload = function.invoke(event.to_owned()).await.unwrap();
        let answer: Value = serde_json::from_slice(&payload).unwrap();
        let status = u16::try_from(answer["statusCode"].as_u64().unwrap()).unwrap();
        let body = serde_json::from_str(answer["body"].as_str().unwrap_or_default());
        return (
            StatusCode::from_u16(status).unwrap(),
            body.unwrap_or(Value::Null),
        );
    }
    let request = lambda_http::request::from_str(event).unwrap();
    let Ok(response) = tenant.world.api.clone().oneshot(request).await;
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (
        parts.status,
        serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    )
}

async fn members(tenant: &Tenant, room: &str) -> Vec<String> {
    let listed = tenant
        .user("alice")
        .get(&format!("/rooms/{room}/members"))
        .await;
    let listed = listed.body.as_array().unwrap().clone();
    listed
        .iter()
        .map(|it| it["user_id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn an_event_is_answered_like_a_request() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let event = event(&tenant, "bob", "GET", &format!("/rooms/{room}"), "");
    let (status, body) = invoke(&tenant, &event).await;
    assert_eq!((status, &body["room_id"]), (StatusCode::OK, &json!(room)));
}

#[tokio::test]
async fn a_member_whose_id_holds_separators_is_removed_by_query() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob", "bob#2", "a/b?c%41"]).await;
    for query in ["user_id=bob%232", "user_id=a%2Fb%3Fc%2541"] {
        let event = event(
            &tenant,
            "alice",
            "DELETE",
            &format!("/rooms/{room}/members"),
            query,
        );
        assert_eq!(
            invoke(&tenant, &event).await.0,
            StatusCode::NO_CONTENT,
            "{query}"
        );
    }
    assert_eq!(members(&tenant, &room).await, ["alice", "bob"]);
}

#[tokio::test]
async fn a_decoded_path_never_names_somebody_else() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "aA", "bob", "bob#2", "a%41"]).await;
    for id in ["bob#2", "a%41"] {
        let path = format!("/rooms/{room}/members/{id}");
        let (status, body) = invoke(&tenant, &event(&tenant, "alice", "DELETE", &path, "")).await;
        assert_eq!(
            (status, &body["error"]["field"]),
            (StatusCode::BAD_REQUEST, &json!("path"))
        );
    }
    assert_eq!(
        members(&tenant, &room).await,
        ["a%41", "aA", "alice", "bob", "bob#2"]
    );
}

#[tokio::test]
async fn an_id_of_ordinary_characters_is_removed_by_path() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob+c@example.com:8", "d"]).await;
    for id in ["bob+c@example.com:8", "d"] {
        let path = format!("/rooms/{room}/members/{id}");
        let (status, _) = invoke(&tenant, &event(&tenant, "alice", "DELETE", &path, "")).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{id}");
    }
    assert_eq!(members(&tenant, &room).await, ["alice"]);
}
