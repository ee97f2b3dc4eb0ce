//! Agents and their versions, in the `tenants` table.
//!
//! | partition key     | sort key               | attributes                                                                 |
//! |-------------------|------------------------|----------------------------------------------------------------------------|
//! | `tenant#agents`   | `chat`, …, `agent_…`   | as it stands: `version`, `change`, what a version has, `created_at?`, `updated_at?`; once deleted also `deleted_at` |
//! | `tenant#agents`   | `count`                | `agents`: how many the tenant has made and not deleted                     |
//! | `tenant#agent#id` | `0000000007`           | a version: `name`, `description`, `type`, `system_prompt`, `provider?`, `model?`, `temperature?`, `max_tokens?`, `tools?`, `at?` |
//!
//! **Invariant:** the versions of an agent are exactly 1 to n, n is the one that stands, and none is ever changed: a
//! change writes version n+1 and what stands in one transaction, on the condition that n still stood and was not deleted.
//! A built-in agent has no row until it is changed; the first change keeps what it was as version 1. One that is deleted
//! has a row that says so, and comes back when it is rolled back. One that the tenant has made goes, nobody is shown its
//! versions any more, and they are removed soon after. `agents` changes in the transaction that makes or deletes an agent,
//! on the condition that it stays at most [`MAX_AGENTS`](crate::domain::agent::MAX_AGENTS).

mod change;
mod create;
mod delete;
mod items;
mod standing;

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;

pub use self::change::Next;
use self::{
    items::{kept, key, profile, sort, standing, versions},
    standing::Standing,
};
use super::{
    Backoff,
    aws::fault,
    batch,
    events::EventStore,
    item::{Read, malformed},
    paging::Partition,
};
use crate::domain::{
    AgentId, Cursor, Error, Page, TenantId, Timestamp,
    agent::{Agent, BuiltIn, KeptVersion, Profile, Version},
    page::Slice,
};

/// The sort key of the number of agents.
const COUNT: &str = "count";
/// What the sort key of an agent begins with that a tenant has made.
const OWN: &str = "agent_";

/// The agents in the `tenants` table.
#[derive(Debug)]
pub struct AgentStore {
    client: Client,
    table: String,
    events: EventStore,
}

impl AgentStore {
    pub(super) const fn new(client: Client, table: String, events: EventStore) -> Self {
        Self {
            client,
            table,
            events,
        }
    }

    /// An agent as it stands.
    pub async fn get(&self, tenant: TenantId, id: AgentId) -> Result<Option<Agent>, Error> {
        Ok(self.standing(tenant, id).await?.agent(id))
    }

