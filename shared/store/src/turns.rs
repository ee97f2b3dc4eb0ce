//! Whose turn it is to append to a log in this process, and how far this process has seen each log.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    sync::{Mutex as AsyncMutex, MutexGuard},
    time::{Instant, timeout_at},
};

use crate::domain::{Error, LogId, message::Tail};

/// How many logs are remembered. One is about 170 bytes.
const CAPACITY: usize = 50_000;

/// One log as this process knows it.
#[derive(Debug)]
pub(super) struct Log {
    turn: AsyncMutex<()>,
    seen: Mutex<Option<Tail>>,
    /// Whether a write was begun whose end this process has not seen: its request may have been dropped.
    unsure: AtomicBool,
}

impl Log {
    /// Waits until no other append of this process is under way.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] at `deadline`.
    pub(super) async fn turn(&self, deadline: Instant) -> Result<MutexGuard<'_, ()>, Error> {
        timeout_at(deadline, self.turn.lock())
            .await
            .map_err(|_| Error::Busy)
    }

    /// The last message this process knows to exist, if it has looked.
    pub(super) fn seen(&self) -> Option<Tail> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A write begins.
    pub(super) fn begins(&self) {
        self.unsure.store(true, Ordering::Release);
    }

    /// The last write that began has ended, and [`Log::saw`] was told how.
    pub(super) fn ended(&self) {
        self.unsure.store(false, Ordering::Release);
    }

    /// Whether [`Log::seen`] is all that this process has written.
    pub(super) fn is_sure(&self) -> bool {
        !self.unsure.load(Ordering::Acquire)
    }

    /// Notes that `tail` exists. What is known only grows.
    pub(super) fn saw(&self, tail: Tail) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Some(seen.map_or(tail, |known| known.later(tail)));
    }
}

/// The logs this process has met, the idle ones forgotten when there are too many.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<LogId, Arc<Log>>>);

impl Turns {
    /// What this process knows of the log `id`.
    pub(super) fn log(&self, id: LogId) -> Arc<Log> {
        let mut logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = logs.get(&id) {
            return Arc::clone(log);
        }
        if logs.len() >= CAPACITY {
            // Forgetting costs a query later, nothing else; half at once keeps it rare.
            let mut keep = false;
            logs.retain(|_, log| {
                keep = !keep;
                keep || Arc::strong_count(log) > 1
            });
        }
        let log = Arc::new(Log {
            turn: AsyncMutex::new(()),
            seen: Mutex::default(),
            unsure: AtomicBool::new(false),
        });
        logs.insert(id, Arc::clone(&log));
        log
    }
}
