//! A team's agents: their making, changing and rolling back. What they answer is in [`super::answering`].

mod known;

use std::sync::Arc;

pub(super) use self::known::KnownAgents;
use super::App;
use crate::{
    domain::{
        AgentId, Done, Error, Moment, Once, OwnAgentId, Page, SecretHolder, TenantId,
        agent::{Agent, KeptVersion, NO_AGENT, NO_VERSION, Profile, ProfilePatch, Version},
        page::Slice,
    },
    store::{Backoff, agents::Next},
};

/// How many versions of an agent one sweep removes: an agent with more takes several.
const SWEPT_AT_ONCE: usize = 500;

impl App {
    /// The agent that answers, as it stood within the last minute. A change is seen at once in this process, and within a
    /// minute in others.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such agent.
    pub async fn agent(&self, tenant: TenantId, id: AgentId) -> Result<Arc<Agent>, Error> {
        let began = match self.0.agents.get(tenant, id) {
            Ok(agent) => return Ok(agent),
            Err(began) => began,
        };
        let agent = self.stores().agents.get(tenant, id).await?;
        let agent = Arc::new(agent.ok_or(NO_AGENT)?);
        self.0.agents.put(tenant, began, &agent);
        Ok(agent)
    }

    /// Makes an agent.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if it has no name, [`Error::Conflict`] if the team has as many as it may have.
    pub async fn create_agent(
        &self,
        holder: &SecretHolder,
        patch: &ProfilePatch,
        once: Option<&Once>,
        moment: &Moment,
    ) -> Result<Done<Agent>, Error> {
        let (tenant, stores) = (holder.tenant(), self.stores());
        let agent = Agent {
            id: AgentId::Own(OwnAgentId::at(moment)),
            version: Version::FIRST,
            profile: Profile::begun(patch)?,
            created_at: Some(moment.now),
            updated_at: None,
        };
        let claim = once.map(|once| {
            let guards = &stores.guards;
            guards.tenant_claim(tenant, "create_agent", once, moment.now)
        });
        let agents = &stores.agents;
        agents.create(tenant, agent, claim.as_ref(), moment).await
    }

    /// The team's agents: first those that every team has, then its own, oldest first.
    pub async fn agents(
        &self,
        holder: &SecretHolder,
        slice: &Slice,
        moment: &Moment,
    ) -> Result<Page<Agent>, Error> {
        let race = Backoff::until(moment.deadline, moment.seed);
        let agents = &self.stores().agents;
        agents.list(holder.tenant(), slice, &race).await
    }

    /// One of the team's agents, as it stands.
    pub async fn agent_now(&self, holder: &SecretHolder, id: AgentId) -> Result<Agent, Error> {
        let agent = self.stores().agents.get(holder.tenant(), id).await?;
        agent.ok_or(NO_AGENT)
    }

    /// What one of the team's agents was at `version`.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such agent, or it has no such version.
    pub async fn agent_at(
        &self,
        holder: &SecretHolder,
        id: AgentId,
        version: Version,
    ) -> Result<Agent, Error> {
        let (tenant, agents) = (holder.tenant(), &self.stores().agents);
        let (agent, kept) =
            tokio::try_join!(agents.get(tenant, id), agents.version(tenant, id, version))?;
        let agent = agent.ok_or(NO_AGENT)?;
        let (profile, at) = kept.ok_or(NO_VERSION)?;
        Ok(Agent {
            version,
            profile,
            updated_at: at,
            ..agent
        })
    }

    /// The versions of one of the team's agents, oldest first.
    pub async fn agent_versions(
        &self,
        holder: &SecretHolder,
        id: AgentId,
        slice: &Slice,
    ) -> Result<Page<KeptVersion>, Error> {
        let agents = &self.stores().agents;
        let versions = agents.versions(holder.tenant(), id, slice).await?;
        versions.ok_or(NO_AGENT)
    }

    /// Changes an agent: what `patch` leaves out stays.
    pub async fn change_agent(
        &self,
        holder: &SecretHolder,
        id: AgentId,
        patch: &ProfilePatch,
        moment: &Moment,
    ) -> Result<Agent, Error> {
        let next = Next::Changed(patch);
        self.write_version(holder.tenant(), id, next, moment).await
    }

    /// Makes an agent what it was at `version`: that is its next version. A built-in one that was deleted is there
    /// again.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such agent, or it has no such version.
    pub async fn roll_back_agent(
        &self,
        holder: &SecretHolder,
        id: AgentId,
        version: Version,
        moment: &Moment,
    ) -> Result<Agent, Error> {
        let next = Next::RolledBack(version);
        self.write_version(holder.tenant(), id, next, moment).await
    }

    async fn write_version(
        &self,
        tenant: TenantId,
        id: AgentId,
        next: Next<'_>,
        moment: &Moment,
    ) -> Result<Agent, Error> {
        let agent = self.stores().agents.change(tenant, id, next, moment).await;
        // Also after a failure: nobody knows then what is written.
        self.0.agents.forget(tenant, id);
        agent
    }

    /// Deletes an agent. Its chats stay and are answered no more; within a minute everywhere. What a tenant has made goes, and
    /// its versions are removed soon after.
    pub async fn delete_agent(
        &self,
        holder: &SecretHolder,
        id: AgentId,
        moment: &Moment,
    ) -> Result<(), Error> {
        let (tenant, agents) = (holder.tenant(), &self.stores().agents);
        let deleted = agents.delete(tenant, id, moment).await;
        self.0.agents.forget(tenant, id);
        if deleted? { Ok(()) } else { Err(NO_AGENT) }
    }

    /// Removes versions of a deleted agent. Harmless at any time: of an agent that is there nothing is removed. Whether there
    /// may be more.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] and the like: it is to be done again.
    pub(super) async fn sweep_versions(
        &self,
        tenant: TenantId,
        id: OwnAgentId,
        moment: &Moment,
    ) -> Result<bool, Error> {
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let agents = &self.stores().agents;
        let removed = agents.remove_versions(tenant, id, SWEPT_AT_ONCE, &mut race);
        removed.await
    }
}
