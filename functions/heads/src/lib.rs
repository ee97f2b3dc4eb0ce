//! Advances rooms' heads from the stream of their logs: `last_seq` and the time of the last message.
//!
//! The stream's one-second window bounds this to about one write a second and room, however many messages
//! it carries.

use std::{
    collections::BTreeMap,
    panic::catch_unwind,
    time::{Duration, SystemTime},
};

use aws_lambda_events::{
    dynamodb::{Event, EventRecord},
    streams::{DynamoDbBatchItemFailure, DynamoDbEventResponse},
};
use futures_util::{StreamExt, future, stream};
use parlance::{
    app::{App, crashes::Single},
    domain::{Error, LogId},
    http::{
        moment,
        telemetry::batch::{Observed, Outcome},
    },
    queue::PoisonQueue,
    store::messages::{Appended, appended},
};
use tokio::time::Instant;

/// How many heads are advanced at the same time.
const AT_ONCE: usize = 32;
/// How long throttled ones are tried again before the stream is.
const PATIENCE: Duration = Duration::from_secs(5);

/// Advances the heads of all rooms of a batch, each once, and names the records that failed: the stream is
/// read again from the first of them, for as long as it takes. A record that cannot be read is put aside.
pub async fn handle(app: &App, poison: &PoisonQueue, event: Event) -> DynamoDbEventResponse {
    let observed = Observed::begin();
    let mut outcome = Outcome {
        records: event.records.len(),
        newest: event.records.iter().map(written).max(),
        ..Outcome::default()
    };
    let work = guarded(app, poison, event, &mut outcome);
    let response = observed.of(work).await;
    outcome.failed = response.batch_item_failures.len();
    observed.end(&outcome);
    response
}

/// Advances the heads of a batch, unless it is a record that has ended its process again and again.
async fn guarded(
    app: &App,
    poison: &PoisonQueue,
    event: Event,
    outcome: &mut Outcome,
) -> DynamoDbEventResponse {
    let mut response = DynamoDbEventResponse::default();
    let first = event.records.first();
    let first = first.and_then(|record| record.change.sequence_number.clone());
    let done = async {
        let single = single(app, &event)?;
        let moment = moment(PATIENCE)?;
        let work = advance(app, poison, event, outcome);
        app.guarded(poison, single, &moment, work).await
    };
    match done.await {
        Ok(Some(response)) => return response,
        Ok(None) => outcome.put_aside += 1,
        Err(error) => {
            tracing::warn!(cause = error.why(), "a batch was not begun: {error}");
            response.batch_item_failures.extend(first.map(failure));
        }
    }
    response
}

/// The record of a batch that holds no other, if its start is to be noted.
fn single(app: &App, event: &Event) -> Result<Option<Single>, Error> {
    let [record] = event.records.as_slice() else {
        return Ok(None);
    };
    if !app.notes_starts() {
        return Ok(None);
    }
    Ok(Some(Single {
        function: "heads",
        event: record.event_id.clone(),
        sequence: record.change.sequence_number.clone().unwrap_or_default(),
        record: serde_json::to_value(record).map_err(Error::internal)?,
    }))
}

/// When the message of a record was written.
fn written(record: &EventRecord) -> SystemTime {
    record.change.approximate_creation_date_time.into()
}

async fn advance(
    app: &App,
    poison: &PoisonQueue,
    event: Event,
    outcome: &mut Outcome,
) -> DynamoDbEventResponse {
    let mut response = DynamoDbEventResponse::default();
    let mut newest: BTreeMap<String, (String, LogId, Appended)> = BTreeMap::new();
    for record in event.records {
        let sequence = record.change.sequence_number.clone().unwrap_or_default();
        // Whatever a record makes us do, it holds up nobody else.
        let read = catch_unwind(|| read(&record))
            .unwrap_or_else(|_| Err(Error::internal("reading the record panicked")));
        match read {
            Ok(None) => {}
            Ok(Some((log, seen))) => {
                let room = log.to_string();
                newest
                    .entry(room)
                    // The first sequence number of a room: all of its records are read again.
                    .and_modify(|(_, _, known)| {
                        *known = if seen.seq > known.seq { seen } else { *known }
                    })
                    .or_insert((sequence, log, seen));
            }
            Err(error) => {
                if let Err(error) = put_aside(poison, &record, &error).await {
                    tracing::warn!(
                        sequence,
                        cause = error.why(),
                        "a poison record was not put aside"
                    );
                    response.batch_item_failures.push(failure(sequence));
                    break;
                }
                outcome.put_aside += 1;
            }
        }
    }
    let rooms = newest.len();
    let deadline = Instant::now() + PATIENCE;
    let advances = newest
        .into_values()
        .map(|(sequence, log, seen)| async move {
            let advanced = app
                .advance_head(log, seen.seq, seen.created_at, deadline)
                .await;
            advanced.err().map(|error| {
                tracing::warn!(
                    sequence,
                    cause = error.why(),
                    "a head could not be advanced"
                );
                failure(sequence)
            })
        });
    let failures: Vec<_> = stream::iter(advances)
        .buffer_unordered(AT_ONCE)
        .filter_map(future::ready)
        .collect()
        .await;
    outcome.advanced = rooms - failures.len();
    response.batch_item_failures.extend(failures);
    response
}

async fn put_aside(poison: &PoisonQueue, record: &EventRecord, why: &Error) -> Result<(), Error> {
    let reason = why.why().unwrap_or_else(|| why.to_string());
    tracing::error!(
        sequence = record.change.sequence_number,
        reason,
        "a record is poison"
    );
    let record = serde_json::to_value(record).map_err(Error::internal)?;
    poison.put_aside("heads", record, &reason).await
}

fn failure(sequence: String) -> DynamoDbBatchItemFailure {
    let mut failure = DynamoDbBatchItemFailure::default();
    failure.item_identifier = Some(sequence);
    failure
}

/// The message that a record appended to a room's log; `None` for an edit, a deletion, or another log.
fn read(record: &EventRecord) -> Result<Option<(LogId, Appended)>, Error> {
    if record.event_name != "INSERT" {
        return Ok(None);
    }
    let text = |name: &str| match record.change.new_image.get(name) {
        Some(serde_dynamo::AttributeValue::S(text)) => Some(text.as_str()),
        Some(_) | None => None,
    };
    appended(text)
}
