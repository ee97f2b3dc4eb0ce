//! Whether the service can write.

use std::time::Duration;

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

/// How the service is.
#[derive(Debug, Clone, Copy)]
pub struct Health {
    /// Since when this process runs.
    pub uptime: Duration,
    /// Whether a conditional write passed within the last few seconds.
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
        Health {
            uptime: self.0.started.elapsed(),
            writable,
        }
    }
}
