//! The provider keys that this process remembers, so that an answer need not read and open them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::domain::{
    ProviderKeyId,
    provider_key::{ModelKey, Owner, ProviderKey},
    secret::SecretHash,
    webhook::Sealed,
};

/// How long what was read is taken as it is. A change elsewhere is seen after that.
const REMEMBERED: Duration = Duration::from_mins(1);
/// How long an opened key stays in memory, and that another one does not open.
const OPEN: Duration = Duration::from_mins(5);
/// Of how many owners keys are remembered, and how many opened ones.
const CAPACITY: usize = 1_000;
/// For how long a key that was rejected is tried last.
const REJECTED: Duration = Duration::from_mins(1);
/// How often one process notes that a key is taken, in seconds.
const NOTED_SECONDS: i64 = 3_600;

/// What is remembered of provider keys.
#[derive(Debug, Default)]
pub(crate) struct KnownKeys(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    owners: HashMap<Owner, (Instant, Arc<[ProviderKey]>)>,
    opened: HashMap<(ProviderKeyId, SecretHash), (Instant, ModelKey)>,
    /// What did not open, and never will as it is.
    closed: HashMap<ProviderKeyId, (Instant, Sealed)>,
    /// When providers did not take keys that stay as they are.
    rejected: HashMap<(ProviderKeyId, SecretHash), Instant>,
    /// When a use was last noted, in seconds since 1970.
    noted: HashMap<ProviderKeyId, i64>,
    /// How many changes there were: what was read before one is not remembered after it.
    changes: u64,
}

/// How many changes there were when a reading began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Began(u64);

impl KnownKeys {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered of an owner's keys; or else the beginning of a reading.
    pub(super) fn get(&self, owner: Owner) -> Result<Arc<[ProviderKey]>, Began> {
        let state = self.state();
        match state.owners.get(&owner) {
            Some((at, keys)) if at.elapsed() < REMEMBERED => Ok(Arc::clone(keys)),
            Some(_) | None => Err(Began(state.changes)),
        }
    }

    /// Remembers what was read since `began`.
    pub(super) fn put(&self, owner: Owner, began: Began, keys: &Arc<[ProviderKey]>) {
        let mut state = self.state();
        if state.changes != began.0 {
            return;
        }
        if state.owners.len() >= CAPACITY {
            state.owners.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
        }
        if state.owners.len() >= CAPACITY {
            state.owners.clear();
        }
        let remembered = (Instant::now(), Arc::clone(keys));
        state.owners.insert(owner, remembered);
    }

    /// What was read of an owner is no longer true.
    pub(super) fn forget(&self, owner: Owner) {
        let mut state = self.state();
        state.changes += 1;
        state.owners.remove(&owner);
    }

    /// A key that was opened not long ago.
    pub(super) fn opened(&self, key: &ProviderKey) -> Option<ModelKey> {
        let mut state = self.state();
        // What is not asked for does not stay in memory either.
        state.opened.retain(|_, (at, _)| at.elapsed() < OPEN);
        let opened = state.opened.get(&(key.id, key.hash));
        opened.map(|(_, opened)| opened.clone())
    }

    /// Remembers what was opened now.
    pub(super) fn open(&self, key: &ProviderKey, opened: ModelKey) {
        let mut state = self.state();
        if state.opened.len() >= CAPACITY {
            state.opened.clear();
        }
        let opened = (Instant::now(), opened);
        state.opened.insert((key.id, key.hash), opened);
    }

    /// Remembers that `key` does not open.
    pub(super) fn close(&self, key: &ProviderKey) {
        let closed = &mut self.state().closed;
        closed.retain(|_, (at, _)| at.elapsed() < OPEN);
        if closed.len() >= CAPACITY {
            closed.clear();
        }
        closed.insert(key.id, (Instant::now(), key.sealed.clone()));
    }

    /// Whether `key`, sealed as it is, is known not to open.
    pub(super) fn is_closed(&self, key: &ProviderKey) -> bool {
        let state = self.state();
        let closed = state.closed.get(&key.id);
        closed.is_some_and(|(at, sealed)| at.elapsed() < OPEN && *sealed == key.sealed)
    }

