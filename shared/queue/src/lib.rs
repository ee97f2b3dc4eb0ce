//! SQS: what leaves the service through a queue. Payloads are JSON with a version and a kind.
//!
//! **Invariant:** a job says what happened and to whom it matters, never what it said: whoever does it reads
//! that where it is kept. So a job is small, and old copies of it do no harm.

use parlance_domain as domain;

mod fanout;
mod jobs;
mod poison;
mod source;
mod sweeps;

pub use fanout::{Audience, Fanout};
pub use jobs::{Jobs, Sending, Sent, Unsent, parse_job};
pub use poison::PoisonQueue;
pub use source::Source;
pub use sweeps::Sweep;

/// The fault of a function that reaches for a queue and was given none.
fn no_queues() -> crate::domain::Error {
    crate::domain::Error::internal("this function was given no queues")
}

/// The version of the payloads, for the reader that will have to tell two of them apart.
const VERSION: u32 = 1;

/// Refuses a payload of another version, whatever else it holds.
fn known_version(text: &str) -> Result<(), String> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        v: u32,
    }
    let Versioned { v } = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if v == VERSION {
        Ok(())
    } else {
        Err(format!("version {v} is not known"))
    }
}

/// The queues' URLs.
#[derive(Debug, Clone)]
pub struct QueueUrls {
    /// Whom does this reach?
    pub fanout: String,
    /// Deliver this.
    pub deliveries: String,
    /// Remove this. Only who is told of it sends to it.
    pub sweeps: String,
}
