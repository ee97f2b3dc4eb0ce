//! Acks and unread counts while others ack and send.

use std::time::Duration;

use serde_json::json;
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::{Dice, insist, process, quiet_tenant, say};
use crate::support::{Client, Response, Tenant, faults::storm};

async fn ack(client: &Client, room: &str, seq: u64) -> Response {
    let body = json!({ "room_id": room, "seq": seq });
    insist(|| client.post("/acks", &body)).await
}

/// Last seq and unread count, as the room shows them.
async fn counts(client: &Client, room: &str) -> (u64, u64) {
    let path = format!("/rooms/{room}");
    let shown = insist(|| client.get(&path)).await;
    let count = |name: &str| shown.body[name].as_u64().expect("a count, never negative");
    (count("last_seq"), count("unread_count"))
}

async fn room_of(tenant: &Tenant, messages: u64) -> String {
    let room = tenant.group(&["alice", "bob"]).await;
    for _ in 0..messages {
        assert_eq!(say(&tenant.user("bob"), &room, "hi").await.status, 200);
    }
    room
}

#[tokio::test(start_paused = true)]
async fn acks_of_several_processes_in_a_storm_only_move_forward() {
    let tenant = quiet_tenant().await;
    let room = room_of(&tenant, 60).await;
    let mut acking = JoinSet::new();
    for number in 0..4 {
        let tenant = tenant.at(&process(storm(500 + number, 5)).await);
        for task in 0..2 {
            let (alice, room) = (tenant.user("alice"), room.clone());
            acking.spawn(async move {
                let mut dice = Dice(10 * number + task);
                let mut highest = 0;
                for _ in 0..20 {
                    let seq = dice.roll(60) + 1;
                    assert_eq!(ack(&alice, &room, seq).await.status, 200);
                    highest = highest.max(seq);
                    // What was acknowledged once stays acknowledged.
                    assert!(counts(&alice, &room).await.1 <= 60 - highest);
                }
                highest
            });
        }
    }
    let (done, mut watched) = watch::channel(false);
    let watching = tokio::spawn({
        let (alice, room) = (tenant.user("alice"), room.clone());
        async move {
            let mut unread = 60;
            while !*watched.borrow() {
                let (last, now) = counts(&alice, &room).await;
                assert_eq!(last, 60);
                assert!(now <= unread, "{unread} unread, then {now}");
                unread = now;
                // Lets a paused clock move: everybody else may be waiting to try again.
                let ended = watched.wait_for(|done| *done);
                drop(timeout(Duration::from_millis(5), ended).await);
            }
        }
    });
    let highest = acking.join_all().await.into_iter().max().unwrap();
    done.send(true).unwrap();
    watching.await.unwrap();

    assert_eq!(
        counts(&tenant.user("alice"), &room).await,
        (60, 60 - highest)
    );
}

#[tokio::test(start_paused = true)]
async fn unread_is_never_negative_while_messages_are_sent_and_acked() {
    let tenant = quiet_tenant().await;
    let room = room_of(&tenant, 1).await;
    let mut tasks = JoinSet::new();
    for number in 0..3 {
        let tenant = tenant.at(&process(storm(600 + number, 8)).await);
        let (alice, bob) = (tenant.user("alice"), tenant.user("bob"));
        let room = room.clone();
        tasks.spawn(async move {
            for _ in 0..15 {
                insist(|| say(&bob, &room, "hi")).await;
                let (last, unread) = counts(&alice, &room).await;
                assert!(unread <= last, "{unread} of {last} unread");
                assert_eq!(ack(&alice, &room, last).await.status, 200);
                let (newest, unread) = counts(&alice, &room).await;
                assert!(
                    unread <= newest - last,
                    "{unread} unread after an ack of {last}"
                );
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test(start_paused = true)]
async fn an_ack_beyond_the_log_is_refused_whatever_happens_below() {
    let tenant = quiet_tenant().await;
    let room = room_of(&tenant, 3).await;
    let alice = tenant.at(&process(storm(700, 3)).await).user("alice");
    for seq in [4, 5, 1 << 40] {
        let refused = ack(&alice, &room, seq).await;
        refused.assert_error(400, "VALIDATION_ERROR", Some("seq"));
    }
    assert_eq!(counts(&tenant.user("alice"), &room).await, (3, 3));
}
