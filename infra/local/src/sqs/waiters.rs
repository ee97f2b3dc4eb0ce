//! Who waits for messages: one signal per queue that is being polled.
//!
//! **Invariant:** whoever asks for a queue's signal before it looks into the queue misses no
//! change made after the look. Nothing is kept for a queue nobody waits at.

use super::name::QueueName;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(super) struct Waiters {
    signals: Mutex<HashMap<QueueName, Weak<Notify>>>,
}

impl Waiters {
    /// The signal given whenever messages of `queue` may have become available.
    pub(super) fn signal(&self, queue: &QueueName) -> Arc<Notify> {
        let mut signals = self.signals();
        if let Some(signal) = signals.get(queue).and_then(Weak::upgrade) {
            return signal;
        }
        signals.retain(|_, signal| signal.strong_count() > 0);
        let signal = Arc::new(Notify::new());
        signals.insert(queue.clone(), Arc::downgrade(&signal));
        signal
    }

    pub(super) fn wake(&self, queue: &QueueName) {
        let signal = self.signals().get(queue).and_then(Weak::upgrade);
        if let Some(signal) = signal {
            signal.notify_waiters();
        }
    }

    /// A panic elsewhere leaves the map whole: every change to it is one call.
    fn signals(&self) -> MutexGuard<'_, HashMap<QueueName, Weak<Notify>>> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
