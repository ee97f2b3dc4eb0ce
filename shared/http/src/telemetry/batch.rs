//! The line of a batch that a function takes from a stream or a queue.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{BATCH, is_first, request::millis};
use crate::store::usage::Usage;

/// A batch under way.
#[derive(Debug)]
pub struct Observed {
    started: Instant,
    usage: Arc<Usage>,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// How many records it held.
    pub records: usize,
    /// How many heads it moved forward.
    pub advanced: usize,
    /// How many jobs it sent.
    pub sent: usize,
    /// How many deliveries were made.
    pub delivered: usize,
    /// How many deliveries wait for another attempt.
    pub retried: usize,
    /// How many deliveries wait for a paused endpoint.
    pub held: usize,
    /// How many deliveries have used up their attempts.
    pub dead: usize,
    /// How many records could not be read, and will not be tried again.
    pub put_aside: usize,
    /// How many failed and will be tried again.
    pub failed: usize,
    /// When its newest record was written.
    pub newest: Option<SystemTime>,
    /// When its oldest job was sent. One that comes again is as old as it was.
    pub oldest: Option<SystemTime>,
}

impl Outcome {
    /// Adds what became of a part of the batch.
    pub const fn add(&mut self, part: &Self) {
        self.advanced += part.advanced;
        self.sent += part.sent;
        self.delivered += part.delivered;
        self.retried += part.retried;
        self.held += part.held;
        self.dead += part.dead;
        self.put_aside += part.put_aside;
        self.failed += part.failed;
    }
}

impl Observed {
    /// A batch that begins now.
    pub fn begin() -> Self {
        Self {
            started: Instant::now(),
            usage: Arc::default(),
        }
    }

    /// Does `work`, and counts what it calls.
    pub fn of<F: Future>(&self, work: F) -> impl Future<Output = F::Output> {
        self.usage.of(work)
    }

    /// Writes the line.
    pub fn end(&self, outcome: &Outcome) {
        let seldom = |count: usize| (count > 0).then_some(count);
        tracing::info!(
            target: BATCH,
            records = outcome.records,
            advanced = seldom(outcome.advanced),
            sent = seldom(outcome.sent),
            delivered = seldom(outcome.delivered),
            retried = seldom(outcome.retried),
            held = seldom(outcome.held),
            dead = seldom(outcome.dead),
            put_aside = seldom(outcome.put_aside),
            failed = seldom(outcome.failed),
            duration_ms = millis(self.started),
            iterator_age_ms = outcome.newest.map(age),
            oldest_job_ms = outcome.oldest.map(age),
            dynamodb_calls = self.usage.calls(),
            dynamodb_retries = Some(self.usage.retries()).filter(|retries| *retries > 0),
            throttles = Some(self.usage.throttles()).filter(|throttles| *throttles > 0),
            write_units = self.usage.write_units(),
            cold_start = is_first().then_some(1_u64),
            "batch"
        );
    }
}

/// When the oldest of a queue's messages was sent, by their `SentTimestamp`s, of those that can be read.
pub fn oldest_job<'a>(sent: impl Iterator<Item = &'a String>) -> Option<SystemTime> {
    let millis = sent.filter_map(|millis| millis.parse().ok());
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis.min()?))
}

/// Whole milliseconds since `written`; 0 if our clock is behind the store's.
fn age(written: SystemTime) -> u64 {
    let age: Duration = written.elapsed().unwrap_or_default();
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}
