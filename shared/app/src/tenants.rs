//! What the operator does: tenants and their keys.

use super::App;
use crate::{
    domain::{
        Error, Moment, Observer, Once, Operator, Page, TenantId, TenantKeyId, Timestamp,
        page::Slice,
        secret::{ApiKey, SecretHash},
        tenant::{Tenant, TenantPatch},
        tenant_key::{ListedKey, Standing},
        text::Name,
    },
    store::{Backoff, keys::Door, tenants::Rotation},
};

const NO_TENANT: Error = Error::NotFound("Tenant");
const NO_KEY: Error = Error::NotFound("Key");
const IS_CURRENT: Error = Error::Conflict(
    "This is the tenant's current key. Rotate it with overlap_seconds 0: that ends it, and gives the next one",
);

/// How long the key before a rotation may still hold, in seconds: a day to roll it out.
pub const ROTATION_OVERLAP_SECONDS: u32 = 24 * 3_600;

/// A tenant, and the one sight of its key.
#[derive(Debug)]
pub struct NewTenant {
    /// The tenant.
    pub tenant: Tenant,
    /// Its key.
    pub key: ApiKey,
}

/// The one sight of a tenant's next key.
#[derive(Debug)]
pub struct IssuedKey {
    /// Whose it is.
    pub tenant: TenantId,
    /// The key.
    pub key: ApiKey,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when the key before it holds.
    pub previous_expires_at: Timestamp,
}

impl App {
    /// Makes a tenant whose first key is `key`.
    pub async fn create_tenant(
        &self,
        _: &Operator,
        name: Name,
        key: ApiKey,
        once: Option<&Once>,
        moment: &Moment,
    ) -> Result<NewTenant, Error> {
        let stores = self.stores();
        let tenant = Tenant::new(TenantId::at(moment), name, moment.now, key.hash());
        let claim = once.map(|once| {
            stores
                .guards
                .operator_claim("create_tenant", once, moment.now)
        });
        let mut race = Backoff::until(moment.deadline, moment.seed);
        stores
            .tenants
            .create(&stores.keys, &tenant, &key, claim.as_ref(), &mut race)
            .await?;
        Ok(NewTenant { tenant, key })
    }

    /// All tenants, oldest first.
    pub async fn tenants(&self, _: &Operator, slice: &Slice) -> Result<Page<Tenant>, Error> {
        self.stores().tenants.list(slice).await
    }

    /// One tenant.
    pub async fn tenant(&self, _: &Operator, id: TenantId) -> Result<Tenant, Error> {
        let tenant = self.stores().tenants.get(id).await?;
        tenant.ok_or(NO_TENANT)
    }

    /// Changes a tenant. Warm functions follow within a minute, this process at once.
    pub async fn patch_tenant(
        &self,
        _: &Operator,
        id: TenantId,
        patch: &TenantPatch,
        moment: &Moment,
    ) -> Result<Tenant, Error> {
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let tenant = self.stores().tenants.patch(id, patch, &mut race).await?;
        self.0.sessions.forget(id);
        self.0.team_sessions.forget(id);
        self.0.schedules.forget(id);
        tenant.ok_or(NO_TENANT)
    }

    /// Gives a tenant the new key `key`. The one before it holds for `overlap` seconds more: none, if it leaked. All
    /// older ones end. Warm functions follow within a minute, this process at once.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such tenant; [`Error::Conflict`] if it was rotated meanwhile, or for a repeated
    /// request.
    pub async fn rotate_key(
        &self,
        operator: &Operator,
        id: TenantId,
        key: ApiKey,
        overlap: u32,
        once: Option<&Once>,
        moment: &Moment,
    ) -> Result<IssuedKey, Error> {
        let tenant = self.tenant(operator, id).await?;
        let stores = self.stores();
        let claim = once.map(|once| stores.guards.operator_claim("rotate_key", once, moment.now));
        let previous_expires_at = moment.now.plus_seconds(overlap.into());
        let rotation = Rotation {
            key: &key,
            at: moment.now,
            overlap_ends: (overlap > 0).then_some(previous_expires_at),
        };
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let rotated = stores
            .tenants
            .rotate(&stores.keys, &tenant, &rotation, claim.as_ref(), &mut race)
            .await;
        self.0.sessions.forget(id);
        rotated?;
        Ok(IssuedKey {
            tenant: id,
            key,
            created_at: moment.now,
            previous_expires_at,
        })
    }

