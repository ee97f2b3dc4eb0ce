//! Warnings of what may happen a thousand times a second.

use std::time::Duration;

use tokio::time::Instant;

/// Time between two lines of one warning.
const INTERVAL: Duration = Duration::from_secs(10);

/// One warning, logged at most every ten seconds.
#[derive(Debug, Default)]
pub struct Warning {
    times: u64,
    last: Option<Instant>,
}

impl Warning {
    /// Counts one more time. `Some` if a line is due: how often it happened since the last one.
    pub fn due(&mut self) -> Option<u64> {
        self.due_after(1)
    }

    /// The same for `times` more. Nothing is due if it did not happen.
    pub fn due_after(&mut self, times: u64) -> Option<u64> {
        self.times += times;
        if self.times == 0 {
            return None;
        }
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

    #[tokio::test(start_paused = true)]
    async fn a_warning_is_no_line_where_nothing_happened() {
        let mut warning = Warning::default();
        assert!((0..1_000).all(|_| warning.due_after(0).is_none()));
        assert_eq!(warning.due_after(3), Some(3));
        tokio::time::advance(INTERVAL).await;
        assert_eq!(warning.due_after(0), None);
    }
}
