//! What is counted, and how things stand.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, future::join_all, stream};
use tokio::time::Instant;

use super::App;
use crate::{
    domain::{
        Counts, Error, Moment, Observer, Operator, Pauses, TenantId, Timestamp,
        delivery::{Ended, Failure},
        page::Slice,
    },
    store::Backoff,
};

/// What was counted is written at most so often by one process: a busy one pays a write for seconds, not for batches.
const KEPT_EVERY: Duration = Duration::from_secs(5);
/// Longest time until a write that failed is tried again. Each failure is a line of the log.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Of how many tenants a process counts before it writes.
const CAPACITY: usize = 10_000;
/// Of how many tenants the sum is made at most: of the oldest.
const SUMMED: usize = 1_000;
/// Of how many of them at once.
const AT_ONCE: usize = 16;

/// What this process has counted and not written yet.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Counted>);

#[derive(Debug)]
struct Counted {
    counts: HashMap<TenantId, Counts>,
    /// When it is time to write again.
    due_at: Option<Instant>,
    /// Taken before a write, and reset after it: one that is given up halfway has failed too.
    pauses: Pauses,
    /// The last write has not succeeded, or not yet.
    is_failing: bool,
    /// Something died: that is not to be lost with this process.
    is_urgent: bool,
}

impl Default for Counted {
    fn default() -> Self {
        Self {
            counts: HashMap::new(),
            due_at: None,
            pauses: Pauses::between(KEPT_EVERY, LONGEST_PAUSE),
            is_failing: false,
            is_urgent: false,
        }
    }
}

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, tenant: TenantId, counts: Counts) {
        let mut counted = self.lock();
        // In an outage of the table, what is counted is bounded.
        if counted.counts.len() < CAPACITY || counted.counts.contains_key(&tenant) {
            *counted.counts.entry(tenant).or_default() += counts;
        }
    }

    /// What is to be written now, if it is time for that.
    fn take(&self, now: Instant, is_last: bool) -> HashMap<TenantId, Counts> {
        let mut counted = self.lock();
        let is_due = counted.due_at.is_none_or(|at| now >= at);
        // A table that takes nothing does not take what is urgent either.
        let is_urgent = counted.is_urgent && !counted.is_failing;
        if counted.counts.is_empty() || !(is_due || is_last || is_urgent) {
            return HashMap::new();
        }
        let pause = counted.pauses.after_failure();
        counted.due_at = Some(now + pause);
        counted.is_failing = true;
        counted.is_urgent = false;
        mem::take(&mut counted.counts)
    }

    /// Notes that all of what was taken is written.
    fn written(&self, now: Instant) {
        let mut counted = self.lock();
        counted.pauses.reset();
        counted.due_at = Some(now + KEPT_EVERY);
        counted.is_failing = false;
    }
}

/// How things stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metrics {
    /// The tenant, unless it is the sum of many.
    pub tenant: Option<TenantId>,
    /// What was counted.
    pub counts: Counts,
    /// How many connections there are. One whose end nobody heard of counts until its item expires.
    pub connections: u64,
    /// How many dead letters there are.
    pub dead_letters: u64,
    /// How old the oldest delivery is that has not ended, in seconds.
    pub oldest_seconds: Option<u64>,
    /// Since when this process runs.
    pub uptime: Duration,
}

/// When what was counted is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// If the last time was seconds ago, or something died; later if the last time failed.
    WhenDue,
    /// Now: the process ends.
    Now,
}

impl App {
    /// Counts messages that were written.
    pub fn count_messages(&self, tenant: TenantId, messages_sent: u64) {
        let counts = Counts {
            messages_sent,
            ..Counts::default()
        };
        self.0.tally.add(tenant, counts);
    }

    /// Counts jobs of deliveries that were sent.
    pub(super) fn count_queued(&self, tenant: TenantId, jobs: usize) {
        let counts = Counts {
            queued: u64::try_from(jobs).unwrap_or(u64::MAX),
            ..Counts::default()
        };
        self.0.tally.add(tenant, counts);
    }

    /// Counts an attempt that was made.
    pub(super) fn count_delivered(&self, tenant: TenantId) {
        let counts = Counts {
            attempts: 1,
            delivered: 1,
            ..Counts::default()
        };
        self.0.tally.add(tenant, counts);
    }

