//! Bad input: each is answered in the dialect's error shape with the field named, and writes nothing.
//! Bodies are here.

mod params;
mod routes;

use axum::http::Method;
use serde_json::json;

use super::{column, scan, send};
use crate::support::{Client, Response, Tenant, World, tenant, tenant_of, world_over};

/// Everything that a request could have written. Rate-limit buckets move with every request.
async fn written(world: &World) -> Vec<String> {
    let mut all = Vec::new();
    for table in [
        "Tenants",
        "Keys",
        "Rooms",
        "Messages",
        "Events",
        "Deliveries",
        "Guards",
    ] {
        for item in scan(world, table).await {
            if !super::text(&item, "pk").ends_with("#rate") {
                let item: std::collections::BTreeMap<_, _> = item.into_iter().collect();
                all.push(format!("{table} {item:?}"));
            }
        }
    }
    all.sort();
    all
}

/// A tenant with a room of alice (admin) and bob, in which alice has said something, and with a webhook endpoint.
struct Stage {
    tenant: Tenant,
    room: String,
    message: String,
    endpoint: String,
}

async fn stage() -> Stage {
    let world = world_over(|client| client).await;
    let tenant = tenant_of(&world).await;
    let room = tenant.group(&["alice", "bob"]).await;
    let message = send(&tenant.user("alice"), &room, "hi")
        .await
        .text("message_id");
    let endpoint = json!({ "url": "https://example.com/" });
    let endpoint = tenant.server().post("/webhooks", &endpoint).await;
    Stage {
        tenant,
        room,
        message,
        endpoint: endpoint.text("endpoint_id"),
    }
}

impl Stage {
    /// The path of a route, its parameters filled in.
    fn path(&self, route: &str) -> String {
        route
            .replace("{room}", &self.room)
            .replace("{message}", &self.message)
            .replace("{endpoint}", &self.endpoint)
            .replace("{tenant}", &self.tenant.id)
    }

    fn client(&self, route: &str) -> Client {
        if route.starts_with("/admin") {
            self.tenant.world.operator().anew()
        } else {
            self.tenant.user("alice")
        }
    }

    async fn send(
        &self,
        method: &Method,
        route: &str,
        body: impl Into<axum::body::Body>,
    ) -> Response {
        self.client(route)
            .send(method.clone(), &self.path(route), body)
            .await
    }

    /// Fails unless each body is refused at its field, and nothing was written.
    async fn refuses(&self, method: Method, route: &str, cases: &[(&str, &str)]) {
        let before = written(&self.tenant.world).await;
        for (body, field) in cases {
            let answer = self.send(&method, route, (*body).to_owned()).await;
            assert_eq!(
                (answer.status, answer.body["error"]["field"].as_str()),
                (400, Some(*field)),
                "{method} {route} {body}: {}",
                answer.raw
            );
            answer.assert_error(400, "VALIDATION_ERROR", Some(field));
        }
        assert_eq!(written(&self.tenant.world).await, before);
    }
}

