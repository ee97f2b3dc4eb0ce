//! Consumers of the streams of DynamoDB.
//!
//! A stream is read again from the first record that failed, for as long as it takes. So a record that cannot be read is
//! put aside, and so is one that has ended its process again and again ([`crate::app::crashes`]).

use std::{
    future::ready,
    panic::catch_unwind,
    time::{Duration, SystemTime},
};

use aws_lambda_events::{
    dynamodb::{Event, EventRecord},
    streams::{DynamoDbBatchItemFailure, DynamoDbEventResponse},
};
use serde_dynamo::AttributeValue;

use crate::{
    app::{App, crashes::Single},
    domain::Error,
    http::{
        moment,
        telemetry::batch::{Observed, Outcome},
    },
    queue::PoisonQueue,
};

/// Maximum time to note the start of a batch.
const NOTE_TIMEOUT: Duration = Duration::from_secs(5);

/// A function that Lambda feeds from streams.
pub trait Consumer: Sync {
    /// The name of the function, for those who look at what was put aside.
    const FUNCTION: &'static str;
    /// The work of one record.
    type Item: Send;

    /// The service, which knows whether the last batch of this process has ended.
    fn app(&self) -> &App;

    /// Reads a record; `None` if there is nothing to do for it.
    ///
    /// # Errors
    ///
    /// The reason why it is put aside.
    fn read(record: &EventRecord) -> Result<Option<Self::Item>, Error>;

    /// Does the work of a batch, whose items are in the order of the stream, each with its sequence number. The sequence
    /// numbers of those that failed: the stream is read again from the first of them.
    fn work(
        &self,
        items: Vec<(String, Self::Item)>,
        outcome: &mut Outcome,
    ) -> impl Future<Output = Vec<String>> + Send;

    /// Follows each batch, and counts as part of it.
    fn finish(&self) -> impl Future<Output = ()> + Send {
        ready(())
    }
}

/// Has `consumer` do a batch, and names the records that failed.
pub async fn consume<C: Consumer>(
    consumer: &C,
    poison: &PoisonQueue,
    event: Event,
) -> DynamoDbEventResponse {
    let observed = Observed::begin();
    let mut outcome = Outcome {
        records: event.records.len(),
        newest: event.records.iter().map(written).max(),
        ..Outcome::default()
    };
    let work = async {
        let failed = guarded(consumer, poison, event.records, &mut outcome).await;
        consumer.finish().await;
        failed
    };
    let failed = observed.of(work).await;
    outcome.failed = failed.len();
    observed.end(&outcome);
    let mut response = DynamoDbEventResponse::default();
    response.batch_item_failures = failed.into_iter().map(failure).collect();
    response
}

/// The text that a record's new image holds under `name`.
pub fn text<'r>(record: &'r EventRecord, name: &str) -> Option<&'r str> {
    match record.change.new_image.get(name) {
        Some(AttributeValue::S(text)) => Some(text),
        Some(_) | None => None,
    }
}

/// Does a batch, unless it is a record that has ended its process again and again.
async fn guarded<C: Consumer>(
    consumer: &C,
    poison: &PoisonQueue,
    records: Vec<EventRecord>,
    outcome: &mut Outcome,
) -> Vec<String> {
    let first = records.first();
    let first = first.and_then(|record| record.change.sequence_number.clone());
    let done = async {
        let single = single::<C>(consumer.app(), &records)?;
        let moment = moment(NOTE_TIMEOUT)?;
        let work = work(consumer, poison, records, outcome);
        consumer.app().guarded(poison, single, &moment, work).await
    };
    match done.await {
        Ok(Some(failed)) => failed,
        Ok(None) => {
            outcome.put_aside += 1;
            Vec::new()
        }
        Err(error) => {
            tracing::warn!(cause = error.why(), "a batch was not begun: {error}");
            first.into_iter().collect()
        }
    }
}

/// The record of a batch that holds no other, if its start is to be noted.
fn single<C: Consumer>(app: &App, records: &[EventRecord]) -> Result<Option<Single>, Error> {
    let [record] = records else {
        return Ok(None);
    };
    if !app.notes_starts() {
        return Ok(None);
    }
    Ok(Some(Single {
        function: C::FUNCTION,
        event: record.event_id.clone(),
        sequence: sequence(record),
        record: serde_json::to_value(record).map_err(Error::internal)?,
    }))
}

/// Reads the records, puts aside those that cannot be read, and does the others. One that cannot be put aside ends the
/// batch before it.
async fn work<C: Consumer>(
    consumer: &C,
    poison: &PoisonQueue,
    records: Vec<EventRecord>,
    outcome: &mut Outcome,
) -> Vec<String> {
    let mut items = Vec::new();
    let mut unread = None;
    for record in records {
        // Whatever a record makes us do, it holds up nobody else.
        let read = catch_unwind(|| C::read(&record))
            .unwrap_or_else(|_| Err(Error::internal("reading the record panicked")));
        match read {
            Ok(None) => {}
            Ok(Some(item)) => items.push((sequence(&record), item)),
            Err(error) => {
                if let Err(error) = put_aside::<C>(poison, &record, &error).await {
                    tracing::warn!(
                        sequence = record.change.sequence_number,
                        cause = error.why(),
                        "a poison record was not put aside"
                    );
                    unread = Some(sequence(&record));
                    break;
                }
                outcome.put_aside += 1;
            }
        }
    }
    let mut failed = consumer.work(items, outcome).await;
    failed.extend(unread);
    failed
}

async fn put_aside<C: Consumer>(
    poison: &PoisonQueue,
    record: &EventRecord,
    why: &Error,
) -> Result<(), Error> {
    let reason = why.why().unwrap_or_else(|| why.to_string());
    tracing::error!(
        sequence = record.change.sequence_number,
        reason,
        "a record is poison"
    );
    let record = serde_json::to_value(record).map_err(Error::internal)?;
    poison.put_aside(C::FUNCTION, record, &reason).await
}

/// When the item of a record was written.
fn written(record: &EventRecord) -> SystemTime {
    record.change.approximate_creation_date_time.into()
}

fn sequence(record: &EventRecord) -> String {
    record.change.sequence_number.clone().unwrap_or_default()
}

fn failure(sequence: String) -> DynamoDbBatchItemFailure {
    let mut failure = DynamoDbBatchItemFailure::default();
    failure.item_identifier = Some(sequence);
    failure
}
