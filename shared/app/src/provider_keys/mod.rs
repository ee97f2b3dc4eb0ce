//! The keys that models are asked with: kept by the operator and by tenants, found for who asks.

mod known;

use std::{sync::Arc, time::Duration};

use futures_util::future::{join_all, try_join};
use tokio::time::{Instant, timeout_at};

pub(super) use self::known::KnownKeys;
use super::App;
use crate::{
    domain::{
        Done, Error, Moment, Observer, Once, Page, ProviderKeyId, TenantId,
        address::Targets,
        model::Provider,
        page::Slice,
        provider_key::{
            KeyType, NewProviderKey, OpenedKey, Owner, ProviderKey, ProviderKeyPatch, Scopes,
        },
    },
    providers::{models::Models, vault::Vault},
    store::Backoff,
};

const NO_KEY: Error = Error::NotFound("Provider key");
const NOT_YOURS: Error = Error::Forbidden("Only the operator may write keys of type global");
/// How many opened keys there are for one answer: who comes after so many that the provider does not take waits for the next
/// question, when those are known to be invalid.
const TRIED: usize = 4;
/// How long an answer waits at most for a note about its key.
const NOTE_PATIENCE: Duration = Duration::from_secs(1);

/// What provider keys are kept with. Only the functions that keep or use them have it.
#[derive(Debug)]
pub struct ProviderKeys {
    vault: Vault,
    targets: Targets,
}

impl ProviderKeys {
    /// Keys are sealed by `vault`, and hold for providers at `targets`.
    pub const fn new(vault: Vault, targets: Targets) -> Self {
        Self { vault, targets }
    }
}

/// What a model can be asked with.
#[derive(Debug, Default)]
pub struct ModelKeys {
    /// The keys, in the order in which they are to be tried.
    pub opened: Vec<OpenedKey>,
    /// Whether others come after them: who asks again once these are known not to be taken gets those.
    pub has_more: bool,
}

/// Refuses `owner` unless `keeper` may keep its keys.
fn may_keep(keeper: &Observer, owner: Owner) -> Result<(), Error> {
    match (keeper, owner) {
        (_, Owner::Tenant(tenant)) => keeper.may_keep_keys_of(tenant),
        (Observer::Operator(_), Owner::Operator) => Ok(()),
        (Observer::Tenant(_), Owner::Operator) => Err(Error::Forbidden(
            "Only the operator keeps keys that hold for all tenants",
        )),
    }
}

/// Refuses a key of `key_type` unless `keeper` may write it.
fn may_write(keeper: &Observer, key_type: KeyType) -> Result<(), Error> {
    match (keeper, key_type) {
        (Observer::Operator(_), _) | (Observer::Tenant(_), KeyType::Byok) => Ok(()),
        (Observer::Tenant(_), KeyType::Global) => Err(NOT_YOURS),
    }
}

impl App {
    fn provider_keys_means(&self) -> Result<&ProviderKeys, Error> {
        let keys = self.0.means.provider_keys.as_ref();
        keys.ok_or_else(|| Error::internal("this function opens no provider keys"))
    }

    /// What models are asked with.
    pub(super) fn models(&self) -> Result<&Models, Error> {
        let models = self.0.means.models.as_ref();
        models.ok_or_else(|| Error::internal("this function asks no models"))
    }

    /// Where this deployment's providers may be.
    pub fn provider_targets(&self) -> Result<Targets, Error> {
        Ok(self.provider_keys_means()?.targets)
    }

    /// Makes a key of `owner`. This process uses it at once, others within a minute. A repetition gives what the first made, as
    /// it was made, whatever became of it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for a tenant that is not the keeper's, [`Error::Forbidden`] for what only the operator may
    /// write, [`Error::Conflict`] if the scope has the key already, or the owner as many as it may have.
    pub async fn create_provider_key(
        &self,
        keeper: &Observer,
        owner: Owner,
        new: NewProviderKey,
        once: Option<&Once>,
        moment: &Moment,
    ) -> Result<Done<ProviderKey>, Error> {
        may_keep(keeper, owner)?;
        may_write(keeper, new.key_type)?;
        let id = ProviderKeyId::at(moment);
        let vault = &self.provider_keys_means()?.vault;
        let (hash, base_url) = (new.key.hash(), new.base_url.as_ref());
        let key = ProviderKey {
            fingerprint: ProviderKey::fingerprint_of(new.provider, base_url, hash),
            id,
            owner,
            scope: new.scope,
            key_type: new.key_type,
            provider: new.provider,
            base_url: new.base_url,
            name: new.name,
            is_valid: true,
            expires_at: new.expires_at,
            masked: new.key.masked(),
            created_at: moment.now,
            updated_at: moment.now,
            last_used_at: None,
            hash,
            sealed: vault.seal(&new.key, owner, id, moment).await?,
        };
        let stores = self.stores();
        let claim = once.map(|once| match keeper {
            Observer::Operator(_) => {
                let guards = &stores.guards;
                guards.operator_claim("create_provider_key", once, moment.now)
            }
            Observer::Tenant(tenant) => {
                let (guards, tenant) = (&stores.guards, tenant.tenant());
                guards.tenant_claim(tenant, "create_provider_key", once, moment.now)
            }
        });
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let made = stores
            .provider_keys
            .create(key, claim.as_ref(), &mut race)
            .await;
        self.0.provider_keys.forget(owner);
        made
    }

