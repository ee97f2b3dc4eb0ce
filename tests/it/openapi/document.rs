//! The API's description: what the functions say of themselves, merged, and with all that is true of many operations added in
//! one place. Nothing of it is made at run time: what comes out is checked in, and served as a file.

use std::collections::BTreeSet;

use parlance::{
    domain::{agent::BuiltIn, user::UserId},
    http::body::MAX_BODY,
};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::{members, operations, parameters, responses};

/// The whole description.
pub fn document() -> Value {
    let mut document = merged();
    document["openapi"] = json!("3.1.0");
    document["info"] = json!({
        "title": "Parlance",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "The ChatAPI dialect, and the Kodey dialect of `/chat` and `/agent`. Every answer carries `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`, and names its request in `X-Request-Id`. Errors have one shape in each; `error.code` says which it is, or `error` in Kodey's.\n\nThe service counts the length of text in bytes of UTF-8, and JSON Schema counts it in characters: a `maxLength` is what fits if all characters are ASCII.",
        "contact": { "name": "Parlance" },
        "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
    });
    document["servers"] = json!([
        { "url": "/", "description": "The service that shows this description" },
    ]);
    document["components"]["securitySchemes"] = json!({
        "api_key": { "type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The tenant's key." },
        "user_id": { "type": "apiKey", "in": "header", "name": "X-User-Id", "description": "The user for whom the call is made: 1 to 128 visible ASCII characters." },
        "master_key": { "type": "apiKey", "in": "header", "name": "X-Master-Key", "description": "The operator's key." },
        "publishable_key": { "type": "apiKey", "in": "header", "name": "x-api-key", "description": "A team's key for browsers, `pk_live_…`." },
        "secret_key": { "type": "apiKey", "in": "header", "name": "x-api-key", "description": "A team's key for servers, `sk_live_…`." },
    });
    document["tags"] = tags();
    document["security"] = json!([{ "api_key": [], "user_id": [] }]);

    let (requests, lenient) = requests(&document);
    members::finish(
        document["components"]["schemas"].as_object_mut().unwrap(),
        &requests,
        &lenient,
    );
    add_schemas(&mut document);
    let schemas = document["components"]["schemas"].clone();
    for_each_operation(&mut document, |method, path, operation| {
        operation["operationId"] = json!(operations::name(method, path));
        finish_body(method, path, operation);
        parameters::finish(path, operation);
        responses::finish(method, path, operation, &schemas);
    });
    responses::add_components(&mut document);
    parameters::add_components(&mut document);
    // Otherwise it would depend on which crates are linked: one of them asks for maps that keep their order.
    document.sort_all_objects();
    document
}

fn merged() -> Value {
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
    serde_json::to_value(document).unwrap()
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

fn tags() -> Value {
    [
        ("Rooms", "Conversations between people, and who is in them."),
        (
            "Messages",
            "The log of a room: numbered 1, 2, 3, … without a gap.",
        ),
        (
            "Delivery & Acknowledgments",
            "How far each member has received a room.",
        ),
        (
            "Notifications",
            "What people hear of outside a room, by name, by room or by topic.",
        ),
        ("Webhooks", "Where a tenant's server is told what happens."),
        ("Live", "Tokens for WebSocket connections."),
        (
            "Chats",
            "Conversations with agents, for browsers and servers: the Kodey dialect.",
        ),
        (
            "Agents",
            "Who answers in chats, and how: the Kodey dialect.",
        ),
        ("Health & Monitoring", "Whether the service can write."),
        (
            "Admin",
            "Tenants, keys, dead letters and counts. Most of it is the operator's.",
        ),
    ]
    .map(|(name, description)| json!({ "name": name, "description": description }))
    .into()
}

/// Calls `change` with the method, the path and the description of every operation.
fn for_each_operation(document: &mut Value, mut change: impl FnMut(&str, &str, &mut Value)) {
    for (path, operations) in document["paths"].as_object_mut().unwrap() {
        for (method, operation) in operations.as_object_mut().unwrap() {
            change(method, path, operation);
        }
    }
}

/// The schemas of what is sent to us; and those of them that a seed's own route takes, which passes over what it does not know.
fn requests(document: &Value) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut all, mut lenient) = (BTreeSet::new(), BTreeSet::new());
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            reach(document, &operation["requestBody"], &mut all);
            if operations::is_lenient(method, path) {
                reach(document, &operation["requestBody"], &mut lenient);
            }
        }
    }
    (all, lenient)
}

