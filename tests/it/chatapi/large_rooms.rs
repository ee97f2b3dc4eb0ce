//! Rooms that take more than one transaction, made by a process that dies midway. The clock is paused: a
//! request whose store is gone tries for seconds.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde_json::json;

use super::{Item, column, events, partition, s, send, text, walk};
use crate::support::{
    Response, Tenant,
    faults::{Fault, always, faulty, script},
    tenant,
};

const KEY: &str = "the-large-room";

fn users() -> Vec<String> {
    (0..1_000)
        .map(|number| format!("user{number:04}"))
        .collect()
}

/// Asks for a room of 1,000 members.
async fn create(tenant: &Tenant) -> Response {
    let body = json!({ "type": "channel", "members": users(), "name": "all" });
    let creator = tenant.user("user0000").with("idempotency-key", KEY);
    creator.post("/rooms", &body).await
}

/// The tenant, served by a process whose store is gone after `n` transactions.
fn dying(tenant: &Tenant, n: u64) -> Tenant {
    let done = AtomicU64::new(0);
    let plan = move |operation: &str, _| {
        let is_one = operation == "TransactWriteItems";
        if done.fetch_add(is_one.into(), Ordering::SeqCst) < n {
            Fault::Pass
        } else {
            Fault::LoseRequest
        }
    };
    tenant.at(&tenant
        .world
        .another(|client| faulty(client, Arc::new(plan))))
}

/// The items of the one room that the creator is in.
async fn items(tenant: &Tenant) -> Vec<Item> {
    let index = tenant
        .world
        .dynamodb
        .query()
        .table_name("Rooms")
        .index_name("by_user")
        .key_condition_expression("user_key = :user")
        .expression_attribute_values(":user", s(format!("{}#user0000", tenant.id)))
        .send()
        .await
        .unwrap();
    assert_eq!(index.items().len(), 1);
    partition(
        &tenant.world,
        "Rooms",
        text(&index.items()[0], "pk").to_owned(),
    )
    .await
}

/// A tenant with a room of which a process that died has written only a part, and the room's id.
async fn half_made() -> (Tenant, String) {
    let tenant = tenant().await;
    let dead = create(&dying(&tenant, 5)).await;
    dead.assert_error(503, "SERVICE_UNAVAILABLE", None);
    assert!(dead.header("retry-after").is_some());
    let items = items(&tenant).await;
    assert!((100..1_000).contains(&items.len()), "{} items", items.len());
    let head = items
        .iter()
        .find(|item| text(item, "sk") == "HEAD")
        .unwrap();
    assert!(head.contains_key("creating"));
    let (_, room) = text(head, "pk").split_once('#').unwrap();
    (tenant, room.to_owned())
}

