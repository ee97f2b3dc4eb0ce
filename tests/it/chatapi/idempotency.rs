//! A request sent again does nothing again.

use aws_sdk_dynamodb::types::AttributeValue;
use axum::http::Method;
use serde_json::{Value, json};

use super::{column, events, scan, text};
use crate::support::{Client, Response, Tenant, tenant};

fn keyed(client: Client, key: &str) -> Client {
    client.with("idempotency-key", key)
}

/// Fails unless `again` is `first`, said again.
#[track_caller]
fn assert_replay(first: &Response, again: &Response) {
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(
        again.header("idempotent-replayed"),
        Some("true"),
        "{}",
        again.raw
    );
    assert_eq!((again.status, &again.raw), (first.status, &first.raw));
}

#[track_caller]
fn assert_used(answer: &Response) {
    answer.assert(
        409,
        json!({
            "success": false,
            "error": {
                "code": "CONFLICT",
                "message": "This Idempotency-Key was used for another request",
            },
        }),
    );
    assert_eq!(answer.header("idempotent-replayed"), None);
}

/// A tenant with a room of alice (admin) and bob.
async fn stage() -> (Tenant, String) {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    (tenant, room)
}

#[tokio::test]
async fn every_post_that_creates_is_replayed_and_refuses_another_body() {
    let (tenant, room) = stage().await;
    let cases = [
        (
            "/rooms".to_owned(),
            json!({ "type": "group", "members": ["bob"], "name": "a" }),
            json!({ "type": "group", "members": ["bob"], "name": "b" }),
        ),
        (
            "/rooms".to_owned(),
            json!({ "type": "dm", "members": ["alice", "bob"] }),
            json!({ "type": "dm", "members": ["alice", "carol"] }),
        ),
        (
            format!("/rooms/{room}/messages"),
            json!({ "content": "a", "meta": { "n": 1 } }),
            json!({ "content": "a", "meta": { "n": 2 } }),
        ),
        (
            format!("/rooms/{room}/members"),
            json!({ "user_ids": ["carol", "bob"] }),
            json!({ "user_ids": ["carol"] }),
        ),
        (
            "/notify".to_owned(),
            json!({ "topic": "t", "payload": {}, "targets": { "room_id": room } }),
            json!({ "topic": "t", "payload": { "a": 1 }, "targets": { "room_id": room } }),
        ),
        (
            "/notify".to_owned(),
            json!({ "topic": "t", "payload": {}, "targets": { "user_ids": ["bob"] } }),
            json!({ "topic": "t", "payload": {}, "targets": { "user_ids": ["carol"] } }),
        ),
        (
            "/subscriptions".to_owned(),
            json!({ "topic": "t" }),
            json!({ "topic": "u" }),
        ),
    ];
    for (number, (path, body, other)) in cases.iter().enumerate() {
        let client = keyed(tenant.user("alice"), &format!("key-{number}"));
        let first = client.post(path, body).await;
        assert!(
            [200, 201, 202].contains(&first.status),
            "{path} {}",
            first.raw
        );
        let (rooms, written) = (client.get("/rooms").await.body, events(&tenant).await);

        assert_replay(&first, &client.post(path, body).await);
        assert_replay(&first, &client.post(path, body).await);
        let elsewhere = tenant.at(&tenant.world.another(|client| client));
        let there = keyed(elsewhere.user("alice"), &format!("key-{number}"));
        assert_replay(&first, &there.post(path, body).await);
        assert_used(&client.post(path, other).await);
        // The same JSON with more white space is the same body.
        let spaced = format!(" {body}\n");
        assert_replay(&first, &client.send(Method::POST, path, spaced).await);

        assert_eq!(client.get("/rooms").await.body, rooms);
        assert_eq!(events(&tenant).await, written, "{path}");
    }
    let log = tenant
        .user("alice")
        .get(&format!("/rooms/{room}/messages"))
        .await;
    assert_eq!(column(&log, "seq"), [1]);
}

#[tokio::test]
async fn two_users_may_use_one_key() {
    let (tenant, room) = stage().await;
    let path = format!("/rooms/{room}/messages");
    for (user, content, seq) in [
        ("alice", "a", 1),
        ("bob", "b", 2),
        ("alice", "a", 1),
        ("bob", "b", 2),
    ] {
        let client = keyed(tenant.user(user), "same");
        let sent = client.post(&path, &json!({ "content": content })).await;
        assert_eq!((sent.status, &sent.body["seq"]), (200, &json!(seq)));
    }
}

