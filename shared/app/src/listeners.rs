//! Whether anybody listens to a tenant at all.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{PoisonError, RwLock},
};

use super::App;
pub(super) use crate::store::listeners::Mark;
use crate::{
    domain::{Error, Moment, TenantId, live::LIFETIME_SECONDS},
    store::Backoff,
};

/// How many tenants' marks a function remembers.
const CAPACITY: usize = 10_000;

/// Until when the marks hold that this function knows of, in seconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Marks(RwLock<HashMap<TenantId, i64>>);

impl Marks {
    fn holds(&self, tenant: TenantId, until: i64) -> bool {
        let marks = self.0.read().unwrap_or_else(PoisonError::into_inner);
        marks.get(&tenant).is_some_and(|known| *known >= until)
    }

    fn note(&self, tenant: TenantId, until: i64) {
        let mut marks = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if marks.len() >= CAPACITY {
            marks.clear();
        }
        marks.insert(tenant, until);
    }
}

impl App {
    /// Sees to it that what happens in a tenant is told, from before this returns on.
    pub(super) async fn listen(
        &self,
        tenant: TenantId,
        mark: Mark,
        moment: &Moment,
    ) -> Result<(), Error> {
        let long_enough = moment.now.seconds() + LIFETIME_SECONDS + 60;
        if mark == Mark::ForAConnection && self.0.marks.holds(tenant, long_enough) {
            return Ok(());
        }
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let listeners = &self.stores().listeners;
        let until = listeners.mark(tenant, mark, moment.now, &mut race).await?;
        self.0.marks.note(tenant, until);
        Ok(())
    }

    /// Those of `tenants` that somebody may listen to: one reading for up to 100 of them.
    pub async fn listened(
        &self,
        tenants: &BTreeSet<TenantId>,
        moment: &Moment,
    ) -> Result<BTreeSet<TenantId>, Error> {
        let race = Backoff::until(moment.deadline, moment.seed);
        let listeners = &self.stores().listeners;
        listeners.listened(tenants, moment.now, &race).await
    }
}
