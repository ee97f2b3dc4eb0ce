//! Language models: asked in the words of each provider, heard while they answer.
//!
//! **Invariant:** the text of a reply is exactly what was passed on, piece by piece, while it came; and nothing that
//! was asked, answered or used as a key is in an error or a log.

mod echo;
mod events;
mod far;
mod mend;
mod passing;
mod relay;
mod tries;
mod words;

use std::{fmt, ops::ControlFlow, str::FromStr, sync::OnceLock, time::Duration};

use tokio::time::{Instant, sleep_until};

use self::{passing::Passing, tries::Tries};
use super::outbound::{self, Client};
pub use crate::domain::provider_key::ModelKey;
use crate::domain::{
    Error, Timestamp,
    address::Targets,
    model::{ModelFailure, ModelReply, Provider, Tokens, ToolSpec, Turn, Unanswered, is_name},
};

/// A question to a model.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Who runs the model.
    pub provider: Provider,
    /// The model, in the provider's words.
    pub model: &'a str,
    /// Where the provider is, if not where it usually is.
    pub base_url: Option<&'a str>,
    /// What the provider knows us by; [`Provider::Echo`] needs none.
    pub key: Option<&'a ModelKey>,
    /// What the model is told before the conversation.
    pub system: Option<&'a str>,
    /// The conversation, oldest first. The last one is not the model's.
    pub turns: &'a [Turn],
    /// What the model may call.
    pub tools: &'a [ToolSpec],
    /// How freely it speaks, 0 to 2; `None` leaves it to the model.
    pub temperature: Option<f64>,
    /// How many tokens it may answer with.
    pub max_tokens: u32,
    /// When it is asked.
    pub now: Timestamp,
    /// Randomness for the waits between tries.
    pub seed: u128,
}

/// The model of who has not chosen one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultModel {
    /// Who runs it.
    pub provider: Provider,
    /// Its name, in the provider's words.
    pub model: String,
}

impl Default for DefaultModel {
    fn default() -> Self {
        Self {
            provider: Provider::Echo,
            model: echo::MODEL.to_owned(),
        }
    }
}

/// `provider/model`.
impl FromStr for DefaultModel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            let reason = "It is a provider and the name of one of its models, as in openai/gpt-5";
            Error::invalid("model", reason)
        };
        let (provider, model) = text.split_once('/').ok_or_else(wrong)?;
        let provider = provider.parse().map_err(|_| wrong())?;
        let model = Some(model).filter(|model| is_name(model));
        Ok(Self {
            provider,
            model: model.ok_or_else(wrong)?.to_owned(),
        })
    }
}

/// For a name to be resolved and a connection to be made, without its TLS.
const CONNECT: Duration = Duration::from_secs(3);
/// For how long an unused connection is kept.
const KEPT: Duration = Duration::from_secs(30);

/// Asks models. Its connections are kept for a while.
pub struct Models {
    targets: Targets,
    default: DefaultModel,
    /// Made when it is first needed: a function that starts reads no certificates for the one who only echoes.
    client: OnceLock<Client>,
}

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Models")
            .field("targets", &self.targets)
            .field("default", &self.default)
            .finish_non_exhaustive()
    }
}

impl Models {
    /// Asks the models of providers at `targets`, and `default` for who has not chosen.
    pub const fn new(targets: Targets, default: DefaultModel) -> Self {
        Self {
            targets,
            default,
            client: OnceLock::new(),
        }
    }

    /// Where providers may be.
    pub const fn targets(&self) -> Targets {
        self.targets
    }

    /// The model of who has not chosen one.
    pub const fn default_model(&self) -> &DefaultModel {
        &self.default
    }

    /// Asks, and passes each piece of the answer to `heard` as it comes. A piece for which `heard` breaks was not taken:
    /// the provider is left at once, and the reply holds the pieces before it.
    ///
    /// # Errors
    ///
    /// [`Unanswered`], by `deadline` at the latest. A question is asked again, if that may help, only while nothing was
    /// passed on.
    pub async fn ask(
        &self,
        ask: &Ask<'_>,
        deadline: Instant,
        heard: &mut impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<ModelReply, Unanswered> {
        let mut passing = Passing::new(heard);
        match ask.provider {
            Provider::Echo => Ok(echo::answer(ask, &mut passing).await),
            Provider::OpenAi | Provider::Anthropic | Provider::Google => {
                self.ask_far(ask, deadline, &mut passing).await
            }
        }
    }

    async fn ask_far<H: FnMut(&str) -> ControlFlow<()>>(
        &self,
        ask: &Ask<'_>,
        deadline: Instant,
        passing: &mut Passing<'_, H>,
    ) -> Result<ModelReply, Unanswered> {
        let client = self
            .client
            .get_or_init(|| outbound::client(outbound::trusted(), self.targets, CONNECT, KEPT));
        let mut tries = Tries::new(ask.seed, deadline);
        let begun = Instant::now();
        let mut used = Tokens::default();
        loop {
            let seed = tries.next();
            let since = i64::try_from(begun.elapsed().as_micros()).unwrap_or_default();
            let ask = Ask {
                now: ask.now.plus_micros(since),
                ..*ask
            };
            let answer = far::answer(client, self.targets, &ask, seed, passing, deadline).await;
            let failed = match answer {
                Ok(mut reply) => {
                    reply.tokens += used;
                    return Ok(reply);
                }
                Err(failed) => failed,
            };
            let written = passing.take_thoughts() + passing.len();
            if let Some(reported) = failed.reported {
                used += reported;
            } else if failed.may_be_used {
                used += Tokens {
                    input: asked(&ask),
                    output: if failed.why == ModelFailure::UsedUp {
                        ask.max_tokens.into()
                    } else {
                        estimate(written)
                    },
                };
            }
            let Some(then) = tries.after(failed, Instant::now()) else {
                let why = failed.why;
                return Err(Unanswered { why, used });
            };
            sleep_until(then).await;
        }
    }
}

/// How many tokens `bytes` of text are, about: for who does not say.
const fn estimate(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4)
}

/// How many tokens `ask` has, about.
fn asked(ask: &Ask<'_>) -> u64 {
    let said = ask.turns.iter().map(|turn| match turn {
        Turn::User(text) => text.len(),
        Turn::Assistant { text, calls } => {
            let calls = calls
                .iter()
                .map(|call| call.name.len() + call.arguments.len());
            text.len() + calls.sum::<usize>()
        }
        Turn::Tool { result, .. } => result.len(),
    });
    let tools = ask
        .tools
        .iter()
        .map(|tool| tool.name.len() + tool.description.len() + tool.parameters.as_str().len());
    let system = ask.system.map_or(0, str::len);
    estimate(said.sum::<usize>() + tools.sum::<usize>() + system)
}
