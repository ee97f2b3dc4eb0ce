//! Tenants' retry schedules, remembered for at most a minute.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    App,
    domain::{Error, TenantId, tenant::RetrySchedule},
};

/// How long a warm function trusts what it has read.
const REMEMBERED: Duration = Duration::from_mins(1);
/// How many schedules a function remembers. One is about 40 bytes.
const CAPACITY: usize = 10_000;

/// The schedules that a function remembers.
#[derive(Debug, Default)]
pub(crate) struct Schedules(RwLock<Memory>);

#[derive(Debug, Default)]
struct Memory {
    /// Each with when it was read.
    schedules: HashMap<TenantId, (RetrySchedule, Instant)>,
    /// How many changes there were: a schedule that was read before one is not remembered after it.
    changes: u64,
}

/// The beginning of a reading.
#[derive(Debug, Clone, Copy)]
struct Reading(u64);

impl Schedules {
    fn get(&self, tenant: TenantId) -> Option<RetrySchedule> {
        let memory = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (schedule, read_at) = *memory.schedules.get(&tenant)?;
        (read_at.elapsed() < REMEMBERED).then_some(schedule)
    }

    /// A reading that begins now.
    fn read(&self) -> Reading {
        let memory = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Reading(memory.changes)
    }

    /// Remembers the schedule that `reading` has found, unless it may have changed since.
    fn put(&self, reading: Reading, tenant: TenantId, schedule: RetrySchedule) {
        let mut memory = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if memory.changes != reading.0 {
            return;
        }
        let schedules = &mut memory.schedules;
        if schedules.len() >= CAPACITY {
            schedules.retain(|_, (_, read_at)| read_at.elapsed() < REMEMBERED);
        }
        if schedules.len() >= CAPACITY {
            schedules.clear();
        }
        schedules.insert(tenant, (schedule, Instant::now()));
    }

    /// The schedule of a tenant has changed.
    pub(crate) fn forget(&self, tenant: TenantId) {
        let mut memory = self.0.write().unwrap_or_else(PoisonError::into_inner);
        memory.changes += 1;
        memory.schedules.remove(&tenant);
    }
}

impl App {
    /// How the deliveries of a tenant are tried again, as it was within the last minute.
    pub(super) async fn schedule(&self, tenant: TenantId) -> Result<RetrySchedule, Error> {
        if let Some(schedule) = self.0.schedules.get(tenant) {
            return Ok(schedule);
        }
        let reading = self.0.schedules.read();
        let profile = self.stores().tenants.get(tenant).await?;
        // A tenant that is gone has the seed's: what was acknowledged is delivered all the same.
        let schedule = profile.map_or(RetrySchedule::DEFAULT, |profile| profile.retry);
        self.0.schedules.put(reading, tenant, schedule);
        Ok(schedule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_that_was_read_before_a_change_is_not_remembered_after_it() {
        let schedules = Schedules::default();
        let tenant = "tenant_0193c1a27b0c7f3e8a6d5c4b3a291807".parse().unwrap();
        let stale = schedules.read();
        schedules.forget(tenant);
        schedules.put(stale, tenant, RetrySchedule::DEFAULT);
        assert!(schedules.get(tenant).is_none());

        schedules.put(schedules.read(), tenant, RetrySchedule::DEFAULT);
        assert_eq!(schedules.get(tenant), Some(RetrySchedule::DEFAULT));
    }
}
