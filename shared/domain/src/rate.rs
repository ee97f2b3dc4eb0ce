//! How often somebody may ask, and who that is.

use super::{ApiKeyId, TenantId, tenant::RateLimit};

/// So many requests in so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many requests; never 0.
    pub requests: u32,
    /// In how many seconds; never 0.
    pub seconds: u32,
}

impl From<RateLimit> for Rate {
    fn from(limit: RateLimit) -> Self {
        Self {
            requests: limit.per_second(),
            seconds: 1,
        }
    }
}

/// Whose budget of requests is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Payer {
    /// A tenant's, whichever of its keys was sent.
    Tenant(TenantId),
    /// That of one of a tenant's keys.
    Key(TenantId, ApiKeyId),
}

/// Who pays for a request, and how many they have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Who pays.
    pub payer: Payer,
    /// What they may use.
    pub rate: Rate,
}

/// What an address is charged for, each time with a budget of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Charge {
    /// A request that proved invalid: a key that is wrong or was not sent, a path that is not there.
    Invalid,
    /// Looking up a key of which the process knows nothing, until it is found. The budget bounds what strangers make the
    /// store do; it is ten times that of what proved invalid, so that guesses do not use it up by mistake.
    LookUp,
    /// A page that wants no key, such as `/docs`.
    Public,
    /// A look at `/health`. Pages read by others of the same address do not use it up.
    Health,
    /// A request with the right master key.
    Operator,
}

impl Charge {
    /// How much of it an address may have.
    pub const fn rate(self) -> Rate {
        let requests = match self {
            Self::Invalid | Self::Public | Self::Health | Self::Operator => 100,
            Self::LookUp => 1_000,
        };
        Rate {
            requests,
            seconds: 1,
        }
    }
}
