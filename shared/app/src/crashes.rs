//! Records that end the process of the function which works on them.
//!
//! A panic is caught, and a fault is an answer. But a stack overflow, memory that is used up or a time-out ends the process
//! without one, and Lambda hands the same record to the next process until the stream forgets it. So a process notes the
//! start of its work on one record alone, and removes the note when the work has ended, well or not: outages leave none.
//! At the start number [`MAX_STARTS`] the record goes to the poison queue instead. A start that cannot be noted is not
//! counted, and holds nothing up.
//!
//! Noted are the first batch of a process, and one that follows a batch which broke off: all others cost nothing. A record
//! that ends a process which had ended other batches comes back, in the end, as the first batch of a new one.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use super::App;
use crate::{
    domain::{Error, Moment},
    queue::PoisonQueue,
    store::Backoff,
};

/// The start of the work on one record that puts it aside.
pub const MAX_STARTS: usize = 6;
/// Maximum time to note a start.
const NOTE_TIMEOUT: Duration = Duration::from_secs(2);
/// The reason that goes with it.
const REASON: &str = "its function ended without an answer 5 times";

/// Whether the last batch of this process has ended.
#[derive(Debug, Default)]
pub(super) struct LastBatch(AtomicBool);

impl LastBatch {
    fn has_ended(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A record that is a batch of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Single {
    /// The function that works on it.
    pub function: &'static str,
    /// The id of its event.
    pub event: String,
    /// Its sequence number.
    pub sequence: String,
    /// All of it, as it came.
    pub record: Value,
}

/// Work that is under way. Dropped before its end, it has broken off.
struct Work<'a>(&'a LastBatch);

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

impl Work<'_> {
    fn end(self) {
        let last = self.0;
        drop(self);
        last.0.store(true, Ordering::Relaxed);
    }
}

impl App {
    /// Whether [`App::guarded`] notes the start of the next batch, if that is a single record.
    pub fn notes_starts(&self) -> bool {
        !self.0.last_batch.has_ended()
    }

    /// Does `work` on a batch that began at `moment`. If it is `single` and has ended its process again and again, it is put
    /// aside instead, and the answer is `None`.
    ///
    /// # Errors
    ///
    /// If the record could not be put aside: the batch must be tried again.
    pub async fn guarded<T>(
        &self,
        poison: &PoisonQueue,
        single: Option<Single>,
        moment: &Moment,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, Error> {
        let guards = &self.stores().guards;
        let mut note = None;
        let mut is_poison = false;
        if let Some(single) = &single {
            let Single {
                function,
                event,
                sequence,
                record,
            } = single;
            let name = format!("{function}#{event}#{sequence}");
            let until = moment.deadline.min(Instant::now() + NOTE_TIMEOUT);
            let mut race = Backoff::until(until, moment.seed);
            let noting = guards.note_start(&name, moment.seed, moment.now, &mut race);
            match noting.await {
                Ok(starts) if starts >= MAX_STARTS => {
                    tracing::error!(sequence, reason = REASON, "a record is poison");
                    poison.put_aside(function, record.clone(), REASON).await?;
                    is_poison = true;
                }
                Ok(_) => {}
                Err(error) => {
                    let cause = error.why();
                    tracing::warn!(sequence, cause, "a start was not noted: {error}");
                }
            }
            note = Some(name);
        }
        let done = if is_poison {
            None
        } else {
            let guard = Work(&self.0.last_batch);
            let done = work.await;
            guard.end();
            Some(done)
        };
        if let Some(note) = note {
            // Until the stream forgets the record nobody else has a use for it: it may stay.
            if let Err(error) = guards.forget_start(&note).await {
                tracing::warn!(
                    cause = error.why(),
                    "the note of a start was not removed: {error}"
                );
            }
        }
        Ok(done)
    }
}
