//! How many requests a payer may make: a tenant in a second, a team's key in a minute, an address in a second.
//!
//! A token bucket per payer lives in `guards` as one number, the theoretical arrival time
//! (GCRA): the time at which the bucket will be full again. A warm function takes a share of what is left
//! with one conditional write, and spends it without further writes. The share shrinks as the bucket
//! empties, so that many functions cannot starve each other.
//!
//! A bucket is full again after one window, so an arrival time farther off than that was written by a clock that was
//! ahead, or ours was set back since: such a bucket is full. It is written over, from the value seen, with the next share.
//!
//! While a store of this process is known to fail (a full disk), buckets that cannot be written go on in memory, and hold
//! as before: nobody else writes to such a store. So reads are answered still, and a limit stays one.
//!
//! Addresses pay in this process alone, since a stranger must not cause writes, and by a clock that is never set.
//! Each [`Charge`] has a budget of its own: what strangers use up of one is not missing in another.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant as Watch,
};

use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, timeout_at},
};

use super::App;
use crate::{
    domain::{
        Error, Moment, Timestamp,
        rate::{Budget, Charge, Payer, Rate},
    },
    store::Backoff,
};

/// A function takes this part of what is left. An eighth of the default's 100 is 12 requests a write,
/// which keeps the cost under the budget of 0.1 write units a request; a sixteenth would not.
const SHARE: i64 = 8;
/// Tokens that were not spent for so long are dropped: a function that was frozen must not burst.
const UNSPENT_SECONDS: i64 = 60;
const SECOND_NS: i64 = 1_000_000_000;
/// By how much the clocks of two processes may differ, in ns. Without it one whose clock is a little behind would take a
/// bucket that another has just emptied for a full one.
const SKEW: i64 = SECOND_NS;
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
    /// The same, as this process went on with it while the store could not write.
    unwritten: Option<i64>,
    /// What this function took and has not spent, under which limit.
    tokens: i64,
    taken_under: Option<Rate>,
    taken_at: i64,
}

/// The buckets this function knows.
#[derive(Debug)]
pub(super) struct Quotas {
    payers: Map<Payer, Arc<AsyncMutex<Bucket>>>,
    addresses: Map<(Charge, Option<IpAddr>), Arc<Mutex<Bucket>>>,
    /// From when the time of the addresses' buckets is counted.
    began: Instant,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            payers: Map::default(),
            addresses: Map::default(),
            began: Instant::now(),
        }
    }
}

impl Quotas {
    /// The time of the addresses' buckets, in ns. Nobody sets this clock.
    fn elapsed(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_nanos()).unwrap_or(i64::MAX / 2)
    }
}

/// A credential that was not accepted, or not even looked at.
#[derive(Debug)]
pub struct Refusal {
    /// Why.
    pub error: Error,
    /// The budget that is used up, if that is why.
    pub quota: Option<Quota>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, quota: None }
    }
}