#[tokio::test]
async fn two_tenants_may_use_one_key() {
    for _ in 0..2 {
        let (tenant, room) = stage().await;
        let client = keyed(tenant.user("alice"), "same-in-two-tenants");
        let sent = client
            .post(
                &format!("/rooms/{room}/messages"),
                &json!({ "content": room }),
            )
            .await;
        assert_eq!(
            (sent.status, sent.header("idempotent-replayed")),
            (200, None)
        );
    }
}

#[tokio::test]
async fn one_key_may_be_used_for_different_operations() {
    let (tenant, room) = stage().await;
    let client = keyed(tenant.user("alice"), "same");
    let sent = client
        .post(
            &format!("/rooms/{room}/messages"),
            &json!({ "content": "a" }),
        )
        .await;
    let subscribed = client
        .post("/subscriptions", &json!({ "topic": "t" }))
        .await;
    assert_eq!((sent.status, subscribed.status), (200, 201));
}

#[tokio::test]
async fn one_key_in_two_rooms_is_used_for_another_request() {
    let (tenant, room) = stage().await;
    let other = tenant.group(&["alice"]).await;
    let client = keyed(tenant.user("alice"), "same");
    let body = json!({ "content": "a" });
    client.post(&format!("/rooms/{room}/messages"), &body).await;

    assert_used(
        &client
            .post(&format!("/rooms/{other}/messages"), &body)
            .await,
    );
    let log = client.get(&format!("/rooms/{other}/messages")).await;
    log.assert(200, json!([]));
}

#[tokio::test]
async fn sixteen_sends_at_once_with_one_key_make_one_message() {
    let (tenant, room) = stage().await;
    let elsewhere = tenant.at(&tenant.world.another(|client| client));
    let path = format!("/rooms/{room}/messages");
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..16 {
        let tenant = [&tenant, &elsewhere][number % 2];
        let (client, path) = (keyed(tenant.user("alice"), "once"), path.clone());
        requests.spawn(async move { client.post(&path, &json!({ "content": "a" })).await });
    }
    let answers = requests.join_all().await;

    let log = tenant.user("bob").get(&path).await;
    assert_eq!(column(&log, "seq"), [1]);
    for answer in &answers {
        assert_eq!(
            (answer.status, &answer.body["message_id"]),
            (200, &log.body[0]["message_id"])
        );
        assert_eq!(answer.body["created_at"], log.body[0]["created_at"]);
    }
    let first = answers
        .iter()
        .filter(|answer| answer.header("idempotent-replayed").is_none());
    assert_eq!(first.count(), 1);
}

#[tokio::test]
async fn eight_rooms_at_once_with_one_key_are_one_room() {
    let tenant = tenant().await;
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let client = keyed(tenant.user("alice"), "once");
        let body = json!({ "type": "group", "members": ["alice", "bob"] });
        requests.spawn(async move { client.post("/rooms", &body).await });
    }
    let answers = requests.join_all().await;

    let ids: std::collections::BTreeSet<_> = answers
        .iter()
        .map(|answer| answer.text("room_id"))
        .collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(events(&tenant).await["room.created"], 1);
}

#[tokio::test]
async fn a_replay_shows_the_first_answer_though_the_room_has_changed() {
    let tenant = tenant().await;
    let client = keyed(tenant.user("alice"), "once");
    let body = json!({ "type": "group", "members": ["alice", "bob"], "name": "before" });
    let first = client.post("/rooms", &body).await;
    let path = format!("/rooms/{}", first.text("room_id"));
    tenant
        .user("alice")
        .patch(&path, &json!({ "name": "after" }))
        .await;
    super::send(&tenant.user("alice"), &first.text("room_id"), "hi").await;

    assert_replay(&first, &client.post("/rooms", &body).await);
}

#[tokio::test]
async fn a_replay_shows_the_first_answer_though_the_message_was_edited() {
    let (tenant, room) = stage().await;
    let client = keyed(tenant.user("alice"), "once");
    let (path, body) = (format!("/rooms/{room}/messages"), json!({ "content": "a" }));
    let first = client.post(&path, &body).await;
    client
        .delete(&format!("{path}/{}", first.text("message_id")))
        .await;

    assert_replay(&first, &client.post(&path, &body).await);
}

#[tokio::test]
async fn a_replay_shows_the_first_answer_though_the_members_have_changed() {
    let (tenant, room) = stage().await;
    let client = keyed(tenant.user("alice"), "once");
    let (path, body) = (
        format!("/rooms/{room}/members"),
        json!({ "user_ids": ["bob", "carol"] }),
    );
    let first = client.post(&path, &body).await;
    tenant.user("alice").delete(&format!("{path}/carol")).await;

    assert_replay(&first, &client.post(&path, &body).await);

    let members = tenant.user("alice").get(&path).await;
    assert_eq!(column(&members, "user_id"), ["alice", "bob"]);
}

