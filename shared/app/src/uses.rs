//! Noting that a key is used: about once an hour, and never at a request's cost.

use std::{
    collections::HashMap,
    fmt::Display,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use crate::{
    domain::{Error, Moment, TenantId},
    store::Backoff,
};

/// How often one process notes that a key is used, in seconds.
const NOTED_SECONDS: i64 = 3_600;
/// How long a request waits for that note at most.
const NOTE_PATIENCE: Duration = Duration::from_secs(1);
/// For how many keys a process remembers when it was last noted. Forgetting costs one write.
const CAPACITY: usize = 10_000;

/// When this process last noted that a key is used, in seconds since 1970.
#[derive(Debug)]
pub(super) struct Uses<K>(Mutex<HashMap<K, i64>>);

impl<K> Default for Uses<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Copy + Eq + Hash + Display> Uses<K> {
    /// Has `write` note that `key` is used, if that is due at `moment`. A request never fails by it.
    pub(super) async fn note(
        &self,
        (tenant, key): (TenantId, K),
        moment: &Moment,
        write: impl AsyncFnOnce(&mut Backoff) -> Result<(), Error>,
    ) {
        if !self.is_due(key, moment.now.seconds()) {
            return;
        }
        let end = moment.deadline.min(Instant::now() + NOTE_PATIENCE);
        let mut race = Backoff::until(end, moment.seed);
        match timeout_at(end, write(&mut race)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%tenant, %key, cause = error.why(), "the use of a key was not noted");
            }
            Err(_) => tracing::warn!(%tenant, %key, "noting the use of a key timed out"),
        }
    }

    /// Whether a use of `key` is to be noted at `now`. Whoever is told so notes it.
    fn is_due(&self, key: K, now: i64) -> bool {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted
            .get(&key)
            .is_some_and(|at| (now - at).abs() < NOTED_SECONDS)
        {
            return false;
        }
        if noted.len() >= CAPACITY {
            noted.clear();
        }
        noted.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_noted_once_an_hour() {
        let (uses, key) = (Uses::default(), "key");
        assert!(uses.is_due(key, 0));
        assert!(!uses.is_due(key, NOTED_SECONDS - 1));
        assert!(uses.is_due(key, NOTED_SECONDS));
        assert!(!uses.is_due(key, NOTED_SECONDS + 1));
    }
}
