//! A point in time, to the microsecond.

use std::{fmt, str::FromStr};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::Error;

const MICROS_PER_SECOND: i64 = 1_000_000;
/// The end of the year 9999, in seconds since 1970. Later years have more digits, and their text would not sort.
const END: i64 = 253_402_300_800;

/// By how much two clocks may differ, and a request be older than what it is compared with, in seconds.
pub const SKEW_SECONDS: i64 = 30;

/// Microseconds since 1970, UTC.
///
/// Shown with a fixed width (`2025-12-13T12:00:00.123456Z`), so that the text sorts as the time does
/// and can be a sort key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The time `micros` microseconds after 1970.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Reads a time that a client sent as `field`: RFC 3339, from 1970 to the end of 9999.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] about `field`.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, Error> {
        let at = text.parse::<Self>().ok();
        at.filter(|at| (0..END).contains(&at.seconds()))
            .ok_or_else(|| {
                let rule = format!(
                    "Invalid {field}. It is a time as in RFC 3339, such as 2026-01-31T12:00:00Z, from 1970 to 9999"
                );
                Error::invalid(field, rule)
            })
    }

    /// Microseconds since 1970.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, as DynamoDB's TTL and `X-RateLimit-Reset` count them.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(MICROS_PER_SECOND)
    }

    /// This time and `micros` microseconds more.
    #[must_use]
    pub const fn plus_micros(self, micros: i64) -> Self {
        Self(self.0 + micros)
    }

    /// Whether `now` is before this end of something that lasts at most `longest` seconds.
    ///
    /// An end farther off was written by a clock that was ahead, or ours was set back since. It has passed: nobody is to
    /// wait for as long as a clock was wrong.
    pub const fn is_awaited(self, now: Self, longest: i64) -> bool {
        self.0 > now.0 && self.0 <= now.farthest_end(longest).0
    }

    /// The farthest end that something may have which lasts at most `longest` seconds, at this time.
    #[must_use]
    pub const fn farthest_end(self, longest: i64) -> Self {
        self.plus_seconds(longest + SKEW_SECONDS)
    }

    /// The earliest time that the clock of another process may show at this one.
    #[must_use]
    pub const fn earliest_elsewhere(self) -> Self {
        self.plus_seconds(-SKEW_SECONDS)
    }

    /// This time and `seconds` more.
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0 + seconds * MICROS_PER_SECOND)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A time beyond year 9999 has no RFC 3339 text. The last one that has stands for it: text that is only compared must
        // not fail.
        let seconds = self.seconds().clamp(-END, END - 1);
        let at = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| fmt::Error)?;
        let micros = self.0.rem_euclid(MICROS_PER_SECOND);
        let (date, time) = (at.date(), at.time());
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{micros:06}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            time.hour(),
            time.minute(),
            time.second(),
        )
    }
}

/// The text is not a time.
#[derive(Debug)]
pub struct InvalidTimestamp;

impl fmt::Display for InvalidTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an RFC 3339 time")
    }
}

impl std::error::Error for InvalidTimestamp {}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| InvalidTimestamp)?;
        i64::try_from(at.unix_timestamp_nanos() / 1_000)
            .map(Self)
            .map_err(|_| InvalidTimestamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_back_as_it_was_shown() {
        let at = Timestamp::from_micros(1_765_627_200_123_456);
        assert_eq!(at.to_string(), "2025-12-13T12:00:00.123456Z");
        assert_eq!(at.to_string().parse::<Timestamp>().unwrap(), at);
    }

    #[test]
    fn the_year_9999_is_a_year_and_no_later_one_is() {
        let last = Timestamp::parse("at", "9999-12-31T23:59:59.999999Z").unwrap();
        assert_eq!(last.to_string(), "9999-12-31T23:59:59.999999Z");
        for bad in [
            "9999-12-31T23:59:59-01:00",
            "1969-12-31T23:59:59Z",
            "2026-01-31",
            "",
        ] {
            assert!(Timestamp::parse("at", bad).is_err(), "{bad}");
        }
    }
}
