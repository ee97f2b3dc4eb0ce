//! Warnings of what may happen a thousand times a second.

use std::time::Duration;

use tokio::time::Instant;

/// Time between two lines of one warning.
const INTERVAL: Duration = Duration::from_secs(10);

/// One warning, logged at most every ten seconds.
#[derive(Debug, Default)]
pub(super) struct Warning {
    times: u64,
    last: Option<Instant>,
}

impl Warning {
    /// Counts one more time. `Some` if a line is due: how often it happened since the last one.
    pub(super) fn due(&mut self) -> Option<u64> {
        self.times += 1;
        if self.last.is_some_and(|last| last.elapsed() < INTERVAL) {
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_warning_is_a_line_every_ten_seconds_that_tells_how_often_it_happened() {
        let mut warning = Warning::default();
        assert_eq!(warning.due(), Some(1));
        assert!((0..1_000).all(|_| warning.due().is_none()));
        tokio::time::advance(INTERVAL).await;
        assert_eq!(warning.due(), Some(1_001));
    }
}