/// Every route that reads a body.
fn with_body() -> [(Method, &'static str); 12] {
    [
        (Method::POST, "/rooms"),
        (Method::PATCH, "/rooms/{room}"),
        (Method::POST, "/rooms/{room}/members"),
        (Method::POST, "/rooms/{room}/messages"),
        (Method::PUT, "/rooms/{room}/messages/{message}"),
        (Method::POST, "/acks"),
        (Method::POST, "/notify"),
        (Method::POST, "/subscriptions"),
        (Method::POST, "/webhooks"),
        (Method::PATCH, "/webhooks/{endpoint}"),
        (Method::POST, "/admin/tenants"),
        (Method::PATCH, "/admin/tenants/{tenant}"),
    ]
}

#[tokio::test]
async fn only_a_json_object_is_a_body() {
    let stage = stage().await;
    let bodies = [
        "",
        " ",
        "{",
        "[",
        "}",
        "[]",
        "[{}]",
        r#"["a", ["b"]]"#,
        "null",
        "true",
        "7",
        "-",
        r#""x""#,
        "nope",
        "{'name': 1}",
        "{]",
        "{,}",
        r#"{"content" "a"}"#,
        "\0",
        "<xml/>",
    ];
    let cases = bodies.map(|body| (body, "body"));
    for (method, route) in with_body() {
        stage.refuses(method, route, &cases).await;
    }
}

#[tokio::test]
async fn what_is_broken_within_an_object_is_refused() {
    let stage = stage().await;
    let before = written(&stage.tenant.world).await;
    let broken: [&[u8]; 8] = [
        br#"{"name":"#,
        br#"{"name": "a"#,
        br#"{"name": "a",}"#,
        br#"{"name": "a"} x"#,
        br#"{"name": "a"}{}"#,
        br#"{"name": nul}"#,
        br#"{"name": "\x"}"#,
        b"{\"name\": \"\xff\"}",
    ];
    for (method, route) in with_body() {
        for body in broken {
            let answer = stage.send(&method, route, body.to_vec()).await;
            assert_eq!(answer.status, 400, "{method} {route}: {}", answer.raw);
            assert_eq!(answer.body["error"]["code"], "VALIDATION_ERROR");
            assert!(
                answer.body["error"]["field"].is_string(),
                "{method} {route}: {}",
                answer.raw
            );
        }
    }
    assert_eq!(written(&stage.tenant.world).await, before);
}

#[tokio::test]
async fn a_bad_room_is_refused_at_its_field() {
    let long = format!(r#"{{"type":"group","members":["{}"]}}"#, "x".repeat(129));
    let cases = [
        ("{}", "type"),
        (r#"{"members":["alice"]}"#, "type"),
        (r#"{"type":"group"}"#, "members"),
        (r#"{"type":null,"members":["alice"]}"#, "type"),
        (r#"{"type":5,"members":["alice"]}"#, "type"),
        (r#"{"type":["dm"],"members":["alice"]}"#, "type"),
        (r#"{"type":"","members":["alice"]}"#, "type"),
        (r#"{"type":"DM","members":["alice","bob"]}"#, "type"),
        (
            r#"{"type":"group","type":"dm","members":["alice"]}"#,
            "type",
        ),
        (r#"{"type":"group","members":null}"#, "members"),
        (r#"{"type":"group","members":"alice"}"#, "members"),
        (r#"{"type":"group","members":{"alice":1}}"#, "members"),
        (r#"{"type":"group","members":[]}"#, "members"),
        (r#"{"type":"group","members":["alice",5]}"#, "members[1]"),
        (r#"{"type":"group","members":[null]}"#, "members[0]"),
        (r#"{"type":"group","members":[["alice"]]}"#, "members[0]"),
        (r#"{"type":"group","members":["\ud800"]}"#, "members[0]"),
        (r#"{"type":"group","members":["alice",""]}"#, "members"),
        (r#"{"type":"group","members":["a b"]}"#, "members"),
        (r#"{"type":"group","members":[" bob"]}"#, "members"),
        (r#"{"type":"group","members":["a\u0000"]}"#, "members"),
        (r#"{"type":"group","members":["a\n"]}"#, "members"),
        (r#"{"type":"group","members":["\u007f"]}"#, "members"),
        (r#"{"type":"group","members":["é"]}"#, "members"),
        (r#"{"type":"group","members":["😀"]}"#, "members"),
        (&long, "members"),
        (r#"{"type":"dm","members":["alice"]}"#, "members"),
        (r#"{"type":"dm","members":["alice","alice"]}"#, "members"),
        (
            r#"{"type":"dm","members":["alice","carol","dave"]}"#,
            "members",
        ),
        (r#"{"type":"dm","members":["carol","dave"]}"#, "members"),
        (r#"{"type":"dm","members":[]}"#, "members"),
        (r#"{"type":"group","members":["alice"],"name":5}"#, "name"),
        (
            r#"{"type":"group","members":["alice"],"name":["a"]}"#,
            "name",
        ),
        (r#"{"type":"group","members":["alice"],"name":""}"#, "name"),
        (
            r#"{"type":"group","members":["alice"],"name":" \t"}"#,
            "name",
        ),
        (
            r#"{"type":"group","members":["alice"],"name":"a\u0000b"}"#,
            "name",
        ),
        (
            r#"{"type":"group","members":["alice"],"name":"\udc00"}"#,
            "name",
        ),
    ];
    stage().await.refuses(Method::POST, "/rooms", &cases).await;
}

#[tokio::test]
async fn an_unknown_room_type_is_refused_in_the_seeds_words() {
    let tenant = tenant().await;
    let body = json!({ "type": "party", "members": ["alice"] });

    tenant.user("alice").post("/rooms", &body).await.assert(
        400,
        json!({
            "success": false,
            "error": {
                "code": "VALIDATION_ERROR",
                "message": "Invalid room type. Must be one of: dm, group, channel",
                "field": "type",
            },
        }),
    );
}

#[tokio::test]
async fn bad_members_are_refused_at_their_field() {
    let cases = [
        ("{}", "user_ids"),
        (r#"{"user_ids":null}"#, "user_ids"),
        (r#"{"user_ids":[]}"#, "user_ids"),
        (r#"{"user_ids":"carol"}"#, "user_ids"),
        (r#"{"user_ids":["carol",1]}"#, "user_ids[1]"),
        (r#"{"user_ids":["carol",""]}"#, "user_ids"),
        (r#"{"user_ids":["carol\u0000"]}"#, "user_ids"),
        (r#"{"user_ids":["carol"],"role":"owner"}"#, "role"),
        (r#"{"user_ids":["carol"],"role":""}"#, "role"),
        (r#"{"user_ids":["carol"],"role":1}"#, "role"),
    ];
    stage()
        .await
        .refuses(Method::POST, "/rooms/{room}/members", &cases)
        .await;
}

#[tokio::test]
async fn a_bad_name_is_refused_at_its_field() {
    let cases = [
        ("{}", "name"),
        (r#"{"title":"x"}"#, "title"),
        (r#"{"name":1}"#, "name"),
        (r#"{"name":{}}"#, "name"),
        (r#"{"name":""}"#, "name"),
        (r#"{"name":"\u0000"}"#, "name"),
        (r#"{"name":"a","name":"b"}"#, "name"),
    ];
    stage()
        .await
        .refuses(Method::PATCH, "/rooms/{room}", &cases)
        .await;
}

#[tokio::test]
async fn a_bad_message_is_refused_at_its_field() {
    let deep = format!(
        r#"{{"content":"a","meta":{{"a":{}{}}}}}"#,
        "[".repeat(50_000),
        "]".repeat(50_000)
    );
    let deeper = format!(
        r#"{{"content":{}{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let cases = [
        ("{}", "content"),
        (r#"{"meta":{}}"#, "content"),
        (r#"{"content":null}"#, "content"),
        (r#"{"content":""}"#, "content"),
        (r#"{"content":5}"#, "content"),
        (r#"{"content":true}"#, "content"),
        (r#"{"content":["a"]}"#, "content"),
        (r#"{"content":{"a":"b"}}"#, "content"),
        (r#"{"content":"a\u0000b"}"#, "content"),
        (r#"{"content":"\ud83d"}"#, "content"),
        (r#"{"content":"\udc00\ud800"}"#, "content"),
        (r#"{"content":"a","content":"b"}"#, "content"),
        (r#"{"content":"a","meta":[]}"#, "meta"),
        (r#"{"content":"a","meta":[{"a":1}]}"#, "meta"),
        (r#"{"content":"a","meta":"{}"}"#, "meta"),
        (r#"{"content":"a","meta":5}"#, "meta"),
        (r#"{"content":"a","meta":false}"#, "meta"),
        (r#"{"content":"a","meta":{"a":"\ud800"}}"#, "meta"),
        (r#"{"content":"a","meta":{"\udfff":1}}"#, "meta"),
        (r#"{"content":"a","meta":{"a":1e999}}"#, "meta"),
        (&deep, "meta"),
        (&deeper, "content"),
    ];
    let stage = stage().await;
    stage
        .refuses(Method::POST, "/rooms/{room}/messages", &cases)
        .await;
    stage
        .refuses(Method::PUT, "/rooms/{room}/messages/{message}", &cases)
        .await;
}

#[tokio::test]
async fn a_bad_ack_is_refused_at_its_field() {
    let cases = [
        ("{}", "room_id"),
        (r#"{"seq":1}"#, "room_id"),
        (r#"{"room_id":"room_1"}"#, "seq"),
        (r#"{"room_id":5,"seq":1}"#, "room_id"),
        (r#"{"room_id":null,"seq":1}"#, "room_id"),
        (r#"{"room_id":"room_1","seq":null}"#, "seq"),
        (r#"{"room_id":"room_1","seq":"1"}"#, "seq"),
        (r#"{"room_id":"room_1","seq":1.0}"#, "seq"),
        (r#"{"room_id":"room_1","seq":1e2}"#, "seq"),
        (r#"{"room_id":"room_1","seq":1e400}"#, "seq"),
        (r#"{"room_id":"room_1","seq":99999999999999999999}"#, "seq"),
        (r#"{"room_id":"room_1","seq":[1]}"#, "seq"),
    ];
    let stage = stage().await;
    stage.refuses(Method::POST, "/acks", &cases).await;
    let negative = format!(r#"{{"room_id":"{}","seq":-1}}"#, stage.room);
    let huge = format!(
        r#"{{"room_id":"{}","seq":9223372036854775807}}"#,
        stage.room
    );
    stage
        .refuses(Method::POST, "/acks", &[(&negative, "seq"), (&huge, "seq")])
        .await;
}

#[tokio::test]
async fn a_bad_notification_is_refused_at_its_field() {
    let cases = [
        ("{}", "topic"),
        (
            r#"{"topic":"t","targets":{"topic_subscribers":true}}"#,
            "payload",
        ),
        (r#"{"topic":"t","payload":{}}"#, "targets"),
        (
            r#"{"topic":null,"payload":{},"targets":{"topic_subscribers":true}}"#,
            "topic",
        ),
        (
            r#"{"topic":"","payload":{},"targets":{"topic_subscribers":true}}"#,
            "topic",
        ),
        (
            r#"{"topic":" ","payload":{},"targets":{"topic_subscribers":true}}"#,
            "topic",
        ),
        (
            r#"{"topic":"a\nb","payload":{},"targets":{"topic_subscribers":true}}"#,
            "topic",
        ),
        (
            r#"{"topic":"\u0000","payload":{},"targets":{"topic_subscribers":true}}"#,
            "topic",
        ),
        (
            r#"{"topic":"t","payload":null,"targets":{"topic_subscribers":true}}"#,
            "payload",
        ),
        (
            r#"{"topic":"t","payload":[],"targets":{"topic_subscribers":true}}"#,
            "payload",
        ),
        (
            r#"{"topic":"t","payload":"x","targets":{"topic_subscribers":true}}"#,
            "payload",
        ),
        (
            r#"{"topic":"t","payload":{"a":"\ud800"},"targets":{"topic_subscribers":true}}"#,
            "payload",
        ),
        (r#"{"topic":"t","payload":{},"targets":null}"#, "targets"),
        (r#"{"topic":"t","payload":{},"targets":{}}"#, "targets"),
        (r#"{"topic":"t","payload":{},"targets":5}"#, "targets"),
        (
            r#"{"topic":"t","payload":{},"targets":[["bob"],null,true]}"#,
            "targets",
        ),
        (
            r#"{"topic":"t","payload":{},"targets":{"user_ids":[],"topic_subscribers":false}}"#,
            "targets",
        ),
        (
            r#"{"topic":"t","payload":{},"targets":{"user_ids":"bob"}}"#,
            "targets.user_ids",
        ),
        (
            r#"{"topic":"t","payload":{},"targets":{"user_ids":[5]}}"#,
            "targets.user_ids[0]",
        ),
        (
            r#"{"topic":"t","payload":{},"targets":{"user_ids":["bob",""]}}"#,
            "targets.user_ids",
        ),
        (
            r#"{"topic":"t","payload":{},"targets":{"room_id":5}}"#,
            "targets.room_id",
        ),
        (
            r#"{"topic":"t","payload":{},"targets":{"topic_subscribers":"yes"}}"#,
            "targets.topic_subscribers",
        ),
    ];
    stage().await.refuses(Method::POST, "/notify", &cases).await;
}

#[tokio::test]
async fn a_bad_topic_is_refused_at_its_field() {
    let cases = [
        ("{}", "topic"),
        (r#"{"topic":null}"#, "topic"),
        (r#"{"topic":5}"#, "topic"),
        (r#"{"topic":""}"#, "topic"),
        (r#"{"topic":"\t"}"#, "topic"),
        (r#"{"topic":"a\u0000"}"#, "topic"),
    ];
    stage()
        .await
        .refuses(Method::POST, "/subscriptions", &cases)
        .await;
}

#[tokio::test]
async fn a_bad_tenant_is_refused_at_its_field() {
    let names = [
        (r#"{"name":5}"#, "name"),
        (r#"{"name":""}"#, "name"),
        (r#"{"name":"a\u0000"}"#, "name"),
    ];
    let missing = [
        ("{}", "name"),
        (r#"{"name":null}"#, "name"),
        (r#"{"rate_limit":5}"#, "rate_limit"),
    ];
    let rates = [
        (r#"{"rate_limit":0}"#, "rate_limit"),
        (r#"{"rate_limit":-1}"#, "rate_limit"),
        (r#"{"rate_limit":1000001}"#, "rate_limit"),
        (r#"{"rate_limit":1.5}"#, "rate_limit"),
        (r#"{"rate_limit":"100"}"#, "rate_limit"),
        (r#"{"rate_limit":99999999999999999999}"#, "rate_limit"),
        (r#"{"name":"ok","rate_limit":0}"#, "rate_limit"),
    ];
    let retries = [
        (r#"{"retry":5}"#, "retry"),
        (r#"{"retry":[5,30]}"#, "retry"),
        (r#"{"retry":{"attempts":0}}"#, "retry.attempts"),
        (r#"{"retry":{"attempts":11}}"#, "retry.attempts"),
        (r#"{"retry":{"attempts":"5"}}"#, "retry.attempts"),
        (
            r#"{"retry":{"interval_seconds":0}}"#,
            "retry.interval_seconds",
        ),
        (
            r#"{"retry":{"interval_seconds":43201}}"#,
            "retry.interval_seconds",
        ),
        (
            r#"{"retry":{"interval_seconds":1.5}}"#,
            "retry.interval_seconds",
        ),
        (r#"{"retry":{"backoff":"linear"}}"#, "retry.backoff"),
        (r#"{"retry":{"backoff":1}}"#, "retry.backoff"),
        (r#"{"name":"ok","retry":{"attempts":0}}"#, "retry.attempts"),
    ];
    let chats = [
        (
            r#"{"publishable_list_scope":"User"}"#,
            "publishable_list_scope",
        ),
        (r#"{"publishable_list_scope":""}"#, "publishable_list_scope"),
        (r#"{"publishable_list_scope":1}"#, "publishable_list_scope"),
        (r#"{"monthly_token_cap":0}"#, "monthly_token_cap"),
        (r#"{"monthly_token_cap":-1}"#, "monthly_token_cap"),
        (
            r#"{"monthly_token_cap":1000000000001}"#,
            "monthly_token_cap",
        ),
        (r#"{"monthly_token_cap":1.5}"#, "monthly_token_cap"),
        (r#"{"monthly_token_cap":"5"}"#, "monthly_token_cap"),
        (r#"{"monthly_token_cap":[]}"#, "monthly_token_cap"),
        (
            r#"{"name":"ok","monthly_token_cap":0}"#,
            "monthly_token_cap",
        ),
    ];
    let stage = stage().await;
    stage.refuses(Method::POST, "/admin/tenants", &names).await;
    stage
        .refuses(Method::POST, "/admin/tenants", &missing)
        .await;
    stage
        .refuses(Method::PATCH, "/admin/tenants/{tenant}", &names)
        .await;
    stage
        .refuses(Method::PATCH, "/admin/tenants/{tenant}", &rates)
        .await;
    stage
        .refuses(Method::PATCH, "/admin/tenants/{tenant}", &retries)
        .await;
    stage
        .refuses(Method::PATCH, "/admin/tenants/{tenant}", &chats)
        .await;
}

#[tokio::test]
async fn unknown_fields_are_ignored_however_deep() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice"]).await;
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let body = format!(r#"{{"x":{deep},"content":"a","sender_id":"bob","seq":99,"":null}}"#);
    let path = format!("/rooms/{room}/messages");

    let sent = tenant.user("alice").send(Method::POST, &path, body).await;

    assert_eq!(
        (sent.status, &sent.body["seq"]),
        (200, &json!(1)),
        "{}",
        sent.raw
    );
    assert_eq!(
        column(&tenant.user("alice").get(&path).await, "sender_id"),
        ["alice"]
    );
}

#[tokio::test]
async fn no_answer_to_bad_input_tells_what_is_inside() {
    let stage = stage().await;
    for (method, route) in with_body() {
        for body in [
            r#"{"targets":5,"topic":"t","payload":{}}"#,
            r#"{"type":5}"#,
            "[]",
            "{",
        ] {
            let answer = stage.send(&method, route, body).await;
            let message = answer.body["error"]["message"].as_str().unwrap_or_default();
            for word in ["struct", "In ", "serde", "line ", "column "] {
                assert!(
                    !message.contains(word),
                    "{method} {route} {body}: {message}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_bad_choice_of_dead_letters_is_refused_at_its_field() {
    let stage = stage().await;
    let tenant = &stage.tenant.id;
    let with = |more: &str| format!(r#"{{"tenant_id":"{tenant}","reason":"why"{more}}}"#);
    let cases = [
        (r#"{"reason":"why"}"#.to_owned(), "tenant_id"),
        (r#"{"tenant_id":5,"reason":"why"}"#.to_owned(), "tenant_id"),
        (
            r#"{"tenant_id":"tenant_1","reason":"why"}"#.to_owned(),
            "tenant_id",
        ),
        (with(r#","delivery_id":"dlv_1""#), "delivery_id"),
        (with(r#","delivery_id":7"#), "delivery_id"),
        (
            with(&format!(r#","delivery_id":"dlv_{:032x}","topic":"t""#, 1)),
            "delivery_id",
        ),
        (with(r#","topic":"""#), "topic"),
        (with(r#","topic":["t"]"#), "topic"),
        (with(r#","room_id":"room_1""#), "room_id"),
        (with(r#","older_than":"yesterday""#), "older_than"),
        (with(r#","older_than":1765627200"#), "older_than"),
        (with(r#","newer_than":"2025-12-13""#), "newer_than"),
        (
            with(r#","newer_than":"1969-12-31T23:59:59Z""#),
            "newer_than",
        ),
        (
            with(r#","newer_than":"9999-12-31T23:59:59-12:00""#),
            "newer_than",
        ),
    ];
    // A redrive has no reason.
    let reason = r#""reason":"why""#;
    let redrives: Vec<_> = cases
        .iter()
        .map(|(body, field)| {
            let body = body.replace(&format!(",{reason}"), "");
            (body.replace(reason, ""), *field)
        })
        .collect();
    let redrives: Vec<_> = redrives
        .iter()
        .map(|(body, field)| (body.as_str(), *field))
        .collect();
    let cases: Vec<_> = cases
        .iter()
        .map(|(body, field)| (body.as_str(), *field))
        .collect();
    stage
        .refuses(Method::POST, "/admin/dead-letters/redrive", &redrives)
        .await;
    stage
        .refuses(Method::DELETE, "/admin/dead-letters", &cases)
        .await;
    let long = "x".repeat(257);
    let reasons = [
        format!(r#"{{"tenant_id":"{tenant}"}}"#),
        format!(r#"{{"tenant_id":"{tenant}","reason":" "}}"#),
        format!(r#"{{"tenant_id":"{tenant}","reason":"a\u0000"}}"#),
        format!(r#"{{"tenant_id":"{tenant}","reason":"{long}"}}"#),
        format!(r#"{{"tenant_id":"{tenant}","reason":["why"]}}"#),
    ];
    let reasons: Vec<_> = reasons
        .iter()
        .map(|body| (body.as_str(), "reason"))
        .collect();
    stage
        .refuses(Method::DELETE, "/admin/dead-letters", &reasons)
        .await;
}
