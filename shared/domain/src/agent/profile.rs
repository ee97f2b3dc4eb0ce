//! What makes an agent answer as it does.

use super::ProfilePatch;
use crate::{Error, model::Provider, tool::Tool};

/// What makes an agent answer as it does: what a version keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// A word of the team's own to filter chats by.
    pub kind: String,
    /// What it is told before each conversation.
    pub system_prompt: String,
    /// Who runs its model; `None` for whom [`Profile::runs_on`] finds.
    pub provider: Option<Provider>,
    /// Its model, in the provider's words; `None` for the deployment's default.
    pub model: Option<String>,
    /// How freely it speaks, 0 or [`Profile::MIN_TEMPERATURE`] to 2; `None` leaves it to the model.
    pub temperature: Option<f64>,
    /// How many tokens an answer may have; `None` for [`Profile::DEFAULT_MAX_TOKENS`].
    pub max_tokens: Option<u32>,
    /// The tools it may call.
    pub tools: Vec<Tool>,
}

impl Profile {
    /// How many tokens an answer may have where nobody said. The thoughts of a model that reasons are counted too.
    pub const DEFAULT_MAX_TOKENS: u32 = 4_096;
    /// The most tokens that can be asked for.
    pub const MAX_TOKENS: u32 = 32_768;
    /// The smallest temperature that is not 0.
    pub const MIN_TEMPERATURE: f64 = 1e-6;
    /// The longest description, in bytes of UTF-8.
    pub const MAX_DESCRIPTION: usize = 4 * 1024;
    /// The longest type, in bytes.
    pub const MAX_KIND: usize = 64;
    /// The longest system prompt, in bytes of UTF-8.
    pub const MAX_PROMPT: usize = 32 * 1024;
    /// The type of an agent of which nobody said one.
    pub const DEFAULT_KIND: &str = "custom";

    /// A new one of which `patch` says all there is to say.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if it has no name, or as [`Profile::changed`].
    pub fn begun(patch: &ProfilePatch) -> Result<Self, Error> {
        let name = patch.name.as_ref();
        let name = name.ok_or_else(|| Error::invalid("name", "Missing name"))?;
        let blank = Self {
            name: name.as_str().to_owned(),
            description: String::new(),
            kind: Self::DEFAULT_KIND.to_owned(),
            system_prompt: String::new(),
            provider: None,
            model: None,
            temperature: None,
            max_tokens: None,
            tools: Vec::new(),
        };
        blank.changed(patch)
    }

    /// This one with what `patch` changes.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if it names a provider and no model of it.
    pub fn changed(&self, patch: &ProfilePatch) -> Result<Self, Error> {
        let text = |new: &Option<String>, old: &String| new.as_ref().unwrap_or(old).clone();
        let name = patch.name.as_ref();
        let changed = Self {
            name: name.map_or_else(|| self.name.clone(), |name| name.as_str().to_owned()),
            description: text(&patch.description, &self.description),
            kind: text(&patch.kind, &self.kind),
            system_prompt: text(&patch.system_prompt, &self.system_prompt),
            provider: patch.provider.over(self.provider.as_ref()),
            model: patch.model.over(self.model.as_ref()),
            temperature: patch.temperature.over(self.temperature.as_ref()),
            max_tokens: patch.max_tokens.over(self.max_tokens.as_ref()),
            tools: patch.tools.as_ref().unwrap_or(&self.tools).clone(),
        };
        if changed.provider.is_some() && changed.model.is_none() {
            return Err(Error::invalid(
                "model",
                "Missing model. Name one of that provider, or no provider",
            ));
        }
        Ok(changed)
    }

    /// Who runs its model: whoever it names, or else whose models are called like it; `None` for the deployment's
    /// default.
    pub fn runs_on(&self) -> Option<Provider> {
        const BEGINNINGS: [(&str, Provider); 8] = [
            ("gpt-", Provider::OpenAi),
            ("chatgpt-", Provider::OpenAi),
            ("o1", Provider::OpenAi),
            ("o3", Provider::OpenAi),
            ("o4", Provider::OpenAi),
            ("claude-", Provider::Anthropic),
            ("gemini-", Provider::Google),
            ("echo-", Provider::Echo),
        ];
        let model = self.model.as_deref().unwrap_or_default();
        let mut known = BEGINNINGS.into_iter();
        self.provider.or_else(|| {
            let found = known.find(|(beginning, _)| model.starts_with(beginning));
            found.map(|(_, provider)| provider)
        })
    }
}
