//! Agents: who answers in chats, and how. Every change of an agent is a version.

mod built_in;
mod patch;
mod profile;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

pub use self::{
    built_in::BuiltIn,
    patch::{ProfilePatch, ProfileWords, Setting},
    profile::Profile,
};
use super::{Error, OwnAgentId, Timestamp, id::InvalidId};

/// How many agents a team may have made; the built-in ones are not counted.
pub const MAX_AGENTS: u32 = 500;
/// How many versions an agent may have.
pub const MAX_VERSIONS: u32 = 10_000;

/// Names an agent within a tenant: a built-in one by its word, one of the tenant's own as `agent_…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AgentId {
    /// One that every tenant starts with.
    BuiltIn(BuiltIn),
    /// One that the tenant has made.
    Own(OwnAgentId),
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(agent) => f.write_str(agent.id()),
            Self::Own(agent) => agent.fmt(f),
        }
    }
}

impl FromStr for AgentId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match BuiltIn::ALL.into_iter().find(|agent| agent.id() == text) {
            Some(agent) => Ok(Self::BuiltIn(agent)),
            None => text.parse().map(Self::Own),
        }
    }
}

/// The `n`th version of an agent: 1, 2, 3, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl Version {
    /// The first.
    pub const FIRST: Self = Self(1);

    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Reads field `version`.
    pub fn parse(number: i64) -> Result<Self, Error> {
        let number = u32::try_from(number).ok();
        number
            .filter(|number| (1..=MAX_VERSIONS).contains(number))
            .map(Self)
            .ok_or_else(|| {
                Error::invalid(
                    "version",
                    format!("Invalid version. It is a whole number from 1 to {MAX_VERSIONS}"),
                )
            })
    }
}

/// An agent as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Which version this is.
    pub version: Version,
    /// What it is.
    pub profile: Profile,
    /// When it was made; `None` for a built-in one, which is there from the beginning.
    pub created_at: Option<Timestamp>,
    /// When it was last changed; `None` if it never was.
    pub updated_at: Option<Timestamp>,
}

/// A version of an agent, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptVersion {
    /// Which it is.
    pub version: Version,
    /// What the agent was called.
    pub name: String,
    /// Since when it stood; `None` for what a built-in agent was before it was changed.
    pub at: Option<Timestamp>,
}

/// What who names an agent that is not there is answered.
pub const NO_AGENT: Error = Error::NotFound("Agent");
/// What who names a version that is not there is answered.
pub const NO_VERSION: Error = Error::NotFound("Version");
