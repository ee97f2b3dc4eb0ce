//! What became of a message or a notification.

use serde_json::{Value, json};

use super::{
    column,
    dead_letters::{delivery, plant},
    send, walk,
};
use crate::support::{Tenant, tenant};

/// A room of alice and bob, and the path of a message in it with three deliveries: to bob, and of two edits.
async fn message(tenant: &Tenant) -> String {
    let room = tenant.group(&["alice", "bob"]).await;
    let id = send(&tenant.user("alice"), &room, "hi")
        .await
        .text("message_id");
    let subject = format!("{}#{id}", tenant.id);
    let row = |what: &str| format!("{room}/{id}:{what}");
    let rows = [
        ("dead", row("created"), "message.created", Some("bob")),
        ("delivered", row("edited@1"), "message.edited", None),
        ("delivered", row("edited@2"), "message.edited", None),
    ];
    for (number, (state, what, event, user)) in (0..).zip(&rows) {
        let mut attributes = vec![
            ("subject", subject.as_str()),
            ("what", what.as_str()),
            ("event", *event),
            ("room", room.as_str()),
        ];
        attributes.extend(user.map(|user| ("user", user)));
        plant(tenant, number, state, &attributes).await;
    }
    format!("/rooms/{room}/messages/{id}/deliveries")
}

#[tokio::test]
async fn the_deliveries_of_a_message_are_shown_to_its_room() {
    let tenant = tenant().await;
    let path = message(&tenant).await;

    let shown = tenant.user("bob").get(&path).await;

    let one = |number: u32, user: Value, event: &str, status: &str| {
        json!({
            "delivery_id": delivery(number),
            "user_id": user,
            "event": event,
            "status": status,
            "attempts": 5,
            "last_attempt_at": format!("2025-12-13T12:00:{number:02}.000000Z"),
            "next_attempt_at": null,
            "error": "connection timeout",
            "webhooks_done": [],
        })
    };
    shown.assert(
        200,
        json!([
            one(0, json!("bob"), "message.created", "dead"),
            one(1, Value::Null, "message.edited", "delivered"),
            one(2, Value::Null, "message.edited", "delivered"),
        ]),
    );
    assert_eq!(shown.next(), None);
}

#[tokio::test]
async fn the_deliveries_of_a_message_are_walked_by_their_links() {
    let tenant = tenant().await;
    let path = message(&tenant).await;
    let alice = tenant.user("alice");
    let (ids, pages) = walk(&alice, &format!("{path}?limit=2"), "delivery_id").await;
    assert_eq!(ids, [0, 1, 2].map(|number| json!(delivery(number))));
    assert_eq!(pages, 2);
    let rest = alice.get(&format!("{path}?offset=2")).await;
    assert_eq!(column(&rest, "delivery_id"), [json!(delivery(2))]);
}

#[tokio::test]
async fn a_message_without_deliveries_has_an_empty_list() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice"]).await;
    let alice = tenant.user("alice");
    let id = send(&alice, &room, "hi").await.text("message_id");
    let path = format!("/rooms/{room}/messages/{id}/deliveries");
    alice.get(&path).await.assert(200, json!([]));
}

#[tokio::test]
async fn deliveries_are_shown_to_members_and_of_messages_of_their_room_alone() {
    let tenant = tenant().await;
    let path = message(&tenant).await;
    let stranger = tenant.user("mallory").get(&path).await;
    stranger.assert_error(403, "AUTHORIZATION_ERROR", None);
    // The same message through a room that mallory is in.
    let own = tenant.group(&["mallory"]).await;
    let (_, message) = path.split_once("/messages/").unwrap();
    let forged = format!("/rooms/{own}/messages/{message}");
    let forged = tenant.user("mallory").get(&forged).await;
    forged.assert_error(404, "NOT_FOUND", None);
}

/// A notification of alice's with so many deliveries; its path.
async fn notification(tenant: &Tenant, deliveries: u32) -> (String, Value) {
    let body = json!({
        "topic": "order.shipped",
        "payload": {},
        "targets": { "user_ids": ["bob"] },
    });
    let sent = tenant.user("alice").post("/notify", &body).await;
    let id = sent.text("notification_id");
    let subject = format!("{}#{id}", tenant.id);
    for number in 0..deliveries {
        let user = format!("user{number}");
        let attributes = [
            ("subject", subject.as_str()),
            ("what", id.as_str()),
            ("event", "notification"),
            ("user", user.as_str()),
            ("topic", "order.shipped"),
            ("until", "2025-12-13T12:30:00.000000Z"),
        ];
        plant(tenant, number, "parked", &attributes).await;
    }
    (format!("/notifications/{id}"), sent.body)
}

#[tokio::test]
async fn a_notification_is_shown_with_its_deliveries_to_its_sender() {
    let tenant = tenant().await;
    let (path, sent) = notification(&tenant, 1).await;

    let shown = tenant.user("alice").get(&path).await;

    shown.assert(
        200,
        json!({
            "notification_id": sent["notification_id"],
            "topic": "order.shipped",
            "created_at": sent["created_at"],
            "deliveries": [{
                "delivery_id": delivery(0),
                "user_id": "user0",
                "event": "notification",
                "status": "waiting",
                "attempts": 5,
                "last_attempt_at": "2025-12-13T12:00:00.000000Z",
                "next_attempt_at": "2025-12-13T12:30:00.000000Z",
                "error": "connection timeout",
                "webhooks_done": [],
            }],
        }),
    );
}

#[tokio::test]
async fn the_deliveries_of_a_notification_are_walked_by_their_links() {
    let tenant = tenant().await;
    let (path, _) = notification(&tenant, 5).await;
    let (mut users, mut next) = (Vec::new(), Some(format!("{path}?limit=2")));
    while let Some(path) = next {
        let page = tenant.user("alice").get(&path).await;
        let list = page.body["deliveries"].as_array().unwrap();
        users.extend(list.iter().map(|delivery| delivery["user_id"].clone()));
        next = page.next();
    }
    let all: Vec<_> = (0..5)
        .map(|number| json!(format!("user{number}")))
        .collect();
    assert_eq!(users, all);
}

#[tokio::test]
async fn a_notification_of_somebody_else_is_not_found() {
    let (tenant, other) = (tenant().await, tenant().await);
    let (path, _) = notification(&tenant, 0).await;
    for client in [tenant.user("bob"), other.user("alice")] {
        client.get(&path).await.assert(
            404,
            json!({
                "success": false,
                "error": { "code": "NOT_FOUND", "message": "Notification not found" },
            }),
        );
    }
    for unknown in ["notif_1", &format!("notif_{:032x}", 9)] {
        let path = format!("/notifications/{unknown}");
        let answer = tenant.user("alice").get(&path).await;
        answer.assert_error(404, "NOT_FOUND", None);
    }
}

#[tokio::test]
async fn a_bad_page_of_deliveries_is_named() {
    let tenant = tenant().await;
    let (notification, _) = notification(&tenant, 0).await;
    for path in [message(&tenant).await, notification] {
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("offset=1001", "offset"),
            ("cursor=AA", "cursor"),
        ] {
            let answer = tenant.user("alice").get(&format!("{path}?{query}")).await;
            answer.assert_error(400, "VALIDATION_ERROR", Some(field));
        }
    }
}