    /// Counts an attempt that failed. One that found paused endpoints alone is none.
    pub(super) fn count_failed(&self, tenant: TenantId, failure: &Failure, ended: Ended) {
        let was_made = !(failure.failed.is_empty()
            && failure.refused.is_empty()
            && failure.took.is_empty()
            && failure.fault.is_none());
        let mut counts = Counts {
            attempts: was_made.into(),
            failures: was_made.into(),
            ..Counts::default()
        };
        match ended {
            Ended::Waiting { .. } | Ended::Parked => counts.retried = 1,
            Ended::Held { fresh } => counts.held = fresh.into(),
            Ended::Dead => self.count_dead(tenant),
            Ended::Done => {}
        }
        self.0.tally.add(tenant, counts);
    }

    /// Counts a delivery whose attempts are used up.
    pub(super) fn count_dead(&self, tenant: TenantId) {
        let counts = Counts {
            dead: 1,
            ..Counts::default()
        };
        self.0.tally.add(tenant, counts);
        self.0.tally.lock().is_urgent = true;
    }

    /// Writes what this process has counted, one write for each tenant. What could not be written is tried again after
    /// five seconds, and after twice as long each further time, up to a minute.
    ///
    /// # Errors
    ///
    /// The first of those that failed: nothing depends on it.
    pub async fn keep_counts(&self, keep: Keep) -> Result<(), Error> {
        let counted = self.0.tally.take(Instant::now(), keep == Keep::Now);
        if counted.is_empty() {
            return Ok(());
        }
        let store = &self.stores().counts;
        let adding = counted.iter().map(|(tenant, counts)| async move {
            let added = store.add(*tenant, counts).await;
            if added.is_err() {
                self.0.tally.add(*tenant, *counts);
            }
            added
        });
        join_all(adding)
            .await
            .into_iter()
            .collect::<Result<(), _>>()?;
        self.0.tally.written(Instant::now());
        Ok(())
    }

    /// How things stand for `tenant`, or for the caller's own; for the operator without one, for the
    /// first 1,000 tenants together.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] for another tenant's, [`Error::NotFound`] for one that is not there.
    pub async fn metrics(
        &self,
        observer: &Observer,
        tenant: Option<TenantId>,
        moment: &Moment,
    ) -> Result<Metrics, Error> {
        match (observer, tenant) {
            (Observer::Operator(operator), None) => self.metrics_of_all(operator, moment).await,
            (Observer::Operator(operator), Some(tenant)) => {
                self.tenant(operator, tenant).await?;
                self.metrics_of(tenant, moment).await
            }
            (Observer::Tenant(key), tenant) => {
                let own = key.tenant();
                if tenant.is_some_and(|named| named != own) {
                    return Err(Error::Forbidden("This key belongs to another tenant"));
                }
                self.metrics_of(own, moment).await
            }
        }
    }

    async fn metrics_of(&self, tenant: TenantId, moment: &Moment) -> Result<Metrics, Error> {
        let stores = self.stores();
        let race = Backoff::until(moment.deadline, moment.seed);
        let own = [tenant];
        let (counts, connections, dead_letters, oldest) = tokio::try_join!(
            stores.counts.of(&own, &race),
            stores.connections.count(tenant),
            stores.deliveries.count_dead(tenant),
            stores.deliveries.oldest_open(Some(tenant)),
        )?;
        Ok(Metrics {
            tenant: Some(tenant),
            counts: sum(&counts),
            connections,
            dead_letters,
            oldest_seconds: oldest.map(|at| age(at, moment)),
            uptime: self.0.started.elapsed(),
        })
    }

