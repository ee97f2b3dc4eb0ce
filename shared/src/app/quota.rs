//! How many requests a payer may make: a tenant in a second, a team's key in a minute.
//!
//! A token bucket per payer lives in `guards` as one number, the theoretical arrival time
//! (GCRA): the time at which the bucket will be full again. A warm function takes a share of what is left
//! with one conditional write, and spends it without further writes. The share shrinks as the bucket
//! empties, so that many functions cannot starve each other.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::Mutex as AsyncMutex, time::timeout_at};

use super::App;
use crate::{
    domain::{
        Error, Moment, Timestamp,
        rate::{Budget, Payer, Rate},
    },
    store::Backoff,
};

/// A function takes this part of what is left. An eighth of the default's 100 is 12 requests a write,
/// which keeps the cost under the budget of 0.1 write units a request; a sixteenth would not.
const SHARE: i64 = 8;
/// Tokens that were not spent for so long are dropped: a function that was frozen must not burst.
const UNSPENT_SECONDS: i64 = 60;
const SECOND_NS: i64 = 1_000_000_000;
/// Requests from one address without a valid key.
const PER_ADDRESS: Rate = Rate {
    requests: 100,
    seconds: 1,
};
/// How many payers or addresses are remembered.
const CAPACITY: usize = 10_000;

/// What a client is told of its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Requests per second, or per minute for a team's key.
    pub limit: u32,
    /// What is left now.
    pub remaining: u32,
    /// When all of it will be there again, in seconds since 1970.
    pub reset: i64,
}

/// A bucket as this function knows it.
#[derive(Debug, Default, Clone, Copy)]
struct Bucket {
    /// When it will be full, in ns since 1970, as last seen.
    tat: Option<i64>,
    /// What this function took and has not spent, under which limit.
    tokens: i64,
    taken_under: Option<Rate>,
    taken_at: i64,
}

/// The buckets this function knows.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    payers: Map<Payer, Arc<AsyncMutex<Bucket>>>,
    addresses: Map<Option<IpAddr>, Arc<Mutex<Bucket>>>,
}

/// A bounded map. Forgetting a bucket costs one write, or gives one address a second's budget.
#[derive(Debug)]
struct Map<K, V>(Mutex<HashMap<K, V>>);

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq, V: Clone + Default> Map<K, V> {
    fn get(&self, key: K) -> V {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= CAPACITY && !map.contains_key(&key) {
            map.clear();
        }
        map.entry(key).or_default().clone()
    }
}

/// The bucket holds what may be used in this time, in ns.
fn window(rate: Rate) -> i64 {
    i64::from(rate.seconds) * SECOND_NS
}

/// What one request costs, in ns of a bucket's time.
fn interval(rate: Rate) -> i64 {
    window(rate) / i64::from(rate.requests)
}

fn nanos(at: Timestamp) -> i64 {
    at.micros().saturating_mul(1_000)
}

impl Bucket {
    /// When it will be full, as far as known; never before now.
    fn full_at(&self, now: i64) -> i64 {
        self.tat.unwrap_or(now).max(now)
    }

    /// How many tokens are in the shared bucket.
    fn free(&self, now: i64, rate: Rate) -> i64 {
        ((now + window(rate) - self.full_at(now)) / interval(rate)).max(0)
    }

    fn quota(&self, now: i64, rate: Rate) -> Quota {
        let left = (self.free(now, rate) + self.tokens).min(i64::from(rate.requests));
        Quota {
            limit: rate.requests,
            remaining: u32::try_from(left).unwrap_or_default(),
            reset: ceil_seconds(self.full_at(now)),
        }
    }

    /// How long until one more token is there.
    fn retry_after(&self, now: i64, rate: Rate) -> Error {
        let wait = self.full_at(now) + interval(rate) - (now + window(rate));
        Error::RateLimited {
            retry_after: u64::try_from(ceil_seconds(wait)).unwrap_or_default().max(1),
        }
    }

    /// A share that is old, or of another limit, is not spent: a lower limit would hold only after it.
    fn drop_unspent(&mut self, now: i64, rate: Rate) {
        let is_old = now - self.taken_at > UNSPENT_SECONDS * SECOND_NS;
        if is_old || self.taken_under != Some(rate) {
            self.tokens = 0;
        }
    }
}

fn ceil_seconds(nanos: i64) -> i64 {
    nanos.div_euclid(SECOND_NS) + i64::from(nanos.rem_euclid(SECOND_NS) > 0)
}

