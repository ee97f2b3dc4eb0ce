//! Whether the service can write.

use std::{
    sync::{Arc, Mutex as SyncMutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::App;
use crate::domain::Moment;

/// How long an answer is trusted.
const TRUSTED: Duration = Duration::from_secs(3);
/// How long a write may take before the service counts as not writable.
const PATIENCE: Duration = Duration::from_secs(2);

/// The last answer.
#[derive(Debug, Default)]
pub(super) struct Probe(Mutex<Option<(Instant, bool)>>);

/// For how long a store that could not write counts as one that cannot. The probe is a small write, which may still pass
/// on a disk that is full for others.
const REFUSED: Duration = Duration::from_mins(1);

/// How a store failed for a reason that does not pass by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFault {
    /// Its file is damaged. It stays so until the process starts with another one.
    Damaged,
    /// Its disk is full, or refuses to write.
    Refused,
}

/// The known faults of one store in this process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct StoreFaults(Arc<SyncMutex<Option<(StoreFault, Instant)>>>);

impl StoreFaults {
    /// Notes a fault. Whether it is news: the first one, or the first for a while.
    pub fn note(&self, fault: StoreFault) -> bool {
        let was_failing = self.is_failing();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let damaged = matches!(*last, Some((StoreFault::Damaged, _)));
        // Damage that is found after a refusal is worse, and its line says to restore.
        let is_news = !was_failing || (!damaged && matches!(fault, StoreFault::Damaged));
        let fault = if damaged { StoreFault::Damaged } else { fault };
        *last = Some((fault, Instant::now()));
        is_news
    }

    /// Whether the store failed, and probably fails still.
    pub fn is_failing(&self) -> bool {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((StoreFault::Damaged, _)) => true,
            Some((StoreFault::Refused, at)) => at.elapsed() < REFUSED,
            None => false,
        }
    }
}

/// How the service is.
#[derive(Debug, Clone, Copy)]
pub struct Health {
    /// Since when this process runs.
    pub uptime: Duration,
    /// Whether a conditional write passed within the last few seconds, and no store is known to fail.
    pub writable: bool,
}

impl App {
    /// How the service is. At most one write every few seconds, however often it is asked.
    pub async fn health(&self, moment: &Moment) -> Health {
        let mut last = self.0.probe.0.lock().await;
        let writable = match *last {
            Some((at, writable)) if at.elapsed() < TRUSTED => writable,
            Some(_) | None => {
                let write = self.stores().guards.writable(moment.now);
                let writable = match timeout(PATIENCE, write).await {
                    Ok(Ok(())) => true,
                    Ok(Err(error)) => {
                        tracing::warn!(cause = error.why(), "the health probe could not write");
                        false
                    }
                    Err(_) => {
                        tracing::warn!("the health probe's write timed out");
                        false
                    }
                };
                *last = Some((Instant::now(), writable));
                writable
            }
        };
        let is_failing = self
            .0
            .means
            .store_faults
            .iter()
            .any(StoreFaults::is_failing);
        Health {
            uptime: self.0.started.elapsed(),
            writable: writable && !is_failing,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_damaged_store_fails_for_good_and_a_full_one_for_a_while() {
        let (full, damaged) = (StoreFaults::default(), StoreFaults::default());
        assert!(full.note(StoreFault::Refused));
        assert!(!full.note(StoreFault::Refused));
        assert!(damaged.note(StoreFault::Damaged));
        assert!(!damaged.note(StoreFault::Refused));
        assert!(full.is_failing() && damaged.is_failing());
        advance(REFUSED).await;
        assert!(!full.is_failing() && damaged.is_failing());
        assert!(full.note(StoreFault::Refused));
        assert!(!damaged.note(StoreFault::Damaged));
    }

    #[test]
    fn damage_that_is_found_after_a_refusal_is_news() {
        let faults = StoreFaults::default();
        assert!(faults.note(StoreFault::Refused));
        assert!(faults.note(StoreFault::Damaged));
        assert!(!faults.note(StoreFault::Damaged));
    }
}