/// Fails unless the room has all its members, is ready, and was told of once.
async fn assert_whole(tenant: &Tenant, room: &str) {
    let items = items(tenant).await;
    assert_eq!(items.len(), 1_001);
    assert!(items.iter().all(|item| !item.contains_key("creating")));
    let path = format!("/rooms/{room}/members?limit=100");
    let (walked, _) = walk(&tenant.user("user0999"), &path, "user_id").await;
    assert_eq!(walked, users());
    assert_eq!(
        column(&tenant.user("user0500").get("/rooms").await, "room_id"),
        [room]
    );
    assert_eq!(events(tenant).await["room.created"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_room_in_the_making_is_not_listed() {
    let (tenant, _) = half_made().await;
    for user in ["user0000", "user0001", "user0999"] {
        tenant.user(user).get("/rooms").await.assert(200, json!([]));
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_request_completes_a_room_and_answers_for_it() {
    let (tenant, room) = half_made().await;

    let again = create(&tenant).await;

    again.assert(
        201,
        json!({
            "room_id": room,
            "type": "channel",
            "unique_key": null,
            "name": "all",
            "last_seq": 0,
            "created_at": again.body["created_at"],
        }),
    );
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_whole(&tenant, &room).await;
    assert_eq!(create(&tenant).await.raw, again.raw);
}

#[tokio::test(start_paused = true)]
async fn reading_a_room_completes_it() {
    let (tenant, room) = half_made().await;
    let seen = tenant.user("user0999").get(&format!("/rooms/{room}")).await;
    assert_eq!((seen.status, &seen.body["name"]), (200, &json!("all")));
    assert_whole(&tenant, &room).await;
}

#[tokio::test(start_paused = true)]
async fn a_members_send_completes_a_room() {
    let (tenant, room) = half_made().await;
    assert_eq!(
        send(&tenant.user("user0999"), &room, "hi").await.body["seq"],
        1
    );
    assert_whole(&tenant, &room).await;
}

#[tokio::test(start_paused = true)]
async fn listing_the_members_completes_a_room() {
    let (tenant, room) = half_made().await;
    let page = tenant
        .user("user0000")
        .get(&format!("/rooms/{room}/members?limit=100"))
        .await;
    assert_eq!(column(&page, "user_id"), users()[..100]);
    assert_whole(&tenant, &room).await;
}

#[tokio::test(start_paused = true)]
async fn acks_and_notifications_complete_a_room() {
    let (tenant, room) = half_made().await;
    let acked = tenant
        .user("user0999")
        .post("/acks", &json!({ "room_id": room, "seq": 0 }))
        .await;
    acked.assert(200, json!({ "success": true }));
    assert_whole(&tenant, &room).await;

    let (tenant, room) = half_made().await;
    let body = json!({ "topic": "t", "payload": {}, "targets": { "room_id": room } });
    assert_eq!(
        tenant.user("user0999").post("/notify", &body).await.status,
        202
    );
    assert_whole(&tenant, &room).await;
}

#[tokio::test(start_paused = true)]
async fn adding_and_removing_members_complete_a_room_first() {
    let (tenant, room) = half_made().await;
    let admin = tenant.user("user0000");
    let path = format!("/rooms/{room}/members");

    let removed = admin.delete(&format!("{path}/user0998")).await;
    assert_eq!(removed.status, 204, "{}", removed.raw);
    let added = admin
        .post(&path, &json!({ "user_ids": ["user0998"] }))
        .await;
    assert_eq!(added.status, 201, "{}", added.raw);

    assert_whole(&tenant, &room).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_to_add_members_that_died_is_finished_by_the_same_request() {
    let tenant = tenant().await;
    let room = tenant.group(&["user0000"]).await;
    let path = format!("/rooms/{room}/members");
    let body = json!({ "user_ids": users()[..300] });
    let add = async |tenant: &Tenant| {
        let admin = tenant.user("user0000").with("idempotency-key", KEY);
        admin.post(&path, &body).await
    };
    // The first batch takes two: one of it is a member already.
    let dead = add(&dying(&tenant, 3)).await;
    dead.assert_error(503, "SERVICE_UNAVAILABLE", None);
    assert_eq!(items(&tenant).await.len(), 181);

    let again = add(&tenant).await;

    assert_eq!(
        (again.status, again.header("idempotent-replayed")),
        (201, None)
    );
    let added = again.body.as_array().unwrap();
    let added: Vec<_> = added.iter().map(|place| place["user_id"].clone()).collect();
    assert_eq!(added, users()[..300]);
    let items = items(&tenant).await;
    assert_eq!(items.len(), 301);
    let head = items
        .iter()
        .find(|item| text(item, "sk") == "HEAD")
        .unwrap();
    assert_eq!(head["members"].as_n().unwrap(), "300");
    let replay = add(&tenant).await;
    assert_eq!(
        (replay.header("idempotent-replayed"), &replay.raw),
        (Some("true"), &again.raw)
    );
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_refused_in_a_room_in_the_making() {
    let (tenant, room) = half_made().await;
    let stranger = tenant.user("mallory").get(&format!("/rooms/{room}")).await;
    stranger.assert_error(403, "AUTHORIZATION_ERROR", None);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_before_the_first_write_leaves_nothing() {
    let tenant = tenant().await;
    let plan = always("TransactWriteItems", Fault::Throttle);
    let world = tenant.world.another(|client| faulty(client, plan));
    let refused = create(&tenant.at(&world)).await;
    assert_eq!(refused.status, 503, "{}", refused.raw);

    tenant
        .user("user0000")
        .get("/rooms")
        .await
        .assert(200, json!([]));
    assert_eq!(events(&tenant).await.len(), 0);
    let made = create(&tenant).await;
    assert_eq!(
        (made.status, made.header("idempotent-replayed")),
        (201, None)
    );
    assert_whole(&tenant, &made.text("room_id")).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_makes_no_second_room() {
    let tenant = tenant().await;
    let plan = script("TransactWriteItems", [Fault::LoseAnswer]);
    let world = tenant.world.another(|client| faulty(client, plan));

    let made = create(&tenant.at(&world)).await;

    assert_eq!(made.status, 201, "{}", made.raw);
    assert_eq!(made.header("idempotent-replayed"), None);
    assert_whole(&tenant, &made.text("room_id")).await;
}
