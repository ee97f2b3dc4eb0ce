//! Members and parameters that a route does not know: the seed's routes pass over them and say so, every other route
//! refuses them, and with them a `null` that means nothing.

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::send;
use crate::{
    kodey::{Team, team},
    support::{Client, Response, Tenant, tenant},
};

/// The routes of the seed documents.
const SEED: [&str; 15] = [
    "post /rooms",
    "get /rooms/{room_id}",
    "get /rooms/{room_id}/members",
    "post /rooms/{room_id}/messages",
    "get /rooms/{room_id}/messages",
    "post /acks",
    "post /notify",
    "get /health",
    "get /admin/dead-letters",
    "post /chat",
    "get /chat",
    "get /chat/{chat_id}",
    "delete /chat/{chat_id}",
    "post /chat/{chat_id}/message",
    "get /chat/{chat_id}/message",
];

/// An operation of the API's description.
struct Operation {
    name: String,
    method: Method,
    path: String,
    description: Value,
}

/// All operations that no seed document has.
fn ours() -> Vec<Operation> {
    let description: Value = serde_json::from_str(edge::OPENAPI).unwrap();
    let paths = description["paths"].as_object().unwrap();
    let mut operations = Vec::new();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            let name = format!("{method} {}", path.replace("{chatId}", "{chat_id}"));
            if method != "parameters" && !SEED.contains(&name.as_str()) {
                operations.push(Operation {
                    name,
                    method: method.to_uppercase().parse().unwrap(),
                    path: path.clone(),
                    description: operation.clone(),
                });
            }
        }
    }
    assert!(operations.len() > 40, "{}", operations.len());
    operations
}

/// A team with one of each thing that a path names.
struct Stage {
    team: Team,
    room: String,
    message: String,
    endpoint: String,
}

async fn stage() -> Stage {
    let team = team().await;
    let room = team.tenant.group(&["alice", "bob"]).await;
    let message = send(&team.tenant.user("alice"), &room, "hi").await;
    let endpoint = json!({ "url": "http://127.0.0.1:1/" });
    let endpoint = team.tenant.server().post("/webhooks", &endpoint).await;
    Stage {
        room,
        message: message.text("message_id"),
        endpoint: endpoint.text("endpoint_id"),
        team,
    }
}

impl Stage {
    async fn send(&self, operation: &Operation, query: &str, body: &Value) -> Response {
        let id = format!("{:032x}", 1);
        let query = match operation.name.as_str() {
            "patch /rooms/{room_id}/members" if query.is_empty() => "?user_id=bob",
            _ => query,
        };
        let path = operation
            .path
            .replace("{room_id}", &self.room)
            .replace("{message_id}", &self.message)
            .replace("{endpoint_id}", &self.endpoint)
            .replace("{tenant_id}", &self.team.id)
            .replace("{user_id}", "bob")
            .replace("{subscription_id}", &format!("sub_{id}"))
            .replace("{notification_id}", &format!("notif_{id}"))
            .replace(
                "provider-keys/{key_id}",
                &format!("provider-keys/pkey_{id}"),
            )
            .replace("/keys/{key_id}", &format!("/keys/tkey_{id}"))
            .replace("{key_id}", &format!("key_{id}"));
        // Whatever each dialect calls an agent's id.
        let path = match path.split_once("/agent/{") {
            Some((_, rest)) => {
                let (_, rest) = rest.split_once('}').unwrap();
                format!("/agent/chat{rest}")
            }
            None => path,
        };
        assert!(!path.contains('{'), "{path}");
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.client(&path)
            .send(operation.method.clone(), &format!("{path}{query}"), body)
            .await
    }

    fn client(&self, path: &str) -> Client {
        let tenant = &self.team.tenant;
        if path.starts_with("/agent") {
            self.team.sk.clone().anew()
        } else if path.starts_with("/admin") || path == "/metrics" {
            tenant.world.operator().anew()
        } else {
            tenant.user("alice")
        }
    }
}

