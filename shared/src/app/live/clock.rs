//! The time while something lasts.

use tokio::time::Instant;

use crate::domain::{Moment, Timestamp};

/// Goes on from the moment of a call.
#[derive(Debug, Clone, Copy)]
pub(in crate::app) struct Clock {
    began: Timestamp,
    at: Instant,
}

impl Clock {
    /// Shows `moment` now.
    pub(in crate::app) fn of(moment: &Moment) -> Self {
        Self {
            began: moment.now,
            at: Instant::now(),
        }
    }

    pub(in crate::app) fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.at.elapsed().as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.began.micros().saturating_add(passed))
    }
}