impl App {
    /// Charges one request to `budget`. The quota is told in either case.
    pub async fn charge(
        &self,
        budget: Budget,
        moment: &Moment,
    ) -> Result<(Quota, Result<(), Error>), Error> {
        let Budget { payer, rate } = budget;
        let now = nanos(moment.now);
        let bucket = self.0.quotas.payers.get(payer);
        let mut bucket = timeout_at(moment.deadline, bucket.lock())
            .await
            .map_err(|_| Error::Busy)?;
        bucket.drop_unspent(now, rate);
        let mut contest = Backoff::until(moment.deadline, moment.seed);
        while bucket.tokens == 0 {
            let free = bucket.free(now, rate);
            if free == 0 {
                return Ok((bucket.quota(now, rate), Err(bucket.retry_after(now, rate))));
            }
            let share = (free / SHARE).max(1);
            let next = bucket.full_at(now) + share * interval(rate);
            let moved = self
                .stores()
                .guards
                .move_bucket(payer, bucket.tat, next, moment.now)
                .await?;
            match moved {
                Ok(()) => {
                    bucket.tat = Some(next);
                    bucket.tokens = share;
                    bucket.taken_under = Some(rate);
                    bucket.taken_at = now;
                }
                Err(actual) => {
                    // Another function took a share meanwhile, or this one was not here before.
                    let lost = bucket.tat.is_some();
                    bucket.tat = actual;
                    if lost {
                        contest.pause().await?;
                    }
                }
            }
        }
        bucket.tokens -= 1;
        Ok((bucket.quota(now, rate), Ok(())))
    }

    /// Whether `address` may try another key. A valid one is not charged to it.
    ///
    /// # Errors
    ///
    /// [`Error::RateLimited`] after too many invalid ones.
    pub fn may_guess(&self, address: Option<IpAddr>, moment: &Moment) -> Result<(), Error> {
        let now = nanos(moment.now);
        let bucket = self.0.quotas.addresses.get(address);
        let bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        if bucket.free(now, PER_ADDRESS) == 0 {
            return Err(bucket.retry_after(now, PER_ADDRESS));
        }
        Ok(())
    }

    /// Charges one request without a valid key to the address it came from. In this process alone: a
    /// stranger must not cause writes.
    pub fn charge_address(
        &self,
        address: Option<IpAddr>,
        moment: &Moment,
    ) -> (Quota, Result<(), Error>) {
        let now = nanos(moment.now);
        let bucket = self.0.quotas.addresses.get(address);
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = if bucket.free(now, PER_ADDRESS) == 0 {
            Err(bucket.retry_after(now, PER_ADDRESS))
        } else {
            bucket.tat = Some(bucket.full_at(now) + interval(PER_ADDRESS));
            Ok(())
        };
        (bucket.quota(now, PER_ADDRESS), verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = SECOND_NS;

    fn bucket(tat: i64) -> Bucket {
        Bucket {
            tat: Some(tat),
            ..Bucket::default()
        }
    }

    #[test]
    fn an_untouched_bucket_is_full() {
        let rate = PER_ADDRESS;
        assert_eq!(Bucket::default().free(5 * SECOND, rate), 100);
        assert_eq!(bucket(SECOND).free(5 * SECOND, rate), 100);
    }

    #[test]
    fn a_used_up_bucket_says_when_to_come_back() {
        let rate = PER_ADDRESS;
        let empty = bucket(6 * SECOND);
        assert_eq!(empty.free(5 * SECOND, rate), 0);
        let Error::RateLimited { retry_after } = empty.retry_after(5 * SECOND, rate) else {
            panic!("another error");
        };
        assert_eq!(retry_after, 1);
        assert_eq!(empty.quota(5 * SECOND, rate).reset, 6);
        assert_eq!(empty.quota(5 * SECOND, rate).remaining, 0);
    }

    #[test]
    fn a_bucket_of_a_minute_refills_in_a_minute() {
        let rate = Rate {
            requests: 100,
            seconds: 60,
        };
        let empty = bucket(65 * SECOND);
        assert_eq!(empty.free(5 * SECOND, rate), 0);
        assert_eq!(empty.free(6 * SECOND, rate), 1);
        assert_eq!(empty.free(65 * SECOND, rate), 100);
        assert_eq!(empty.quota(5 * SECOND, rate).reset, 65);
    }

    #[test]
    fn a_bucket_refills_at_its_rate() {
        let rate = PER_ADDRESS;
        let empty = bucket(6 * SECOND);
        assert_eq!(empty.free(5 * SECOND + SECOND / 10, rate), 10);
    }
}