/// The field that a 400 names, in either dialect.
fn field(answer: &Response) -> (u16, Option<&str>) {
    let chatapi = answer.body["error"]["field"].as_str();
    (answer.status, chatapi.or(answer.body["field"].as_str()))
}

/// The schema of an operation's body, references followed.
fn body_of(operation: &Operation) -> Option<Value> {
    let content = &operation.description["requestBody"]["content"]["application/json"];
    resolved(content.get("schema")?)
}

fn resolved(schema: &Value) -> Option<Value> {
    // A body that may be left out, and one of which a new thing needs more.
    let first = schema.pointer("/oneOf/0").or(schema.pointer("/allOf/0"));
    let schema = first.unwrap_or(schema);
    let description: Value = serde_json::from_str(edge::OPENAPI).unwrap();
    match schema.get("$ref") {
        Some(reference) => {
            let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
            resolved(description.pointer(pointer).unwrap())
        }
        None => Some(schema.clone()),
    }
}

#[tokio::test]
async fn every_route_of_ours_refuses_a_parameter_that_it_does_not_know() {
    let stage = stage().await;
    for operation in ours() {
        let answer = stage
            .send(&operation, "?no_such_parameter=1", &Value::Null)
            .await;
        assert_eq!(
            field(&answer),
            (400, Some("no_such_parameter")),
            "{}: {}",
            operation.name,
            answer.raw
        );
        assert_eq!(answer.header("x-ignored"), None);
    }
}

#[tokio::test]
async fn every_route_of_ours_refuses_a_member_that_it_does_not_know() {
    let stage = stage().await;
    let mut bodies = 0;
    for operation in ours() {
        if body_of(&operation).is_none() {
            continue;
        }
        bodies += 1;
        let body = json!({ "no_such_member": 1 });
        let answer = stage.send(&operation, "", &body).await;
        assert_eq!(
            field(&answer),
            (400, Some("no_such_member")),
            "{}: {}",
            operation.name,
            answer.raw
        );
    }
    assert!(bodies > 15, "{bodies}");
}

#[tokio::test]
async fn every_route_of_ours_that_takes_no_body_refuses_one() {
    let stage = stage().await;
    let mut deletions = 0;
    for operation in ours() {
        let may_have_one = [Method::POST, Method::DELETE].contains(&operation.method);
        if !may_have_one || operation.description.get("requestBody").is_some() {
            continue;
        }
        deletions += usize::from(operation.method == Method::DELETE);
        let query = match operation.name.as_str() {
            "delete /rooms/{room_id}/members" => "?user_id=bob",
            _ => "",
        };
        let body = json!({ "dry_run": true });
        let answer = stage.send(&operation, query, &body).await;
        assert_eq!(
            field(&answer),
            (400, Some("dry_run")),
            "{}: {}",
            operation.name,
            answer.raw
        );
    }
    assert!(deletions > 8, "{deletions}");
}

#[tokio::test]
async fn a_parameter_that_is_doubled_is_refused_only_where_it_is_read() {
    let tenant = tenant().await;
    let alice = tenant.user("alice");
    let room = tenant.group(&["alice"]).await;
    let messages = format!("/rooms/{room}/messages");
    for path in [
        format!("{messages}?x=1&x=2"),
        format!("/rooms/{room}?x=1&x=2"),
    ] {
        passes(&alice, Method::GET, &path, &Value::Null, "x").await;
    }
    let twice = alice.get(&format!("{messages}?limit=1&limit=2")).await;
    assert_eq!(field(&twice), (400, Some("limit")), "{}", twice.raw);
    let strict = alice.get("/rooms?limit=1&limit=1").await;
    assert_eq!(field(&strict), (400, Some("limit")), "{}", strict.raw);
}

