//! Deliveries that failed for good.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

use super::s;
use crate::support::{Client, Tenant, tenant};

pub(super) const MESSAGE: &str = "msg_00000000002b8d1f9c3e5a7b9d1f3c5e";
pub(super) const ROOM: &str = "room_0193c1a27b0c7f3e8a6d5c4b3a291807";
const EVENT: &str = "evt_0193c1a27b0c7f3e8a6d5c4b3a291807";
pub(super) const NOTIFICATION: &str = "notif_0193c1a27b0c7f3e8a6d5c4b3a291807";

/// Plants a row as `store/deliveries` documents it. The `number`th died `number` seconds after noon.
pub(super) async fn plant(tenant: &Tenant, number: u32, state: &str, subject: &[(&str, &str)]) {
    let id = delivery(number);
    let at = format!(
        "2025-12-13T12:{:02}:{:02}.000000Z",
        number / 60,
        number % 60
    );
    let mut put = tenant
        .world
        .dynamodb
        .put_item()
        .table_name("Deliveries")
        .item("pk", s(format!("{}#{id}", tenant.id)))
        .item("v", AttributeValue::N("1".to_owned()))
        .item("writes", AttributeValue::N("10".to_owned()))
        .item("token", s(format!("{number:032x}")))
        .item("state", s(state))
        .item("attempts", AttributeValue::N("5".to_owned()))
        .item("round", AttributeValue::N("5".to_owned()))
        .item("created_at", s("2025-12-13T11:00:00.000000Z"))
        .item("last_attempt_at", s(&at))
        .item("ended_at", s(&at))
        .item("overdue_at", s(&at))
        .item("error", s("connection timeout"));
    if state == "dead" {
        put = put
            .item("dead_shard", s(format!("{}#{}", tenant.id, number % 4)))
            .item("dead_at", s(format!("{at}#{id}")));
    }
    for (name, value) in subject {
        put = put.item(*name, s(*value));
    }
    put.send().await.unwrap();
}

/// The id of the `number`th.
pub(super) fn delivery(number: u32) -> String {
    format!("dlv_{number:032x}")
}

pub(super) async fn plant_message(tenant: &Tenant, number: u32, user: &str) {
    let what = format!("{ROOM}/{MESSAGE}:created");
    let subject = [
        ("what", what.as_str()),
        ("event", "message.created"),
        ("user", user),
        ("room", ROOM),
    ];
    plant(tenant, number, "dead", &subject).await;
}

pub(super) async fn plant_notification(tenant: &Tenant, number: u32) {
    let subject = [
        ("what", NOTIFICATION),
        ("event", "notification"),
        ("user", "user1"),
        ("topic", "order.shipped"),
    ];
    plant(tenant, number, "dead", &subject).await;
}

async fn plant_edit(tenant: &Tenant, number: u32) {
    let what = format!("{ROOM}/{MESSAGE}:edited@1765627200000000");
    let subject = [
        ("what", what.as_str()),
        ("event", "message.edited"),
        ("room", ROOM),
    ];
    plant(tenant, number, "dead", &subject).await;
}

async fn plant_event(tenant: &Tenant, number: u32) {
    let subject = [("what", EVENT), ("event", "member.joined"), ("room", ROOM)];
    plant(tenant, number, "dead", &subject).await;
}

pub(super) fn operator(tenant: &Tenant) -> Client {
    tenant.world.operator().anew()
}

fn path(tenant: &Tenant) -> String {
    format!("/admin/dead-letters?tenant_id={}", tenant.id)
}

#[tokio::test]
async fn dead_letters_are_shown_as_the_seed_shows_and_with_what_it_does_not_know() {
    let tenant = tenant().await;
    plant_message(&tenant, 1, "user1").await;
    plant_notification(&tenant, 2).await;
    plant_edit(&tenant, 3).await;
    plant_event(&tenant, 4).await;

    let letters = operator(&tenant).get(&path(&tenant)).await;

    letters.assert(
        200,
        json!({
            "failed_messages": [{
                "delivery_id": delivery(1),
                "message_id": MESSAGE,
                "user_id": "user1",
                "room_id": ROOM,
                "attempts": 5,
                "last_attempt_at": "2025-12-13T12:00:01.000000Z",
                "error": "connection timeout",
            }],
            "failed_notifications": [{
                "delivery_id": delivery(2),
                "notification_id": NOTIFICATION,
                "user_id": "user1",
                "topic": "order.shipped",
                "attempts": 5,
                "last_attempt_at": "2025-12-13T12:00:02.000000Z",
                "error": "connection timeout",
            }],
            "failed_events": [{
                "delivery_id": delivery(4),
                "event": "member.joined",
                "room_id": ROOM,
                "message_id": null,
                "attempts": 5,
                "last_attempt_at": "2025-12-13T12:00:04.000000Z",
                "error": "connection timeout",
            }, {
                "delivery_id": delivery(3),
                "event": "message.edited",
                "room_id": ROOM,
                "message_id": MESSAGE,
                "attempts": 5,
                "last_attempt_at": "2025-12-13T12:00:03.000000Z",
                "error": "connection timeout",
            }],
        }),
    );
    assert_eq!(letters.next(), None);
}

