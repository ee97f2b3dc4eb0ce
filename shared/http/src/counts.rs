//! Writing down what was counted: nothing waits long for it, and nothing fails by it.

use std::time::Duration;

use tokio::time::timeout;

use crate::app::{App, Keep};

/// How long is waited for it. What takes longer may be lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// Writes what `app` has counted, once the work is done. That it failed is logged.
pub async fn keep(app: &App, keep: Keep) {
    match timeout(PATIENCE, app.keep_counts(keep)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(cause = error.why(), "counts were not written"),
        Err(_) => tracing::warn!("writing counts timed out"),
    }
}