    async fn standing(&self, tenant: TenantId, id: AgentId) -> Result<Standing, Error> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key(items::agents(tenant), id)))
            .consistent_read(true)
            .send()
            .await
            .map_err(fault(&self.table))?;
        found.item.as_ref().map_or(Ok(Standing::Nothing), standing)
    }

    /// Reads a version of an agent, and since when it held. The time is `None` for a built-in agent before it was changed. The
    /// version is `None` if there is no such version, or if it names a provider that only a later version of this code knows.
    pub async fn version(
        &self,
        tenant: TenantId,
        id: AgentId,
        version: Version,
    ) -> Result<Option<(Profile, Option<Timestamp>)>, Error> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key(versions(tenant, id), sort(version))))
            .consistent_read(true)
            .send()
            .await
            .map_err(fault(&self.table))?;
        match (found.item, id) {
            (Some(item), _) => {
                let at = item.time_opt("at")?;
                Ok(profile(&item)?.map(|profile| (profile, at)))
            }
            (None, AgentId::BuiltIn(agent)) if version == Version::FIRST => {
                Ok(Some((Profile::built_in(agent), None)))
            }
            (None, _) => Ok(None),
        }
    }

    /// The versions of an agent that are in `slice`, oldest first. `None` if there is no such agent; a built-in one has
    /// versions also after it was deleted.
    pub async fn versions(
        &self,
        tenant: TenantId,
        id: AgentId,
        slice: &Slice,
    ) -> Result<Option<Page<KeptVersion>>, Error> {
        let after: Option<u32> = slice.after.as_ref().map(Cursor::parse).transpose()?;
        let partition = Partition {
            client: &self.client,
            table: &self.table,
            pk: versions(tenant, id),
            begins_with: None,
        };
        let after = after.map(|after| sort(Version(after)));
        let (standing, (items, more)) =
            tokio::try_join!(self.standing(tenant, id), partition.slice(after, slice),)?;
        let kept = match (standing, id) {
            (Standing::Nothing, AgentId::Own(_)) => return Ok(None),
            (Standing::Nothing, AgentId::BuiltIn(agent)) => vec![KeptVersion {
                version: Version::FIRST,
                name: Profile::built_in(agent).name,
                at: None,
            }],
            (Standing::Agent(_) | Standing::Deleted(_) | Standing::Later(_), _) => {
                items.iter().map(kept).collect::<Result<_, _>>()?
            }
        };
        Ok(Some(Page::new(kept, more, |last| {
            last.version.0.to_string()
        })))
    }

    /// Those of `slice`: first the built-in ones, then those that the tenant has made, oldest first. One that only a later
    /// version can ask is left out.
    pub async fn list(
        &self,
        tenant: TenantId,
        slice: &Slice,
        race: &Backoff,
    ) -> Result<Page<Agent>, Error> {
        let after: Option<AgentId> = slice.after.as_ref().map(Cursor::parse).transpose()?;
        let built_in = BuiltIn::ALL.into_iter().map(AgentId::BuiltIn);
        let built_in: Vec<AgentId> = match after {
            None => built_in.collect(),
            Some(after @ AgentId::BuiltIn(_)) => {
                built_in.skip_while(|id| *id != after).skip(1).collect()
            }
            Some(AgentId::Own(_)) => Vec::new(),
        };
        let mut agents = self.built_in(tenant, &built_in, race).await?;
        let passed = slice.offset.min(agents.len());
        agents.drain(..passed);
        let mut more = agents.len() > slice.limit;
        agents.truncate(slice.limit);
        let mut last = agents.last().map(|agent| agent.id.to_string());
        if !more {
            let rest = Slice {
                // One at least, to know whether the list goes on.
                limit: (slice.limit - agents.len()).max(1),
                offset: slice.offset - passed,
                after: None,
            };
            let partition = Partition {
                client: &self.client,
                table: &self.table,
                pk: items::agents(tenant),
                begins_with: Some(OWN),
            };
            let own = match after {
                Some(own @ AgentId::Own(_)) => Some(own.to_string()),
                Some(AgentId::BuiltIn(_)) | None => None,
            };
            let (items, follow) = partition.slice(own, &rest).await?;
            let full = agents.len() == slice.limit;
            more = follow || (full && !items.is_empty());
            if !full {
                for item in &items {
                    last = Some(item.text("sk")?.to_owned());
                    match standing(item)? {
                        Standing::Agent(agent) => agents.push(*agent),
                        Standing::Later(_) => {}
                        Standing::Nothing | Standing::Deleted(_) => return Err(malformed("sk")),
                    }
                }
            }
        }
        Ok(Page {
            items: agents,
            next: last.filter(|_| more).map(Cursor),
        })
    }

    /// The built-in agents `ids` that are not deleted, in that order. One batch.
    async fn built_in(
        &self,
        tenant: TenantId,
        ids: &[AgentId],
        race: &Backoff,
    ) -> Result<Vec<Agent>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let keys = ids
            .iter()
            .map(|id| key(items::agents(tenant), id))
            .collect();
        let items = batch::read_keys(&self.client, &self.table, keys, race).await?;
        let mut changed = HashMap::new();
        for item in &items {
            changed.insert(item.parse::<AgentId>("sk")?, standing(item)?);
        }
        let agents = ids.iter().filter_map(|id| {
            let standing = changed.remove(id).unwrap_or(Standing::Nothing);
            standing.agent(*id)
        });
        Ok(agents.collect())
    }
}
