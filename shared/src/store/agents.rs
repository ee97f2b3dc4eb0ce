//! Agents and their versions, in the `tenants` table.
//!
//! | partition key     | sort key               | attributes                                                                 |
//! |-------------------|------------------------|----------------------------------------------------------------------------|
//! | `tenant#agents`   | `chat`, …, `agent_…`   | as it stands: `version`, `change`, what a version has, `created_at?`, `updated_at?`; once deleted `deleted_at` |
//! | `tenant#agents`   | `count`                | `agents`: how many the tenant has made and not deleted                     |
//! | `tenant#agent#id` | `0000000007`           | a version: `name`, `description`, `type`, `system_prompt`, `provider?`, `model?`, `temperature?`, `max_tokens?`, `tools?`, `at?` |
//!
//! **Invariant:** the versions of an agent are exactly 1 to n, n is the one that stands, and none is ever changed: a
//! change writes version n+1 and what stands in one transaction, on the condition that n still stood. A built-in
//! agent has no row until it is changed; the first change keeps what it was as version 1. One that is deleted leaves a
//! row that says so, and comes back when it is rolled back; one that the tenant has made goes with all its versions. `agents` changes in the transaction that makes or deletes
//! an agent, on the condition that it stays at most [`MAX_AGENTS`].

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    Client,
    types::{Delete, Put, ReturnValuesOnConditionCheckFailure::AllOld, TransactWriteItem, Update},
};

use super::{
    Backoff,
    aws::fault,
    batch,
    guards::Claim,
    item::{Item, NewItem, Read, malformed, n, s},
    paging::Partition,
    transaction::{self, Outcome},
};
use crate::domain::{
    AgentId, Cursor, Done, Error, Moment, Page, TenantId, Timestamp,
    agent::{
        Agent, BuiltIn, KeptVersion, MAX_AGENTS, MAX_VERSIONS, NO_AGENT, NO_VERSION, Profile,
        ProfilePatch, Version,
    },
    page::Slice,
    tool::Tool,
};

/// The sort key of the number of agents.
const COUNT: &str = "count";
/// What the sort key of an agent begins with that a tenant has made.
const OWN: &str = "agent_";
/// How many versions are removed in one transaction, which may write 100 items.
const AT_ONCE: u32 = 90;
const TOO_MANY: Error = Error::Conflict("A team has at most 500 agents of its own");
const TOO_MANY_VERSIONS: Error = Error::Conflict("An agent has at most 10000 versions");

/// The agents in the `tenants` table.
#[derive(Debug)]
pub struct AgentStore {
    client: Client,
    table: String,
}

/// What becomes of an agent.
#[derive(Debug, Clone, Copy)]
pub enum Next<'a> {
    /// What this changes of what it is.
    Changed(&'a ProfilePatch),
    /// What it was at this version.
    RolledBack(Version),
}

/// What there is of an agent.
enum Standing {
    /// Nothing was ever written.
    Nothing,
    /// It is there.
    Agent(Box<Agent>),
    /// It was deleted, and this was its last version.
    Deleted(Version),
}

impl Standing {
    /// The agent `id`, unless there is none.
    fn agent(self, id: AgentId) -> Option<Agent> {
        match (self, id) {
            (Self::Agent(agent), _) => Some(*agent),
            (Self::Nothing, AgentId::BuiltIn(built_in)) => Some(Agent::built_in(built_in)),
            (Self::Nothing, AgentId::Own(_)) | (Self::Deleted(_), _) => None,
        }
    }
}

impl AgentStore {
    pub(super) const fn new(client: Client, table: String) -> Self {
        Self { client, table }
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
            .set_key(Some(key(agents(tenant), id)))
            .consistent_read(true)
            .send()
            .await
            .map_err(fault(&self.table))?;
        found.item.as_ref().map_or(Ok(Standing::Nothing), standing)
    }

