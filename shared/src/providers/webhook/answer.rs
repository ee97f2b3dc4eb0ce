//! What a receiver's answer means, or that there is none.

use std::{error::Error as StdError, io};

use aws_smithy_types::date_time::{DateTime, Format};
use http_body_util::BodyExt;
use hyper::{
    HeaderMap,
    body::{Body, Incoming},
    header,
};
use hyper_util::client::legacy;

use super::connect::Unreached;
use crate::domain::{Timestamp, webhook::Refused};

/// How much of an answer's body is read and thrown away, in bytes.
const PASSED_OVER: u64 = 16 * 1024;
/// The longest that a receiver may ask to be left alone, in seconds: a day.
const LONGEST_WAIT: u64 = 24 * 3_600;

pub(super) const TIMEOUT: &str = "connection timeout";
pub(super) const NOT_ALLOWED: &str = "address is not allowed";
const NO_HOST: &str = "host not found";
const REFUSED: &str = "connection refused";
const RESET: &str = "connection reset";
const TLS: &str = "TLS error";
const UNREACHABLE: &str = "host unreachable";
const NO_HTTP: &str = "answer is not HTTP";
const FAILED: &str = "connection failed";

/// Reads a body that nobody wants, so that its connection can be used again: if it is short.
pub(super) async fn pass_over(mut body: Incoming) {
    if body.size_hint().lower() > PASSED_OVER {
        return;
    }
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, |data| data.len() as u64);
        if read > PASSED_OVER {
            return;
        }
    }
}

/// What an answer means that came to an attempt made at `at`.
pub(super) fn judge(status: u16, headers: &HeaderMap, at: Timestamp) -> Result<u16, Refused> {
    let (is_redirection, may_ask) = match status {
        200..=299 => return Ok(status),
        300..=399 => (true, false),
        429 | 503 => (false, true),
        _ => (false, false),
    };
    Err(Refused {
        reason: if is_redirection {
            format!("HTTP {status} is not followed")
        } else {
            format!("HTTP {status}")
        },
        status: Some(status),
        retry_after: may_ask.then(|| retry_after(headers, at)).flatten(),
        gone: status == 410,
    })
}

/// `Retry-After` in seconds from `at`: a number of seconds, or a time.
fn retry_after(headers: &HeaderMap, at: Timestamp) -> Option<u64> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that no u64 holds is a long time too.
        value.parse().unwrap_or(u64::MAX)
    } else {
        let until = DateTime::from_str(value, Format::HttpDate).ok()?;
        u64::try_from(until.secs() - at.seconds()).unwrap_or(0)
    };
    Some(seconds.min(LONGEST_WAIT))
}

/// Why there is no answer, in words that are always the same.
pub(super) fn reason(error: &legacy::Error) -> &'static str {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(reason) = known(error) {
            return reason;
        }
        cause = error.source();
    }
    // Whoever hangs up in the middle of a handshake leaves no better reason.
    if error.is_connect() { TLS } else { FAILED }
}

fn known(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    if let Some(unreached) = error.downcast_ref::<Unreached>() {
        return match unreached {
            Unreached::NoHost => Some(NO_HOST),
            Unreached::NotAllowed => Some(NOT_ALLOWED),
            Unreached::TimedOut => Some(TIMEOUT),
            Unreached::Failed(error) => io_reason(error).or(Some(FAILED)),
        };
    }
    if error.is::<rustls::Error>() {
        return Some(TLS);
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        if error.is_parse() || error.is_parse_too_large() {
            return Some(NO_HTTP);
        }
        if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
            return Some(RESET);
        }
    }
    io_reason(error.downcast_ref::<io::Error>()?)
}

fn io_reason(error: &io::Error) -> Option<&'static str> {
    // What is wrapped is no source of it, but says more.
    if let Some(reason) = error.get_ref().and_then(|inner| known(inner)) {
        return Some(reason);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(REFUSED),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Some(RESET),
        io::ErrorKind::TimedOut => Some(TIMEOUT),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Some(UNREACHABLE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hyper::http::HeaderValue;

    use super::*;

    fn asked(value: &'static str) -> Option<u64> {
        let headers =
            HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(value))]);
        // Sun, 06 Nov 1994 08:49:37 GMT
        retry_after(&headers, Timestamp::from_micros(784_111_777_000_000))
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