#[tokio::test]
async fn every_route_of_ours_refuses_a_null_that_means_nothing() {
    let stage = stage().await;
    for operation in ours() {
        let Some(schema) = body_of(&operation) else {
            continue;
        };
        let properties = schema["properties"].as_object();
        let properties = properties.unwrap_or_else(|| panic!("{} {schema}", operation.name));
        for (name, property) in properties {
            let may_be_null = property["type"]
                .as_array()
                .is_some_and(|types| types.contains(&json!("null")))
                || property["oneOf"].to_string().contains(r#""null""#);
            if may_be_null {
                continue;
            }
            let needed = schema["required"].as_array().into_iter().flatten();
            let needed = needed.map(|name| {
                let name = name.as_str().unwrap().to_owned();
                let example = properties[&name]["example"].clone();
                (name, example)
            });
            let mut body: Map<_, _> = needed.collect();
            body.insert(name.clone(), Value::Null);
            let answer = stage.send(&operation, "", &body.into()).await;
            assert_eq!(
                field(&answer),
                (400, Some(name.as_str())),
                "{}: {}",
                operation.name,
                answer.raw
            );
        }
    }
}

#[tokio::test]
async fn all_that_is_not_known_is_named_with_what_is() {
    let tenant = tenant().await;
    let body = json!({ "url": "https://example.com/", "event_types": [], "state": "paused" });
    tenant
        .server()
        .post("/webhooks?a=1&b=2", &body)
        .await
        .assert(
            400,
            json!({
                "success": false,
                "error": {
                    "code": "VALIDATION_ERROR",
                    "message": "Unknown parameters a, b. This route has none",
                    "field": "a",
                },
            }),
        );
    tenant.server().post("/webhooks", &body).await.assert(
        400,
        json!({
            "success": false,
            "error": {
                "code": "VALIDATION_ERROR",
                "message": "Unknown members event_types, state. Known: url, events, description, secret",
                "field": "event_types",
            },
        }),
    );
    let retry = json!({ "retry": { "attempt": 9 } });
    let path = format!("/admin/tenants/{}", tenant.id);
    let operator = tenant.world.operator().anew();
    operator.patch(&path, &retry).await.assert(
        400,
        json!({
            "success": false,
            "error": {
                "code": "VALIDATION_ERROR",
                "message": "Unknown member retry.attempt. Known: attempts, interval_seconds, backoff",
                "field": "retry.attempt",
            },
        }),
    );
}

/// A request of the seed's, which succeeds; `named` is what it has beside.
async fn passes(client: &Client, method: Method, path: &str, body: &Value, named: &str) {
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    let answer = client.send(method.clone(), path, body).await;
    assert!(answer.status < 300, "{method} {path}: {}", answer.raw);
    assert_eq!(answer.header("x-ignored"), Some(named), "{method} {path}");
}

#[tokio::test]
async fn the_seeds_routes_name_what_they_passed_over() {
    let tenant = tenant().await;
    let alice = tenant.user("alice");
    let room = json!({ "type": "group", "members": ["bob"], "nmae": "x" });
    passes(&alice, Method::POST, "/rooms", &room, "nmae").await;
    let room = tenant.group(&["alice", "bob"]).await;
    let at = format!("/rooms/{room}");
    passes(&alice, Method::GET, &format!("{at}?x=1"), &Value::Null, "x").await;
    let members = format!("{at}/members?limit=5&role=admin");
    passes(&alice, Method::GET, &members, &Value::Null, "role").await;
    let messages = format!("{at}/messages");
    let message = json!({ "content": "hi", "room_id": "x", "meta": { "free": 1 } });
    passes(&alice, Method::POST, &messages, &message, "room_id").await;
    let after = format!("{messages}?after=1&after_seq=0");
    passes(&alice, Method::GET, &after, &Value::Null, "after").await;
    let ack = json!({ "room_id": room, "seq": 1, "at": "now" });
    passes(&alice, Method::POST, "/acks?x=1", &ack, "x, at").await;
    let targets = json!({ "user_ids": ["bob"], "users": [] });
    let notification = json!({ "topic": "t", "payload": {}, "targets": targets });
    passes(
        &alice,
        Method::POST,
        "/notify",
        &notification,
        "targets.users",
    )
    .await;
    passes(&alice, Method::GET, "/health?x=1", &Value::Null, "x").await;
    let letters = format!("/admin/dead-letters?tenant_id={}&toppic=t", tenant.id);
    passes(&alice, Method::GET, &letters, &Value::Null, "toppic").await;
}

#[tokio::test]
async fn kodeys_routes_name_what_they_passed_over() {
    let team = team().await;
    let chat = json!({ "agentId": "chat", "user_id": "alice", "metadata": { "free": 1 } });
    let made = team.sk.post("/chat", &chat).await;
    assert_eq!(made.header("x-ignored"), Some("user_id"), "{}", made.raw);
    let at = format!("/chat/{}", made.text("id"));
    let say = json!({ "content": "hi", "role": "user", "stream": false });
    let messages = format!("{at}/message");
    passes(&team.sk, Method::POST, &messages, &say, "stream").await;
    for path in [
        "/chat?page=2",
        &format!("{at}?page=2"),
        &format!("{messages}?page=2"),
    ] {
        passes(&team.sk, Method::GET, path, &Value::Null, "page").await;
    }
    passes(
        &team.sk,
        Method::DELETE,
        &format!("{at}?page=2"),
        &Value::Null,
        "page",
    )
    .await;
}

#[tokio::test]
async fn an_answer_that_passed_over_nothing_or_failed_names_nothing() {
    let tenant = tenant().await;
    let alice = tenant.user("alice");
    let room = json!({ "type": "group", "members": ["bob"] });
    let made = alice.post("/rooms", &room).await;
    assert_eq!((made.status, made.header("x-ignored")), (201, None));
    let failed = alice.get("/rooms/room_1?x=1").await;
    assert_eq!((failed.status, failed.header("x-ignored")), (404, None));
}

#[tokio::test]
async fn a_page_may_read_what_was_passed_over() {
    let tenant = tenant().await;
    let page = tenant.user("alice").with("origin", "https://app.example");
    let answer = page.get("/health?x=1").await;
    let exposed = answer.header("access-control-expose-headers").unwrap();
    assert!(exposed.split(',').any(|name| name.trim() == "x-ignored"));
}

/// What a request with an unusual spelling of its JSON repeats.
async fn repeats(tenant: &Tenant, path: &str, first: &str, second: &str) {
    let alice = tenant.user("alice").with("idempotency-key", first);
    let made = alice.send(Method::POST, path, first.to_owned()).await;
    let again = alice.send(Method::POST, path, second.to_owned()).await;
    assert!(made.status < 300, "{}", made.raw);
    assert_eq!((again.status, &again.body), (made.status, &made.body));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
}

#[tokio::test]
async fn json_that_is_spelled_otherwise_is_the_same_request() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    repeats(
        &tenant,
        &format!("/rooms/{room}/messages"),
        r#"{"content":"hi","meta":{"a":1,"b":[1,2]}}"#,
        "{ \"meta\": {\"b\":[1, 2], \"a\":1},\n\"content\": \"hi\" }",
    )
    .await;
    repeats(
        &tenant,
        "/rooms",
        r#"{"type":"group","members":["bob"]}"#,
        "\u{feff}{\"members\": [\"bob\"], \"type\": \"group\"}",
    )
    .await;
}

#[tokio::test]
async fn json_with_another_value_is_another_request() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let alice = tenant.user("alice").with("idempotency-key", "k");
    let path = format!("/rooms/{room}/messages");
    let made = alice.post(&path, &json!({ "content": "hi" })).await;
    assert_eq!(made.status, 200);
    let other = alice.post(&path, &json!({ "content": "h i" })).await;
    other.assert_error(409, "CONFLICT", None);
}
