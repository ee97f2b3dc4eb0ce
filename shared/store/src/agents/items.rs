//! How agents and their versions are written down.

use std::collections::HashMap;

use super::standing::Standing;
use crate::{
    domain::{
        AgentId, Error, Moment, TenantId,
        agent::{Agent, KeptVersion, Profile, Version},
        model::Provider,
        tool::Tool,
    },
    item::{Item, NewItem, Read, s},
};
/// What an item has of a profile.
pub(super) const PROFILE: [&str; 9] = [
    "name",
    "description",
    "type",
    "system_prompt",
    "provider",
    "model",
    "temperature",
    "max_tokens",
    "tools",
];

pub(super) fn agents(tenant: TenantId) -> String {
    format!("{tenant}#agents")
}

pub(super) fn versions(tenant: TenantId, id: AgentId) -> String {
    format!("{tenant}#agent#{id}")
}

pub(super) fn sort(version: Version) -> String {
    format!("{:010}", version.0)
}

pub(super) fn key(pk: String, sk: impl ToString) -> Item {
    HashMap::from([("pk".to_owned(), s(pk)), ("sk".to_owned(), s(sk))])
}

/// Names the request that wrote an item, by which it recognises its own.
pub(super) fn mark(moment: &Moment) -> String {
    format!("{:032x}", moment.seed)
}

/// An agent as it stands.
pub(super) fn stored(tenant: TenantId, agent: &Agent, moment: &Moment) -> Item {
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
pub(super) fn version(tenant: TenantId, agent: &Agent) -> Item {
    let item = NewItem::new()
        .s("pk", versions(tenant, agent.id))
        .s("sk", sort(agent.version))
        .s_opt("at", agent.updated_at.or(agent.created_at));
    with(item, &agent.profile).build()
}

pub(super) fn with(item: NewItem, profile: &Profile) -> NewItem {
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

pub(super) fn standing(item: &Item) -> Result<Standing, Error> {
    let version = Version(item.number("version")?);
    if item.contains_key("deleted_at") {
        return Ok(Standing::Deleted(version));
    }
    let Some(profile) = profile(item)? else {
        return Ok(Standing::Later(version));
    };
    Ok(Standing::Agent(Box::new(Agent {
        id: item.parse("sk")?,
        version,
        profile,
        created_at: item.time_opt("created_at")?,
        updated_at: item.time_opt("updated_at")?,
    })))
}

pub(super) fn kept(item: &Item) -> Result<KeptVersion, Error> {
    let version: u32 = item.parse("sk")?;
    Ok(KeptVersion {
        version: Version(version),
        name: item.text("name")?.to_owned(),
        at: item.time_opt("at")?,
    })
}

/// `None` if its provider is one that a later version knows.
pub(super) fn profile(item: &Item) -> Result<Option<Profile>, Error> {
    let owned = |name| item.text(name).map(ToOwned::to_owned);
    let provider = item.text_opt("provider")?.map(str::parse::<Provider>);
    let Ok(provider) = provider.transpose() else {
        return Ok(None);
    };
    let tools = item.texts("tools")?.into_iter().map(Tool::named);
    Ok(Some(Profile {
        name: owned("name")?,
        description: owned("description")?,
        kind: owned("type")?,
        system_prompt: owned("system_prompt")?,
        provider,
        model: item.text_opt("model")?.map(ToOwned::to_owned),
        temperature: item.number_opt("temperature")?,
        max_tokens: item.number_opt("max_tokens")?,
        // A tool that is no more is no more in it.
        tools: tools.flatten().collect(),
    }))
}
