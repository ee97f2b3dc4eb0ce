//! When a request happens, by when it must be answered, and the randomness to name what it makes.

use tokio::time::Instant;

use super::Timestamp;

/// What a use case needs from the world besides its words. The edge draws one for each request, so
/// that everything below it is a function of its arguments.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The wall clock, for what is stored and shown.
    pub now: Timestamp,
    /// When to give up with [`super::Error::Busy`].
    pub deadline: Instant,
    /// 128 random bits: ids made in this request differ by their kind, not by their bits.
    pub seed: u128,
}
