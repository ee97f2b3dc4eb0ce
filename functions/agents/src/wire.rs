//! What goes over the wire.

use parlance::domain::{
    Error, Page, TenantId,
    agent::{Agent, KeptVersion, Profile, ProfilePatch, ProfileWords, Setting, Version},
    model::Provider,
    tool::Tool,
};
use parlance::http::{not_null, reply::shown};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// What an agent is to be. In a change, what is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AgentIn {
    /// Needed for a new one. 1 to 256 bytes.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "Support", max_length = 256)]
    name: Option<String>,
    /// At most 4,096 bytes.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "Answers questions about orders", max_length = 4096)]
    description: Option<String>,
    /// A word to filter chats by (`agentType`): 1 to 64 of a-z, 0-9, _ and -. `custom` if nobody says.
    #[serde(rename = "type", default, deserialize_with = "not_null")]
    #[schema(example = "support", max_length = 64)]
    kind: Option<String>,
    /// What it is told before each conversation. At most 32,768 bytes.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "You help customers of a shop.", max_length = 32768)]
    system_prompt: Option<String>,
    /// `openai`, `anthropic`, `google` or `echo`; then `model` is needed too. `null` or left out: whoever has a model called so
    /// (`gpt-…`, `claude-…`, `gemini-…`), or else the deployment's default.
    #[serde(default, deserialize_with = "setting")]
    #[schema(value_type = Option<String>, example = "openai")]
    provider: Setting<String>,
    /// The model in its provider's words: 1 to 128 letters, digits and - _ . : / @ +, without `..` and `::`. `null`: the deployment's
    /// default.
    #[serde(default, deserialize_with = "setting")]
    #[schema(value_type = Option<String>, example = "gpt-4o-mini", max_length = 128)]
    model: Setting<String>,
    /// 0, or 0.000001 to 2. `null` leaves it to the model.
    #[serde(default, deserialize_with = "setting")]
    #[schema(value_type = Option<f64>, example = 0.7, minimum = 0, maximum = 2)]
    temperature: Setting<f64>,
    /// How many tokens an answer may have: 1 to 32,768. `null`: 4,096.
    #[serde(default, deserialize_with = "setting")]
    #[schema(value_type = Option<u32>, example = 4096, minimum = 1, maximum = 32768)]
    max_tokens: Setting<i64>,
    /// What it may call: `calculator`, `current_time`, `http_fetch`, `search_messages`, `web_search`, `generate_image`. At most 16.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = json!(["calculator", "current_time"]))]
    tools: Option<Vec<String>>,
}

/// Where a field is left out, nothing is said of it; `null` unsets it.
fn setting<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Setting<T>, D::Error> {
    let said = Option::<T>::deserialize(deserializer)?;
    Ok(said.map_or(Setting::Unset, Setting::Set))
}

impl AgentIn {
    /// The same in domain words.
    pub(crate) fn parse(self) -> Result<ProfilePatch, Error> {
        ProfilePatch::parse(ProfileWords {
            name: self.name,
            description: self.description,
            kind: self.kind,
            system_prompt: self.system_prompt,
            provider: self.provider,
            model: self.model,
            temperature: self.temperature,
            max_tokens: self.max_tokens,
            tools: self.tools,
        })
    }
}

/// Which version an agent is to be again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollbackIn {
    #[schema(example = 1, minimum = 1, maximum = 10000)]
    version: i64,
}

impl RollbackIn {
    /// The same in domain words.
    pub(crate) fn parse(&self) -> Result<Version, Error> {
        Version::parse(self.version)
    }
}

/// When `agent` of `team` was made: a built-in one with the team.
fn created_at(agent: &Agent, team: TenantId) -> String {
    let made_at = agent.created_at.unwrap_or_else(|| team.made_at());
    made_at.to_string()
}

/// When `agent` of `team` was last changed, or else made.
fn updated_at(agent: &Agent, team: TenantId) -> String {
    let changed_at = agent.updated_at.map(|at| at.to_string());
    changed_at.unwrap_or_else(|| created_at(agent, team))
}

/// An agent in short.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AgentOut {
    #[schema(example = "agent_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    id: String,
    #[schema(example = "Support")]
    name: String,
    #[schema(example = "Answers questions about orders")]
    description: String,
    #[schema(example = "tenant_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    team_id: String,
    #[schema(example = "2025-12-13T12:00:00.000000Z", format = "date-time")]
    created_at: String,
}

impl AgentOut {
    /// `agent` of `team`.
    pub(crate) fn new(agent: &Agent, team: TenantId) -> Self {
        Self {
            id: agent.id.to_string(),
            name: agent.profile.name.clone(),
            description: agent.profile.description.clone(),
            team_id: team.to_string(),
            created_at: created_at(agent, team),
        }
    }
}

