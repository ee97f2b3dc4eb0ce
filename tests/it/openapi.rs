//! The API's description is generated from the handlers' own types, and checked in.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::{Value, json};
use utoipa::OpenApi;

use crate::{
    kodey::team,
    support::{Response, world},
};

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
        assert_apart(&document, &part);
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

/// Fails if a schema of `part` has a name under which `document` knows another one: merging would keep one of them alone.
fn assert_apart(document: &utoipa::openapi::OpenApi, part: &utoipa::openapi::OpenApi) {
    let schemas = |of: &utoipa::openapi::OpenApi| of.components.clone().unwrap().schemas;
    let known = schemas(document);
    for (name, schema) in schemas(part) {
        let same = known.get(&name).is_none_or(|known| *known == schema);
        assert!(same, "two schemas are called {name}");
    }
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
fn every_credential_that_an_operation_wants_is_described() {
    let document = document();
    let known = document["components"]["securitySchemes"]
        .as_object()
        .unwrap();
    let paths = document["paths"].as_object().unwrap().values();
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    for operation in paths.flat_map(|operations| operations.as_object().unwrap().values()) {
        let choices = operation["security"].as_array().into_iter().flatten();
        wanted.extend(choices.flat_map(|choice| choice.as_object().unwrap().keys().cloned()));
    }
    wanted.extend(["api_key", "user_id"].map(str::to_owned));
    assert_eq!(wanted, known.keys().cloned().collect());
}

/// What `schema` says, its references followed and its parts joined: properties, and which of them are required.
fn joined(document: &Value, schema: &Value) -> (BTreeMap<String, Value>, BTreeSet<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        return joined(document, document.pointer(&reference[1..]).unwrap());
    }
    let own = schema["properties"].as_object().into_iter().flatten();
    let mut properties: BTreeMap<_, _> = own.map(|(k, v)| (k.clone(), v.clone())).collect();
    let required = schema["required"].as_array().into_iter().flatten();
    let mut required: BTreeSet<_> = required.map(|it| it.as_str().unwrap().to_owned()).collect();
    for part in schema["allOf"].as_array().into_iter().flatten() {
        let part = joined(document, part);
        properties.extend(part.0);
        required.extend(part.1);
    }
    (properties, required)
}

/// Fails unless `value` has the members that `schema` describes, at any depth: all that are required, and no other.
fn assert_described(document: &Value, schema: &Value, value: &Value, at: &str) {
    for item in value.as_array().into_iter().flatten() {
        assert_described(document, &schema["items"], item, &format!("{at}[]"));
    }
    let (properties, required) = joined(document, schema);
    if properties.is_empty() {
        return;
    }
    let members = value.as_object();
    let members = members.unwrap_or_else(|| panic!("{at}: {value}"));
    for required in required {
        assert!(members.contains_key(&required), "{at} lacks {required}");
    }
    for (name, value) in members {
        let at = format!("{at}.{name}");
        let schema = properties.get(name);
        let schema = schema.unwrap_or_else(|| panic!("{at} is not described"));
        assert_described(document, schema, value, &at);
    }
}

#[tokio::test]
async fn what_the_dialect_of_chats_answers_is_as_described() {
    let document = document();
    let team = team().await;
    let check = |method: &str, path: &str, answer: &Response| {
        let status = answer.status.to_string();
        let schema = &document["paths"][path][method]["responses"][&status]["content"]["application/json"]
            ["schema"];
        let at = format!("{method} {path} {status}");
        assert!(!schema.is_null(), "{at} is not described");
        assert_described(&document, schema, &answer.body, &at);
    };

    let body = json!({ "agentId": "chat", "userId": "ann", "metadata": { "a": 1 } });
    let made = team.sk.post("/chat", &body).await;
    check("post", "/chat", &made);
    let chat = format!("/chat/{}", made.text("id"));
    let log = format!("{chat}/message");
    let hello = json!({ "content": "Hello", "role": "user" });
    let said = team.sk.post(&log, &hello).await;
    check("post", "/chat/{chatId}/message", &said);
    check(
        "post",
        "/chat/{chatId}/message",
        &team.sk.post(&log, &json!({})).await,
    );
    for query in ["", "?include=meta"] {
        let shown = team.sk.get(&format!("{chat}{query}")).await;
        check("get", "/chat/{chatId}", &shown);
        let shown = team.sk.get(&format!("{log}{query}")).await;
        check("get", "/chat/{chatId}/message", &shown);
    }
    check("get", "/chat", &team.sk.get("/chat").await);
    check("get", "/chat", &team.pk.get("/chat").await);

    let agent = json!({ "name": "Guide", "systemPrompt": "Guide.", "tools": ["calculator"] });
    let agent = team.sk.post("/agent", &agent).await;
    check("post", "/agent", &agent);
    check("get", "/agent", &team.sk.get("/agent").await);
    let path = format!("/agent/{}", agent.text("id"));
    check("get", "/agent/{agent_id}", &team.sk.get(&path).await);
    check("get", "/agent/{agent_id}", &team.pk.get(&path).await);
    let changed = team.sk.put(&path, &json!({ "name": "Guide 2" })).await;
    check("put", "/agent/{agent_id}", &changed);
    let versions = team.sk.get(&format!("{path}/versions")).await;
    check("get", "/agent/{agent_id}/versions", &versions);
    let back = team
        .sk
        .put(&format!("{path}/rollback"), &json!({ "version": 1 }))
        .await;
    check("put", "/agent/{agent_id}/rollback", &back);

    let keys = "/admin/tenants/{tenant_id}/api-keys";
    let server = team.tenant.server();
    let at = keys.replace("{tenant_id}", &team.id);
    let key = server
        .post(&at, &json!({ "kind": "secret", "name": "new" }))
        .await;
    check("post", keys, &key);
    check("get", keys, &server.get(&at).await);
    let rotated = format!("{at}/{}/rotate", key.text("key_id"));
    let rotated = server
        .post(&rotated, &json!({ "overlap_seconds": 60 }))
        .await;
    check("post", &format!("{keys}/{{key_id}}/rotate"), &rotated);
    let keys = "/admin/tenants/{tenant_id}/provider-keys";
    let at = keys.replace("{tenant_id}", &team.id);
    let key = json!({ "provider": "openai", "api_key": "sk-0123456789" });
    check("post", keys, &server.post(&at, &key).await);
    check("get", keys, &server.get(&at).await);
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

#[test]
fn every_operation_of_browsers_tells_of_the_refusal_of_an_origin() {
    let document = document();
    let mut told = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        if path.split('/').nth(1) != Some("chat") {
            continue;
        }
        for (method, operation) in operations.as_object().unwrap() {
            let refusal = &operation["responses"]["403"]["description"];
            let is_told = refusal.as_str().is_some_and(|it| it.contains("origin"));
            assert!(is_told, "{method} {path}: {refusal}");
            told += 1;
        }
    }
    assert_eq!(told, 6);
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
