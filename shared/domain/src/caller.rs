//! Proofs of who calls. Only authentication makes them, so a use case that asks for one cannot be
//! reached without it.

use super::{ApiKeyId, Error, TenantId, UserId, api_key::Kind};

/// A tenant's server, acting for one of the tenant's users.
#[derive(Debug, Clone)]
pub struct Actor {
    tenant: TenantId,
    user: UserId,
}

impl Actor {
    /// Only `app::auth` may claim this.
    pub const fn authenticated(tenant: TenantId, user: UserId) -> Self {
        Self { tenant, user }
    }

    /// Whose data this caller may see.
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// For whom the call is made.
    pub const fn user(&self) -> &UserId {
        &self.user
    }
}

/// A tenant's server, acting for the tenant itself.
#[derive(Debug, Clone, Copy)]
pub struct TenantKey(TenantId);

impl TenantKey {
    /// Only `app::auth` may claim this.
    pub const fn authenticated(tenant: TenantId) -> Self {
        Self(tenant)
    }

    /// Whose data this caller may see.
    pub const fn tenant(&self) -> TenantId {
        self.0
    }
}

/// Who runs this deployment: the holder of the master key.
#[derive(Debug, Clone)]
pub struct Operator(());

impl Operator {
    /// Only `app::auth` may claim this.
    pub const fn authenticated() -> Self {
        Self(())
    }
}

/// Who may read failures: the operator those of any tenant, a tenant's server its own.
#[derive(Debug, Clone)]
pub enum Auditor {
    /// Reads any tenant's.
    Operator(Operator),
    /// Reads its own tenant's.
    Tenant(Actor),
}

impl Auditor {
    /// Refuses `tenant` unless this caller may read its failures.
    pub fn may_read(&self, tenant: TenantId) -> Result<(), Error> {
        match self {
            Self::Operator(_) => Ok(()),
            Self::Tenant(actor) if actor.tenant() == tenant => Ok(()),
            Self::Tenant(_) => Err(Error::Forbidden("This key belongs to another tenant")),
        }
    }
}

/// Who may see how things stand, and keep keys: the operator for all tenants, a tenant's server for its own.
#[derive(Debug, Clone)]
pub enum Observer {
    /// Sees any tenant's.
    Operator(Operator),
    /// Sees its own tenant's.
    Tenant(TenantKey),
}

impl Observer {
    /// Refuses `tenant` unless this caller may keep its keys.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]: for a tenant's server there are no other tenants.
    pub fn may_keep_keys_of(&self, tenant: TenantId) -> Result<(), Error> {
        match self {
            Self::Operator(_) => Ok(()),
            Self::Tenant(key) if key.tenant() == tenant => Ok(()),
            Self::Tenant(_) => Err(Error::NotFound("Tenant")),
        }
    }
}

/// Which chats the holder of a key may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sees {
    /// All of the team's.
    Team,
    /// Those of the one user the key was made for.
    Only(UserId),
    /// Those whose id it knows, and the lists of the users it names. A browser's key that all visitors share.
    Named,
}

/// The holder of one of a team's keys, a publishable or a secret one.
#[derive(Debug, Clone)]
pub struct KeyHolder {
    tenant: TenantId,
    key: ApiKeyId,
    kind: Kind,
    sees: Sees,
    token_cap: Option<u64>,
}

impl KeyHolder {
    /// Only `app::auth` may claim this.
    pub const fn authenticated(
        tenant: TenantId,
        key: ApiKeyId,
        kind: Kind,
        sees: Sees,
        token_cap: Option<u64>,
    ) -> Self {
        Self {
            tenant,
            key,
            kind,
            sees,
            token_cap,
        }
    }

    /// Whose data this caller may see.
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Which key it is.
    pub const fn key(&self) -> ApiKeyId {
        self.key
    }

    /// Whether anybody may hold it, or the team's servers alone.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// How much of the tenant's data this caller may see.
    pub const fn sees(&self) -> &Sees {
        &self.sees
    }

    /// How many tokens the tenant may use in a month; `None` for as many as it likes.
    pub const fn token_cap(&self) -> Option<u64> {
        self.token_cap
    }
}

/// The holder of one of a team's secret keys: its server.
#[derive(Debug, Clone, Copy)]
pub struct SecretHolder {
    tenant: TenantId,
    key: ApiKeyId,
}

impl SecretHolder {
    /// Only `app::auth` may claim this.
    pub const fn authenticated(tenant: TenantId, key: ApiKeyId) -> Self {
        Self { tenant, key }
    }

    /// Whose data this caller may see.
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Which key it is.
    pub const fn key(&self) -> ApiKeyId {
        self.key
    }
}
