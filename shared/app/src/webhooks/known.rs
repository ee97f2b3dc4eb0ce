//! The endpoints that this process remembers, so that a delivery need not read them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::domain::{EndpointId, TenantId, Timestamp, webhook::Endpoint};

/// How long what was read is taken as it is. A change elsewhere is seen after that.
const REMEMBERED: Duration = Duration::from_secs(10);
/// How many tenants are remembered. An endpoint is at most about 3 KB, and usually 500 bytes.
const CAPACITY: usize = 1_000;

/// What is remembered of endpoints, by tenant.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    tenants: HashMap<TenantId, (Instant, Vec<Endpoint>)>,
    /// How many changes there were: what was read before one is not remembered after it.
    changes: u64,
}

/// How many changes there were when a reading began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Began(u64);

impl Known {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered of a tenant's endpoints; or else the beginning of a reading.
    pub(super) fn get(&self, tenant: TenantId) -> Result<Vec<Endpoint>, Began> {
        let state = self.state();
        match state.tenants.get(&tenant) {
            Some((at, endpoints)) if at.elapsed() < REMEMBERED => Ok(endpoints.clone()),
            Some(_) | None => Err(Began(state.changes)),
        }
    }

    /// Remembers what was read since `began`.
    pub(super) fn put(&self, tenant: TenantId, began: Began, endpoints: Vec<Endpoint>) {
        let mut state = self.state();
        if state.changes != began.0 {
            return;
        }
        if state.tenants.len() >= CAPACITY {
            state.tenants.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
        }
        if state.tenants.len() >= CAPACITY {
            state.tenants.clear();
        }
        state.tenants.insert(tenant, (Instant::now(), endpoints));
    }

    /// Since when `endpoint` fails: as this process knows, or else as it was when it was read.
    pub(super) fn failing_since(&self, endpoint: &Endpoint) -> Option<Timestamp> {
        let state = self.state();
        let known = state.tenants.get(&endpoint.tenant);
        let known = known.and_then(|(_, known)| known.iter().find(|it| it.id == endpoint.id));
        known.unwrap_or(endpoint).failing_since
    }

    /// An endpoint fails since `since`, or works.
    pub(super) fn note(&self, tenant: TenantId, id: EndpointId, since: Option<Timestamp>) {
        let mut state = self.state();
        // A reading that has begun may not have seen it.
        state.changes += 1;
        let known = state.tenants.get_mut(&tenant);
        let endpoint = known.and_then(|(_, endpoints)| endpoints.iter_mut().find(|it| it.id == id));
        if let Some(endpoint) = endpoint {
            endpoint.failing_since = since;
        }
    }

    /// What was read of a tenant is no longer true.
    pub(crate) fn forget(&self, tenant: TenantId) {
        let mut state = self.state();
        state.changes += 1;
        state.tenants.remove(&tenant);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::domain::{
        Moment,
        webhook::{Description, EndpointUrl, EventTypes, Sealed, Status},
    };

    fn endpoint() -> Endpoint {
        let moment = Moment::new(Timestamp::from_micros(0), Instant::now(), Duration::ZERO, 1);
        Endpoint {
            id: EndpointId::at(&moment),
            tenant: TenantId::at(&moment),
            url: EndpointUrl::stored("https://example.com/".to_owned()).unwrap(),
            description: Description::default(),
            events: EventTypes::default(),
            status: Status::Active,
            failing_since: None,
            created_at: moment.now,
            secret: Sealed(String::new()),
            previous: None,
        }
    }

    fn read(known: &Known, endpoint: &Endpoint) {
        let began = known.get(endpoint.tenant).unwrap_err();
        known.put(endpoint.tenant, began, vec![endpoint.clone()]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_is_remembered_for_ten_seconds() {
        let (known, endpoint) = (Known::default(), endpoint());
        read(&known, &endpoint);
        advance(Duration::from_secs(9)).await;
        assert_eq!(known.get(endpoint.tenant).unwrap().len(), 1);
        advance(Duration::from_secs(1)).await;
        assert!(known.get(endpoint.tenant).is_err());
    }

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let (known, endpoint) = (Known::default(), endpoint());
        let began = known.get(endpoint.tenant).unwrap_err();
        known.forget(endpoint.tenant);
        known.put(endpoint.tenant, began, vec![endpoint.clone()]);
        assert!(known.get(endpoint.tenant).is_err());
    }

    #[test]
    fn health_is_known_of_what_is_remembered_and_else_as_it_was_read() {
        let (known, mut endpoint) = (Known::default(), endpoint());
        let since = Some(Timestamp::from_micros(7));
        known.note(endpoint.tenant, endpoint.id, since);
        assert_eq!(known.failing_since(&endpoint), None);
        read(&known, &endpoint);
        known.note(endpoint.tenant, endpoint.id, since);
        assert_eq!(known.failing_since(&endpoint), since);
        known.forget(endpoint.tenant);
        endpoint.failing_since = Some(Timestamp::from_micros(8));
        assert_eq!(known.failing_since(&endpoint), endpoint.failing_since);
    }
}