    async fn metrics_of_all(&self, _: &Operator, moment: &Moment) -> Result<Metrics, Error> {
        let stores = self.stores();
        let slice = Slice::first(SUMMED);
        let tenants = stores.tenants.list(&slice).await?.items;
        let tenants: Vec<_> = tenants.iter().map(|tenant| tenant.id).collect();
        let race = Backoff::until(moment.deadline, moment.seed);
        let named: BTreeSet<_> = tenants.iter().copied().collect();
        let (counts, listened, oldest) = tokio::try_join!(
            stores.counts.of(&tenants, &race),
            stores.listeners.listened(&named, moment.now, &race),
            stores.deliveries.oldest_open(None),
        )?;
        // Nobody is connected to a tenant without a mark, and nothing is dead where nothing has died.
        let connections = stream::iter(listened)
            .map(|tenant| stores.connections.count(tenant))
            .buffer_unordered(AT_ONCE)
            .try_fold(0, async |sum, count| Ok(sum + count));
        let bereaved = counts.iter().filter(|(_, counts)| counts.dead > 0);
        let bereaved: Vec<_> = bereaved.map(|(tenant, _)| *tenant).collect();
        let dead_letters = stream::iter(bereaved)
            .map(|tenant| stores.deliveries.count_dead(tenant))
            .buffer_unordered(AT_ONCE)
            .try_fold(0, async |sum, count| Ok(sum + count));
        let (connections, dead_letters) = tokio::try_join!(connections, dead_letters)?;
        Ok(Metrics {
            tenant: None,
            counts: sum(&counts),
            connections,
            dead_letters,
            oldest_seconds: oldest.map(|at| age(at, moment)),
            uptime: self.0.started.elapsed(),
        })
    }
}

fn sum(counts: &[(TenantId, Counts)]) -> Counts {
    let mut sum = Counts::default();
    for (_, counts) in counts {
        sum += *counts;
    }
    sum
}

/// Whole seconds; 0 if our clock is behind.
fn age(at: Timestamp, moment: &Moment) -> u64 {
    u64::try_from(moment.now.seconds() - at.seconds()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> TenantId {
        format!("tenant_{:032x}", 7).parse().unwrap()
    }

    const ONE: Counts = Counts {
        messages_sent: 1,
        queued: 0,
        attempts: 0,
        failures: 0,
        delivered: 0,
        retried: 0,
        held: 0,
        dead: 0,
    };

    #[test]
    fn what_was_counted_is_taken_once_in_seconds_and_at_the_end() {
        let (tally, now) = (Tally::default(), Instant::now());
        tally.add(tenant(), ONE);
        assert_eq!(tally.take(now, false), [(tenant(), ONE)].into());
        tally.add(tenant(), ONE);
        tally.add(tenant(), ONE);
        assert_eq!(tally.take(now, false), HashMap::new());
        let two = Counts {
            messages_sent: 2,
            ..ONE
        };
        assert_eq!(
            tally.take(now + KEPT_EVERY, false),
            [(tenant(), two)].into()
        );
        tally.add(tenant(), ONE);
        assert_eq!(tally.take(now + KEPT_EVERY, true), [(tenant(), ONE)].into());
        assert_eq!(tally.take(now + KEPT_EVERY, true), HashMap::new());
    }

    #[test]
    fn a_write_that_fails_is_tried_again_after_ever_longer_pauses_until_one_succeeds() {
        let (tally, start) = (Tally::default(), Instant::now());
        let (mut now, mut tries) = (start, Vec::new());
        while now < start + Duration::from_mins(5) {
            tally.add(tenant(), ONE);
            // Something dies all the time: that changes nothing.
            tally.lock().is_urgent = true;
            for (tenant, counts) in tally.take(now, false) {
                tries.push((now - start).as_secs());
                tally.add(tenant, counts);
            }
            now += Duration::from_secs(1);
        }
        assert_eq!(tries, [0, 5, 15, 35, 75, 135, 195, 255]);

        // None was lost.
        let counted = Counts {
            messages_sent: 300,
            ..ONE
        };
        assert_eq!(
            tally.take(now + LONGEST_PAUSE, false),
            [(tenant(), counted)].into()
        );
        tally.written(now);
        tally.add(tenant(), ONE);
        assert_eq!(tally.take(now + KEPT_EVERY, false).len(), 1);
    }

    #[test]
    fn what_died_is_taken_at_once_where_writes_succeed() {
        let (tally, now) = (Tally::default(), Instant::now());
        tally.add(tenant(), ONE);
        assert_eq!(tally.take(now, false).len(), 1);
        tally.written(now);
        tally.add(tenant(), ONE);
        assert_eq!(tally.take(now, false).len(), 0);
        tally.lock().is_urgent = true;
        assert_eq!(tally.take(now, false).len(), 1);
    }

    #[test]
    fn what_is_counted_is_bounded() {
        let tally = Tally::default();
        for number in 0..=CAPACITY {
            tally.add(format!("tenant_{number:032x}").parse().unwrap(), ONE);
        }
        assert_eq!(tally.take(Instant::now(), false).len(), CAPACITY);
    }
}
