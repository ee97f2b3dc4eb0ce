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
