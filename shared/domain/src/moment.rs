//! When a request happens, by when it must be answered, and the randomness to name what it makes.

use std::time::Duration;

use tokio::time::Instant;

use super::Timestamp;

/// What a use case needs from the world besides its words. The edge draws one for each request, so
/// that everything below it is a function of its arguments.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The wall clock when it began, for what is stored and shown.
    pub now: Timestamp,
    /// When that was.
    pub started: Instant,
    /// When to give up with [`super::Error::Busy`].
    pub deadline: Instant,
    /// 128 random bits: ids made in this request differ by their kind, not by their bits.
    pub seed: u128,
}

impl Moment {
    /// One that began at `started`, when the wall clock showed `now`, and gives up after `patience`.
    pub fn new(now: Timestamp, started: Instant, patience: Duration, seed: u128) -> Self {
        Self {
            now,
            started,
            deadline: started + patience,
            seed,
        }
    }

    /// The wall clock now, as far as it went on since then: for what is compared with the clocks of others while this lasts,
    /// such as the ends of leases.
    pub fn current(&self) -> Timestamp {
        let passed = i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.now.micros().saturating_add(passed))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// A lease that is taken late in a request ends as late.
    #[tokio::test(start_paused = true)]
    async fn the_clock_of_a_request_goes_on_from_when_it_began() {
        let began = Timestamp::from_micros(1_765_627_200_000_000);
        let moment = Moment::new(began, Instant::now(), Duration::from_secs(10), 1);

        advance(Duration::from_secs(7)).await;

        assert_eq!(moment.current(), began.plus_seconds(7));
        assert_eq!(moment.now, began);
    }
}
