//! The documented limits: the last size that is taken, and the first that is not.

use axum::http::Method;
use serde_json::json;

use super::{column, events, partition, walk};
use crate::support::{Client, Response, Tenant, tenant, tenant_of, world_over};

async fn message(client: &Client, room: &str, content: &str, meta: &str) -> Response {
    let body = format!(r#"{{"content":{},"meta":{meta}}}"#, json!(content));
    client
        .send(Method::POST, &format!("/rooms/{room}/messages"), body)
        .await
}

/// A tenant with a room of alice alone.
async fn alone() -> (Tenant, Client, String) {
    let tenant = tenant().await;
    let room = tenant.group(&["alice"]).await;
    let alice = tenant.user("alice");
    (tenant, alice, room)
}

fn meta_of(bytes: usize) -> String {
    format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8))
}

#[tokio::test]
async fn content_is_32_kb_of_utf8_at_most() {
    let (_, alice, room) = alone().await;
    let ascii = "x".repeat(32 * 1024);
    let wide = format!("{}xx", "€".repeat(32 * 1024 / 3));
    for content in [&ascii, &wide] {
        assert_eq!(content.len(), 32 * 1024);
        let sent = message(&alice, &room, content, "{}").await;
        let path = format!("/rooms/{room}/messages/{}", sent.text("message_id"));
        assert_eq!(&alice.get(&path).await.text("content"), content);

        let over = message(&alice, &room, &format!("{content}x"), "{}").await;
        over.assert(
            400,
            json!({
                "success": false,
                "error": {
                    "code": "VALIDATION_ERROR",
                    "message": "Invalid content. At most 32768 bytes of UTF-8",
                    "field": "content",
                },
            }),
        );
    }
}

#[tokio::test]
async fn meta_is_16_kb_at_most() {
    let (_, alice, room) = alone().await;
    assert_eq!(
        message(&alice, &room, "x", &meta_of(16 * 1024))
            .await
            .status,
        200
    );
    let over = message(&alice, &room, "x", &meta_of(16 * 1024 + 1)).await;
    over.assert_error(400, "VALIDATION_ERROR", Some("meta"));
}

