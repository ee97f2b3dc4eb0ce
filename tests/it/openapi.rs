//! The API's description is generated from the handlers' own types, and checked in.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};
use utoipa::OpenApi;

use crate::support::world;

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../functions/edge/openapi.json"
);

/// What the functions say of themselves, in one document.
pub fn document() -> Value {
    let mut document = rooms::Doc::openapi();
    for part in [
        messages::Doc::openapi(),
        acks::Doc::openapi(),
        notify::Doc::openapi(),
        webhooks::Doc::openapi(),
        sockets::Doc::openapi(),
        health::Doc::openapi(),
        admin::Doc::openapi(),
        keys::Doc::openapi(),
        chats::Doc::openapi(),
        agents::Doc::openapi(),
    ] {
        document.merge(part);
    }
    let mut document = serde_json::to_value(document).unwrap();
    document["openapi"] = json!("3.1.0");
    document["info"] = json!({
        "title": "Parlance",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "The ChatAPI dialect, and the Kodey dialect of `/chat` and `/agent`. Every answer carries `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`, and names its request in `X-Request-Id`. Errors have one shape in each; `error.code` says which it is, or `error` in Kodey's.",
        "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
    });
    document["components"]["securitySchemes"] = json!({
        "api_key": { "type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The tenant's key." },
        "user_id": { "type": "apiKey", "in": "header", "name": "X-User-Id", "description": "The user for whom the call is made: 1 to 128 visible ASCII characters." },
        "master_key": { "type": "apiKey", "in": "header", "name": "X-Master-Key", "description": "The operator's key." },
        "publishable_key": { "type": "apiKey", "in": "header", "name": "x-api-key", "description": "A team's key for browsers, `pk_live_…`." },
        "secret_key": { "type": "apiKey", "in": "header", "name": "x-api-key", "description": "A team's key for servers, `sk_live_…`." },
    });
    document["tags"] = json!(
        [
            "Rooms",
            "Messages",
            "Delivery & Acknowledgments",
            "Notifications",
            "Webhooks",
            "Live",
            "Chats",
            "Agents",
            "Health & Monitoring",
            "Admin"
        ]
        .map(|name| json!({ "name": name }))
    );
    document["security"] = json!([{ "api_key": [], "user_id": [] }]);
    for operations in document["paths"].as_object_mut().unwrap().values_mut() {
        for operation in operations.as_object_mut().unwrap().values_mut() {
            operation["operationId"] = json!(operation_id(operation["summary"].as_str().unwrap()));
        }
    }
    for error in ["401", "413", "429", "500", "503"] {
        add_common(&mut document, error);
    }
    // Otherwise it would depend on which crates are linked: one of them asks for maps that keep their order.
    document.sort_all_objects();
    document
}

/// The operation's name in generated clients: `Create a room` is `createRoom`.
fn operation_id(summary: &str) -> String {
    let words = summary
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !["", "a", "an", "the", "s"].contains(word));
    words
        .enumerate()
        .map(|(index, word)| {
            let word = word.to_lowercase();
            let (first, rest) = word.split_at(1);
            let first = if index == 0 {
                first.to_owned()
            } else {
                first.to_uppercase()
            };
            first + rest
        })
        .collect()
}

/// What every operation may answer besides its own.
fn add_common(document: &mut Value, status: &str) {
    let (description, code, message) = match status {
        "401" => (
            "No credential, or one that does not hold",
            "AUTHENTICATION_ERROR",
            "Invalid API key",
        ),
        "413" => (
            "The body is larger than 256 KB",
            "PAYLOAD_TOO_LARGE",
            "Request body is larger than 256 KB",
        ),
        "500" => (
            "A fault of ours, which our log explains",
            "INTERNAL_ERROR",
            "Internal error",
        ),
        "429" => (
            "Too many requests; `Retry-After` says when to go on",
            "RATE_LIMIT_EXCEEDED",
            "Rate limit exceeded. Try again in 60 seconds",
        ),
        _ => (
            "Too much contention or an outage; `Retry-After` says when to send the same request again",
            "SERVICE_UNAVAILABLE",
            "Service temporarily unavailable. Send the same request again",
        ),
    };
    let answer = |schema: &str, example: Value| {
        json!({
            "description": description,
            "content": { "application/json": {
                "schema": { "$ref": format!("#/components/schemas/{schema}") },
                "example": example,
            } },
        })
    };
    let chatapi = answer(
        "ErrorOut",
        json!({ "success": false, "error": { "code": code, "message": message } }),
    );
    let kodey = answer("KodeyErrorOut", kodey(status, message));
    for (path, operations) in document["paths"].as_object_mut().unwrap() {
        for operation in operations.as_object_mut().unwrap().values_mut() {
            let is_public = path == "/health";
            let has_body = operation["requestBody"].is_object();
            let responses = operation["responses"].as_object_mut().unwrap();
            let applies = match status {
                "401" | "503" => !is_public,
                "413" => has_body,
                _ => true,
            };
            if applies {
                let answer = if is_kodey(path) { &kodey } else { &chatapi };
                responses.entry(status).or_insert_with(|| answer.clone());
            }
        }
    }
}

