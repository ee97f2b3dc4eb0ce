//! Hands one batch of records to a function, as Lambda does.
//!
//! **Invariant:** records are handed over in order, and a later one only after each earlier one
//! was taken or lies in the queue of poison records.

use std::sync::Arc;

use aws_lambda_events::event::dynamodb::{Event, EventRecord};
use aws_lambda_events::event::streams::DynamoDbEventResponse;
use aws_sdk_dynamodbstreams::types::Record;
use parlance::domain::Pauses;
use tokio::sync::watch;

use super::poison::{Poison, PoisonRecord};
use super::record::shown;
use crate::clock::{POLLER_PAUSES, is_stopped_within};

/// A record on which the function died so often, handed over alone, is poison.
const ATTEMPTS: u32 = 5;

/// Who gets the records of which shard, and where those go that cannot be taken.
#[derive(Debug)]
pub(super) struct HandOver<H> {
    pub(super) function: String,
    pub(super) stream_arn: String,
    pub(super) shard: String,
    pub(super) handler: Arc<H>,
    pub(super) poison: Poison,
    pub(super) stop: watch::Receiver<bool>,
}

/// What became of an invocation.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Taken,
    /// All before this one were taken.
    FailedAt(usize),
    /// There is no telling which failed.
    Failed(String),
}

/// Whether there is more to do with a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// So many records, from the first on, are done with.
    Done(usize),
    /// The runner stops; the rest is for its next start.
    Stopped,
}

/// Where a hand-over stands within its batch.
#[derive(Debug)]
pub(super) struct Stand {
    /// The first record that is not done with.
    next: usize,
    /// How many to hand over at once; `None` for all that are left.
    take: Option<usize>,
    /// How often the record at `next` has failed by itself.
    failures: u32,
    pauses: Pauses,
}

impl Default for Stand {
    fn default() -> Self {
        Self {
            next: 0,
            take: None,
            failures: 0,
            pauses: POLLER_PAUSES,
        }
    }
}

impl<H, F> HandOver<H>
where
    H: Fn(Event) -> F + Send + Sync + 'static,
    F: Future<Output = DynamoDbEventResponse> + Send + 'static,
{
    /// Goes on with `records` until some more of them are done with.
    pub(super) async fn step(&mut self, records: &[Record], stand: &mut Stand) -> Progress {
        loop {
            let left = records.len() - stand.next;
            let take = stand.take.unwrap_or(left).min(left);
            let slice = &records[stand.next..stand.next + take];
            let (reason, died) = match self.invoke(slice).await {
                Outcome::Taken => return stand.advance(take),
                Outcome::FailedAt(index) if index > 0 => {
                    let progress = stand.advance(index);
                    stand.take = Some(1);
                    return progress;
                }
                Outcome::FailedAt(_) if take > 1 => {
                    stand.take = Some(1);
                    continue;
                }
                Outcome::Failed(_) if take > 1 => {
                    stand.take = Some(take.div_ceil(2));
                    continue;
                }
                Outcome::FailedAt(_) => ("the function reported it as failed".to_owned(), false),
                Outcome::Failed(reason) => (reason, true),
            };
            stand.failures += 1;
            // What a function reports may pass by itself, like an outage; its death on one record
            // does not.
            let poison = died && stand.failures >= ATTEMPTS;
            if poison && self.is_put_aside(&slice[0], stand.failures, &reason).await {
                return stand.advance(1);
            }
            tracing::warn!(
                function = self.function,
                sequence_number = sequence_number(&slice[0]),
                failures = stand.failures,
                reason,
                "a stream record failed"
            );
            if is_stopped_within(stand.pauses.after_failure(), &mut self.stop).await {
                return Progress::Stopped;
            }
        }
    }

    async fn invoke(&self, records: &[Record]) -> Outcome {
        let mut event = Event::default();
        event.records = records
            .iter()
            .map(|record| shown(record, &self.stream_arn))
            .collect();
        // In a task of its own, so that a panic is its failure and not ours.
        match tokio::spawn((self.handler)(event)).await {
            Ok(response) => outcome(&response, records),
            Err(error) => Outcome::Failed(format!("the function died: {error}")),
        }
    }

    /// Whether the queue of poison records has taken `record`.
    async fn is_put_aside(&self, record: &Record, attempts: u32, reason: &str) -> bool {
        let record: &EventRecord = &shown(record, &self.stream_arn);
        let (function, shard) = (self.function.as_str(), self.shard.as_str());
        let poison = PoisonRecord {
            function,
            shard,
            record,
            attempts,
            reason,
        };
        let sent = self.poison.send(&poison).await;
        let sequence_number = record.change.sequence_number.as_deref();
        match &sent {
            Ok(()) => tracing::error!(function, sequence_number, reason, "a record is poison"),
            Err(error) => tracing::error!(function, error, "a poison record was not put aside"),
        }
        sent.is_ok()
    }
}

impl Stand {
    fn advance(&mut self, count: usize) -> Progress {
        self.next += count;
        self.take = None;
        self.failures = 0;
        self.pauses.reset();
        Progress::Done(self.next)
    }
}

pub(super) fn sequence_number(record: &Record) -> &str {
    record
        .dynamodb()
        .and_then(|change| change.sequence_number())
        .unwrap_or_default()
}

/// Lambda goes back to the first record that is named; a name it does not know fails them all.
fn outcome(response: &DynamoDbEventResponse, records: &[Record]) -> Outcome {
    let mut first = None;
    for failure in &response.batch_item_failures {
        let named = failure.item_identifier.as_deref().unwrap_or_default();
        let index = records
            .iter()
            .position(|record| sequence_number(record) == named);
        let Some(index) = index else {
            return Outcome::Failed("the function reported the batch as failed".to_owned());
        };
        first = Some(first.map_or(index, |first: usize| first.min(index)));
    }
    first.map_or(Outcome::Taken, Outcome::FailedAt)
}