/// A page of a team's agents.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AgentsOut {
    agents: Vec<AgentOut>,
    /// The `cursor` of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

impl AgentsOut {
    /// A page of the agents of `team`.
    pub(crate) fn new(page: &Page<Agent>, team: TenantId) -> Self {
        let agents = page.items.iter();
        Self {
            agents: agents.map(|agent| AgentOut::new(agent, team)).collect(),
            next_cursor: page.next.as_ref().map(shown),
        }
    }
}

/// An agent.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AgentInFull {
    #[schema(example = "agent_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    id: String,
    #[schema(example = "Support")]
    name: String,
    #[schema(example = "Answers questions about orders")]
    description: String,
    #[serde(rename = "type")]
    #[schema(example = "support")]
    kind: String,
    #[schema(example = "You help customers of a shop.")]
    system_prompt: String,
    #[schema(example = "openai")]
    provider: Option<&'static str>,
    #[schema(example = "gpt-4o-mini")]
    model: Option<String>,
    #[schema(example = 0.7)]
    temperature: Option<f64>,
    #[schema(example = 4096)]
    max_tokens: Option<u32>,
    #[schema(example = json!(["calculator", "current_time"]))]
    tools: Vec<&'static str>,
    /// 1, 2, 3, …: each change makes the next.
    #[schema(example = 1)]
    version: u32,
    #[schema(example = "tenant_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    team_id: String,
    #[schema(example = "2025-12-13T12:00:00.000000Z", format = "date-time")]
    created_at: String,
    #[schema(example = "2025-12-13T12:00:00.000000Z", format = "date-time")]
    updated_at: String,
}

impl AgentInFull {
    /// `agent` of `team`.
    pub(crate) fn new(agent: Agent, team: TenantId) -> Self {
        let (created_at, updated_at) = (created_at(&agent, team), updated_at(&agent, team));
        let Profile {
            name,
            description,
            kind,
            system_prompt,
            provider,
            model,
            temperature,
            max_tokens,
            tools,
        } = agent.profile;
        Self {
            id: agent.id.to_string(),
            name,
            description,
            kind,
            system_prompt,
            provider: provider.map(Provider::name),
            model,
            temperature,
            max_tokens,
            tools: tools.into_iter().map(Tool::name).collect(),
            version: agent.version.0,
            team_id: team.to_string(),
            created_at,
            updated_at,
        }
    }
}

/// An agent that was changed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AgentChanged {
    #[schema(example = "agent_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    id: String,
    #[schema(example = "Support")]
    name: String,
    #[schema(example = "2025-12-13T12:00:00.000000Z", format = "date-time")]
    updated_at: String,
}

impl AgentChanged {
    /// `agent` of `team`.
    pub(crate) fn new(agent: &Agent, team: TenantId) -> Self {
        Self {
            id: agent.id.to_string(),
            name: agent.profile.name.clone(),
            updated_at: updated_at(agent, team),
        }
    }
}

/// An agent that is again what it was.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AgentRolledBack {
    #[schema(example = "agent_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    id: String,
    #[schema(example = "Support")]
    name: String,
    /// Its version now: a new one.
    #[schema(example = 3)]
    version: u32,
    #[schema(example = "2025-12-13T12:00:00.000000Z", format = "date-time")]
    rolled_back_at: String,
}

impl AgentRolledBack {
    /// `agent` of `team`.
    pub(crate) fn new(agent: &Agent, team: TenantId) -> Self {
        Self {
            id: agent.id.to_string(),
            name: agent.profile.name.clone(),
            version: agent.version.0,
            rolled_back_at: updated_at(agent, team),
        }
    }
}

/// A version of an agent, in short.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VersionOut {
    #[schema(example = 1)]
    version: u32,
    /// What the agent was called.
    #[schema(example = "Support")]
    name: String,
    /// Since when it was so.
    #[schema(example = "2025-12-13T12:00:00.000000Z", format = "date-time")]
    created_at: String,
}

/// A page of an agent's versions.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VersionsOut {
    versions: Vec<VersionOut>,
    /// The `cursor` of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

impl VersionsOut {
    /// A page of the versions of an agent of `team`.
    pub(crate) fn new(page: &Page<KeptVersion>, team: TenantId) -> Self {
        let versions = page.items.iter().map(|kept| VersionOut {
            version: kept.version.0,
            name: kept.name.clone(),
            created_at: kept.at.unwrap_or_else(|| team.made_at()).to_string(),
        });
        Self {
            versions: versions.collect(),
            next_cursor: page.next.as_ref().map(shown),
        }
    }
}