/// A bounded map. Forgetting a bucket costs one write, or gives one address a second's budget; or one window's to a payer
/// while nothing can be written.
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
    /// When it will be full, as far as known; never before now. A time that is too far off to be true is none.
    fn full_at(&self, now: i64, rate: Rate) -> i64 {
        let farthest = now.saturating_add(window(rate) + SKEW);
        let known = [self.tat, self.unwritten];
        let known = known.into_iter().flatten().filter(|tat| *tat <= farthest);
        known.fold(now, i64::max)
    }

    /// How many tokens are in the shared bucket.
    fn free(&self, now: i64, rate: Rate) -> i64 {
        ((now + window(rate) - self.full_at(now, rate)) / interval(rate)).max(0)
    }

    /// What is left of it `now`, which is `wall` by the clock that clients go by.
    fn quota(&self, now: i64, rate: Rate, wall: i64) -> Quota {
        let left = (self.free(now, rate) + self.tokens).min(i64::from(rate.requests));
        Quota {
            limit: rate.requests,
            remaining: u32::try_from(left).unwrap_or_default(),
            reset: ceil_seconds(wall + (self.full_at(now, rate) - now)),
        }
    }

    /// How long until one more token is there.
    fn retry_after(&self, now: i64, rate: Rate) -> Error {
        let wait = self.full_at(now, rate) + interval(rate) - (now + window(rate));
        Error::RateLimited {
            retry_after: u64::try_from(ceil_seconds(wait)).unwrap_or_default().max(1),
        }
    }

    /// Adds a share that was taken `now`.
    fn take(&mut self, share: i64, rate: Rate, now: i64) {
        self.tokens = share;
        self.taken_under = Some(rate);
        self.taken_at = now;
    }

    /// A share that is old, or of another limit, is not spent: a lower limit would hold only after it. One that was taken
    /// long after `now`, before the clock was set back, is as old as nobody knows.
    fn drop_unspent(&mut self, now: i64, rate: Rate) {
        let is_old = (now - self.taken_at).abs() > UNSPENT_SECONDS * SECOND_NS;
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
        let waited = Watch::now();
        // Whoever has waited must not take what others took meanwhile for a time to come. A short wait is none: it is less
        // than clocks differ.
        let clock = || {
            let waited = i64::try_from(waited.elapsed().as_nanos()).unwrap_or_default();
            let waited = if waited < SKEW / 10 { 0 } else { waited };
            nanos(moment.now).saturating_add(waited)
        };
        let bucket = self.0.quotas.payers.get(payer);
        let mut bucket = timeout_at(moment.deadline, bucket.lock())
            .await
            .map_err(|_| Error::Busy)?;
        let mut now = clock();
        bucket.drop_unspent(now, rate);
        let mut contest = Backoff::until(moment.deadline, moment.seed);
        while bucket.tokens == 0 {
            let free = bucket.free(now, rate);
            if free == 0 {
                let quota = bucket.quota(now, rate, now);
                return Ok((quota, Err(bucket.retry_after(now, rate))));
            }
            let share = (free / SHARE).max(1);
            let next = bucket.full_at(now, rate) + share * interval(rate);
            let moved = self
                .stores()
                .guards
                .move_bucket(payer, bucket.tat, next, moment.now)
                .await;
            match moved {
                Ok(Ok(())) => {
                    bucket.tat = Some(next);
                    bucket.unwritten = None;
                    bucket.take(share, rate, now);
                }
                Err(Error::Unavailable(_)) if self.is_store_failing() => {
                    bucket.unwritten = Some(next);
                    bucket.take(share, rate, now);
                }
                Err(error) => return Err(error),
                Ok(Err(actual)) => {
                    // Another function took a share meanwhile, or this one was not here before.
                    let lost = bucket.tat.is_some();
                    bucket.tat = actual;
                    if lost {
                        contest.pause().await?;
                    }
                    now = clock();
                }
            }
        }
        bucket.tokens -= 1;
        Ok((bucket.quota(now, rate, now), Ok(())))
    }

    /// Charges `address` with one `charge`. The quota is told in either case.
    pub fn charge_address(
        &self,
        charge: Charge,
        address: Option<IpAddr>,
        moment: &Moment,
    ) -> (Quota, Result<(), Error>) {
        self.with_bucket(charge, address, |bucket, now| {
            let rate = charge.rate();
            let verdict = if bucket.free(now, rate) == 0 {
                Err(bucket.retry_after(now, rate))
            } else {
                bucket.tat = Some(bucket.full_at(now, rate) + interval(rate));
                Ok(())
            };
            (bucket.quota(now, rate, nanos(moment.now)), verdict)
        })
    }

    /// What `address` has left of `charge`.
    pub fn address_quota(&self, charge: Charge, address: Option<IpAddr>, moment: &Moment) -> Quota {
        self.with_bucket(charge, address, |bucket, now| {
            bucket.quota(now, charge.rate(), nanos(moment.now))
        })
    }

    /// Looks up a credential of which this process knows nothing, by `reading`, at the cost of `address` until it is found.
    pub(super) async fn look_up<T>(
        &self,
        address: Option<IpAddr>,
        moment: &Moment,
        reading: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Refusal> {
        let (quota, verdict) = self.charge_address(Charge::LookUp, address, moment);
        verdict.map_err(|error| Refusal {
            error,
            quota: Some(quota),
        })?;
        let found = reading.await;
        // A store that is out of reach proves nothing: nobody pays for that.
        if !matches!(found, Err(Error::Unauthenticated(_))) {
            self.with_bucket(Charge::LookUp, address, |bucket, _| {
                let cost = interval(Charge::LookUp.rate());
                bucket.tat = bucket.tat.map(|tat| tat - cost);
            });
        }
        Ok(found?)
    }

    /// Does `work` with a bucket of `address`, at the time of these buckets.
    fn with_bucket<T>(
        &self,
        charge: Charge,
        address: Option<IpAddr>,
        work: impl FnOnce(&mut MutexGuard<'_, Bucket>, i64) -> T,
    ) -> T {
        let bucket = self.0.quotas.addresses.get((charge, address));
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that it never goes back for a bucket.
        work(&mut bucket, self.0.quotas.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = SECOND_NS;
    const SECOND_RATE: Rate = Rate {
        requests: 100,
        seconds: 1,
    };

    fn bucket(tat: i64) -> Bucket {
        Bucket {
            tat: Some(tat),
            ..Bucket::default()
        }
    }

    #[test]
    fn an_untouched_bucket_is_full() {
        let rate = SECOND_RATE;
        assert_eq!(Bucket::default().free(5 * SECOND, rate), 100);
        assert_eq!(bucket(SECOND).free(5 * SECOND, rate), 100);
    }

    #[test]
    fn a_used_up_bucket_says_when_to_come_back() {
        let rate = SECOND_RATE;
        let empty = bucket(6 * SECOND);
        assert_eq!(empty.free(5 * SECOND, rate), 0);
        let Error::RateLimited { retry_after } = empty.retry_after(5 * SECOND, rate) else {
            panic!("another error");
        };
        assert_eq!(retry_after, 1);
        assert_eq!(empty.quota(5 * SECOND, rate, 5 * SECOND).reset, 6);
        assert_eq!(empty.quota(5 * SECOND, rate, 5 * SECOND).remaining, 0);
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
        assert_eq!(empty.quota(5 * SECOND, rate, 5 * SECOND).reset, 65);
    }

    #[test]
    fn a_bucket_refills_at_its_rate() {
        let rate = SECOND_RATE;
        let empty = bucket(6 * SECOND);
        assert_eq!(empty.free(5 * SECOND + SECOND / 10, rate), 10);
    }

    #[test]
    fn an_arrival_time_beyond_the_window_is_a_full_bucket() {
        for rate in [
            SECOND_RATE,
            Rate {
                requests: 1_000,
                seconds: 60,
            },
        ] {
            let now = 5 * SECOND;
            let emptied = bucket(now + window(rate));
            assert_eq!(emptied.free(now, rate), 0);
            // As far off as the clock of another process may be ahead.
            assert_eq!(bucket(now + window(rate) + SKEW).free(now, rate), 0);
            for step in [2 * SECOND, 60 * SECOND, 86_400 * SECOND, i64::MAX / 2] {
                let ahead = bucket(now + window(rate) + step);
                assert_eq!(ahead.free(now, rate), i64::from(rate.requests), "{step}");
                assert_eq!(ahead.full_at(now, rate), now, "{step}");
            }
        }
    }

    #[test]
    fn a_bucket_that_could_not_be_written_goes_on_in_memory_whatever_the_store_says() {
        let now = 5 * SECOND;
        let mut bucket = Bucket {
            unwritten: Some(now + SECOND),
            ..Bucket::default()
        };
        // The store knows an older time, or none.
        for tat in [None, Some(now), Some(now + SECOND / 2)] {
            bucket.tat = tat;
            assert_eq!(bucket.free(now, SECOND_RATE), 0, "{tat:?}");
        }
        assert_eq!(bucket.free(now + SECOND / 10, SECOND_RATE), 10);
        // It was set by a clock that was ahead.
        bucket.unwritten = Some(now + 86_400 * SECOND);
        assert_eq!(bucket.free(now, SECOND_RATE), 50);
    }

    #[test]
    fn a_share_that_was_taken_long_after_now_is_dropped() {
        let mut ahead = Bucket {
            tokens: 12,
            taken_under: Some(SECOND_RATE),
            taken_at: 86_400 * SECOND,
            ..Bucket::default()
        };
        // A request that was overtaken by another.
        ahead.drop_unspent(86_399 * SECOND, SECOND_RATE);
        assert_eq!(ahead.tokens, 12);
        ahead.drop_unspent(0, SECOND_RATE);
        assert_eq!(ahead.tokens, 0);
    }
}