    /// What an agent was at a version, and since when; `None` for when if that is a built-in one before it was changed.
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
            (Some(item), _) => Ok(Some((profile(&item)?, item.time_opt("at")?))),
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
            (Standing::Agent(_) | Standing::Deleted(_), _) => {
                items.iter().map(kept).collect::<Result<_, _>>()?
            }
        };
        Ok(Some(Page::new(kept, more, |last| {
            last.version.0.to_string()
        })))
    }

    /// Those of `slice`: first the built-in ones, then those that the tenant has made, oldest first.
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
                pk: self::agents(tenant),
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
                    match standing(item)? {
                        Standing::Agent(agent) => agents.push(*agent),
                        Standing::Nothing | Standing::Deleted(_) => return Err(malformed("sk")),
                    }
                }
            }
        }
        Ok(Page::new(agents, more, |last| last.id.to_string()))
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
        let keys = ids.iter().map(|id| key(agents(tenant), id)).collect();
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

    /// Makes `agent`, once per `claim`: a repetition is told of the first.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the tenant has [`MAX_AGENTS`], or if `claim` was used for another request.
    pub async fn create(
        &self,
        tenant: TenantId,
        agent: Agent,
        claim: Option<&Claim>,
        moment: &Moment,
    ) -> Result<Done<Agent>, Error> {
        let current = self.put(stored(tenant, &agent, moment), None)?;
        let count = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key(agents(tenant), COUNT)))
            .update_expression("SET agents = if_not_exists(agents, :none) + :one, v = :one")
            .condition_expression("attribute_not_exists(agents) OR agents < :most")
            .expression_attribute_values(":none", n(0))
            .expression_attribute_values(":one", n(1))
            .expression_attribute_values(":most", n(MAX_AGENTS))
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .map_err(Error::internal)?;
        let mut writes = vec![
            current,
            self.put(version(tenant, &agent), None)?,
            transaction::update(count),
        ];
        if let Some(claim) = claim {
            let outcome = NewItem::new().s("id", agent.id);
            writes.push(claim.write(outcome.s_opt("at", agent.created_at).build())?);
        }
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let refused = match transaction::commit(&self.client, &writes, &mut race).await? {
            Outcome::Committed => return Ok(Done::now(agent)),
            Outcome::Refused(refused) => refused,
        };
        if let Some(Some(_)) = refused.first() {
            // An earlier try of ours landed and its answer was lost: nobody else has this id.
            return Ok(Done::now(agent));
        }
        if let (Some(claim), Some(Some(marker))) = (claim, refused.get(3)) {
            let told = claim.recognise(marker.item.as_ref())?.outcome;
            // The request was the same, and so was what it made.
            return Ok(Done::before(Agent {
                id: told.parse("id")?,
                created_at: told.time_opt("at")?,
                ..agent
            }));
        }
        Err(TOO_MANY)
    }

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
            let (based_on, last) = match &standing {
                Standing::Nothing => (None, Version::FIRST),
                Standing::Agent(agent) => (Some(agent.version), agent.version),
                Standing::Deleted(version) => (Some(*version), *version),
            };
            let deleted = matches!(standing, Standing::Deleted(_));
            let old = standing.agent(id);
            let profile = match (next, &old) {
                (Next::Changed(patch), Some(old)) => {
                    let profile = old.profile.changed(patch)?;
                    if profile == old.profile {
                        return Ok(old.clone());
                    }
                    profile
                }
                (Next::RolledBack(version), Some(_)) => {
                    let kept = self.version(tenant, id, version).await?;
                    kept.ok_or(NO_VERSION)?.0
                }
                (Next::RolledBack(version), None) if deleted => {
                    let kept = self.version(tenant, id, version).await?;
                    kept.ok_or(NO_VERSION)?.0
                }
                (Next::Changed(_) | Next::RolledBack(_), None) => return Err(NO_AGENT),
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
                self.put(stored(tenant, &agent, moment), based_on)?,
                self.put(version(tenant, &agent), None)?,
            ];
            if let (None, Some(old)) = (based_on, &old) {
                // What the code says today is what it was, whatever it will say.
                writes.push(self.put(version(tenant, old), None)?);
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

    /// Deletes an agent: of one that the tenant has made its last [`AT_ONCE`] versions too. The version it had; `None` if it
    /// is not there.
    pub async fn delete(
        &self,
        tenant: TenantId,
        id: AgentId,
        moment: &Moment,
    ) -> Result<Option<Version>, Error> {
        let mut race = Backoff::until(moment.deadline, moment.seed);
        loop {
            let standing = self.standing(tenant, id).await?;
            let based_on = match &standing {
                Standing::Agent(agent) => Some(agent.version),
                Standing::Nothing | Standing::Deleted(_) => None,
            };
            // A repetition after a lost answer cannot tell its own effect from an agent that never was.
            let Some(old) = standing.agent(id) else {
                return Ok(None);
            };
            let writes = match id {
                AgentId::BuiltIn(_) => {
                    let tombstone = NewItem::new()
                        .s("pk", agents(tenant))
                        .s("sk", id)
                        .n("version", old.version.0)
                        .s("change", mark(moment))
                        .s("deleted_at", moment.now);
                    let mut writes = vec![self.put(tombstone.build(), based_on)?];
                    if based_on.is_none() {
                        writes.push(self.put(version(tenant, &old), None)?);
                    }
                    writes
                }
                AgentId::Own(_) => self.removal(tenant, &old)?,
            };
            let refused = match transaction::commit(&self.client, &writes, &mut race).await? {
                Outcome::Committed => return Ok(Some(old.version)),
                Outcome::Refused(refused) => refused,
            };
            let current = refused.first().and_then(Option::as_ref);
            match current.map(|standing| standing.item.as_ref()) {
                // Somebody has deleted it since, perhaps we.
                Some(None) => return Ok(Some(old.version)),
                Some(Some(item)) if item.contains_key("deleted_at") => {
                    return Ok(Some(old.version));
                }
                // Somebody has changed it since.
                Some(Some(_)) | None => race.pause().await?,
            }
        }
    }

    /// Removes the versions that [`AgentStore::delete`] has left of an agent whose last version was `last`. It may be done
    /// again.
    pub async fn remove_versions(
        &self,
        tenant: TenantId,
        id: AgentId,
        last: Version,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let mut left = last.0.saturating_sub(AT_ONCE);
        while left > 0 {
            let writes = self.last_versions(tenant, id, Version(left))?;
            // Refused it cannot be: nothing is asked of them.
            transaction::commit(&self.client, &writes, race).await?;
            left = left.saturating_sub(AT_ONCE);
        }
        Ok(())
    }

    /// Removes the last [`AT_ONCE`] versions up to `last`.
    fn last_versions(
        &self,
        tenant: TenantId,
        id: AgentId,
        last: Version,
    ) -> Result<Vec<TransactWriteItem>, Error> {
        let first = last.0.saturating_sub(AT_ONCE) + 1;
        let versions = (first..=last.0).map(|version| {
            let sk = sort(Version(version));
            Delete::builder()
                .table_name(&self.table)
                .set_key(Some(key(versions(tenant, id), sk)))
                .build()
                .map(transaction::delete)
                .map_err(Error::internal)
        });
        versions.collect()
    }

    /// Removes an agent that a tenant has made, as long as it stands as it was.
    fn removal(&self, tenant: TenantId, old: &Agent) -> Result<Vec<TransactWriteItem>, Error> {
        let delete = Delete::builder()
            .table_name(&self.table)
            .set_key(Some(key(agents(tenant), old.id)))
            .condition_expression("#version = :version")
            .expression_attribute_names("#version", "version")
            .expression_attribute_values(":version", n(old.version.0))
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .map_err(Error::internal)?;
        let count = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key(agents(tenant), COUNT)))
            .update_expression("SET agents = agents - :one")
            .expression_attribute_values(":one", n(1))
            .build()
            .map_err(Error::internal)?;
        let mut writes = vec![transaction::delete(delete), transaction::update(count)];
        writes.extend(self.last_versions(tenant, old.id, old.version)?);
        Ok(writes)
    }

    /// Writes `item` in the place of version `based_on`, or of nothing.
    fn put(&self, item: Item, based_on: Option<Version>) -> Result<TransactWriteItem, Error> {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .return_values_on_condition_check_failure(AllOld);
        let put = match based_on {
            None => put.condition_expression("attribute_not_exists(pk)"),
            Some(version) => put
                .condition_expression("#version = :version")
                .expression_attribute_names("#version", "version")
                .expression_attribute_values(":version", n(version.0)),
        };
        put.build().map(transaction::put).map_err(Error::internal)
    }
}

