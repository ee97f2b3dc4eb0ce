//! What models were used for: counted once for each answer.

use std::{fmt, str::FromStr, time::Duration};

use time::{Date, Month as Name, OffsetDateTime};

use super::{
    AgentId, Error, TenantId, Timestamp,
    model::{Provider, Tokens},
};

/// One use of a model by an agent: an answer, with all that was asked to come to it, or a failure to give one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Whose.
    pub tenant: TenantId,
    /// Who answered.
    pub agent: AgentId,
    /// Who ran the model.
    pub provider: Provider,
    /// The model, in the provider's words.
    pub model: String,
    /// When the question was asked.
    pub at: Timestamp,
    /// What was used.
    pub tokens: Tokens,
    /// How long it took, from the question to the last word.
    pub took: Duration,
    /// Spreads what is counted over several rows.
    pub seed: u128,
}

/// A day, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

impl Day {
    /// The day of `at`.
    pub fn of(at: Timestamp) -> Self {
        Self(date(at))
    }

    /// Reads parameter `field`: a day such as `2025-12-13`, from 1970 to 9998.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, Error> {
        let rule = || {
            let rule = format!("Invalid {field}. It is a day such as 2025-12-13");
            Error::invalid(field, rule)
        };
        let day: Self = text.parse().map_err(|InvalidDay| rule())?;
        if (1_970..=9_998).contains(&day.0.year()) {
            Ok(day)
        } else {
            Err(rule())
        }
    }

    /// The day `days` before this one.
    #[must_use]
    pub fn before(self, days: i64) -> Self {
        Self(self.0.saturating_sub(time::Duration::days(days)))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.0.to_calendar_date();
        write!(f, "{year:04}-{:02}-{day:02}", u8::from(month))
    }
}

/// The text is not a day.
#[derive(Debug, Clone, Copy)]
pub struct InvalidDay;

impl FromStr for Day {
    type Err = InvalidDay;

    /// Accepts only the form that `Display` writes.
    fn from_str(text: &str) -> Result<Self, InvalidDay> {
        let plain = |byte: u8| byte == b'-' || byte.is_ascii_digit();
        if text.len() != 10 || !text.bytes().all(plain) {
            return Err(InvalidDay);
        }
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(InvalidDay);
        let year = next()?.parse().map_err(|_| InvalidDay)?;
        let month: u8 = next()?.parse().map_err(|_| InvalidDay)?;
        let day = next()?.parse().map_err(|_| InvalidDay)?;
        let month = Name::try_from(month).map_err(|_| InvalidDay)?;
        let date = Date::from_calendar_date(year, month, day).map_err(|_| InvalidDay)?;
        let read = Self(date);
        (read.to_string() == text).then_some(read).ok_or(InvalidDay)
    }
}

/// A month, UTC: for so long a tenant's tokens are counted against its cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Month {
    year: i32,
    month: Name,
}

impl Month {
    /// The month of `at`.
    pub fn of(at: Timestamp) -> Self {
        let (year, month, _) = date(at).to_calendar_date();
        Self { year, month }
    }

    /// When the next one begins.
    pub fn end(self) -> Timestamp {
        let next = self.month.next();
        let year = self.year + i32::from(next == Name::January);
        let first = Date::from_calendar_date(year, next, 1).unwrap_or(Date::MAX);
        Timestamp::from_micros(first.midnight().assume_utc().unix_timestamp() * 1_000_000)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, u8::from(self.month))
    }
}

/// The day of `at`; what no calendar reaches is 1970.
fn date(at: Timestamp) -> Date {
    let at = OffsetDateTime::from_unix_timestamp(at.seconds());
    at.unwrap_or(OffsetDateTime::UNIX_EPOCH).date()
}

/// What was used on one day by one agent of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageLine {
    /// The day.
    pub day: Day,
    /// The agent. It may be deleted.
    pub agent: AgentId,
    /// Who ran the model.
    pub provider: Provider,
    /// The model.
    pub model: String,
    /// How many answers were given.
    pub answers: u64,
    /// How often none was.
    pub errors: u64,
    /// What was used, by the failures too.
    pub tokens: Tokens,
    /// How long the answers took together, in milliseconds.
    pub latency_ms: u64,
}

impl UsageLine {
    /// How long an answer took, in milliseconds; 0 if there was none.
    pub const fn average_latency_ms(&self) -> u64 {
        match self.latency_ms.checked_div(self.answers) {
            Some(average) => average,
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_where_the_next_begins() {
        let end = |at: &str| Month::of(at.parse().unwrap()).end().to_string();
        assert_eq!(end("2026-11-22T12:45:00Z"), "2026-12-01T00:00:00.000000Z");
        assert_eq!(
            end("2026-12-31T23:59:59.999999Z"),
            "2027-01-01T00:00:00.000000Z"
        );
        assert_eq!(end("2028-02-29T00:00:00Z"), "2028-03-01T00:00:00.000000Z");
    }

    #[test]
    fn a_day_has_one_spelling() {
        let day = Day::parse("from", "2025-12-13").unwrap();
        assert_eq!(day.to_string(), "2025-12-13");
        assert_eq!(day.before(13).to_string(), "2025-11-30");
        for bad in [
            "",
            "2025-12-1",
            "2025-13-01",
            "2025-02-29",
            "+025-12-13",
            "2025-12-13T00:00:00Z",
            "20251213--",
            "1969-12-31",
            "9999-01-01",
            "２０２５-12-13",
            "2025-12--1",
        ] {
            assert!(Day::parse("from", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_average_of_nothing_is_nothing() {
        let mut line = UsageLine {
            day: "2025-12-13".parse().unwrap(),
            agent: "chat".parse().unwrap(),
            provider: Provider::Echo,
            model: "echo-1".to_owned(),
            answers: 0,
            errors: 1,
            tokens: Tokens::default(),
            latency_ms: 0,
        };
        assert_eq!(line.average_latency_ms(), 0);
        (line.answers, line.latency_ms) = (2, 7);
        assert_eq!(line.average_latency_ms(), 3);
    }
}
