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

/// How often a write that fails again and again is a line of the log.
const LINE_INTERVAL: Duration = Duration::from_mins(1);

/// The last write.
#[derive(Debug, Default)]
pub(super) struct Probe(Mutex<Probed>);

#[derive(Debug, Default)]
struct Probed {
    last: Option<(Instant, bool)>,
    /// When a failure was logged; `None` since a write passed.
    logged_at: Option<Instant>,
}

impl Probed {
    /// Notes a write. Whether its failure is to be logged: the first one, or the first for a while.
    fn note(&mut self, writable: bool, now: Instant) -> bool {
        self.last = Some((now, writable));
        if writable {
            self.logged_at = None;
            return false;
        }
        let is_due = self
            .logged_at
            .is_none_or(|at| now.saturating_duration_since(at) >= LINE_INTERVAL);
        if is_due {
            self.logged_at = Some(now);
        }
        is_due
    }
}

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
        let mut probed = self.0.probe.0.lock().await;
        let writable = match probed.last {
            Some((at, writable)) if at.elapsed() < TRUSTED => writable,
            Some(_) | None => {
                let write = self.stores().guards.writable(moment.now);
                let written = timeout(PATIENCE, write).await;
                let writable = matches!(written, Ok(Ok(())));
                let is_line = probed.note(writable, Instant::now());
                match written {
                    Ok(Err(error)) if is_line => {
                        tracing::warn!(cause = error.why(), "the health probe could not write");
                    }
                    Err(_) if is_line => tracing::warn!("the health probe's write timed out"),
                    Ok(_) | Err(_) => {}
                }
                writable
            }
        };
        Health {
            uptime: self.0.started.elapsed(),
            writable: writable && !self.is_store_failing(),
        }
    }

    /// Whether a store within this process failed for a reason that does not pass by itself, and probably fails still.
    pub(super) fn is_store_failing(&self) -> bool {
        let mut faults = self.0.means.store_faults.iter();
        faults.any(StoreFaults::is_failing)
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
    fn a_probe_that_fails_is_a_line_a_minute_until_one_passes() {
        let (mut probed, start) = (Probed::default(), Instant::now());
        let lines = (0..180).filter(|second| {
            let at = start + Duration::from_secs(*second);
            probed.note(false, at)
        });
        assert_eq!(lines.collect::<Vec<_>>(), [0, 60, 120]);
        let now = start + Duration::from_mins(3);
        assert!(!probed.note(true, now));
        assert!(probed.note(false, now));
    }

    #[test]
    fn damage_that_is_found_after_a_refusal_is_news() {
        let faults = StoreFaults::default();
        assert!(faults.note(StoreFault::Refused));
        assert!(faults.note(StoreFault::Damaged));
        assert!(!faults.note(StoreFault::Damaged));
    }
}
