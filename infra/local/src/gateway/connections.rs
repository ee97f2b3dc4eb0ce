//! The connections of this process: how many there are, of which addresses, and which of them wait for a request.
//!
//! Below its limits every connection is admitted. At a limit, those that have waited longest for a request (of all, or
//! of the address whose limit it is) are closed for the new one. Only where all are in use is the new one refused.
//!
//! **Invariant:** a connection counts from its acceptance until its socket is closed, as a WebSocket too; one that is
//! being closed for another does not count any more.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use parlance::http::{edge::network, telemetry::Warning};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Timeouts;
use crate::proxy::Proxies;

/// Of the waiting connections that are at a limit, one in so many is closed at once: finding them reads all.
const SHED_PART: usize = 16;
/// In place of the time since which a connection waits: it does not wait.
const IN_USE: u64 = u64::MAX;

/// The most connections at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Of all addresses.
    pub total: usize,
    /// Of one address, or of one network of 64 bits of IPv6. Loopback and trusted proxies, which carry many clients, are
    /// bound by the total alone.
    pub per_address: usize,
}

impl Caps {
    /// The same where there are so many `descriptors` for connections. Where they are few, one address must not have them
    /// all: it has half of all connections at most.
    pub(crate) fn within(self, descriptors: usize) -> Self {
        let total = self.total.min(descriptors);
        Self {
            total,
            per_address: self.per_address.min((total / 2).max(1)),
        }
    }
}

/// The connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    caps: Caps,
    timeouts: Timeouts,
    trusted: Proxies,
    started: Instant,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    by_id: HashMap<u64, Arc<State>>,
    by_address: HashMap<IpAddr, usize>,
    next_id: u64,
    refused: Warning,
    shed: Warning,
}

/// One connection.
#[derive(Debug)]
struct State {
    /// `None` for an address without a limit of its own.
    address: Option<IpAddr>,
    /// Milliseconds after `started`, or [`IN_USE`].
    waiting_since: AtomicU64,
    closing: Notify,
}

/// A place among the connections, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    connections: Connections,
    id: u64,
    state: Arc<State>,
}

/// A request is being answered, until this is dropped.
#[derive(Debug)]
pub(super) struct Busy(Arc<Slot>);

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// All connections are in use.
    Full,
    /// All connections that this address may have are in use.
    AddressFull,
}

impl Refusal {
    /// Worded as API Gateway throttles.
    pub(super) fn answer(self) -> &'static [u8] {
        match self {
            Self::Full => {
                b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 33\r\nretry-after: 1\r\nconnection: close\r\n\r\n{\"message\":\"Service Unavailable\"}"
            }
            Self::AddressFull => {
                b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\ncontent-length: 31\r\nretry-after: 1\r\nconnection: close\r\n\r\n{\"message\":\"Too Many Requests\"}"
            }
        }
    }
}

impl Connections {
    /// No connections yet.
    pub(crate) fn new(caps: Caps, timeouts: Timeouts, trusted: Proxies) -> Self {
        Self(Arc::new(Inner {
            caps,
            timeouts,
            trusted,
            started: Instant::now(),
            open: Mutex::default(),
        }))
    }

    /// A place for a new connection of `peer`.
    pub(super) fn admit(&self, peer: IpAddr) -> Result<Slot, Refusal> {
        let Caps { total, per_address } = self.0.caps;
        let peer = peer.to_canonical();
        let is_exempt = peer.is_loopback() || self.0.trusted.trust(peer);
        let address = (!is_exempt).then(|| network(peer));
        let mut open = self.open();
        let of_address = address.and_then(|it| open.by_address.get(&it).copied());
        if of_address.unwrap_or(0) >= per_address && !open.shed(|it| it.address == address) {
            if let Some(times) = open.refused.due() {
                tracing::warn!(
                    times,
                    "connections are refused: their address has {per_address} in use (--max-connections-per-address)"
                );
            }
            return Err(Refusal::AddressFull);
        }
        if open.by_id.len() >= total && !open.shed(|_| true) {
            if let Some(times) = open.refused.due() {
                tracing::warn!(
                    times,
                    "connections are refused: {total} are in use, which is the limit (--max-connections, `ulimit -n`)"
                );
            }
            return Err(Refusal::Full);
        }
        let state = Arc::new(State {
            address,
            waiting_since: AtomicU64::new(self.now()),
            closing: Notify::new(),
        });
        let id = open.next_id;
        open.next_id += 1;
        open.by_id.insert(id, Arc::clone(&state));
        if let Some(address) = address {
            *open.by_address.entry(address).or_default() += 1;
        }
        Ok(Slot {
            connections: self.clone(),
            id,
            state,
        })
    }

    fn now(&self) -> u64 {
        let since = self.0.started.elapsed().as_millis();
        u64::try_from(since).unwrap_or(IN_USE - 1)
    }

    /// A panic elsewhere leaves it whole: nothing in between can panic.
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Closes those of the connections that `may_go` which wait longest for a request. Whether there were any.
    fn shed(&mut self, may_go: impl Fn(&State) -> bool) -> bool {
        let mut waiting: Vec<(u64, u64)> = self
            .by_id
            .iter()
            .filter(|(_, state)| may_go(state))
            .map(|(id, state)| (state.waiting_since.load(Relaxed), *id))
            .filter(|(since, _)| *since != IN_USE)
            .collect();
        if waiting.is_empty() {
            return false;
        }
        let count = waiting.len().div_ceil(SHED_PART);
        waiting.select_nth_unstable(count - 1);
        for (_, id) in &waiting[..count] {
            if let Some(state) = self.remove(*id) {
                state.closing.notify_one();
            }
        }
        if let Some(times) = self.shed.due() {
            let open = self.by_id.len();
            tracing::warn!(
                times,
                open,
                "connections without a request are closed for new ones: there are too many"
            );
        }
        true
    }

    fn remove(&mut self, id: u64) -> Option<Arc<State>> {
        let state = self.by_id.remove(&id)?;
        if let Some(address) = state.address
            && let Some(count) = self.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
        Some(state)
    }
}

impl Slot {
    pub(super) fn timeouts(&self) -> Timeouts {
        self.connections.0.timeouts
    }

    /// Notes that a request has come.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.state.waiting_since.store(IN_USE, Relaxed);
        Busy(Arc::clone(self))
    }

    /// Notes that the connection is not HTTP any more: it waits for no request.
    pub(super) fn detach(&self) {
        self.state.waiting_since.store(IN_USE, Relaxed);
    }

    /// Whether a request is waited for.
    pub(super) fn is_waiting(&self) -> bool {
        self.state.waiting_since.load(Relaxed) != IN_USE
    }

    /// Waits until the connection is to be closed for another one.
    pub(super) async fn closed(&self) {
        self.state.closing.notified().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connections.open().remove(self.id);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let slot = &self.0;
        let now = slot.connections.now();
        slot.state.waiting_since.store(now, Relaxed);
    }
}

#[cfg(test)]
impl Default for Connections {
    /// More than a test opens.
    fn default() -> Self {
        let caps = Caps {
            total: usize::MAX,
            per_address: usize::MAX,
        };
        Self::new(caps, Timeouts::default(), Proxies::default())
    }
}

#[cfg(test)]
impl Connections {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.open().by_id.len()
    }
}
