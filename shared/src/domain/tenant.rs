//! Tenants: who pays, and what they may use.

use super::{Error, TenantId, Timestamp, secret::SecretHash, text::Name};

/// How many requests a tenant may make, per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit(u32);

impl RateLimit {
    /// The seed's default: 100 requests per second and tenant.
    pub const DEFAULT: Self = Self(100);
    /// The largest limit that can be set.
    pub const MAX: u32 = 1_000_000;

    /// Reads requests per second from field `rate_limit`.
    pub fn parse(per_second: i64) -> Result<Self, Error> {
        u32::try_from(per_second)
            .ok()
            .filter(|rate| (1..=Self::MAX).contains(rate))
            .map(Self)
            .ok_or_else(|| {
                Error::invalid(
                    "rate_limit",
                    "Invalid rate_limit. It is a whole number of requests per second from 1 to 1000000",
                )
            })
    }

    /// Trusts what our own store gives back.
    pub(crate) const fn stored(per_second: u32) -> Self {
        Self(per_second)
    }

    /// Requests per second.
    pub const fn per_second(self) -> u32 {
        self.0
    }
}

/// A tenant's profile.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// What people call it.
    pub name: Name,
    /// How many requests it may make.
    pub rate_limit: RateLimit,
    /// When it was made.
    pub created_at: Timestamp,
    /// The hash of its current API key, so that a rotation knows which to retire.
    pub(crate) key: SecretHashHex,
}

/// A hash as the store spells it.
pub(crate) type SecretHashHex = String;

impl Tenant {
    /// A new tenant whose API key hashes to `key`.
    pub fn new(id: TenantId, name: Name, created_at: Timestamp, key: SecretHash) -> Self {
        Self {
            id,
            name,
            rate_limit: RateLimit::DEFAULT,
            created_at,
            key: key.to_hex(),
        }
    }
}

/// What an operator changes of a tenant.
#[derive(Debug, Default)]
pub struct TenantPatch {
    /// A new name.
    pub name: Option<Name>,
    /// A new limit.
    pub rate_limit: Option<RateLimit>,
}