/// Whether `path` is of the Kodey dialect.
pub fn is_kodey(path: &str) -> bool {
    matches!(path.split('/').nth(1), Some("chat" | "agent"))
}

/// An error of the Kodey dialect with `status`, in whose place ChatAPI says `message`.
fn kodey(status: &str, message: &str) -> Value {
    match status {
        "401" => json!({ "message": "Unauthorized: Invalid API key." }),
        "413" => json!({ "error": "Payload Too Large", "message": message, "field": "body" }),
        "429" => json!({
            "error": "Too Many Requests",
            "message": "Rate limit exceeded. Please retry after 60 seconds.",
            "retryAfter": 60,
        }),
        "500" => json!({ "error": "Internal Server Error", "message": message }),
        _ => json!({ "error": "Service Unavailable", "message": message }),
    }
}

#[test]
fn the_description_that_is_checked_in_is_the_one_the_code_gives() {
    let current = format!("{}\n", serde_json::to_string_pretty(&document()).unwrap());
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        fs::write(FILE, &current).unwrap();
    }
    assert!(
        fs::read_to_string(FILE).unwrap() == current,
        "functions/edge/openapi.json is stale: UPDATE_OPENAPI=1 cargo test -p parlance-local --test it openapi"
    );
}

#[test]
fn every_operation_has_a_name_of_its_own() {
    let document = document();
    let paths = document["paths"].as_object().unwrap().values();
    let ids: Vec<&str> = paths
        .flat_map(|operations| operations.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    assert!(ids.contains(&"createRoom"), "{ids:?}");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
}

#[test]
fn every_operation_has_a_summary_and_a_response() {
    for (path, operations) in document()["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let what = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{what} has no summary");
            assert!(
                !operation["responses"].as_object().unwrap().is_empty(),
                "{what}"
            );
        }
    }
}

/// The paths that `functions/*/src/*.rs` route, read from the source: axum does not tell.
fn routed() -> BTreeSet<String> {
    let functions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../functions");
    let mut paths = BTreeSet::new();
    for function in fs::read_dir(functions).unwrap() {
        for file in fs::read_dir(function.unwrap().path().join("src")).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(file).unwrap();
                for rest in source.split(".route(").skip(1) {
                    paths.insert(rest.split('"').nth(1).unwrap().to_owned());
                }
            }
        }
    }
    paths
}

#[test]
fn every_route_is_described() {
    let document = document();
    let described: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    let own = ["/openapi.json", "/docs"].map(str::to_owned);
    let expected: BTreeSet<String> = described.into_iter().chain(own).collect();
    assert_eq!(routed(), expected);
}

#[tokio::test]
async fn every_described_operation_is_routed() {
    let api = world().await;
    for (path, operations) in document()["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let answer = api
                .stranger()
                .send(
                    method.to_uppercase().parse().unwrap(),
                    &path.replace(['{', '}'], ""),
                    "{}",
                )
                .await;
            assert!(
                ![404, 405].contains(&answer.status),
                "{method} {path}: {}",
                answer.status
            );
        }
    }
}

#[tokio::test]
async fn the_description_is_served() {
    let api = world().await;
    let served = api.stranger().get("/openapi.json").await;
    assert_eq!((served.status, served.raw.as_str()), (200, edge::OPENAPI));
    let page = api.stranger().get("/docs").await;
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
}
