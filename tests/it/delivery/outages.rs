//! Queues and tables that throttle, refuse, time out and lose answers while messages are sent, and heal.

use std::collections::BTreeSet;

use tokio::time::{pause, resume};

use super::*;
use crate::{
    live::{assert_gapless, connect},
    support::faults::{Fault, Outage},
};

/// A worker that died, or lost an answer, holds a delivery for a minute.
const RECOVERS_WITHIN: Duration = Duration::from_secs(150);

impl Line {
    /// What was received and lost comes back after so many seconds.
    async fn hide_for(&self, seconds: u32) {
        for queue in [FANOUT, DELIVERY] {
            let (client, url) = self.tenant.world.queue(queue);
            let set = client.set_queue_attributes().queue_url(url);
            let name = QueueAttributeName::VisibilityTimeout;
            set.attributes(name, seconds.to_string())
                .send()
                .await
                .unwrap();
        }
    }
}

/// Sends messages, at least `least`, while about one call in `one_in` of whoever works on the line fails, until so many have
/// failed. Fails unless everybody is told under one id after that, bob live and in order, and nothing is left.
async fn assert_recovers(one_in: u64, failures: u64, least: u64) {
    let (line, receiver, outage) = (Line::new().await, Receiver::new(), Outage::default());
    line.hide_for(3).await;
    line.retry(json!({ "attempts": 10, "interval_seconds": 1 }))
        .await;
    line.endpoint(&receiver.url).await;
    let room = line.tenant.group(&["alice", "bob", "carol"]).await;
    let bob = connect(&line.app, &line.tenant, "bob").await;
    let app = line.another(Surroundings {
        dynamodb: outage.plan(1, one_in),
        sqs: outage.plan(2, one_in),
        ..Surroundings::default()
    });
    let _pollers = line.run(&app, |client| faulty(client, outage.plan(3, one_in)));
    let (mut due, mut messages) = (BTreeSet::new(), 0);
    let mut ids = BTreeMap::<_, BTreeSet<_>>::new();
    let goes_on = async || {
        for (who, under) in told(&receiver) {
            ids.entry(who).or_default().extend(under);
        }
        // Who waits for work calls seldom, so there is more of it until enough calls failed.
        if messages < least || ids.len() == due.len() {
            messages += 1;
            let sent = line.say(&room, &messages.to_string()).await;
            due.insert((sent.text("message_id"), "carol".to_owned()));
        }
        messages >= least && outage.hit() >= failures
    };
    until("the failures", RECOVERS_WITHIN, goes_on).await;
    outage.heal();

    let all = async || {
        for (who, under) in told(&receiver) {
            ids.entry(who).or_default().extend(under);
        }
        let is_seen = line.wire.seqs(&bob).iter().max() == Some(&messages);
        is_seen
            && ids.len() == due.len()
            && line.count(FANOUT).await == (0, 0)
            && line.count(DELIVERY).await == (0, 0)
    };
    until("the end of it", RECOVERS_WITHIN, all).await;
    assert_eq!(ids.keys().cloned().collect::<BTreeSet<_>>(), due);
    for (who, ids) in ids {
        assert_eq!(ids.len(), 1, "{who:?} {ids:?}");
    }
    assert_gapless(&line.wire.seqs(&bob), messages);
    for queue in ["DeadLetterQueue", "Poison"] {
        assert_eq!(line.count(queue).await, (0, 0), "{queue}");
    }
    assert_eq!(line.letters().await["failed_messages"], json!([]));
}

#[tokio::test]
async fn calls_that_fail_now_and_then_lose_nothing_and_double_nothing() {
    assert_recovers(4, 150, 40).await;
}

#[tokio::test]
async fn an_outage_of_everything_loses_nothing_and_doubles_nothing() {
    // Where nothing passes, pollers ask ever less often.
    assert_recovers(1, 30, 20).await;
}

/// How long everything is out, by a clock that the test holds.
const OUT: Duration = Duration::from_secs(30);
/// How many messages are on their way meanwhile.
const SPOKEN: u64 = 10;

/// A line with a follower of a room, and what was said in it.
async fn spoken() -> (Line, String, Vec<EventRecord>) {
    let line = Line::new().await;
    let room = line.tenant.group(&["alice", "bob"]).await;
    let bob = connect(&line.app, &line.tenant, "bob").await;
    for number in 1..=SPOKEN {
        line.say(&room, &number.to_string()).await;
    }
    let records = line.records(1 + usize::try_from(SPOKEN).unwrap()).await;
    (line, bob, records)
}

/// A worker of `line` for whom every call fails from now until [`OUT`] is over, in one of the ways.
fn shut_out(line: &Line) -> App {
    let heals = Instant::now() + OUT;
    let plan: Plan = Arc::new(move |_, number| {
        if Instant::now() >= heals {
            return Fault::Pass;
        }
        match number % 4 {
            0 => Fault::Throttle,
            1 => Fault::LoseAnswer,
            2 => Fault::LoseRequest,
            _ => Fault::Refuse("ServiceUnavailable"),
        }
    });
    line.another(Surroundings {
        dynamodb: Arc::clone(&plan),
        sqs: plan,
        ..Surroundings::default()
    })
}

#[tokio::test]
async fn records_that_come_in_thirty_seconds_of_outage_are_all_sent_on_after_it() {
    let (line, bob, mut records) = spoken().await;
    pause();
    let (begun, app) = (Instant::now(), shut_out(&line));

    // As Lambda does it: again and again, from the first record that failed.
    while !records.is_empty() {
        let mut event = Event::default();
        event.records.clone_from(&records);
        let response = fanout::handle(&app, &line.poison(), event).await;
        let failed = response.batch_item_failures.into_iter().next();
        let first = failed.and_then(|failed| failed.item_identifier);
        let number = |it: &EventRecord| it.change.sequence_number.clone();
        let left = records.iter().position(|it| number(it) == first);
        records.drain(..left.unwrap_or(records.len()));
        sleep(Duration::from_secs(1)).await;
    }
    assert!(begun.elapsed() >= OUT);

    resume();
    line.settle().await;
    assert_gapless(&line.wire.seqs(&bob), SPOKEN);
    assert_eq!(line.count("Poison").await, (0, 0));
}

#[tokio::test]
async fn jobs_that_come_in_thirty_seconds_of_outage_are_all_done_after_it() {
    let (line, bob, records) = spoken().await;
    line.fan_out(records).await;
    let mut batches = Vec::new();
    while line.count(FANOUT).await.0 > 0 {
        batches.push(line.receive(FANOUT, 0).await);
    }
    pause();
    let (begun, app) = (Instant::now(), shut_out(&line));

    while let Some(messages) = batches.pop() {
        let response = line.does(&app, FANOUT, &messages).await;
        line.delete(FANOUT, &messages, &response).await;
        let failed = response.batch_item_failures;
        let is_failed = |it: &Message| {
            let id = it.message_id().unwrap();
            failed.iter().any(|failed| failed.item_identifier == id)
        };
        let left: Vec<_> = messages.into_iter().filter(is_failed).collect();
        if !left.is_empty() {
            batches.push(left);
            sleep(Duration::from_secs(1)).await;
        }
    }
    assert!(begun.elapsed() >= OUT);

    resume();
    line.settle().await;
    assert_gapless(&line.wire.seqs(&bob), SPOKEN);
    assert_eq!(line.count("Poison").await, (0, 0));
}