/// Adds the names of all schemas that `value` leads to.
pub(super) fn reach(document: &Value, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            let name = members.get("$ref").and_then(Value::as_str);
            let name = name.and_then(|it| it.strip_prefix("#/components/schemas/"));
            if let Some(name) = name
                && found.insert(name.to_owned())
            {
                reach(document, &document["components"]["schemas"][name], found);
            }
            members.values().for_each(|it| reach(document, it, found));
        }
        Value::Array(items) => items.iter().for_each(|it| reach(document, it, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What a body is beyond its schema.
fn finish_body(method: &str, path: &str, operation: &mut Value) {
    let Some(body) = operation
        .get_mut("requestBody")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    let schema = &mut body["content"]["application/json"]["schema"];
    // A body that may be left out is described as one that may be `null`, which it may not.
    if let Some(parts) = schema["oneOf"].as_array() {
        let part = parts.iter().find(|part| part["$ref"].is_string());
        *schema = part.unwrap().clone();
        body.insert("required".to_owned(), json!(false));
    }
    // What changes an agent may leave its name as it is; what makes one may not.
    if (method, path) == ("post", "/agent") {
        let schema = &mut body["content"]["application/json"]["schema"];
        *schema = json!({ "allOf": [schema, { "required": ["name"] }] });
    }
    let description = format!("A JSON object. At most {MAX_BODY} bytes.");
    body.insert("description".to_owned(), json!(description));
}

/// Shapes that no function has as a type of its own.
fn add_schemas(document: &mut Value) {
    let schemas = document["components"]["schemas"].as_object_mut().unwrap();
    let shapes = [
        (
            "Meta",
            json!({
                "type": "object",
                "additionalProperties": true,
                "description": "What a client attaches, in its own words: any JSON object. Its numbers are no larger than a double, and it is nested at most 127 levels.",
                "example": { "type": "text", "mentions": ["user2"] },
            }),
        ),
        (
            "AnswerEvents",
            json!({
                "type": "string",
                "description": "Server-sent events: any number of `delta`, whose data is `{\"content\": \"…\"}`, and then `done`, whose data is an `Answer`, or `error`, whose data is a `KodeyErrorOut`. Lines that begin with a colon keep the connection open.",
                "example": "event: delta\ndata: {\"content\":\"Hello\"}\n\nevent: done\ndata: {\"id\":\"msg_00000000000218d1f9c3e5a7b9d1f3c5\",\"chatId\":\"chat_0193c1a27b0c7f3e8a6d5c4b3a291807\",\"content\":\"Hello\",\"role\":\"assistant\",\"createdAt\":\"2025-12-13T12:10:00.000000Z\"}\n\n",
            }),
        ),
        (
            "MetricsText",
            json!({
                "type": "string",
                "description": "The text exposition format of Prometheus, 0.0.4. Its names begin with `parlance_`, and samples are labelled with the tenant unless they are sums.",
                "example": "# HELP parlance_messages_sent_total Messages written.\n# TYPE parlance_messages_sent_total counter\nparlance_messages_sent_total{tenant=\"tenant_0193c1a27b0c7f3e8a6d5c4b3a291807\"} 1024\n",
            }),
        ),
    ];
    schemas.extend(shapes.map(|(name, shape)| (name.to_owned(), shape)));
}

/// Adds the members of `more` to `to`, at any depth.
pub(super) fn lay_over(to: &mut Value, more: &Value) {
    match (to, more) {
        (Value::Object(to), Value::Object(more)) => {
            for (name, value) in more {
                lay_over(to.entry(name).or_insert(Value::Null), value);
            }
        }
        (to, more) => *to = more.clone(),
    }
}

/// The regular expression of an id that begins with `prefix`.
pub(super) fn id(prefix: &str) -> Value {
    json!({ "pattern": format!("^{prefix}_[0-9a-f]{{32}}$") })
}

/// The id of an agent.
pub(super) fn agent_id() -> Value {
    let words = BuiltIn::ALL.map(BuiltIn::id).join("|");
    json!({ "pattern": format!("^(agent_[0-9a-f]{{32}}|{words})$") })
}

/// The id of a user, which the tenant chooses.
pub(super) fn user_id() -> Value {
    json!({ "minLength": 1, "maxLength": UserId::MAX, "pattern": "^[!-~]+$" })
}

/// The members of an object that `value` is.
pub(super) fn object(value: &mut Value) -> &mut Map<String, Value> {
    value.as_object_mut().unwrap()
}
