//! One key, many requests at once.

use std::collections::HashSet;

use tokio::task::JoinSet;

use super::{acknowledged, insist, log, process, quiet_tenant, say};
use crate::support::{
    Response,
    faults::{Plan, calm, storm},
};

/// 16 requests with one key in each of two processes, whose contents `content` words. Gives what they were
/// told and what the log holds.
async fn at_once(
    plan: impl Fn(u64) -> Plan,
    content: impl Fn(usize) -> &'static str,
) -> (Vec<Response>, Vec<String>) {
    let tenant = quiet_tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let mut sending = JoinSet::new();
    for number in 0..2 {
        let tenant = tenant.at(&process(plan(number)).await);
        for index in 0..16 {
            let alice = tenant.user("alice").with("idempotency-key", "once");
            let (room, content) = (room.clone(), content(index));
            sending.spawn(async move { insist(|| say(&alice, &room, content)).await });
        }
    }
    let told = sending.join_all().await;
    let stored = log(&tenant, "bob", &room).await;
    for told in told.iter().filter(|told| told.status == 200) {
        assert_eq!(stored, [acknowledged(told, &stored[0].content)]);
    }
    (
        told,
        stored.into_iter().map(|entry| entry.content).collect(),
    )
}

fn replays(told: &[Response]) -> usize {
    let replayed = |told: &&Response| told.header("idempotent-replayed") == Some("true");
    told.iter().filter(replayed).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_32_requests_with_one_key_one_is_done_and_31_replay_it() {
    let (told, stored) = at_once(|_| calm(), |_| "hello").await;

    assert_eq!(stored, ["hello"]);
    assert!(told.iter().all(|told| told.status == 200));
    assert_eq!(replays(&told), 31);
}

#[tokio::test(start_paused = true)]
async fn of_32_requests_with_one_key_in_a_storm_one_is_done() {
    for seed in 0..4 {
        let (told, stored) = at_once(|number| storm(300 + 2 * seed + number, 4), |_| "hello").await;

        assert_eq!(stored, ["hello"]);
        assert!(told.iter().all(|told| told.status == 200));
        // All, if the one that did it was answered with a 503.
        assert!(replays(&told) >= 31);
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_bodies_with_one_key_one_is_stored_and_the_other_is_a_conflict() {
    for seed in 0..4 {
        let body = |index| if index % 2 == 0 { "heads" } else { "tails" };
        let (told, stored) = at_once(|number| storm(400 + 2 * seed + number, 5), body).await;

        assert_eq!(stored.len(), 1);
        let statuses: HashSet<_> = told.iter().map(|told| told.status).collect();
        assert_eq!(statuses, HashSet::from([200, 409]));
        assert_eq!(told.iter().filter(|told| told.status == 200).count(), 16);
    }
}