    /// The keys of `owner`, oldest first.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for a tenant that is not the keeper's.
    pub async fn provider_keys(
        &self,
        keeper: &Observer,
        owner: Owner,
        slice: &Slice,
    ) -> Result<Page<ProviderKey>, Error> {
        may_keep(keeper, owner)?;
        match (keeper, owner) {
            (Observer::Operator(operator), Owner::Tenant(tenant)) => {
                self.tenant(operator, tenant).await?;
            }
            // Its key would not have let it in.
            (Observer::Tenant(_), _) | (Observer::Operator(_), Owner::Operator) => {}
        }
        self.stores().provider_keys.list(owner, slice).await
    }

    /// Changes a key. Warm functions follow within a minute, this process at once.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such key for the keeper, [`Error::Forbidden`] for one that only the operator may
    /// write, [`Error::Invalid`] for another address without another key, [`Error::Conflict`] if its scope has the new key
    /// already, [`Error::Busy`] if others kept changing it.
    pub async fn change_provider_key(
        &self,
        keeper: &Observer,
        (owner, id): (Owner, ProviderKeyId),
        patch: ProviderKeyPatch,
        moment: &Moment,
    ) -> Result<ProviderKey, Error> {
        patch.check()?;
        let sealed = match &patch.key {
            None => None,
            Some(key) => {
                // Nothing is sealed for whom it is not for.
                self.provider_key(keeper, owner, id).await?;
                let vault = &self.provider_keys_means()?.vault;
                Some(vault.seal(key, owner, id, moment).await?)
            }
        };
        let mut race = Backoff::until(moment.deadline, moment.seed);
        loop {
            let old = self.provider_key(keeper, owner, id).await?;
            let mut new = old.clone();
            new.updated_at = moment.now;
            if let Some(base_url) = &patch.base_url {
                new.base_url.clone_from(base_url);
            }
            if let (Some(key), Some(sealed)) = (&patch.key, &sealed) {
                new.hash = key.hash();
                let base_url = new.base_url.as_ref();
                new.fingerprint = ProviderKey::fingerprint_of(new.provider, base_url, new.hash);
                new.masked = key.masked();
                new.sealed = sealed.clone();
                new.is_valid = true;
            }
            if let Some(name) = &patch.name {
                new.name = name.clone();
            }
            new.expires_at = patch.expires_at.unwrap_or(new.expires_at);
            new.is_valid = patch.is_valid.unwrap_or(new.is_valid);
            let changed = self
                .stores()
                .provider_keys
                .change(&old, &new, &mut race)
                .await;
            self.0.provider_keys.forget(owner);
            if changed? {
                return Ok(new);
            }
            race.pause().await?;
        }
    }

    /// Removes a key. Warm functions follow within a minute, this process at once.
    ///
    /// # Errors
    ///
    /// As [`App::change_provider_key`].
    pub async fn delete_provider_key(
        &self,
        keeper: &Observer,
        (owner, id): (Owner, ProviderKeyId),
        moment: &Moment,
    ) -> Result<(), Error> {
        let mut key = self.provider_key(keeper, owner, id).await?;
        let keys = &self.stores().provider_keys;
        let mut race = Backoff::until(moment.deadline, moment.seed);
        loop {
            let removed = keys.delete(&key, &mut race).await;
            self.0.provider_keys.forget(owner);
            if removed? {
                return Ok(());
            }
            race.pause().await?;
            match keys.get(owner, id).await? {
                // It was there, and somebody has removed it since, perhaps we.
                None => return Ok(()),
                Some(changed) => key = changed,
            }
        }
    }