#[tokio::test]
async fn meta_is_nested_127_levels_at_most() {
    let (_, alice, room) = alone().await;
    let nested = |levels: usize| {
        let lists = levels - 1;
        format!(r#"{{"a":{}{}}}"#, "[".repeat(lists), "]".repeat(lists))
    };

    let sent = message(&alice, &room, "x", &nested(127)).await;
    assert_eq!(sent.status, 200, "{}", sent.raw);
    let list = alice.get(&format!("/rooms/{room}/messages")).await;
    assert!(list.raw.contains(&nested(127)));
    let over = message(&alice, &room, "x", &nested(128)).await;
    over.assert_error(400, "VALIDATION_ERROR", Some("meta"));
}

/// What Lambda lets a function answer at most.
const LARGEST_ANSWER: usize = 6 * 1024 * 1024;

/// Walks the log from `path` on by its links, and checks the size of each page.
async fn walk_heavy(alice: &Client, path: String) -> Vec<u64> {
    let (mut seqs, mut next) = (Vec::new(), Some(path));
    while let Some(path) = next {
        let page = alice.get(&path).await;
        assert!(page.raw.len() < LARGEST_ANSWER, "{}", page.raw.len());
        seqs.extend(column(&page, "seq").iter().map(|seq| seq.as_u64().unwrap()));
        next = page.next();
    }
    seqs
}

#[tokio::test]
async fn the_largest_messages_are_walked_in_pages_that_lambda_can_answer() {
    let (_, alice, room) = alone().await;
    for _ in 0..100 {
        let sent = message(&alice, &room, &"x".repeat(32 * 1024), &meta_of(16 * 1024)).await;
        assert_eq!(sent.status, 200);
    }
    let path = format!("/rooms/{room}/messages?limit=100");

    assert_eq!(
        walk_heavy(&alice, path.clone()).await,
        (1..=100).collect::<Vec<_>>()
    );
    let mut backward = walk_heavy(&alice, format!("{path}&before_seq=101")).await;
    backward.sort_unstable();
    assert_eq!(backward, (1..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn messages_that_grow_when_they_are_escaped_are_walked_in_such_pages_too() {
    let (_, alice, room) = alone().await;
    for _ in 0..40 {
        assert_eq!(
            message(&alice, &room, &"\u{1}".repeat(32 * 1024), "{}")
                .await
                .status,
            200
        );
    }
    let path = format!("/rooms/{room}/messages?limit=100");
    assert_eq!(walk_heavy(&alice, path).await, (1..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_name_is_256_bytes_at_most() {
    let (tenant, alice, room) = alone().await;
    let (longest, over) = ("é".repeat(128), format!("{}x", "é".repeat(128)));
    let room_named = |name: &str| json!({ "type": "group", "members": ["alice"], "name": name });

    assert_eq!(
        alice
            .post("/rooms", &room_named(&longest))
            .await
            .text("name"),
        longest
    );
    let made = alice.post("/rooms", &room_named(&over)).await;
    made.assert_error(400, "VALIDATION_ERROR", Some("name"));
    let path = format!("/rooms/{room}");
    assert_eq!(
        alice
            .patch(&path, &json!({ "name": longest }))
            .await
            .text("name"),
        longest
    );
    let renamed = alice.patch(&path, &json!({ "name": over })).await;
    renamed.assert_error(400, "VALIDATION_ERROR", Some("name"));
    let operator = tenant.world.operator().anew();
    let made = operator
        .post("/admin/tenants", &json!({ "name": over }))
        .await;
    made.assert_error(400, "VALIDATION_ERROR", Some("name"));
}

#[tokio::test]
async fn a_topic_is_256_bytes_and_a_payload_32_kb_at_most() {
    let (_, alice, _) = alone().await;
    let notify = async |topic: usize, payload: usize| {
        let body = format!(
            r#"{{"topic":"{}","payload":{},"targets":{{"user_ids":["bob"]}}}}"#,
            "t".repeat(topic),
            meta_of(payload)
        );
        alice.send(Method::POST, "/notify", body).await
    };
    assert_eq!(notify(256, 32 * 1024).await.status, 202);
    notify(257, 100)
        .await
        .assert_error(400, "VALIDATION_ERROR", Some("topic"));
    notify(1, 32 * 1024 + 1)
        .await
        .assert_error(400, "VALIDATION_ERROR", Some("payload"));
}

#[tokio::test]
async fn a_notification_names_a_thousand_users_at_most() {
    let (_, alice, _) = alone().await;
    let notify = async |users: usize| {
        let users: Vec<_> = (0..users).map(|n| format!("user{n}")).collect();
        let body = json!({ "topic": "t", "payload": {}, "targets": { "user_ids": users } });
        alice.post("/notify", &body).await
    };
    assert_eq!(notify(1_000).await.status, 202);
    notify(1_001)
        .await
        .assert_error(400, "VALIDATION_ERROR", Some("targets.user_ids"));
}

#[tokio::test]
async fn a_body_is_256_kb_at_most() {
    let (_, alice, room) = alone().await;
    let path = format!("/rooms/{room}/messages");
    let body = |size: usize| {
        let frame = r#"{"content":"a","pad":""}"#;
        format!(
            r#"{{"content":"a","pad":"{}"}}"#,
            "x".repeat(size - frame.len())
        )
    };

    assert_eq!(
        alice
            .send(Method::POST, &path, body(256 * 1024))
            .await
            .status,
        200
    );
    for size in [256 * 1024 + 1, 1024 * 1024] {
        alice.send(Method::POST, &path, body(size)).await.assert(
            413,
            json!({
                "success": false,
                "error": {
                    "code": "PAYLOAD_TOO_LARGE",
                    "message": "Request body is larger than 256 KB",
                    "field": "body",
                },
            }),
        );
    }
    assert_eq!(column(&alice.get(&path).await, "seq"), [1]);
}

#[tokio::test]
async fn an_optional_body_is_bounded_too() {
    let (tenant, ..) = alone().await;
    let operator = tenant.world.operator().anew();
    let path = format!("/admin/tenants/{}/keys/rotate", tenant.id);
    let answer = operator
        .send(Method::POST, &path, "x".repeat(1024 * 1024))
        .await;
    answer.assert_error(413, "PAYLOAD_TOO_LARGE", Some("body"));
}

/// `n` users from the `first` on, whose ids sort in their order.
fn users(first: usize, n: usize) -> Vec<String> {
    (first..first + n)
        .map(|number| format!("user{number:05}"))
        .collect()
}

#[tokio::test]
async fn a_room_is_made_of_a_thousand_members_and_not_of_one_more() {
    let tenant = tenant().await;
    let creator = tenant.user("user00000");
    let body = |n| json!({ "type": "channel", "members": users(0, n) });

    let made = creator.post("/rooms", &body(1_000)).await;
    assert_eq!(made.status, 201, "{}", made.raw);
    let over = creator.post("/rooms", &body(1_001)).await;
    over.assert_error(400, "VALIDATION_ERROR", Some("members"));

    let room = made.text("room_id");
    let path = format!("/rooms/{room}/members?limit=100");
    let (walked, pages) = walk(&tenant.user("user00999"), &path, "user_id").await;
    assert_eq!(walked, users(0, 1_000));
    assert_eq!(pages, 10);
    assert_eq!(
        column(&tenant.user("user00500").get("/rooms").await, "room_id"),
        [room.as_str()]
    );
    assert_eq!(events(&tenant).await["room.created"], 1);
}

#[tokio::test]
async fn the_largest_request_of_the_longest_ids_is_taken() {
    let tenant = tenant().await;
    let longest: Vec<_> = (0..1_000).map(|n| format!("{n:0>128}")).collect();
    let body = json!({ "type": "group", "members": longest });

    let made = tenant.user("creator").post("/rooms", &body).await;

    assert_eq!(made.status, 201, "{}", made.raw);
    let room = tenant
        .user(&longest[999])
        .get(&format!("/rooms/{}", made.text("room_id")))
        .await;
    assert_eq!(room.status, 200);
}

#[tokio::test]
async fn rooms_around_the_size_of_one_transaction_are_whole() {
    let tenant = tenant().await;
    for size in [89, 90, 91, 92, 181] {
        let names = users(0, size);
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let room = tenant.group(&names).await;
        let path = format!("/rooms/{room}/members?limit=100");
        let (walked, _) = walk(&tenant.user(names[size - 1]), &path, "user_id").await;
        assert_eq!(walked, names);

        let added = json!({ "user_ids": users(size, size) });
        let added = tenant
            .user(names[0])
            .post(&format!("/rooms/{room}/members"), &added)
            .await;
        assert_eq!(
            (added.status, added.body.as_array().unwrap().len()),
            (201, size)
        );
        let (walked, _) = walk(&tenant.user(names[0]), &path, "user_id").await;
        assert_eq!(walked, users(0, 2 * size));
    }
}

#[tokio::test]
async fn a_room_holds_ten_thousand_members_and_not_one_more() {
    let world = world_over(|client| client).await;
    let tenant = tenant_of(&world).await;
    let admin = tenant.user("user00000");
    let body = json!({ "type": "channel", "members": users(0, 1_000) });
    let room = admin.post("/rooms", &body).await.text("room_id");
    let path = format!("/rooms/{room}/members");
    for batch in 1..9 {
        let added = admin
            .post(&path, &json!({ "user_ids": users(batch * 1_000, 1_000) }))
            .await;
        assert_eq!(
            (added.status, added.body.as_array().unwrap().len()),
            (201, 1_000)
        );
    }
    let count = async || {
        partition(&world, "Rooms", format!("{}#{room}", tenant.id))
            .await
            .len()
            - 1
    };
    assert_eq!(count().await, 9_000);
    let full = json!({
        "success": false,
        "error": {
            "code": "VALIDATION_ERROR",
            "message": "Invalid user_ids. A room has at most 10000 members",
            "field": "user_ids",
        },
    });

    // Nobody of a request that does not fit joins.
    let over = admin
        .post(&path, &json!({ "user_ids": users(8_999, 1_000) }))
        .await;
    assert_eq!(over.status, 201, "999 of these are new: {}", over.raw);
    let over = admin
        .post(&path, &json!({ "user_ids": users(9_500, 502) }))
        .await;
    over.assert(400, full.clone());
    assert_eq!(count().await, 9_999);
    let too_many = admin
        .post(&path, &json!({ "user_ids": users(20_000, 1_000) }))
        .await;
    too_many.assert(400, full.clone());
    assert_eq!(count().await, 9_999);

    let last = admin
        .post(&path, &json!({ "user_ids": users(9_500, 500) }))
        .await;
    assert_eq!(
        (last.status, last.body.as_array().unwrap().len()),
        (201, 500)
    );
    assert_eq!(count().await, 10_000);
    admin
        .post(&path, &json!({ "user_ids": ["one-more"] }))
        .await
        .assert(400, full);
    // Who is in it already may be named; who leaves makes room.
    let known = admin
        .post(&path, &json!({ "user_ids": users(9_000, 1_000) }))
        .await;
    assert_eq!(known.status, 201);
    admin.delete(&format!("{path}/user05000")).await;
    let one = admin
        .post(&path, &json!({ "user_ids": ["one-more"] }))
        .await;
    assert_eq!(one.status, 201);
    assert_eq!(count().await, 10_000);
}

#[tokio::test]
async fn a_thousand_and_one_members_are_not_added_at_once() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice"]).await;
    let path = format!("/rooms/{room}/members");
    let alice = tenant.user("alice");

    let over = alice
        .post(&path, &json!({ "user_ids": users(0, 1_001) }))
        .await;

    over.assert_error(400, "VALIDATION_ERROR", Some("user_ids"));
    assert_eq!(column(&alice.get(&path).await, "user_id"), ["alice"]);
}