    /// The keys of a tenant that hold at `moment`, the newest first: at most two. One that a version before this has
    /// replaced is not among them until the next rotation, which ends it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for a tenant that is not the observer's, or not there.
    pub async fn tenant_keys(
        &self,
        observer: &Observer,
        id: TenantId,
        moment: &Moment,
    ) -> Result<Vec<ListedKey>, Error> {
        observer.may_keep_keys_of(id)?;
        let tenant = self.stores().tenants.get(id).await?.ok_or(NO_TENANT)?;
        let current = (tenant.keys.current, Standing::Current);
        let previous = tenant.keys.previous();
        let previous = previous.map(|hash| (hash, Standing::Previous));
        let mut listed = Vec::new();
        for (hash, standing) in [current].into_iter().chain(previous) {
            listed.extend(self.listed_key(&tenant, hash, standing, moment).await?);
        }
        Ok(listed)
    }

    /// The key of `tenant` that hashes to `hash`, if it holds.
    async fn listed_key(
        &self,
        tenant: &Tenant,
        hash: SecretHash,
        standing: Standing,
        moment: &Moment,
    ) -> Result<Option<ListedKey>, Error> {
        let stores = self.stores();
        let Some(record) = stores.keys.get(hash).await? else {
            return Ok(None);
        };
        let Door::Tenant(last4) = record.door else {
            return Ok(None);
        };
        if record
            .expires
            .is_some_and(|end| end <= moment.now.seconds())
        {
            return Ok(None);
        }
        let id = TenantKeyId::of(hash);
        let expires_at = record.expires;
        Ok(Some(ListedKey {
            id,
            standing,
            last4,
            created_at: record.created_at,
            expires_at: expires_at.map(|end| Timestamp::from_micros(0).plus_seconds(end)),
            last_used_at: stores.tenants.last_use(tenant.id, id).await?,
        }))
    }

    /// Ends a replaced key of a tenant before its time. Warm functions follow within a minute, this process at once.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if no such key of the tenant holds; [`Error::Conflict`] for its current key, without which it
    /// would have none.
    pub async fn revoke_key(
        &self,
        operator: &Operator,
        id: TenantId,
        key: TenantKeyId,
        moment: &Moment,
    ) -> Result<(), Error> {
        let stores = self.stores();
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let mut was_there = false;
        loop {
            let tenant = self.tenant(operator, id).await?;
            if TenantKeyId::of(tenant.keys.current) == key {
                return Err(IS_CURRENT);
            }
            let previous = tenant.keys.previous();
            let Some(hash) = previous.filter(|hash| TenantKeyId::of(*hash) == key) else {
                // A rotation may have ended it meanwhile.
                return if was_there { Ok(()) } else { Err(NO_KEY) };
            };
            let listed = self
                .listed_key(&tenant, hash, Standing::Previous, moment)
                .await?;
            if listed.is_none() {
                return if was_there { Ok(()) } else { Err(NO_KEY) };
            }
            was_there = true;
            let ended = stores
                .tenants
                .end_replaced(&stores.keys, &tenant, moment.now, &mut race)
                .await;
            self.0.sessions.forget(id);
            if ended? {
                return Ok(());
            }
            race.pause().await?;
        }
    }

    /// Notes that the key of `tenant` that hashes to `hash` is used, about once an hour. A request never fails by it.
    pub(super) async fn note_tenant_key(
        &self,
        tenant: TenantId,
        hash: SecretHash,
        moment: &Moment,
    ) {
        let (key, store) = (TenantKeyId::of(hash), &self.stores().tenants);
        let write = async |race: &mut Backoff| store.note_use(tenant, key, moment.now, race).await;
        let uses = &self.0.tenant_key_uses;
        uses.note((tenant, key), moment, write).await;
    }
}
