//! Heads follow their logs.

use super::App;
use crate::domain::{Error, Thread, Timestamp, message::Seq};

impl App {
    /// Moves the head of a room forward to a message that was seen in its log.
    pub async fn advance_head(&self, thread: Thread, seq: Seq, at: Timestamp) -> Result<(), Error> {
        self.stores().rooms.advance(thread, seq, at).await
    }
}
