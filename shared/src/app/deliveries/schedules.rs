//! Tenants' retry schedules, remembered for at most a minute.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    app::App,
    domain::{Error, TenantId, tenant::RetrySchedule},
};

/// How long a warm function trusts what it has read.
const REMEMBERED: Duration = Duration::from_mins(1);
/// How many schedules a function remembers. One is about 40 bytes.
const CAPACITY: usize = 10_000;

/// The schedules that a function remembers, each with when it was read.
#[derive(Debug, Default)]
pub(in crate::app) struct Schedules(RwLock<HashMap<TenantId, (RetrySchedule, Instant)>>);

impl Schedules {
    fn get(&self, tenant: TenantId) -> Option<RetrySchedule> {
        let schedules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (schedule, read_at) = *schedules.get(&tenant)?;
        (read_at.elapsed() < REMEMBERED).then_some(schedule)
    }

    fn put(&self, tenant: TenantId, schedule: RetrySchedule) {
        let mut schedules = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if schedules.len() >= CAPACITY {
            schedules.retain(|_, (_, read_at)| read_at.elapsed() < REMEMBERED);
        }
        if schedules.len() >= CAPACITY {
            schedules.clear();
        }
        schedules.insert(tenant, (schedule, Instant::now()));
    }

    /// What was read of a tenant is no longer true.
    pub(in crate::app) fn forget(&self, tenant: TenantId) {
        let mut schedules = self.0.write().unwrap_or_else(PoisonError::into_inner);
        schedules.remove(&tenant);
    }
}

impl App {
    /// How the deliveries of a tenant are tried again, as it was within the last minute.
    pub(super) async fn schedule(&self, tenant: TenantId) -> Result<RetrySchedule, Error> {
        if let Some(schedule) = self.0.schedules.get(tenant) {
            return Ok(schedule);
        }
        let profile = self.stores().tenants.get(tenant).await?;
        // Nobody's is the seed's: what was acknowledged is delivered all the same.
        let schedule = profile.map_or(RetrySchedule::DEFAULT, |profile| profile.retry);
        self.0.schedules.put(tenant, schedule);
        Ok(schedule)
    }
}
