//! Records and jobs that come twice, at the same time, in the wrong order, and mixed.

use std::collections::BTreeSet;

use tokio::join;

use super::*;
use crate::live::{assert_gapless, connect};

const ROOMS: usize = 3;
const MESSAGES: usize = 4;
const MEMBERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// A line with a receiver, and messages in several rooms that three members of each have missed.
struct Stage {
    line: Line,
    receiver: Receiver,
    records: Vec<EventRecord>,
    /// Who is to be told of what.
    due: BTreeSet<(String, String)>,
}

impl Stage {
    async fn new() -> Self {
        let (line, receiver) = (Line::new().await, Receiver::new());
        line.endpoint(&receiver.url).await;
        let mut rooms = Vec::new();
        for _ in 0..ROOMS {
            rooms.push(line.tenant.group(&MEMBERS).await);
        }
        let mut due = BTreeSet::new();
        for number in 0..MESSAGES {
            for room in &rooms {
                let sent = line.say(room, &format!("Hello, {number}!")).await;
                let id = sent.text("message_id");
                due.extend(
                    MEMBERS[1..]
                        .iter()
                        .map(|user| (id.clone(), (*user).to_owned())),
                );
            }
        }
        let records = line.records(ROOMS * (1 + MESSAGES)).await;
        Self {
            line,
            receiver,
            records,
            due,
        }
    }

    /// Fails unless everybody was told once of each message, and nothing is left.
    #[track_caller]
    fn assert_told_once(self) {
        let told = told(&self.receiver);
        assert_eq!(told.keys().cloned().collect::<BTreeSet<_>>(), self.due);
        for (who, ids) in told {
            assert_eq!(ids.len(), 1, "{who:?} {ids:?}");
        }
    }
}

#[tokio::test]
async fn records_that_are_handed_over_twice_tell_everybody_once() {
    let stage = Stage::new().await;
    for _ in 0..2 {
        stage.line.fan_out(stage.records.clone()).await;
    }
    stage.line.settle().await;
    stage.assert_told_once();
}

#[tokio::test]
async fn records_that_come_again_long_after_tell_nobody_again() {
    let stage = Stage::new().await;
    for _ in 0..2 {
        stage.line.fan_out(stage.records.clone()).await;
        stage.line.settle().await;
    }
    stage.assert_told_once();
}

#[tokio::test]
async fn records_in_reverse_order_of_several_rooms_tell_everybody_once() {
    let stage = Stage::new().await;
    for batch in stage.records.rchunks(4) {
        let batch: Vec<_> = batch.iter().rev().cloned().collect();
        stage.line.fan_out(batch).await;
    }
    stage.line.settle().await;
    stage.assert_told_once();
}

#[tokio::test]
async fn jobs_that_are_done_twice_tell_everybody_once() {
    let stage = Stage::new().await;
    let line = &stage.line;
    line.fan_out(stage.records.clone()).await;
    line.settle_by(async |queue, messages| {
        line.does(&line.app, queue, messages).await;
        let again = line.does(&line.app, queue, messages).await;
        line.delete(queue, messages, &again).await;
    })
    .await;
    stage.assert_told_once();
}

#[tokio::test]
async fn jobs_that_two_workers_do_at_the_same_time_tell_everybody_once() {
    let stage = Stage::new().await;
    let line = &stage.line;
    let other = line.another(Surroundings::default());
    line.fan_out(stage.records.clone()).await;
    line.settle_by(async |queue, messages| {
        let (here, there) = join!(
            line.does(&line.app, queue, messages),
            line.does(&other, queue, messages),
        );
        // Who was second found it under way; it is done with once the first is.
        line.delete(queue, messages, &here).await;
        line.delete(queue, messages, &there).await;
    })
    .await;
    stage.assert_told_once();
}

#[tokio::test]
async fn a_job_whose_batch_lost_its_answer_is_done_again_and_told_once() {
    let stage = Stage::new().await;
    let line = &stage.line;
    line.fan_out(stage.records.clone()).await;
    let (mut seen, seen_twice) = (BTreeSet::new(), Mutex::new(BTreeSet::new()));
    while line.count(FANOUT).await.0 > 0 {
        let messages = line.receive(FANOUT, 0).await;
        line.does(&line.app, FANOUT, &messages).await;
        seen.extend(messages.into_iter().map(|it| it.message_id));
    }
    line.tenant.world.release(FANOUT).await;
    line.settle_by(async |queue, messages| {
        let response = line.does(&line.app, queue, messages).await;
        line.delete(queue, messages, &response).await;
        let ids = messages.iter().map(|it| it.message_id.clone());
        seen_twice.lock().unwrap().extend(ids);
    })
    .await;
    assert!(seen.is_subset(&seen_twice.into_inner().unwrap()));
    stage.assert_told_once();
}

#[tokio::test]
async fn a_follower_sees_1_to_n_whatever_order_the_records_come_in() {
    let (line, room) = followed().await;
    let bob = connect(&line.app, &line.tenant, "bob").await;
    let records = spoken(&line, &room).await;
    for batch in records.rchunks(3) {
        let batch: Vec<_> = batch.iter().rev().cloned().collect();
        line.fan_out(batch).await;
    }
    line.settle().await;
    let seqs: Vec<_> = (1..=SPOKEN).collect();
    assert_eq!(line.wire.seqs(&bob), seqs);
}

#[tokio::test]
async fn a_follower_sees_1_to_n_while_two_workers_do_every_job() {
    let (line, room) = followed().await;
    let other = line.another(Surroundings::default());
    let bob = connect(&line.app, &line.tenant, "bob").await;
    let records = spoken(&line, &room).await;
    for batch in records.chunks(5) {
        for _ in 0..2 {
            line.fan_out(batch.to_vec()).await;
        }
    }
    line.settle_by(async |queue, messages| {
        let (one, two) = messages.split_at(messages.len() / 2);
        let (here, there) = join!(
            line.does(&line.app, queue, two),
            line.does(&other, queue, one),
        );
        line.delete(queue, two, &here).await;
        line.delete(queue, one, &there).await;
    })
    .await;
    assert_gapless(&line.wire.seqs(&bob), SPOKEN);
}

/// How many messages a follower is to see.
const SPOKEN: u64 = 20;

async fn followed() -> (Line, String) {
    let line = Line::new().await;
    let room = line.tenant.group(&["alice", "bob"]).await;
    line.records(1).await;
    (line, room)
}

async fn spoken(line: &Line, room: &str) -> Vec<EventRecord> {
    for number in 1..=SPOKEN {
        line.say(room, &number.to_string()).await;
    }
    line.records(usize::try_from(SPOKEN).unwrap()).await
}
