//! When a question is asked again.

use std::time::Duration;

use tokio::time::Instant;

use super::far::Failed;

/// How often a question is asked.
const MOST: u32 = 3;
/// The first wait is at most this, each one after it at most twice the one before.
const FIRST: Duration = Duration::from_millis(500);

/// How much time there must be for a try: one that has less ends in nothing, and why it was made is not told.
const LEAST: Duration = Duration::from_secs(3);

/// The tries of one question.
#[derive(Debug)]
pub(super) struct Tries {
    made: u32,
    state: u128,
    deadline: Instant,
}

impl Tries {
    pub(super) const fn new(seed: u128, deadline: Instant) -> Self {
        Self {
            made: 0,
            // Nothing comes of nothing.
            state: seed | 1,
            deadline,
        }
    }

    /// Begins the next try, which is told by what this gives.
    pub(super) const fn next(&mut self) -> u128 {
        self.made += 1;
        self.random()
    }

    /// When to try again after `failed`, which it did at `now`: as the provider asks, or else after a random part of a
    /// growing wait. `None` if that is no use or leaves less than [`LEAST`] before the deadline.
    pub(super) fn after(&mut self, failed: Failed, now: Instant) -> Option<Instant> {
        if !failed.may_pass || self.made >= MOST {
            return None;
        }
        let wait = failed.wait.unwrap_or_else(|| {
            let most = (FIRST * 2_u32.pow(self.made - 1)).as_millis();
            let wait = self.random() % most;
            Duration::from_millis(u64::try_from(wait).unwrap_or_default())
        });
        let then = now.checked_add(wait)?;
        (then.checked_add(LEAST)? <= self.deadline).then_some(then)
    }

    /// Xorshift: spreading retries, and naming what only we may open, needs no better from a seed that nobody knows.
    const fn random(&mut self) -> u128 {
        self.state ^= self.state << 23;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 26;
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::model::ModelFailure;

    const FAILED: Failed = Failed {
        why: ModelFailure::TimedOut,
        may_pass: true,
        wait: None,
        may_be_used: false,
        reported: None,
    };

    fn tries(seconds: u64) -> (Tries, Instant) {
        let now = Instant::now();
        let mut tries = Tries::new(7, now + Duration::from_secs(seconds));
        tries.next();
        (tries, now)
    }

    #[tokio::test]
    async fn a_question_is_asked_three_times_at_most() {
        let (mut tries, now) = tries(60);
        assert!(tries.after(FAILED, now).unwrap() <= now + FIRST);
        tries.next();
        assert!(tries.after(FAILED, now).unwrap() <= now + FIRST * 2);
        tries.next();
        assert_eq!(tries.after(FAILED, now), None);
    }

    #[tokio::test]
    async fn what_would_fail_again_is_not_asked_again() {
        let (mut tries, now) = tries(60);
        let for_good = Failed {
            may_pass: false,
            ..FAILED
        };
        assert_eq!(tries.after(for_good, now), None);
    }

    #[tokio::test]
    async fn a_provider_that_asks_for_time_has_it_if_there_is_as_much() {
        let (mut tries, now) = tries(8);
        let after = |seconds| Failed {
            wait: Some(Duration::from_secs(seconds)),
            ..FAILED
        };
        assert_eq!(
            tries.after(after(4), now),
            Some(now + Duration::from_secs(4))
        );
        assert_eq!(tries.after(after(6), now), None);
        assert_eq!(tries.after(after(u64::MAX), now), None);
    }

    #[test]
    fn no_two_tries_have_one_name() {
        let now = Instant::now();
        let (mut one, mut two) = (Tries::new(7, now), Tries::new(8, now));
        assert_ne!(one.next(), two.next());
        assert_ne!(one.next(), one.next());
    }
}
