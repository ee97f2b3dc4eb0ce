//! Why somebody could not be reached, in words that are always the same and never theirs.

use std::{error::Error as StdError, io};

use hyper_util::client::legacy;

use super::connect::Unreached;

pub(crate) const TIMEOUT: &str = "connection timeout";
pub(crate) const NOT_ALLOWED: &str = "address is not allowed";
const NO_HOST: &str = "host not found";
const REFUSED: &str = "connection refused";
const RESET: &str = "connection reset";
const TLS: &str = "TLS error";
const UNREACHABLE: &str = "host unreachable";
const NO_HTTP: &str = "answer is not HTTP";
const FAILED: &str = "connection failed";

/// Why there is no answer, in words that are always the same.
pub(crate) fn reason(error: &legacy::Error) -> &'static str {
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
