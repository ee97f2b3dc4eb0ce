//! Whose turn it is, in this process, to pump a room to a connection.
//!
//! Between processes the cursor's lease decides, and who finds it held comes back later. Within one, waiting is
//! cheaper than that.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    time::{Instant, timeout_at},
};

use crate::domain::{ConnectionId, Log};

type Key = (ConnectionId, Log);
type Lock = Arc<AsyncMutex<()>>;

/// Who is pumping. Nothing is kept of what nobody pumps.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<Key, Lock>>);

/// The turn of one, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    key: Key,
    lock: Lock,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// The turn, if nobody has it.
    pub(super) fn at_once(&self, connection: &ConnectionId, log: Log) -> Option<Turn<'_>> {
        let mut turn = self.unheld(connection, log);
        turn.guard = Arc::clone(&turn.lock).try_lock_owned().ok();
        turn.guard.is_some().then_some(turn)
    }

    /// The turn, once nobody else has it; `None` at `deadline`.
    pub(super) async fn wait(
        &self,
        connection: &ConnectionId,
        log: Log,
        deadline: Instant,
    ) -> Option<Turn<'_>> {
        let mut turn = self.unheld(connection, log);
        let lock = Arc::clone(&turn.lock).lock_owned();
        turn.guard = timeout_at(deadline, lock).await.ok();
        turn.guard.is_some().then_some(turn)
    }

    fn unheld(&self, connection: &ConnectionId, log: Log) -> Turn<'_> {
        let key = (connection.clone(), log);
        let lock = Arc::clone(self.locks().entry(key.clone()).or_default());
        Turn {
            turns: self,
            key,
            lock,
            guard: None,
        }
    }

    /// A panic elsewhere leaves the map whole: every change to it is one call.
    fn locks(&self) -> MutexGuard<'_, HashMap<Key, Lock>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut locks = self.turns.locks();
        self.guard = None;
        // The map's and ours: nobody waits.
        if Arc::strong_count(&self.lock) == 2 {
            locks.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_has_the_turn_at_a_time_and_nothing_is_kept_after() {
        let turns = Turns::default();
        let id = ConnectionId::parse("id").unwrap();
        let log = format!("room_{:032x}", 1).parse().unwrap();
        let first = turns.at_once(&id, log).unwrap();
        assert!(turns.at_once(&id, log).is_none());
        let soon = Instant::now() + Duration::from_secs(1);
        assert!(turns.wait(&id, log, soon).await.is_none());
        drop(first);
        assert!(turns.wait(&id, log, soon).await.is_some());
        assert!(turns.locks().is_empty());
    }
}