#[tokio::test]
async fn without_failures_all_lists_are_empty() {
    let tenant = tenant().await;
    let what = format!("{ROOM}/{MESSAGE}:created");
    let alive = [
        ("what", what.as_str()),
        ("event", "message.created"),
        ("user", "u"),
        ("room", ROOM),
    ];
    plant(&tenant, 1, "delivered", &alive).await;

    let letters = operator(&tenant).get(&path(&tenant)).await;

    letters.assert(
        200,
        json!({ "failed_messages": [], "failed_notifications": [], "failed_events": [] }),
    );
}

#[tokio::test]
async fn a_tenant_reads_its_own_dead_letters_and_no_others() {
    let (own, other) = (tenant().await, tenant().await);
    plant_message(&own, 1, "user1").await;
    plant_message(&other, 2, "user2").await;
    let client = own.user("alice");

    let letters = client.get(&path(&own)).await;
    assert_eq!(letters.body["failed_messages"][0]["user_id"], "user1");
    assert_eq!(letters.body["failed_messages"].as_array().unwrap().len(), 1);

    client.get(&path(&other)).await.assert(
        403,
        json!({
            "success": false,
            "error": { "code": "AUTHORIZATION_ERROR", "message": "This key belongs to another tenant" },
        }),
    );
}

#[tokio::test]
async fn the_tenant_must_be_named() {
    let tenant = tenant().await;
    for client in [operator(&tenant), tenant.user("alice")] {
        let missing = client.get("/admin/dead-letters").await;
        missing.assert(
            400,
            json!({
                "success": false,
                "error": {
                    "code": "VALIDATION_ERROR",
                    "message": "Missing tenant_id",
                    "field": "tenant_id",
                },
            }),
        );
        for bad in ["", "tenant_abc", "%00", &tenant.id.to_uppercase()] {
            let answer = client
                .get(&format!("/admin/dead-letters?tenant_id={bad}"))
                .await;
            answer.assert_error(400, "VALIDATION_ERROR", Some("tenant_id"));
        }
    }
}

#[tokio::test]
async fn dead_letters_are_walked_newest_first_by_their_links() {
    let tenant = tenant().await;
    for number in 0..11 {
        plant_message(&tenant, number, &format!("user{number}")).await;
    }
    let (mut users, mut pages): (Vec<Value>, _) = (Vec::new(), 0);
    let mut next = Some(format!("{}&limit=3", path(&tenant)));
    while let Some(path) = next {
        let page = operator(&tenant).get(&path).await;
        let list = page.body["failed_messages"].as_array().unwrap();
        users.extend(list.iter().map(|letter| letter["user_id"].clone()));
        next = page.next();
        pages += 1;
    }
    let newest_first: Vec<_> = (0..11)
        .rev()
        .map(|number| json!(format!("user{number}")))
        .collect();
    assert_eq!(users, newest_first);
    assert_eq!(pages, 4);
}

#[tokio::test]
async fn a_page_of_dead_letters_holds_fifty_or_as_many_as_were_asked_for() {
    let tenant = tenant().await;
    for number in 0..120 {
        plant_message(&tenant, number, "u").await;
    }
    let count = async |query: &str| {
        let page = operator(&tenant)
            .get(&format!("{}{query}", path(&tenant)))
            .await;
        page.body["failed_messages"].as_array().unwrap().len()
    };
    assert_eq!(count("").await, 50);
    assert_eq!(count("&limit=100").await, 100);
    assert_eq!(count("&limit=1000").await, 120);
}

#[tokio::test]
async fn a_bad_limit_or_cursor_of_dead_letters_is_named() {
    let tenant = tenant().await;
    let cases = [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=abc", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=", "cursor"),
        ("cursor=%25", "cursor"),
        // base64url of bytes that are not UTF-8, of an empty object, of NUL.
        ("cursor=__8", "cursor"),
        ("cursor=e30", "cursor"),
        ("cursor=AA", "cursor"),
    ];
    for (query, field) in cases {
        let answer = operator(&tenant)
            .get(&format!("{}&{query}", path(&tenant)))
            .await;
        answer.assert_error(400, "VALIDATION_ERROR", Some(field));
    }
}
