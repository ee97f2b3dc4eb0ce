//! What a receiver's answer means, or that there is none.

use hyper::HeaderMap;

use crate::{
    domain::{Timestamp, webhook::Refused},
    outbound::wait::retry_after,
};

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
        retry_after: may_ask.then(|| retry_after(headers, Some(at))).flatten(),
        gone: status == 410,
    })
}
