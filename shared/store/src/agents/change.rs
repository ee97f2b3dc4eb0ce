//! Changing an agent, and rolling it back.

use aws_sdk_dynamodb::types::TransactWriteItem;

use super::{
    AgentStore,
    items::{PROFILE, agents, key, mark, version, with},
    standing::Basis,
};
use crate::{
    Backoff,
    domain::{
        AgentId, Error, Moment, TenantId,
        agent::{Agent, MAX_VERSIONS, NO_AGENT, NO_VERSION, ProfilePatch, Version},
    },
    item::{NewItem, n, s},
    transaction::{self, Outcome},
};

const TOO_MANY_VERSIONS: Error = Error::Conflict("An agent has at most 10000 versions");

/// What becomes of an agent.
#[derive(Debug, Clone, Copy)]
pub enum Next<'a> {
    /// What this changes of what it is.
    Changed(&'a ProfilePatch),
    /// What it was at this version.
    RolledBack(Version),
}

impl AgentStore {
    /// Makes `next` of an agent: its next version, unless a change changes nothing. Changes made at once follow each
    /// other, and none is lost.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such agent or version, [`Error::Conflict`] at [`MAX_VERSIONS`],
    /// [`Error::Busy`] if others kept changing it, and what `next` refuses.
    pub async fn change(
        &self,
        tenant: TenantId,
        id: AgentId,
        next: Next<'_>,
        moment: &Moment,
    ) -> Result<Agent, Error> {
        let mut race = Backoff::until(moment.deadline, moment.seed);
        loop {
            let standing = self.standing(tenant, id).await?;
            let basis = standing.basis();
            let last = match basis {
                Basis::Nothing => Version::FIRST,
                Basis::Agent(version) | Basis::Deleted(version) => version,
            };
            let old = standing.agent(id);
            let profile = match (next, &old, basis) {
                (Next::Changed(patch), Some(old), _) => {
                    let profile = old.profile.changed(patch)?;
                    if profile == old.profile {
                        return Ok(old.clone());
                    }
                    profile
                }
                (Next::RolledBack(version), Some(_), _)
                | (Next::RolledBack(version), None, Basis::Deleted(_)) => {
                    let kept = self.version(tenant, id, version).await?;
                    kept.ok_or(NO_VERSION)?.0
                }
                (Next::Changed(_) | Next::RolledBack(_), None, _) => return Err(NO_AGENT),
            };
            if last.0 >= MAX_VERSIONS {
                return Err(TOO_MANY_VERSIONS);
            }
            let agent = Agent {
                id,
                version: last.next(),
                profile,
                created_at: old.as_ref().and_then(|old| old.created_at),
                updated_at: Some(moment.now),
            };
            let mut writes = vec![
                self.changed(tenant, &agent, old.as_ref(), basis, moment)?,
                self.put_new(version(tenant, &agent))?,
            ];
            if let (Basis::Nothing, Some(old)) = (basis, &old) {
                // What the code says today is what it was, whatever it will say.
                writes.push(self.put_new(version(tenant, old))?);
            }
            let refused = match transaction::commit(&self.client, &writes, &mut race).await? {
                Outcome::Committed => return Ok(agent),
                Outcome::Refused(refused) => refused,
            };
            let current = refused.first().and_then(Option::as_ref);
            let current = current.and_then(|standing| standing.item.as_ref());
            if current.is_some_and(|item| item.get("change") == Some(&s(mark(moment)))) {
                // An earlier try of ours landed and its answer was lost.
                return Ok(agent);
            }
            race.pause().await?;
        }
    }

    /// Makes `agent` what stands in the place of `old`, which is `None` for a deleted one. Only what differs is written: what
    /// another version of this code has added stays.
    fn changed(
        &self,
        tenant: TenantId,
        agent: &Agent,
        old: Option<&Agent>,
        basis: Basis,
        moment: &Moment,
    ) -> Result<TransactWriteItem, Error> {
        let mut sets = vec![
            ("version", n(agent.version.0)),
            ("change", s(mark(moment))),
            ("updated_at", s(moment.now)),
        ];
        let mut removes = vec!["deleted_at"];
        let written = match basis {
            // What is built in stands nowhere.
            Basis::Nothing => None,
            Basis::Agent(_) | Basis::Deleted(_) => old,
        };
        let written = written.map(|old| with(NewItem::new(), &old.profile).build());
        let mut now = with(NewItem::new(), &agent.profile).build();
        for name in PROFILE {
            let before = written.as_ref().map(|item| item.get(name));
            match now.remove(name) {
                new if before == Some(new.as_ref()) => {}
                Some(new) => sets.push((name, new)),
                None => removes.push(name),
            }
        }
        self.update(key(agents(tenant), agent.id), basis, sets, &removes)
    }
}
