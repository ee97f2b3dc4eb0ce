//! How far each member has received a room.

use serde_json::json;

use super::send;
use crate::support::{Client, Response, tenant};

async fn ack(client: &Client, room: &str, seq: u64) -> Response {
    client
        .post("/acks", &json!({ "room_id": room, "seq": seq }))
        .await
}

async fn unread(client: &Client, room: &str) -> u64 {
    let room = client.get(&format!("/rooms/{room}")).await;
    room.body["unread_count"].as_u64().unwrap()
}

#[tokio::test]
async fn an_ack_is_answered_as_the_seed_shows() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let alice = tenant.user("alice");
    send(&alice, &room, "one").await;

    ack(&alice, &room, 1)
        .await
        .assert(200, json!({ "success": true }));

    assert_eq!(unread(&alice, &room).await, 0);
}

#[tokio::test]
async fn an_ack_counts_for_its_sender_alone() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let (alice, bob) = (tenant.user("alice"), tenant.user("bob"));
    send(&alice, &room, "one").await;
    ack(&alice, &room, 1).await;

    assert_eq!(unread(&bob, &room).await, 1);
}

#[tokio::test]
async fn an_ack_never_moves_back() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice"]).await;
    let alice = tenant.user("alice");
    for content in ["one", "two", "three"] {
        send(&alice, &room, content).await;
    }
    ack(&alice, &room, 2).await;

    for older in [0, 1, 2] {
        ack(&alice, &room, older)
            .await
            .assert(200, json!({ "success": true }));
        assert_eq!(unread(&alice, &room).await, 1);
    }
}

#[tokio::test]
async fn an_ack_beyond_the_last_message_is_refused() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice"]).await;
    let alice = tenant.user("alice");
    ack(&alice, &room, 1)
        .await
        .assert_error(400, "VALIDATION_ERROR", Some("seq"));
    send(&alice, &room, "one").await;

    ack(&alice, &room, 2).await.assert(
        400,
        json!({
            "success": false,
            "error": {
                "code": "VALIDATION_ERROR",
                "message": "Invalid seq. It is beyond the last message of the room",
                "field": "seq",
            },
        }),
    );

    assert_eq!(unread(&alice, &room).await, 1);
    ack(&alice, &room, u64::MAX >> 1)
        .await
        .assert_error(400, "VALIDATION_ERROR", Some("seq"));
}

#[tokio::test]
async fn an_ack_of_nothing_succeeds_in_an_empty_room() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice"]).await;
    ack(&tenant.user("alice"), &room, 0)
        .await
        .assert(200, json!({ "success": true }));
}

#[tokio::test]
async fn a_stranger_learns_nothing_from_an_ack() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice"]).await;
    send(&tenant.user("alice"), &room, "one").await;
    let other = crate::support::tenant().await;

    for seq in [0, 1, 2] {
        ack(&tenant.user("mallory"), &room, seq).await.assert_error(
            403,
            "AUTHORIZATION_ERROR",
            None,
        );
        ack(&other.user("alice"), &room, seq)
            .await
            .assert_error(404, "NOT_FOUND", None);
    }
    let unknown = ack(&tenant.user("alice"), "room_nope", 1).await;
    unknown.assert_error(404, "NOT_FOUND", None);
}

#[tokio::test]
async fn another_process_sees_an_ack_and_a_message_at_once() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice"]).await;
    let there = tenant.at(&tenant.world.another(|client| client));
    assert_eq!(unread(&there.user("alice"), &room).await, 0);
    send(&tenant.user("alice"), &room, "one").await;

    let acked = ack(&there.user("alice"), &room, 1).await;

    acked.assert(200, json!({ "success": true }));
    assert_eq!(unread(&tenant.user("alice"), &room).await, 0);
}
