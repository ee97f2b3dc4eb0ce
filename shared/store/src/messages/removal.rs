//! Removing a whole log: that of a chat that was deleted.

use super::{MessageStore, partition};
use crate::{
    Backoff,
    domain::{Error, LogId},
    removal,
};

impl MessageStore {
    /// Removes the first messages of a log that nobody can reach or write any more, at most `limit` of them. Whether
    /// more are left.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] or [`Error::Unavailable`] at the deadline of `race`: some of them may be gone.
    pub async fn remove_first(
        &self,
        log: LogId,
        limit: usize,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        removal::remove_first(&self.client, &self.table, partition(log), limit, race).await
    }
}
