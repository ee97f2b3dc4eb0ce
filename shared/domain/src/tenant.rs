//! Tenants: who pays, and what they may use.

use super::{Error, TenantId, Timestamp, secret::SecretHash, tenant_key::TenantKeys, text::Name};

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
    pub const fn stored(per_second: u32) -> Self {
        Self(per_second)
    }

    /// Requests per second.
    pub const fn per_second(self) -> u32 {
        self.0
    }
}

/// How long to wait before a delivery that failed is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySchedule {
    attempts: u32,
    interval_seconds: u32,
    backoff: Waits,
}

/// How the waits of a [`RetrySchedule`] grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// They do not: every wait is the interval.
    Fixed,
    /// Each is twice the one before, 12 hours at most.
    Exponential,
}

impl RetrySchedule {
    /// The seed's: 5 attempts, 30 seconds apart.
    pub const DEFAULT: Self = Self {
        attempts: 5,
        interval_seconds: 30,
        backoff: Waits::Fixed,
    };
    /// The most attempts.
    pub const MAX_ATTEMPTS: u32 = 10;
    /// The longest interval, and the longest wait: 12 hours, in seconds.
    pub const MAX_INTERVAL_SECONDS: u32 = 12 * 3_600;

    /// Trusts what our own store gives back.
    pub const fn stored(attempts: u32, interval_seconds: u32, backoff: Waits) -> Self {
        Self {
            attempts,
            interval_seconds,
            backoff,
        }
    }

    /// How often a delivery is tried before it is a dead letter.
    pub const fn attempts(self) -> u32 {
        self.attempts
    }

    /// The first wait, in seconds.
    pub const fn interval_seconds(self) -> u32 {
        self.interval_seconds
    }

    /// How the waits grow.
    pub const fn backoff(self) -> Waits {
        self.backoff
    }

    /// How many seconds to wait after so many attempts have failed.
    pub fn wait_after(self, failed: u32) -> u32 {
        match self.backoff {
            Waits::Fixed => self.interval_seconds,
            Waits::Exponential => {
                let doublings = failed.saturating_sub(1).min(31);
                let wait = u64::from(self.interval_seconds) << doublings;
                u32::try_from(wait)
                    .unwrap_or(u32::MAX)
                    .min(Self::MAX_INTERVAL_SECONDS)
            }
        }
    }

    /// All waits together, in seconds.
    pub fn seconds(self) -> i64 {
        (1..self.attempts)
            .map(|failed| i64::from(self.wait_after(failed)))
            .sum()
    }
}

impl Waits {
    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Exponential => "exponential",
        }
    }

    /// Reads field `retry.backoff`.
    pub fn parse(name: &str) -> Result<Self, Error> {
        [Self::Fixed, Self::Exponential]
            .into_iter()
            .find(|backoff| backoff.name() == name)
            .ok_or_else(|| {
                Error::invalid(
                    "retry.backoff",
                    "Invalid retry.backoff. Must be one of: fixed, exponential",
                )
            })
    }
}

/// What an operator changes of a tenant's [`RetrySchedule`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryPatch {
    /// Another number of attempts.
    pub attempts: Option<u32>,
    /// Another interval, in seconds.
    pub interval_seconds: Option<u32>,
    /// Another growth of the waits.
    pub backoff: Option<Waits>,
}

impl RetryPatch {
    /// Reads fields `retry.attempts`, `retry.interval_seconds` and `retry.backoff`.
    pub fn parse(
        attempts: Option<i64>,
        interval_seconds: Option<i64>,
        backoff: Option<&str>,
    ) -> Result<Self, Error> {
        const LONGEST: u32 = RetrySchedule::MAX_INTERVAL_SECONDS;
        const MOST: u32 = RetrySchedule::MAX_ATTEMPTS;
        let within = |field: &'static str, number: Option<i64>, max: u32| {
            let number = number.map(|number| {
                let number = u32::try_from(number).ok();
                number
                    .filter(|number| (1..=max).contains(number))
                    .ok_or_else(|| {
                        let rule = format!("Invalid {field}. It is a whole number from 1 to {max}");
                        Error::invalid(field, rule)
                    })
            });
            number.transpose()
        };
        Ok(Self {
            attempts: within("retry.attempts", attempts, MOST)?,
            interval_seconds: within("retry.interval_seconds", interval_seconds, LONGEST)?,
            backoff: backoff.map(Waits::parse).transpose()?,
        })
    }
}

/// Whose chats are shown to who holds a publishable key that all browsers share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ListScope {
    /// Those of the user who is named, and chats whose id is known.
    #[default]
    User,
    /// All of the team's, as the dialect's first version showed them.
    Team,
}