fn agents(tenant: TenantId) -> String {
    format!("{tenant}#agents")
}

fn versions(tenant: TenantId, id: AgentId) -> String {
    format!("{tenant}#agent#{id}")
}

fn sort(version: Version) -> String {
    format!("{:010}", version.0)
}

fn key(pk: String, sk: impl ToString) -> Item {
    HashMap::from([("pk".to_owned(), s(pk)), ("sk".to_owned(), s(sk))])
}

/// Names the request that wrote an item, by which it recognises its own.
fn mark(moment: &Moment) -> String {
    format!("{:032x}", moment.seed)
}

/// An agent as it stands.
fn stored(tenant: TenantId, agent: &Agent, moment: &Moment) -> Item {
    let item = NewItem::new()
        .s("pk", agents(tenant))
        .s("sk", agent.id)
        .n("version", agent.version.0)
        .s("change", mark(moment))
        .s_opt("created_at", agent.created_at)
        .s_opt("updated_at", agent.updated_at);
    with(item, &agent.profile).build()
}

/// What is kept of the version that an agent has.
fn version(tenant: TenantId, agent: &Agent) -> Item {
    let item = NewItem::new()
        .s("pk", versions(tenant, agent.id))
        .s("sk", sort(agent.version))
        .s_opt("at", agent.updated_at.or(agent.created_at));
    with(item, &agent.profile).build()
}

