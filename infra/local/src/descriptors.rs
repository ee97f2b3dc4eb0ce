//! File descriptors: each connection needs one, and the stores, webhooks and models need some too.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept for everything that is not a client's connection, or half of all where there are few.
const RESERVED: u64 = 256;
/// Taken for "as many as one likes".
const MANY: u64 = 1 << 20;

/// Raises the limit of this process as far as it may, and says how many connections it allows.
pub(crate) fn for_connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(MANY).min(MANY);
    let raised = Rlimit {
        current: Some(most),
        maximum: limit.maximum,
    };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => most,
        Err(error) => {
            tracing::debug!(%error, "the limit of file descriptors was not raised");
            limit.current.unwrap_or(MANY)
        }
    };
    let reserved = RESERVED.min(allowed / 2);
    usize::try_from(allowed - reserved).unwrap_or(usize::MAX)
}
