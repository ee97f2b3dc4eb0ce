//! Advances rooms' heads from the stream of their logs: `last_seq` and the time of the last message.
//!
//! The stream's one-second window bounds this to about one write a second and room, however many messages
//! it carries.

use std::{collections::BTreeMap, time::Duration};

use aws_lambda_events::{
    dynamodb::{Event, EventRecord},
    streams::DynamoDbEventResponse,
};
use futures_util::{StreamExt, future, stream::iter};
use parlance::{
    app::App,
    domain::{Error, LogId},
    http::telemetry::batch::Outcome,
    queue::PoisonQueue,
    runtime::consume::stream::{self, Consumer, text},
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
    stream::consume(&Heads(app), poison, event).await
}

struct Heads<'a>(&'a App);

impl Consumer for Heads<'_> {
    const FUNCTION: &'static str = "heads";
    type Item = (LogId, Appended);

    fn app(&self) -> &App {
        self.0
    }

    /// The message that a record appended to a room's log; `None` for an edit, a deletion, or another log.
    fn read(record: &EventRecord) -> Result<Option<Self::Item>, Error> {
        if record.event_name != "INSERT" {
            return Ok(None);
        }
        appended(|name| text(record, name))
    }

    async fn work(
        &self,
        items: Vec<(String, (LogId, Appended))>,
        outcome: &mut Outcome,
    ) -> Vec<String> {
        let mut newest: BTreeMap<String, (String, LogId, Appended)> = BTreeMap::new();
        for (sequence, (log, seen)) in items {
            newest
                .entry(log.to_string())
                // The first sequence number of a room: all of its records are read again.
                .and_modify(|(_, _, known)| {
                    *known = if seen.seq > known.seq { seen } else { *known }
                })
                .or_insert((sequence, log, seen));
        }
        let rooms = newest.len();
        let deadline = Instant::now() + PATIENCE;
        let heads = newest.into_values();
        let heads = heads.map(|(sequence, log, seen)| async move {
            let advanced = self
                .0
                .advance_head(log, seen.seq, seen.created_at, deadline)
                .await;
            advanced.err().map(|error| {
                tracing::warn!(
                    sequence,
                    cause = error.why(),
                    "a head could not be advanced"
                );
                sequence
            })
        });
        let failed: Vec<_> = iter(heads)
            .buffer_unordered(AT_ONCE)
            .filter_map(future::ready)
            .collect()
            .await;
        outcome.advanced = rooms - failed.len();
        failed
    }
}