impl ListScope {
    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Team => "team",
        }
    }

    /// Reads field `publishable_list_scope`.
    pub fn parse(name: &str) -> Result<Self, Error> {
        [Self::User, Self::Team]
            .into_iter()
            .find(|scope| scope.name() == name)
            .ok_or_else(|| {
                Error::invalid(
                    "publishable_list_scope",
                    "Invalid publishable_list_scope. Must be one of: user, team",
                )
            })
    }
}

/// How many tokens of language models a tenant may use in a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenCap(u64);

impl TokenCap {
    /// The largest cap that can be set.
    pub const MAX: u64 = 1_000_000_000_000;

    /// Reads field `monthly_token_cap`.
    pub fn parse(tokens: i64) -> Result<Self, Error> {
        u64::try_from(tokens)
            .ok()
            .filter(|tokens| (1..=Self::MAX).contains(tokens))
            .map(Self)
            .ok_or_else(|| {
                Error::invalid(
                    "monthly_token_cap",
                    "Invalid monthly_token_cap. It is a whole number from 1 to 1000000000000, or null for no cap",
                )
            })
    }

    /// Trusts what our own store gives back.
    pub const fn stored(tokens: u64) -> Self {
        Self(tokens)
    }

    /// How many tokens.
    pub const fn tokens(self) -> u64 {
        self.0
    }
}

/// What an operator changes of a tenant's [`TokenCap`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CapChange {
    /// Nothing.
    #[default]
    Keep,
    /// There is none any more.
    Lift,
    /// It is this.
    To(TokenCap),
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
    /// How its deliveries are tried again.
    pub retry: RetrySchedule,
    /// Whose chats its publishable keys show.
    pub list_scope: ListScope,
    /// How many tokens it may use in a month; `None` for as many as it likes.
    pub token_cap: Option<TokenCap>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its own keys.
    pub keys: TenantKeys,
}

impl Tenant {
    /// A new tenant whose API key hashes to `key`.
    pub fn new(id: TenantId, name: Name, created_at: Timestamp, key: SecretHash) -> Self {
        Self {
            id,
            name,
            rate_limit: RateLimit::DEFAULT,
            retry: RetrySchedule::DEFAULT,
            list_scope: ListScope::default(),
            token_cap: None,
            created_at,
            keys: TenantKeys::of(key),
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
    /// What changes of its retry schedule.
    pub retry: RetryPatch,
    /// Another scope of its publishable keys.
    pub list_scope: Option<ListScope>,
    /// What becomes of its cap.
    pub token_cap: CapChange,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_waits_stay_and_exponential_ones_double_up_to_twelve_hours() {
        let waits = |interval, backoff| {
            let schedule = RetrySchedule::stored(10, interval, backoff);
            [1, 2, 3, 9].map(|failed| schedule.wait_after(failed))
        };
        assert_eq!(waits(30, Waits::Fixed), [30; 4]);
        assert_eq!(waits(30, Waits::Exponential), [30, 60, 120, 7_680]);
        assert_eq!(waits(43_200, Waits::Exponential), [43_200; 4]);
        assert_eq!(
            waits(20_000, Waits::Exponential),
            [20_000, 40_000, 43_200, 43_200]
        );
    }

    #[test]
    fn a_schedule_lasts_as_long_as_its_waits() {
        assert_eq!(RetrySchedule::DEFAULT.seconds(), 4 * 30);
        let doubling = RetrySchedule::stored(4, 10, Waits::Exponential);
        assert_eq!(doubling.seconds(), 10 + 20 + 40);
        assert_eq!(RetrySchedule::stored(1, 10, Waits::Fixed).seconds(), 0);
    }

    #[test]
    fn a_cap_is_a_number_of_tokens_that_somebody_could_use() {
        for good in [1, 1_000_000_000_000] {
            assert!(TokenCap::parse(good).is_ok());
        }
        for bad in [0, -1, 1_000_000_000_001, i64::MAX, i64::MIN] {
            assert!(TokenCap::parse(bad).is_err());
        }
    }

    #[test]
    fn a_bad_schedule_is_refused_with_its_field() {
        let field = |patch: Result<RetryPatch, Error>| match patch {
            Err(Error::Invalid { field, .. }) => field.into_owned(),
            other => panic!("{other:?}"),
        };
        for bad in [0, -1, 11, i64::MAX] {
            assert_eq!(
                field(RetryPatch::parse(Some(bad), None, None)),
                "retry.attempts"
            );
        }
        for bad in [0, -1, 43_201, i64::MIN] {
            assert_eq!(
                field(RetryPatch::parse(None, Some(bad), None)),
                "retry.interval_seconds"
            );
        }
        for bad in ["", "Fixed", "linear"] {
            assert_eq!(
                field(RetryPatch::parse(None, None, Some(bad))),
                "retry.backoff"
            );
        }
        let widest = RetryPatch::parse(Some(10), Some(43_200), Some("exponential")).unwrap();
        assert_eq!(widest.attempts, Some(10));
    }
}
