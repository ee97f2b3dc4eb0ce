//! Notifications and the subscriptions to their topics.

use aws_sdk_dynamodb::types::AttributeValue;
use axum::http::Method;
use serde_json::{Value, json};

use super::{assert_time, events, item, s, text};
use crate::support::{Tenant, tenant};

/// The stored item of a notification.
async fn stored(tenant: &Tenant, id: &str) -> super::Item {
    item(&tenant.world, "Events", format!("{}#{id}", tenant.id))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_notification_is_accepted_and_stored_with_its_targets() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let body = format!(
        r#"{{"topic": "order.shipped",
            "payload": {{"order_id": "12345",  "weight": 1.50}},
            "targets": {{"user_ids": ["user2", "user1", "user2"], "room_id": "{room}", "topic_subscribers": true}}}}"#
    );

    let told = tenant
        .user("alice")
        .send(Method::POST, "/notify", body)
        .await;

    told.assert(
        202,
        json!({
            "notification_id": told.body["notification_id"],
            "created_at": told.body["created_at"],
        }),
    );
    assert!(told.text("notification_id").starts_with("notif_"));
    assert_time(&told.body["created_at"]);
    let mut item = stored(&tenant, &told.text("notification_id")).await;
    assert!(item.remove("ttl").is_some());
    let expected = [
        ("v", AttributeValue::N("1".to_owned())),
        (
            "pk",
            s(format!("{}#{}", tenant.id, told.text("notification_id"))),
        ),
        ("kind", s("notification")),
        ("at", s(told.text("created_at"))),
        ("actor", s("alice")),
        ("topic", s("order.shipped")),
        ("payload", s(r#"{"order_id": "12345",  "weight": 1.50}"#)),
        ("users", AttributeValue::L(vec![s("user1"), s("user2")])),
        ("room", s(room)),
        ("topic_subscribers", s("yes")),
    ];
    assert_eq!(
        item,
        expected
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    );
}

#[tokio::test]
async fn one_kind_of_target_is_enough() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice"]).await;
    let targets = [
        json!({ "user_ids": ["bob"] }),
        json!({ "room_id": room }),
        json!({ "topic_subscribers": true }),
        json!({ "user_ids": null, "room_id": null, "topic_subscribers": true }),
    ];
    for targets in targets {
        let body = json!({ "topic": "t", "payload": {}, "targets": targets });
        let told = tenant.user("alice").post("/notify", &body).await;
        assert_eq!(told.status, 202, "{targets}: {}", told.raw);
    }
    assert_eq!(events(&tenant).await["notification"], 4);
}

#[tokio::test]
async fn who_is_not_in_the_room_notifies_nobody() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice"]).await;
    let other = crate::support::tenant().await;
    let body = json!({
        "topic": "t",
        "payload": {},
        "targets": { "room_id": room, "user_ids": ["alice"] },
    });

    let stranger = tenant.user("mallory").post("/notify", &body).await;
    stranger.assert_error(403, "AUTHORIZATION_ERROR", None);
    let foreigner = other.user("alice").post("/notify", &body).await;
    foreigner.assert_error(404, "NOT_FOUND", None);

    assert!(!events(&tenant).await.contains_key("notification"));
    assert!(events(&other).await.is_empty());
}

#[tokio::test]
async fn a_subscription_is_created_and_listed() {
    let tenant = tenant().await;
    let alice = tenant.user("alice");

    let made = alice
        .post("/subscriptions", &json!({ "topic": "order.shipped" }))
        .await;

    made.assert(
        201,
        json!({
            "id": made.body["id"],
            "subscriber_id": "alice",
            "topic": "order.shipped",
            "created_at": made.body["created_at"],
        }),
    );
    assert_time(&made.body["created_at"]);
    let list = alice.get("/subscriptions").await;
    list.assert(200, json!({ "subscriptions": [made.body] }));
}

#[tokio::test]
async fn subscribing_twice_is_one_subscription() {
    let tenant = tenant().await;
    let alice = tenant.user("alice");
    let body = json!({ "topic": "a#b:c%/é" });
    let first = alice.post("/subscriptions", &body).await;

    let second = alice.post("/subscriptions", &body).await;

    second.assert(201, first.body.clone());
    let list = alice.get("/subscriptions").await;
    list.assert(200, json!({ "subscriptions": [first.body] }));
}

#[tokio::test]
async fn everyone_has_their_own_subscriptions() {
    let tenant = tenant().await;
    let (alice, bob) = (tenant.user("alice"), tenant.user("bob"));
    let body = json!({ "topic": "t" });
    let made = alice.post("/subscriptions", &body).await;
    let path = format!("/subscriptions/{}", made.text("id"));

    bob.get("/subscriptions")
        .await
        .assert(200, json!({ "subscriptions": [] }));
    bob.delete(&path).await.assert_error(404, "NOT_FOUND", None);
    let other = crate::support::tenant().await.user("alice");
    other
        .get("/subscriptions")
        .await
        .assert(200, json!({ "subscriptions": [] }));
    other
        .delete(&path)
        .await
        .assert_error(404, "NOT_FOUND", None);
    assert_ne!(
        bob.post("/subscriptions", &body).await.text("id"),
        made.text("id")
    );
}

#[tokio::test]
async fn an_ended_subscription_is_gone_and_may_begin_again() {
    let tenant = tenant().await;
    let alice = tenant.user("alice");
    let body = json!({ "topic": "t" });
    let path = format!(
        "/subscriptions/{}",
        alice.post("/subscriptions", &body).await.text("id")
    );

    let ended = alice.delete(&path).await;

    assert_eq!((ended.status, ended.raw.as_str()), (204, ""));
    alice
        .delete(&path)
        .await
        .assert_error(404, "NOT_FOUND", None);
    alice
        .get("/subscriptions")
        .await
        .assert(200, json!({ "subscriptions": [] }));
    let left = super::scan(&tenant.world, "Tenants").await;
    // Beside that its key was used.
    let noted = format!("{}#keys", tenant.id);
    let left = left.iter().map(|item| text(item, "pk"));
    let left = left.filter(|pk| pk.starts_with(&tenant.id) && *pk != noted);
    assert_eq!(left.count(), 0);
    assert_eq!(alice.post("/subscriptions", &body).await.status, 201);
}

#[tokio::test]
async fn a_list_of_subscriptions_is_walked_by_its_links() {
    let tenant = tenant().await;
    let alice = tenant.user("alice");
    for number in 0..7 {
        alice
            .post(
                "/subscriptions",
                &json!({ "topic": format!("topic{number}") }),
            )
            .await;
    }
    let mut topics: Vec<Value> = Vec::new();
    let mut next = Some("/subscriptions?limit=3".to_owned());
    while let Some(path) = next {
        let page = alice.get(&path).await;
        let list = page.body["subscriptions"].as_array().unwrap();
        topics.extend(list.iter().map(|one| one["topic"].clone()));
        next = page.next();
    }
    topics.sort_by_key(ToString::to_string);
    let expected: Vec<_> = (0..7)
        .map(|number| json!(format!("topic{number}")))
        .collect();
    assert_eq!(topics, expected);
}
