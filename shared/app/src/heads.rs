//! Heads follow their logs.

use tokio::time::Instant;

use super::App;
use crate::{
    domain::{Error, LogId, Timestamp, message::Seq},
    store::Backoff,
};

impl App {
    /// Moves the head of a room forward to a message that was seen in its log, until `deadline`.
    pub async fn advance_head(
        &self,
        log: LogId,
        seq: Seq,
        at: Timestamp,
        deadline: Instant,
    ) -> Result<(), Error> {
        let mut race = Backoff::until(deadline, u128::from(seq.get()));
        self.stores().rooms.advance(log, seq, at, &mut race).await
    }
}