    /// A key that `keeper` may write.
    async fn provider_key(
        &self,
        keeper: &Observer,
        owner: Owner,
        id: ProviderKeyId,
    ) -> Result<ProviderKey, Error> {
        may_keep(keeper, owner)?;
        let key = self.stores().provider_keys.get(owner, id).await?;
        let key = key.ok_or(NO_KEY)?;
        may_write(keeper, key.key_type)?;
        Ok(key)
    }

    /// The keys of `provider` that `tenant` may use now, in the order in which they are to be tried: at most four, and none
    /// behind one that cannot be opened now, since they may be for another address, where the conversation is not to go.
    /// One that never opens takes nobody's place. None for a provider that needs none.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the first one cannot be opened now.
    pub async fn model_keys(
        &self,
        tenant: TenantId,
        provider: Provider,
        scopes: &Scopes<'_>,
        moment: &Moment,
    ) -> Result<ModelKeys, Error> {
        if !provider.needs_key() {
            return Ok(ModelKeys::default());
        }
        let own = self.keys_of(Owner::Tenant(tenant));
        let (own, global) = try_join(own, self.keys_of(Owner::Operator)).await?;
        let mut keys = scopes.order(own.iter().chain(global.iter()), provider, moment.now);
        let known = &self.0.provider_keys;
        keys.retain(|key| !known.is_closed(key));
        keys.sort_by_key(|key| known.was_rejected(key));
        let (opened, left) = before_a_closed_one(&keys, |key| self.open(key)).await?;
        let is_hopeful = |key: &&ProviderKey| !known.was_rejected(key);
        Ok(ModelKeys {
            opened,
            has_more: left.iter().any(is_hopeful),
        })
    }

    /// All keys of `owner`, as they were within the last minute.
    async fn keys_of(&self, owner: Owner) -> Result<Arc<[ProviderKey]>, Error> {
        let known = &self.0.provider_keys;
        let began = match known.get(owner) {
            Ok(keys) => return Ok(keys),
            Err(began) => began,
        };
        let keys: Arc<[_]> = self.stores().provider_keys.all(owner).await?.into();
        known.put(owner, began, &keys);
        Ok(keys)
    }

    async fn open(&self, key: &ProviderKey) -> Result<OpenedKey, Error> {
        let known = &self.0.provider_keys;
        let opened = if let Some(opened) = known.opened(key) {
            opened
        } else {
            let vault = &self.provider_keys_means()?.vault;
            let opened = vault.open(&key.sealed, key.owner, key.id).await;
            if let Err(error @ Error::Internal(_)) = &opened {
                known.close(key);
                let (owner, id, cause) = (key.owner, key.id, error.why());
                tracing::error!(%owner, %id, cause, "a provider key is passed over");
            }
            let opened = opened?;
            known.open(key, opened.clone());
            opened
        };
        Ok(OpenedKey {
            id: key.id,
            owner: key.owner,
            provider: key.provider,
            base_url: key.base_url.clone(),
            key: opened,
            fingerprint: key.fingerprint,
        })
    }

    /// Notes that the provider of `key` does not take it. A tenant's is not tried again until it is changed. One of the
    /// operator's stays as it is, since what one tenant asks for must not end the answers of all: this process tries it last
    /// for a minute. An answer does not fail because that could not be noted.
    pub async fn reject_model_key(&self, key: &OpenedKey, moment: &Moment) {
        match key.owner {
            Owner::Tenant(_) => self.invalidate(key, moment).await,
            Owner::Operator => {
                if self.0.provider_keys.reject(key.id, key.fingerprint) {
                    let (id, provider) = (key.id, key.provider);
                    tracing::error!(%id, %provider, "a provider does not take a key of the operator");
                }
            }
        }
    }

    /// Notes that the provider takes `key`, but not for this: what others are asked for it may do. This process tries it last
    /// for a minute.
    pub fn pass_over_model_key(&self, key: &OpenedKey) {
        if self.0.provider_keys.reject(key.id, key.fingerprint) {
            let (owner, id, provider) = (key.owner, key.id, key.provider);
            tracing::warn!(%owner, %id, %provider, "a provider does not answer for a key");
        }
    }

