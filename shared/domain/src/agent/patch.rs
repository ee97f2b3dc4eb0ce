//! What a request says of an agent, and what it may say.

use super::Profile;
use crate::{
    Error,
    model::{Provider, is_name},
    text::{self, Name},
    tool::Tool,
};

/// What a change says of something that need not be set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Setting<T> {
    /// Nothing: it stays as it is.
    #[default]
    Kept,
    /// That it is left to whoever decides where nobody says.
    Unset,
    /// This.
    Set(T),
}

impl<T: Clone> Setting<T> {
    /// What it is after the change, if it was `old`.
    pub(super) fn over(&self, old: Option<&T>) -> Option<T> {
        match self {
            Self::Kept => old.cloned(),
            Self::Unset => None,
            Self::Set(new) => Some(new.clone()),
        }
    }
}

impl<T> Setting<T> {
    /// The same, read by `parse`.
    pub fn read<U>(self, parse: impl FnOnce(T) -> Result<U, Error>) -> Result<Setting<U>, Error> {
        Ok(match self {
            Self::Kept => Setting::Kept,
            Self::Unset => Setting::Unset,
            Self::Set(it) => Setting::Set(parse(it)?),
        })
    }
}

/// What a request says of an agent, as it came.
#[derive(Debug, Default)]
#[expect(
    missing_docs,
    reason = "each field is the one of its name in `ProfilePatch`"
)]
pub struct ProfileWords {
    pub name: Option<String>,
    pub description: Option<String>,
    pub kind: Option<String>,
    pub system_prompt: Option<String>,
    pub provider: Setting<String>,
    pub model: Setting<String>,
    pub temperature: Setting<f64>,
    pub max_tokens: Setting<i64>,
    pub tools: Option<Vec<String>>,
}

/// What is changed of an agent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProfilePatch {
    pub(super) name: Option<Name>,
    pub(super) description: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) system_prompt: Option<String>,
    pub(super) provider: Setting<Provider>,
    pub(super) model: Setting<String>,
    pub(super) temperature: Setting<f64>,
    pub(super) max_tokens: Setting<u32>,
    pub(super) tools: Option<Vec<Tool>>,
}

impl ProfilePatch {
    /// Reads fields `name`, `description`, `type`, `systemPrompt`, `provider`, `model`, `temperature`, `maxTokens` and
    /// `tools`.
    pub fn parse(words: ProfileWords) -> Result<Self, Error> {
        let bounded = |field, text: Option<String>, max| match text {
            Some(text) => text::check(field, &text, max).map(|()| Some(text)),
            None => Ok(None),
        };
        Ok(Self {
            name: words.name.map(Name::parse).transpose()?,
            description: bounded("description", words.description, Profile::MAX_DESCRIPTION)?,
            kind: words.kind.map(kind).transpose()?,
            system_prompt: bounded("systemPrompt", words.system_prompt, Profile::MAX_PROMPT)?,
            provider: words.provider.read(|name| name.parse())?,
            model: words.model.read(model)?,
            temperature: words.temperature.read(temperature)?,
            max_tokens: words.max_tokens.read(max_tokens)?,
            tools: words.tools.as_deref().map(Tool::parse_all).transpose()?,
        })
    }
}

pub(super) fn kind(text: String) -> Result<String, Error> {
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    if (1..=Profile::MAX_KIND).contains(&text.len()) && text.bytes().all(plain) {
        return Ok(text);
    }
    Err(Error::invalid(
        "type",
        "Invalid type. It is 1 to 64 of a-z, 0-9, _ and -",
    ))
}

fn model(text: String) -> Result<String, Error> {
    if is_name(&text) {
        return Ok(text);
    }
    Err(Error::invalid(
        "model",
        "Invalid model. It is 1 to 128 letters, digits and - _ . : / @ +, without .. and ::",
    ))
}

fn temperature(number: f64) -> Result<f64, Error> {
    // A number that is stored has no more than 130 decimals; no model tells so small ones apart.
    if (Profile::MIN_TEMPERATURE..=2.0).contains(&number) {
        return Ok(number);
    }
    // There is a 0 with a sign.
    if number == 0.0 {
        return Ok(0.0);
    }
    Err(Error::invalid(
        "temperature",
        "Invalid temperature. It is 0, or a number from 0.000001 to 2",
    ))
}

fn max_tokens(number: i64) -> Result<u32, Error> {
    let number = u32::try_from(number).ok();
    number
        .filter(|number| (1..=Profile::MAX_TOKENS).contains(number))
        .ok_or_else(|| {
            Error::invalid(
                "maxTokens",
                "Invalid maxTokens. It is a whole number from 1 to 32768",
            )
        })
}
