//! Proofs of who calls. Only authentication makes them, so a use case that asks for one cannot be
//! reached without it.

use super::{Error, TenantId, UserId};

/// A tenant's server, acting for one of the tenant's users.
#[derive(Debug, Clone)]
pub struct Actor {
    tenant: TenantId,
    user: UserId,
}

impl Actor {
    /// Only `app::auth` may claim this.
    pub(crate) const fn authenticated(tenant: TenantId, user: UserId) -> Self {
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
    pub(crate) const fn authenticated(tenant: TenantId) -> Self {
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
    pub(crate) const fn authenticated() -> Self {
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

/// Who may see how things stand: the operator for all tenants, a tenant's server for its own.
#[derive(Debug, Clone)]
pub enum Observer {
    /// Sees any tenant's.
    Operator(Operator),
    /// Sees its own tenant's.
    Tenant(TenantKey),
}