    /// Notes for good that a key is not taken.
    async fn invalidate(&self, key: &OpenedKey, moment: &Moment) {
        let end = moment.deadline.min(Instant::now() + NOTE_PATIENCE);
        let mut race = Backoff::until(end, moment.seed);
        let keys = &self.stores().provider_keys;
        let note = keys.reject(key.owner, key.id, key.fingerprint, moment.now, &mut race);
        let noted = timeout_at(end, note).await;
        self.0.provider_keys.forget(key.owner);
        let (owner, id) = (key.owner, key.id);
        match noted {
            Ok(Ok(())) => tracing::warn!(%owner, %id, "a provider does not take a key"),
            Ok(Err(error)) => {
                let cause = error.why();
                tracing::warn!(%owner, %id, cause, "a provider does not take a key, which was not noted");
            }
            Err(_) => {
                tracing::warn!(%owner, %id, "a provider does not take a key, which was not noted in time");
            }
        }
    }

    /// Notes that the provider of `key` takes it, about once an hour. An answer never fails by it.
    pub async fn note_model_key(&self, key: &OpenedKey, moment: &Moment) {
        if !self.0.provider_keys.is_due(key.id, moment.now.seconds()) {
            return;
        }
        let end = moment.deadline.min(Instant::now() + NOTE_PATIENCE);
        let mut race = Backoff::until(end, moment.seed);
        let keys = &self.stores().provider_keys;
        let note = keys.note_use(key.owner, key.id, moment.now, &mut race);
        let (owner, id) = (key.owner, key.id);
        match timeout_at(end, note).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%owner, %id, cause = error.why(), "the use of a key was not noted");
            }
            Err(_) => tracing::warn!(%owner, %id, "noting the use of a key timed out"),
        }
    }
}

/// The first [`TRIED`] of `keys` that `open` opens, before the first that cannot be opened now; and those behind them. One
/// that never opens is passed over.
///
/// # Errors
///
/// [`Error::Unavailable`] if there are none before it.
async fn before_a_closed_one<K: Copy, O, F: Future<Output = Result<O, Error>>>(
    keys: &[K],
    open: impl Fn(K) -> F,
) -> Result<(Vec<O>, &[K]), Error> {
    let (mut opened, mut left) = (Vec::new(), keys);
    while opened.len() < TRIED && !left.is_empty() {
        // Together: to wait for one after the other is to let the client wait.
        let (next, rest) = left.split_at(left.len().min(TRIED - opened.len()));
        let outcomes = join_all(next.iter().copied().map(&open)).await;
        for (place, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(key) => opened.push(key),
                Err(error @ Error::Unavailable(_)) if opened.is_empty() => return Err(error),
                Err(Error::Unavailable(_)) => return Ok((opened, &left[place..])),
                Err(_) => {}
            }
        }
        left = rest;
    }
    Ok((opened, left))
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    /// What opens of keys: `o` opens, `n` not now, `-` never. Which do, how many are behind them and how many were asked for.
    async fn tried(keys: &str) -> Option<(Vec<usize>, usize, usize)> {
        let keys: Vec<_> = keys.chars().enumerate().collect();
        let asked = std::cell::Cell::new(0);
        let open = |(place, key)| {
            asked.set(asked.get() + 1);
            ready(match key {
                'o' => Ok(place),
                'n' => Err(Error::Unavailable("closed".into())),
                _ => Err(Error::internal("it never opens")),
            })
        };
        match before_a_closed_one(&keys, open).await {
            Ok((opened, left)) => Some((opened, left.len(), asked.get())),
            Err(Error::Unavailable(_)) => None,
            Err(error) => panic!("{error:?}"),
        }
    }

    #[tokio::test]
    async fn no_key_is_tried_behind_one_that_cannot_be_opened_now() {
        assert_eq!(tried("oo").await, Some((vec![0, 1], 0, 2)));
        assert_eq!(tried("ono").await, Some((vec![0], 2, 3)));
        assert_eq!(tried("-ono").await, Some((vec![1], 2, 4)));
        for closed in ["no", "nn", "-no", "----no"] {
            assert_eq!(tried(closed).await, None, "{closed}");
        }
    }

    #[tokio::test]
    async fn a_key_that_never_opens_takes_nobodys_place() {
        assert_eq!(tried("-o").await, Some((vec![1], 0, 2)));
        assert_eq!(tried("----o").await, Some((vec![4], 0, 5)));
        assert_eq!(tried("-oo-oooo").await, Some((vec![1, 2, 4, 5], 2, 6)));
        assert_eq!(tried("-----").await, Some((vec![], 0, 5)));
    }

    #[tokio::test]
    async fn no_more_than_four_are_opened() {
        assert_eq!(tried("ooooooo").await, Some((vec![0, 1, 2, 3], 3, 4)));
    }
}
