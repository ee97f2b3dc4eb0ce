//! Advances rooms' heads from the stream of their logs: `last_seq` and the time of the last message.
//!
//! The stream's one-second window bounds this to about one write a second and room, however many messages
//! it carries.

use std::collections::BTreeMap;

use aws_lambda_events::{
    dynamodb::{Event, EventRecord},
    streams::{DynamoDbBatchItemFailure, DynamoDbEventResponse},
};
use parlance::{
    app::App,
    domain::{Error, Thread},
    store::messages::{Appended, appended},
};

/// Advances the heads of all rooms of a batch, each once, and names the first record that failed:
/// the stream is read again from there.
pub async fn handle(app: &App, event: Event) -> DynamoDbEventResponse {
    let mut response = DynamoDbEventResponse::default();
    let mut newest: BTreeMap<String, (String, Thread, Appended)> = BTreeMap::new();
    for record in event.records {
        let sequence = record.change.sequence_number.clone().unwrap_or_default();
        match read(&record) {
            Ok(None) => {}
            Ok(Some((thread, seen))) => {
                let room = format!("{}#{}", thread.tenant, thread.room);
                newest
                    .entry(room)
                    // The first sequence number of a room: all of its records are read again.
                    .and_modify(|(_, _, known)| {
                        *known = if seen.seq > known.seq { seen } else { *known }
                    })
                    .or_insert((sequence, thread, seen));
            }
            Err(error) => {
                tracing::error!(sequence, cause = ?error.cause(), "a message's record cannot be read");
                response.batch_item_failures.push(failure(sequence));
                break;
            }
        }
    }
    for (sequence, thread, seen) in newest.into_values() {
        if let Err(error) = app.advance_head(thread, seen.seq, seen.created_at).await {
            tracing::warn!(sequence, cause = ?error.cause(), "a head could not be advanced");
            response.batch_item_failures.push(failure(sequence));
        }
    }
    response
}

fn failure(sequence: String) -> DynamoDbBatchItemFailure {
    let mut failure = DynamoDbBatchItemFailure::default();
    failure.item_identifier = Some(sequence);
    failure
}

/// The message that a record appended; `None` for an edit or a deletion.
fn read(record: &EventRecord) -> Result<Option<(Thread, Appended)>, Error> {
    if record.event_name != "INSERT" {
        return Ok(None);
    }
    let text = |name: &str| match record.change.new_image.get(name) {
        Some(serde_dynamo::AttributeValue::S(text)) => Some(text.as_str()),
        Some(_) | None => None,
    };
    appended(text).map(Some)
}
