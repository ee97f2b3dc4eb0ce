//! Waiting before a call that failed is made again.

use std::time::Duration;

/// Pauses of something that is done again and again: twice as long after each further failure, up to a bound. A fault that
/// stays so costs ever fewer calls, and fewer lines of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pauses {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Pauses {
    /// No failure yet.
    pub const fn between(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// The pause after one more failure.
    pub fn after_failure(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.longest);
        pause
    }

    /// Notes a success: the next failure counts as the first.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_twice_the_one_before_up_to_the_longest_until_a_success() {
        let second = Duration::from_secs(1);
        let mut pauses = Pauses::between(second, 5 * second);
        let taken: Vec<_> = (0..5).map(|_| pauses.after_failure()).collect();
        assert_eq!(taken, [1, 2, 4, 5, 5].map(|count| count * second));
        pauses.reset();
        assert_eq!(pauses.after_failure(), second);
    }
}