    /// Remembers that the key `id` with this `fingerprint` was not taken now. Whether that is news.
    pub(super) fn reject(&self, id: ProviderKeyId, fingerprint: SecretHash) -> bool {
        let rejected = &mut self.state().rejected;
        rejected.retain(|_, at| at.elapsed() < REJECTED);
        if rejected.len() >= CAPACITY {
            rejected.clear();
        }
        rejected.insert((id, fingerprint), Instant::now()).is_none()
    }

    /// Whether `key`, as it is, was not taken within the last minute.
    pub(super) fn was_rejected(&self, key: &ProviderKey) -> bool {
        let of = (key.id, key.fingerprint);
        let at = self.state().rejected.get(&of).copied();
        at.is_some_and(|at| at.elapsed() < REJECTED)
    }

    /// Whether a use of `key` is to be noted at `now`. Whoever is told so notes it.
    pub(super) fn is_due(&self, key: ProviderKeyId, now: i64) -> bool {
        let noted = &mut self.state().noted;
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
    use tokio::time::advance;

    use super::*;
    use crate::domain::{
        Moment, TenantId, Timestamp,
        model::Provider,
        provider_key::{KeyType, Scope},
        webhook::Description,
    };

    fn key() -> ProviderKey {
        let moment = Moment::new(Timestamp::from_micros(0), Instant::now(), Duration::ZERO, 1);
        ProviderKey {
            id: ProviderKeyId::at(&moment),
            owner: Owner::Tenant(TenantId::at(&moment)),
            scope: Scope::Tenant,
            key_type: KeyType::Byok,
            provider: Provider::OpenAi,
            base_url: None,
            name: Description::default(),
            is_valid: true,
            expires_at: None,
            masked: String::new(),
            created_at: moment.now,
            updated_at: moment.now,
            last_used_at: None,
            hash: SecretHash::of(b"sk"),
            fingerprint: SecretHash::of(b"sk"),
            sealed: Sealed(String::new()),
        }
    }

    fn opened() -> ModelKey {
        ModelKey::parse("sk".to_owned()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_is_remembered_for_a_minute_and_what_was_opened_for_five() {
        let (known, key) = (KnownKeys::default(), key());
        let began = known.get(key.owner).unwrap_err();
        known.put(key.owner, began, &Arc::from([key.clone()]));
        known.open(&key, opened());
        advance(Duration::from_secs(59)).await;
        assert_eq!(known.get(key.owner).unwrap().len(), 1);
        advance(Duration::from_secs(1)).await;
        assert!(known.get(key.owner).is_err());
        advance(Duration::from_secs(239)).await;
        assert!(known.opened(&key).is_some());
        advance(Duration::from_secs(1)).await;
        assert!(known.opened(&key).is_none());
        assert!(known.state().opened.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejection_is_news_once_a_minute_and_is_of_that_key_alone() {
        let (known, key) = (KnownKeys::default(), key());
        assert!(!known.was_rejected(&key));
        assert!(known.reject(key.id, key.fingerprint));
        assert!(!known.reject(key.id, key.fingerprint));
        let elsewhere = ProviderKey {
            fingerprint: SecretHash::of(b"other"),
            ..key.clone()
        };
        assert!(!known.was_rejected(&elsewhere));
        advance(Duration::from_secs(59)).await;
        assert!(known.was_rejected(&key));
        advance(Duration::from_secs(1)).await;
        assert!(!known.was_rejected(&key));
        assert!(known.reject(key.id, key.fingerprint));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_open_is_tried_again_after_five_minutes_or_sealed_anew() {
        let (known, key) = (KnownKeys::default(), key());
        assert!(!known.is_closed(&key));
        known.close(&key);
        let anew = ProviderKey {
            sealed: Sealed("anew".to_owned()),
            ..key.clone()
        };
        assert!(!known.is_closed(&anew));
        advance(Duration::from_secs(299)).await;
        assert!(known.is_closed(&key));
        advance(Duration::from_secs(1)).await;
        assert!(!known.is_closed(&key));
    }

    #[test]
    fn another_key_in_its_place_is_opened_anew() {
        let (known, key) = (KnownKeys::default(), key());
        known.open(&key, opened());
        let changed = ProviderKey {
            hash: SecretHash::of(b"other"),
            ..key
        };
        assert!(known.opened(&changed).is_none());
    }

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let (known, key) = (KnownKeys::default(), key());
        let began = known.get(key.owner).unwrap_err();
        known.forget(key.owner);
        known.put(key.owner, began, &Arc::from([key.clone()]));
        assert!(known.get(key.owner).is_err());
    }
}
