//! What is asked of language models, and what they answer.

use std::{fmt, str::FromStr, time::Duration};

use super::{Error, message::Json};

/// Who runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Provider {
    /// `OpenAI`, and all that speak its Chat Completions under a base URL of their own: Azure, Ollama, vLLM, Groq.
    OpenAi,
    /// Anthropic.
    Anthropic,
    /// Google's Gemini.
    Google,
    /// Ourselves, without any model: repeats what it is told, and says that it does. For development.
    Echo,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::OpenAi, Self::Anthropic, Self::Google, Self::Echo];

    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Google => "google",
            Self::Echo => "echo",
        }
    }

    /// Whether it answers only to who has a key.
    pub const fn needs_key(self) -> bool {
        match self {
            Self::OpenAi | Self::Anthropic | Self::Google => true,
            Self::Echo => false,
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Provider {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|provider| provider.name() == text)
            .ok_or_else(|| {
                Error::invalid(
                    "provider",
                    "Invalid provider. Must be one of: openai, anthropic, google, echo",
                )
            })
    }
}

/// The longest name of a model, in bytes.
pub const LONGEST_NAME: usize = 128;

/// Whether `text` can be the name of a model. Google's becomes a part of a path, and must not lead out of it; `::` is how the
/// crate that speaks with providers tells whose a model is, and would be taken off.
pub fn is_name(text: &str) -> bool {
    let fits = (1..=LONGEST_NAME).contains(&text.len());
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@+".contains(&byte);
    fits && text.bytes().all(is_safe) && !text.contains("..") && !text.contains("::")
}

/// What was said in a conversation, as a model is told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// By a person.
    User(String),
    /// By a model: what it said, and what it wanted to be called.
    Assistant {
        /// Its words; empty if it only called.
        text: String,
        /// The calls it made.
        calls: Vec<ToolCall>,
    },
    /// What came of a call.
    Tool {
        /// Which: [`ToolCall::id`].
        call: String,
        /// What it gave.
        result: String,
    },
}

/// A model wants a tool to be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// What the model knows it by.
    pub id: String,
    /// The tool's name: the model's word, to be looked up among those it was given.
    pub name: String,
    /// The arguments, JSON as far as the model made it so.
    pub arguments: String,
    /// What a provider wants to have back with the call, and nobody else reads.
    pub signatures: Vec<String>,
}

/// A tool as a model is told of it.
#[derive(Debug, Clone)]
pub struct ToolSpec {
    /// Its name.
    pub name: &'static str,
    /// What it does, for the model.
    pub description: &'static str,
    /// The JSON Schema of its arguments.
    pub parameters: Json,
}

/// How many tokens were used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Those that were read.
    pub input: u64,
    /// Those that were written.
    pub output: u64,
}

impl Tokens {
    /// All of them.
    pub const fn total(self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

impl std::ops::AddAssign for Tokens {
    fn add_assign(&mut self, other: Self) {
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
    }
}

/// Why a model said no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// It had said all.
    Stop,
    /// It wants tools to be called.
    ToolCalls,
    /// It was not to say more, or it said more than is kept.
    Length,
    /// The provider withheld the rest.
    Filtered,
    /// Whoever listened had gone.
    Cancelled,
}

impl Finish {
    /// Its name in a message's meta.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::ToolCalls => "tool_calls",
            Self::Length => "length",
            Self::Filtered => "filtered",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a model answered to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelReply {
    /// Its words: exactly those that were passed on while they came.
    pub text: String,
    /// The calls it wants.
    pub calls: Vec<ToolCall>,
    /// How many more it wants than any honest answer holds: these are not among them.
    pub dropped: usize,
    /// What it used, with what was broken off before and asked again; an estimate where the provider did not say.
    pub tokens: Tokens,
    /// Why it ended.
    pub finish: Finish,
}

/// A request to which a model gave no answer that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unanswered {
    /// Why.
    pub why: ModelFailure,
    /// What it may have used all the same, since a provider had begun to answer; an estimate where the provider did not say.
    pub used: Tokens,
}

/// Why a model gave no answer that can be used. It holds nothing that the provider said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelFailure {
    /// The provider does not take the key.
    KeyRejected,
    /// The key's budget at the provider is used up, beyond our own retries.
    Limited {
        /// How long the provider says to wait.
        retry_after: Option<Duration>,
    },
    /// The provider refuses the request itself: no such model, or one it cannot read. Sent again it is refused again.
    Refused {
        /// Its status.
        status: u16,
    },
    /// The provider failed, or said what cannot be read, beyond our own retries.
    Failed {
        /// What happened, in our words.
        what: &'static str,
    },
    /// Nothing came in time.
    TimedOut,
    /// The key's quota at the provider is used up, for a month or for a minute: another key may have some.
    NoQuota {
        /// How long the provider says to wait.
        retry_after: Option<Duration>,
    },
    /// The provider failed, beyond our own retries, and says for how long.
    Resting {
        /// How long the provider says to wait.
        retry_after: Duration,
    },
    /// It said nothing at all, or nothing but space.
    Empty,
    /// The provider withheld the answer, for what was asked or what it would have said. Asked again it withholds it
    /// again.
    Withheld,
    /// It used all tokens that it may, for thoughts that nobody hears, before its first word.
    UsedUp,
    /// It broke off after words had been passed on, so that it could not be asked again.
    BrokeOff,
}

impl ModelFailure {
    /// Whether the same question may be answered to who has another key, although this one is none that is not taken.
    pub const fn may_be_of_key(self) -> bool {
        matches!(
            self,
            Self::NoQuota { .. } | Self::Refused { status: 402 | 403 }
        )
    }

    /// Whether it is what was said that is not answered.
    pub const fn may_be_of_words(self) -> bool {
        matches!(
            self,
            Self::Withheld { .. }
                | Self::Refused {
                    status: 400 | 413 | 422
                }
        )
    }
}