#[tokio::test]
async fn a_replay_of_many_members_shows_all_of_them() {
    let (tenant, room) = stage().await;
    let client = keyed(tenant.user("alice"), "once");
    let users: Vec<_> = (0..250).map(|number| format!("user{number:03}")).collect();
    let (path, body) = (
        format!("/rooms/{room}/members"),
        json!({ "user_ids": users }),
    );
    let first = client.post(&path, &body).await;
    assert_eq!(first.body.as_array().unwrap().len(), 250);

    assert_replay(&first, &client.post(&path, &body).await);
}

#[tokio::test]
async fn a_key_remembers_a_subscription_that_existed() {
    let tenant = tenant().await;
    let alice = tenant.user("alice");
    let existing = alice.post("/subscriptions", &json!({ "topic": "t" })).await;
    let client = keyed(alice, "once");
    let first = client
        .post("/subscriptions", &json!({ "topic": "t" }))
        .await;
    assert_eq!(first.body, existing.body);

    assert_used(
        &client
            .post("/subscriptions", &json!({ "topic": "u" }))
            .await,
    );
    assert_replay(
        &first,
        &client
            .post("/subscriptions", &json!({ "topic": "t" }))
            .await,
    );
}

#[tokio::test]
async fn a_refused_request_leaves_its_key_unused() {
    let (tenant, room) = stage().await;
    let client = keyed(tenant.user("alice"), "once");
    let path = format!("/rooms/{room}/messages");
    client
        .post(&path, &json!({ "content": "" }))
        .await
        .assert_error(400, "VALIDATION_ERROR", Some("content"));
    let stranger = keyed(tenant.user("mallory"), "once");
    stranger
        .post(&path, &json!({ "content": "a" }))
        .await
        .assert_error(403, "AUTHORIZATION_ERROR", None);

    let sent = client.post(&path, &json!({ "content": "a" })).await;
    assert_eq!(
        (sent.status, sent.header("idempotent-replayed")),
        (200, None)
    );
    let dm = json!({ "type": "dm", "members": ["alice", "bob"] });
    tenant.user("alice").post("/rooms", &dm).await;
    client
        .post("/rooms", &dm)
        .await
        .assert_error(409, "CONFLICT", None);
    let other = client
        .post("/rooms", &json!({ "type": "group", "members": ["bob"] }))
        .await;
    assert_eq!(other.status, 201);
}

#[tokio::test]
async fn a_secret_is_not_replayed() {
    let (tenant, _) = stage().await;
    let key = format!("secret-{}", tenant.id);
    let operator = || keyed(tenant.world.operator().anew(), &key);
    let shown = json!({
        "success": false,
        "error": {
            "code": "CONFLICT",
            "message": "This Idempotency-Key was used, and its answer held a secret that is shown only once",
        },
    });

    let body = json!({ "name": "once" });
    assert_eq!(operator().post("/admin/tenants", &body).await.status, 201);
    operator()
        .post("/admin/tenants", &body)
        .await
        .assert(409, shown.clone());
    assert_used(
        &operator()
            .post("/admin/tenants", &json!({ "name": "other" }))
            .await,
    );

    let path = format!("/admin/tenants/{}/keys/rotate", tenant.id);
    assert_eq!(operator().post(&path, &json!({})).await.status, 201);
    operator().post(&path, &json!({})).await.assert(409, shown);
    assert_used(&operator().send(Method::POST, &path, "").await);
    let keys = scan(&tenant.world, "Keys").await;
    assert_eq!(
        keys.iter()
            .filter(|one| text(one, "tenant") == tenant.id)
            .count(),
        2
    );
}

#[tokio::test]
async fn tenants_made_at_once_with_one_key_are_one() {
    let world = crate::support::world_over(|client| client).await;
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let client = keyed(world.operator(), "once");
        requests.spawn(async move { client.post("/admin/tenants", &json!({ "name": "a" })).await });
    }
    let answers = requests.join_all().await;

    let made = answers.iter().filter(|answer| answer.status == 201).count();
    let refused = answers.iter().filter(|answer| answer.status == 409).count();
    assert_eq!((made, refused), (1, 7));
    assert_eq!(
        column(&world.operator().get("/admin/tenants").await, "name"),
        ["a"]
    );
}

