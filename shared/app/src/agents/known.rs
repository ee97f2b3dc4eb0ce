//! The agents that this process remembers, so that an answer need not read them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::domain::{AgentId, TenantId, agent::Agent};

/// How long what was read is taken as it is. A change elsewhere is seen after that.
const REMEMBERED: Duration = Duration::from_mins(1);
/// How many agents are remembered. One is at most about 40 KB, and usually 1 KB.
const CAPACITY: usize = 500;

/// What is remembered of agents.
#[derive(Debug, Default)]
pub(crate) struct KnownAgents(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    agents: HashMap<(TenantId, AgentId), (Instant, Arc<Agent>)>,
    /// How many changes there were: what was read before one is not remembered after it.
    changes: u64,
}

/// How many changes there were when a reading began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Began(u64);

impl KnownAgents {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered of an agent; or else the beginning of a reading.
    pub(super) fn get(&self, tenant: TenantId, id: AgentId) -> Result<Arc<Agent>, Began> {
        let state = self.state();
        match state.agents.get(&(tenant, id)) {
            Some((at, agent)) if at.elapsed() < REMEMBERED => Ok(Arc::clone(agent)),
            Some(_) | None => Err(Began(state.changes)),
        }
    }

    /// Remembers what was read since `began`.
    pub(super) fn put(&self, tenant: TenantId, began: Began, agent: &Arc<Agent>) {
        let mut state = self.state();
        if state.changes != began.0 {
            return;
        }
        if state.agents.len() >= CAPACITY {
            state.agents.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
        }
        if state.agents.len() >= CAPACITY {
            state.agents.clear();
        }
        let known = (Instant::now(), Arc::clone(agent));
        state.agents.insert((tenant, agent.id), known);
    }

    /// What was read of an agent is no longer true.
    pub(super) fn forget(&self, tenant: TenantId, id: AgentId) {
        let mut state = self.state();
        state.changes += 1;
        state.agents.remove(&(tenant, id));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::domain::agent::BuiltIn;

    const CHAT: AgentId = AgentId::BuiltIn(BuiltIn::Chat);

    fn tenant() -> TenantId {
        format!("tenant_{:032x}", 7).parse().unwrap()
    }

    fn read(known: &KnownAgents, began: Began) {
        known.put(tenant(), began, &Arc::new(Agent::built_in(BuiltIn::Chat)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_is_remembered_for_a_minute() {
        let known = KnownAgents::default();
        read(&known, known.get(tenant(), CHAT).unwrap_err());
        advance(Duration::from_secs(59)).await;
        assert!(known.get(tenant(), CHAT).is_ok());
        advance(Duration::from_secs(1)).await;
        assert!(known.get(tenant(), CHAT).is_err());
    }

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let known = KnownAgents::default();
        let began = known.get(tenant(), CHAT).unwrap_err();
        known.forget(tenant(), CHAT);
        read(&known, began);
        assert!(known.get(tenant(), CHAT).is_err());
    }

    #[test]
    fn one_teams_agent_is_not_anothers() {
        let known = KnownAgents::default();
        read(&known, known.get(tenant(), CHAT).unwrap_err());
        let other = format!("tenant_{:032x}", 8).parse().unwrap();
        assert!(known.get(other, CHAT).is_err());
    }
}
