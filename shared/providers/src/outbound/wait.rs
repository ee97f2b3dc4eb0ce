//! How long whoever answered asks to be left alone.

use aws_smithy_types::date_time::{DateTime, Format};
use hyper::{HeaderMap, header};

use crate::domain::Timestamp;

/// The longest that anybody may ask to be left alone, in seconds: a day.
pub(crate) const LONGEST_WAIT: u64 = 24 * 3_600;

/// `Retry-After` in seconds: a number of them, or a time, of which we know how far it is if it is `at` now.
pub(crate) fn retry_after(headers: &HeaderMap, at: Option<Timestamp>) -> Option<u64> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that no u64 holds is a long time too.
        value.parse().unwrap_or(u64::MAX)
    } else {
        let until = DateTime::from_str(value, Format::HttpDate).ok()?;
        u64::try_from(until.secs() - at?.seconds()).unwrap_or(0)
    };
    Some(seconds.min(LONGEST_WAIT))
}

/// When it was by the clock of whoever answered.
pub(crate) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let value = headers.get(header::DATE)?.to_str().ok()?;
    let date = DateTime::from_str(value, Format::HttpDate).ok()?;
    Some(Timestamp::from_micros(date.secs().checked_mul(1_000_000)?))
}

#[cfg(test)]
mod tests {
    use hyper::http::HeaderValue;

    use super::*;

    fn asked(value: &'static str) -> Option<u64> {
        let headers =
            HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(value))]);
        // Sun, 06 Nov 1994 08:49:37 GMT
        retry_after(&headers, Some(Timestamp::from_micros(784_111_777_000_000)))
    }

    #[test]
    fn a_wait_is_seconds_or_a_time_and_at_most_a_day() {
        assert_eq!(asked("120"), Some(120));
        assert_eq!(asked("0"), Some(0));
        assert_eq!(asked("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(asked("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(asked("86401"), Some(LONGEST_WAIT));
        assert_eq!(asked("99999999999999999999999"), Some(LONGEST_WAIT));
        assert_eq!(asked("Fri, 31 Dec 2999 23:59:59 GMT"), Some(LONGEST_WAIT));
    }

    #[test]
    fn what_is_neither_asks_for_nothing() {
        for value in ["", "soon", "-1", "1.5", "1e3"] {
            assert_eq!(asked(value), None, "{value}");
        }
    }
}
