//! When a stream is looked at.

use std::time::Duration;

use tokio::sync::watch;

/// How often a store that cannot call us is looked at, as Lambda does it.
const POLL: Duration = Duration::from_secs(1);

/// What makes a poller look.
#[derive(Debug, Clone)]
pub enum Wake {
    /// The embedded store says that a stream has grown; until then, nothing runs.
    OnChange(watch::Receiver<u64>),
    /// Another store has to be asked.
    Polling,
}

impl Wake {
    /// Takes note that the stream is about to be read: only later changes wake.
    pub(super) fn reading(&mut self) {
        if let Self::OnChange(changes) = self {
            changes.mark_unchanged();
        }
    }

    /// Returns when it is time to look, with at most `window` given to gathering records.
    pub(super) async fn next(&mut self, window: Duration) {
        match self {
            Self::OnChange(changes) => {
                if changes.changed().await.is_err() {
                    // The store is closed: there is nothing left to see.
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(window).await;
            }
            Self::Polling => tokio::time::sleep(window.max(POLL)).await,
        }
    }
}
