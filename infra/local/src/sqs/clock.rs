//! A clock that is set back. Messages are hidden until a time, and would be hidden for as much longer; ids of FIFO queues
//! would be duplicates for as much longer.
//!
//! A step back while we run is noticed by another clock, which nobody sets, and all times to come are moved by it. Of one
//! that happened while nobody ran it is only known that no message is hidden for longer than SQS allows.

use std::time::Instant;

use rusqlite::{Connection, params};

use super::database;

/// The longest that a message may be hidden, in ms: by its visibility timeout, and before it was received by its delay.
const LONGEST_HIDDEN: i64 = 43_200 * 1_000;
const LONGEST_DELAY: i64 = 900 * 1_000;
/// How far back a clock must be set to be set back, in ms.
const NOTICED: i64 = 1_000;

/// What the clock last showed, and when that was at the latest.
#[derive(Debug, Default)]
pub(super) struct Clock(Option<(i64, Instant)>);

impl Clock {
    /// By how much the clock was set back since the last look, in ms.
    pub(super) fn look(&mut self) -> Option<i64> {
        let (before, now, after) = (Instant::now(), database::now(), Instant::now());
        self.step_back(before, now, after)
    }

    /// The same for a clock that shows `now` at some time from `before` to `after`.
    fn step_back(&mut self, before: Instant, now: i64, after: Instant) -> Option<i64> {
        let (shown, then) = self.0.replace((now, after))?;
        let passed = i64::try_from(before.saturating_duration_since(then).as_millis());
        let expected = shown.saturating_add(passed.unwrap_or(i64::MAX));
        let step = expected.saturating_sub(now);
        (step >= NOTICED).then_some(step)
    }
}

/// The clock was set back by `step` ms and shows `now`: moves what is to come.
pub(super) fn shift(db: &Connection, step: i64, now: i64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE messages SET visible = max(visible - ?1, ?2) WHERE visible > ?2")?
        .execute(params![step, now])?;
    settle_duplicates(db, now)
}

/// Bounds what is to come at `now`.
pub(super) fn bound(db: &Connection, now: i64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE messages SET visible = ?1
         WHERE visible > ?1 + ?2 OR (receives = 0 AND visible > ?1 + ?3)",
    )?
    .execute(params![now, LONGEST_HIDDEN, LONGEST_DELAY])?;
    settle_duplicates(db, now)
}

/// What was sent at a time to come was sent now.
fn settle_duplicates(db: &Connection, now: i64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE duplicates SET sent = ?1 WHERE sent > ?1")?
        .execute(params![now])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_step_back_is_noticed_and_time_that_passes_is_none() {
        const DAY: i64 = 86_400_000;
        let (mut clock, at) = (Clock::default(), Instant::now());
        let mut look = |seconds, took, now| {
            let before = at + Duration::from_secs(seconds);
            clock.step_back(before, now, before + Duration::from_secs(took))
        };
        assert_eq!(look(0, 0, 10 * DAY), None);
        assert_eq!(look(60, 0, 10 * DAY + 60_000), None);
        // Forward, and less than is noticed.
        assert_eq!(look(61, 0, 11 * DAY), None);
        assert_eq!(look(62, 0, 11 * DAY + 1), None);
        assert_eq!(look(72, 0, 10 * DAY + 1), Some(DAY + 10_000));
        assert_eq!(look(73, 0, 10 * DAY + 1_001), None);
        // Whoever looks may be held up on either side of the look.
        assert_eq!(look(74, 30, 10 * DAY + 2_001), None);
        assert_eq!(look(105, 30, 10 * DAY + 63_001), None);
        assert_eq!(look(136, 0, 10 * DAY + 64_001), None);
    }
}