#[tokio::test]
async fn an_invalid_key_is_refused_and_nothing_is_done() {
    let (tenant, room) = stage().await;
    let bad = ["", " ", "a b", "é", "a\tb", &"x".repeat(256)];
    let paths = [
        (
            "/rooms".to_owned(),
            json!({ "type": "group", "members": ["bob"] }),
        ),
        (format!("/rooms/{room}/messages"), json!({ "content": "a" })),
        (
            format!("/rooms/{room}/members"),
            json!({ "user_ids": ["carol"] }),
        ),
        (
            "/notify".to_owned(),
            json!({ "topic": "t", "payload": {}, "targets": { "user_ids": ["a"] } }),
        ),
        ("/subscriptions".to_owned(), json!({ "topic": "t" })),
        ("/admin/tenants".to_owned(), json!({ "name": "a" })),
        (
            format!("/admin/tenants/{}/keys/rotate", tenant.id),
            Value::Null,
        ),
    ];
    let before = events(&tenant).await;
    for (path, body) in &paths {
        let client = if path.starts_with("/admin") {
            tenant.world.operator().anew()
        } else {
            tenant.user("alice")
        };
        for key in bad {
            let answer = keyed(client.clone(), key).post(path, body).await;
            answer.assert_error(400, "VALIDATION_ERROR", Some("Idempotency-Key"));
        }
        // API Gateway makes one valid key of two.
        if tenant.world.deployed.is_none() {
            let twice = keyed(keyed(client, "one"), "two").post(path, body).await;
            twice.assert_error(400, "VALIDATION_ERROR", Some("Idempotency-Key"));
        }
    }
    assert_eq!(events(&tenant).await, before);
    tenant
        .user("alice")
        .get(&format!("/rooms/{room}/messages"))
        .await
        .assert(200, json!([]));
}

#[tokio::test]
async fn a_key_is_forgotten_when_its_day_is_over() {
    let (tenant, room) = stage().await;
    let client = keyed(tenant.user("alice"), "once");
    let requests = [
        (format!("/rooms/{room}/messages"), json!({ "content": "a" })),
        (
            format!("/rooms/{room}/members"),
            json!({ "user_ids": ["carol"] }),
        ),
        (
            "/rooms".to_owned(),
            json!({ "type": "group", "members": ["bob"] }),
        ),
    ];
    for (path, body) in &requests {
        client.post(path, body).await;
    }
    let mut forgotten = 0;
    for marker in scan(&tenant.world, "Guards").await {
        let pk = text(&marker, "pk").to_owned();
        if pk.starts_with(&format!("{}#once#", tenant.id)) {
            let past = AttributeValue::N("1765627200".to_owned());
            let put = tenant.world.dynamodb.put_item().table_name("Guards");
            let put = put.set_item(Some(marker)).item("ttl", past);
            put.send().await.unwrap();
            forgotten += 1;
        }
    }
    assert_eq!(forgotten, requests.len());

    for (path, body) in &requests {
        let again = client.post(path, body).await;
        assert!(again.status < 300, "{}", again.raw);
        assert_eq!(again.header("idempotent-replayed"), None, "{path}");
        let replay = client.post(path, body).await;
        assert_replay(&again, &replay);
    }
    let log = client.get(&requests[0].0).await;
    assert_eq!(column(&log, "seq"), [1, 2]);
}

#[tokio::test]
async fn the_longest_and_the_oddest_key_work() {
    let (tenant, room) = stage().await;
    let path = format!("/rooms/{room}/messages");
    let longest = "k".repeat(255);
    for (seq, key) in [longest.as_str(), "a#b", "a%23b", "a:b", "/", "\"{}\""]
        .into_iter()
        .enumerate()
    {
        let client = keyed(tenant.user("alice"), key);
        for _ in 0..2 {
            let sent = client.post(&path, &json!({ "content": "a" })).await;
            assert_eq!(sent.body["seq"], seq + 1, "{key}");
        }
    }
}

#[tokio::test]
async fn a_send_repeated_by_someone_who_left_is_answered_as_it_was() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let bob = tenant.user("bob").with("idempotency-key", "once");
    let path = format!("/rooms/{room}/messages");
    let body = json!({ "content": "hi" });
    let first = bob.post(&path, &body).await;
    let left = tenant
        .user("bob")
        .delete(&format!("/rooms/{room}/members/bob"))
        .await;
    assert_eq!((first.status, left.status), (200, 204));

    let again = bob.post(&path, &body).await;

    again.assert(200, first.body);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let new = tenant.user("bob").with("idempotency-key", "twice");
    new.post(&path, &body)
        .await
        .assert_error(403, "AUTHORIZATION_ERROR", None);
}