fn with(item: NewItem, profile: &Profile) -> NewItem {
    let tools = profile.tools.iter();
    let item = item
        .s("name", &profile.name)
        .s("description", &profile.description)
        .s("type", &profile.kind)
        .s("system_prompt", &profile.system_prompt)
        .s_opt("provider", profile.provider)
        .s_opt("model", profile.model.as_ref())
        .list("tools", tools.map(|tool| tool.name().to_owned()));
    let item = match profile.temperature {
        Some(temperature) => item.n("temperature", temperature),
        None => item,
    };
    match profile.max_tokens {
        Some(tokens) => item.n("max_tokens", tokens),
        None => item,
    }
}

fn standing(item: &Item) -> Result<Standing, Error> {
    let version = Version(item.number("version")?);
    if item.contains_key("deleted_at") {
        return Ok(Standing::Deleted(version));
    }
    Ok(Standing::Agent(Box::new(Agent {
        id: item.parse("sk")?,
        version,
        profile: profile(item)?,
        created_at: item.time_opt("created_at")?,
        updated_at: item.time_opt("updated_at")?,
    })))
}

fn kept(item: &Item) -> Result<KeptVersion, Error> {
    let version: u32 = item.parse("sk")?;
    Ok(KeptVersion {
        version: Version(version),
        name: item.text("name")?.to_owned(),
        at: item.time_opt("at")?,
    })
}

fn profile(item: &Item) -> Result<Profile, Error> {
    let owned = |name| item.text(name).map(ToOwned::to_owned);
    let provider = item.text_opt("provider")?.map(str::parse).transpose();
    let tools = item.texts("tools")?.into_iter().map(Tool::named);
    Ok(Profile {
        name: owned("name")?,
        description: owned("description")?,
        kind: owned("type")?,
        system_prompt: owned("system_prompt")?,
        provider: provider.map_err(|_: Error| malformed("provider"))?,
        model: item.text_opt("model")?.map(ToOwned::to_owned),
        temperature: item.number_opt("temperature")?,
        max_tokens: item.number_opt("max_tokens")?,
        // A tool that is no more is no more in it.
        tools: tools.flatten().collect(),
    })
}
