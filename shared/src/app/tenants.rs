//! What the operator does: tenants and their keys.

use super::App;
use crate::{
    domain::{
        Error, Moment, Once, Operator, Page, TenantId, Timestamp,
        page::Slice,
        secret::ApiKey,
        tenant::{Tenant, TenantPatch},
        text::Name,
    },
    store::{Backoff, tenants::Rotation},
};

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
            .create(&stores.keys, &tenant, key.hash(), claim.as_ref(), &mut race)
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
        tenant.ok_or(Error::NotFound("Tenant"))
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
        tenant.ok_or(Error::NotFound("Tenant"))
    }

    /// Gives a tenant the new key `key`. The one before it holds for `overlap` seconds more: none, if it
    /// leaked. Warm functions follow within a minute, this process at once.
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
            key: key.hash(),
            at: moment.now,
            overlap_ends: previous_expires_at,
        };
        let mut race = Backoff::until(moment.deadline, moment.seed);
        stores
            .tenants
            .rotate(&stores.keys, &tenant, &rotation, claim.as_ref(), &mut race)
            .await?;
        self.0.sessions.forget(id);
        Ok(IssuedKey {
            tenant: id,
            key,
            created_at: moment.now,
            previous_expires_at,
        })
    }
}
