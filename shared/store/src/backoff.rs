//! Waiting before a retry: full jitter, bounded by the request's deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::domain::Error;

/// The first wait is at most this. Measured (docs/performance.md): 1 → 8 ms bounds the unluckiest
/// writer's wait far better than a longer ladder, which lets one process monopolise a log.
const FIRST: Duration = Duration::from_millis(1);
/// No wait is longer than this.
const LONGEST: Duration = Duration::from_millis(8);

/// A ladder of waits that ends at a deadline.
#[derive(Debug, Clone)]
pub struct Backoff {
    deadline: Instant,
    ceiling: Duration,
    state: u64,
}

impl Backoff {
    /// Waits until `deadline` at the latest. `seed` makes the waits of two requests differ.
    pub fn until(deadline: Instant, seed: u128) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "any 64 of the bits will do"
        )]
        let state = (seed as u64) | 1;
        Self {
            deadline,
            ceiling: FIRST,
            state,
        }
    }

    /// Waits a random part of the current ceiling, and doubles it.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] once the deadline is reached.
    pub async fn pause(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if now >= self.deadline {
            return Err(Error::Busy);
        }
        let micros = u64::try_from(self.ceiling.as_micros()).unwrap_or(u64::MAX);
        let wait = Duration::from_micros(self.random() % micros.max(1));
        self.ceiling = (self.ceiling * 2).min(LONGEST);
        sleep_until((now + wait).min(self.deadline)).await;
        Ok(())
    }

    /// Xorshift: spreading retries needs no better randomness.
    const fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }
}
