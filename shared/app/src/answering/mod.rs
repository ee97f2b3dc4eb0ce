//! Answering: an agent's model is told what was said, has its tools called, and says something.
//!
//! Nothing here knows of chats: whoever has turns and an agent can have them answered, and keeps the answer itself.

mod meta;
mod rounds;
mod voice;

use std::{future::pending, ops::ControlFlow, time::Duration};

use futures_util::future::join_all;
use tokio::{
    runtime::Handle,
    time::{Instant, timeout, timeout_at},
};

use self::{
    meta::meta,
    rounds::{Rounds, Step, Wanted},
    voice::Voice,
};
use super::{App, provider_keys::ModelKeys, tools::Place};
use crate::{
    domain::{
        Error, LogId, Moment, TenantId,
        agent::{Agent, Profile, Version},
        message::{Json, Seq},
        model::{Finish, ModelFailure, ModelReply, Provider, Tokens, ToolSpec, Turn, Unanswered},
        model_usage::Use,
        provider_key::Scopes,
        webhook::EndpointUrl,
    },
    providers::models::{Ask, DefaultModel},
    store::Backoff,
};

/// How long counting a failure may take: nobody is to wait for it.
const COUNTING: Duration = Duration::from_secs(1);

/// What was said before in a conversation, beyond what the model is told at once.
#[derive(Debug, Clone, Copy)]
pub struct Past {
    /// Its log.
    pub log: LogId,
    /// The place of what is to be answered: what follows is not looked at.
    pub before: Seq,
}

/// What is to be answered.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Whose.
    pub tenant: TenantId,
    /// Who answers: [`App::agent`].
    pub agent: &'a Agent,
    /// For whom keys of providers are looked for; the default is the tenant itself.
    pub scopes: Scopes<'a>,
    /// What the agent may search; nothing without it.
    pub past: Option<Past>,
    /// What was said, oldest first, with what is to be answered last.
    pub turns: &'a [Turn],
    /// When it was asked. By its deadline there is an answer, or a failure.
    pub moment: &'a Moment,
}

/// An answer that is not kept yet.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Its words: exactly those that were passed on while they came, at most 128 KB. Not blank unless
    /// [`Finish::Cancelled`].
    pub text: String,
    /// How it came about, for the message's meta: at most [`Json::MAX_META`] bytes.
    pub meta: Json,
    /// Why it ended.
    pub finish: Finish,
    /// What was used: to be counted in the transaction that keeps the answer (`ModelUsageStore::writes`).
    pub used: Use,
}

/// Why there is no answer.
enum Silence {
    /// No key of the provider can be used.
    NoKey {
        /// Whether there are others, which the same question would be asked with.
        has_more: bool,
    },
    /// The model failed.
    Failed(ModelFailure),
    /// It called tools until it was not asked any more.
    Endless,
    /// A fault of ours.
    Ours(Error),
}

impl From<Error> for Silence {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

/// The model that answers, and the keys it is asked with.
struct Speaker<'a> {
    provider: Provider,
    model: String,
    profile: &'a Profile,
    tools: Vec<ToolSpec>,
    keys: ModelKeys,
    /// Which key is tried next: those before it were not taken.
    key: usize,
    /// Why the last of these was not, if that may be more than the key.
    refused: Option<ModelFailure>,
    /// When all this began.
    begun: Instant,
}

impl App {
    /// Answers `question`. `heard` is told every word as it comes, and stops it by [`ControlFlow::Break`]: the words before
    /// the one that was not taken are the answer then.
    ///
    /// # Errors
    ///
    /// [`Error::Upstream`] if the model gave no answer that can be used; that is counted here.
    pub async fn answer(
        &self,
        question: Question<'_>,
        heard: &mut (impl FnMut(&str) -> ControlFlow<()> + Send),
    ) -> Result<Answered, Error> {
        self.answer_until(question, heard, pending()).await
    }

    /// Answers `question` as [`App::answer`] does, as long as somebody listens: with the end of `gone` it ends, whatever the
    /// model is about to say, and the words before are the answer.
    ///
    /// # Errors
    ///
    /// As [`App::answer`].
    pub async fn answer_until(
        &self,
        question: Question<'_>,
        heard: &mut (impl FnMut(&str) -> ControlFlow<()> + Send),
        gone: impl Future<Output = ()> + Send,
    ) -> Result<Answered, Error> {
        let (profile, moment) = (&question.agent.profile, question.moment);
        let (provider, model) = spoken_by(profile, self.models()?.default_model());
        let mut talk = Talk {
            app: self,
            used: Use {
                tenant: question.tenant,
                agent: question.agent.id,
                provider,
                model: model.to_owned(),
                at: moment.now,
                tokens: Tokens::default(),
                took: Duration::ZERO,
                seed: moment.seed,
            },
            begun: Instant::now(),
            rounds: Rounds::new(question.turns, &profile.tools),
            voice: Voice::new(heard),
            is_over: false,
        };
        let outcome = tokio::select! {
            biased;
            outcome = self.speak(question, &mut talk) => Some(outcome),
            () = gone => None,
        };
        let silence = match outcome {
            Some(Ok(finish)) => return talk.answered(finish, question.agent.version),
            None => return talk.answered(Finish::Cancelled, question.agent.version),
            Some(Err(silence)) => silence,
        };
        let error = match silence {
            Silence::NoKey { has_more } => no_key(provider, has_more),
            Silence::Failed(failure) => failed(provider, failure),
            Silence::Endless => upstream("The model kept calling tools and gave no answer", true),
            Silence::Ours(error) => error,
        };
        let used = talk.used();
        if matches!(error, Error::Upstream { .. }) || used.tokens.total() > 0 {
            self.count_in_vain(&used).await;
        }
        Err(error)
    }

    /// Round after round, until there is an answer.
    async fn speak<H: FnMut(&str) -> ControlFlow<()> + Send>(
        &self,
        question: Question<'_>,
        talk: &mut Talk<'_, H>,
    ) -> Result<Finish, Silence> {
        let Question { tenant, moment, .. } = question;
        let profile = &question.agent.profile;
        let provider = talk.used.provider;
        let keys = if provider.needs_key() {
            let scopes = &question.scopes;
            let keys = self.model_keys(tenant, provider, scopes, moment);
            let keys = timeout_at(moment.deadline, keys).await;
            keys.map_err(|late| Error::Unavailable(Box::new(late)))??
        } else {
            ModelKeys::default()
        };
        let mut speaker = Speaker {
            provider,
            model: talk.used.model.clone(),
            profile,
            tools: profile.tools.iter().map(|tool| tool.spec()).collect(),
            keys,
            key: 0,
            refused: None,
            begun: talk.begun,
        };
        let Talk { rounds, voice, .. } = talk;
        loop {
            let reply = match self.ask(&mut speaker, rounds, voice, moment).await {
                Ok(reply) => reply,
                // After words it has nothing to add.
                Err(Silence::Failed(ModelFailure::Empty)) if !voice.is_silent() => {
                    return Ok(Finish::Stop);
                }
                Err(Silence::Failed(ModelFailure::UsedUp)) if !voice.is_silent() => {
                    return Ok(Finish::Length);
                }
                Err(Silence::Failed(ModelFailure::Withheld)) if !voice.is_silent() => {
                    return Ok(Finish::Filtered);
                }
                // What nobody answered may be what is refused, and would be with each question after it.
                Err(Silence::Failed(failure))
                    if failure.may_be_of_words() && rounds.forget_unanswered() =>
                {
                    continue;
                }
                Err(silence) => return Err(silence),
            };
            let step = rounds.hear(reply);
            if voice.is_gone() {
                return Ok(Finish::Cancelled);
            }
            if voice.is_full() {
                return Ok(Finish::Length);
            }
            let wanted = match step {
                Step::Answered(_) if voice.is_silent() => {
                    return Err(Silence::Failed(ModelFailure::Empty));
                }
                Step::Answered(finish) => return Ok(finish),
                Step::Endless if voice.is_silent() => return Err(Silence::Endless),
                Step::Endless => return Ok(Finish::ToolCalls),
                Step::Call(wanted) => wanted,
            };
            let place = Place {
                past: question.past,
                moment,
            };
            let results = wanted.into_iter().map(|wanted| self.result(wanted, place));
            rounds.tell(join_all(results).await);
            voice.pause();
        }
    }

    async fn result(&self, wanted: Wanted, place: Place<'_>) -> (Wanted, String) {
        let result = match wanted.tool {
            Ok(tool) => {
                let call = self.call_tool(tool, &wanted.arguments, place);
                let result = timeout_at(place.moment.deadline, call).await;
                result.unwrap_or_else(|_| "Error: the tool took too long".to_owned())
            }
            Err(wrong) => format!("Error: {wrong}"),
        };
        (wanted, result)
    }

    /// Asks once, with the first key that the provider takes.
    async fn ask<H: FnMut(&str) -> ControlFlow<()> + Send>(
        &self,
        speaker: &mut Speaker<'_>,
        rounds: &mut Rounds<'_>,
        voice: &mut Voice<'_, H>,
        moment: &Moment,
    ) -> Result<ModelReply, Silence> {
        let models = self.models()?;
        loop {
            let key = speaker.keys.opened.get(speaker.key);
            if key.is_none() && speaker.provider.needs_key() {
                let has_more = speaker.keys.has_more;
                return Err(match speaker.refused {
                    Some(failure) if !has_more => Silence::Failed(failure),
                    Some(_) | None => Silence::NoKey { has_more },
                });
            }
            let Profile { system_prompt, .. } = speaker.profile;
            rounds.open(system_prompt, &speaker.tools, voice.len());
            let base_url = key.and_then(|key| key.base_url.as_ref());
            let since = i64::try_from(speaker.begun.elapsed().as_micros()).unwrap_or_default();
            let ask = Ask {
                provider: speaker.provider,
                model: &speaker.model,
                base_url: base_url.map(EndpointUrl::as_str),
                key: key.map(|key| &key.key),
                system: Some(system_prompt.as_str()).filter(|prompt| !prompt.is_empty()),
                turns: rounds.turns(),
                tools: &speaker.tools,
                temperature: speaker.profile.temperature,
                max_tokens: speaker
                    .profile
                    .max_tokens
                    .unwrap_or(Profile::DEFAULT_MAX_TOKENS),
                now: moment.now.plus_micros(since),
                seed: moment.seed,
            };
            let reply = models
                .ask(&ask, moment.deadline, &mut |delta: &str| voice.say(delta))
                .await;
            let reply = reply.map_err(|Unanswered { why, used }| {
                rounds.close(used);
                why
            });
            match (reply, key) {
                (Err(ModelFailure::KeyRejected), Some(key)) => {
                    self.reject_model_key(key, moment).await;
                    speaker.refused = None;
                    speaker.key += 1;
                }
                (Err(failure), Some(key)) if failure.may_be_of_key() => {
                    self.pass_over_model_key(key);
                    speaker.refused = Some(failure);
                    speaker.key += 1;
                }
                (reply, key) => {
                    if let (Ok(_), Some(key)) = (&reply, key) {
                        self.note_model_key(key, moment).await;
                    }
                    return reply.map_err(Silence::Failed);
                }
            }
        }
    }

    /// Counts what was used for an answer that nobody has: that it could not be counted is not what the client is to
    /// hear.
    pub(super) async fn count_in_vain(&self, used: &Use) {
        let mut race = Backoff::until(Instant::now() + COUNTING, used.seed);
        let counting = self.stores().model_usage.add_error(used, &mut race);
        match timeout(COUNTING, counting).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => tracing::warn!(error = fault.why(), "a failure was not counted"),
            Err(_) => tracing::warn!("a failure was not counted in time"),
        }
    }
}

/// An answer while it comes about. Who goes away meanwhile is counted too: a model that was asked was asked, and of the
/// round that was broken off nobody says what it used.
struct Talk<'a, H: FnMut(&str) -> ControlFlow<()>> {
    app: &'a App,
    used: Use,
    begun: Instant,
    rounds: Rounds<'a>,
    voice: Voice<'a, H>,
    /// Whether somebody else counts it now.
    is_over: bool,
}

impl<H: FnMut(&str) -> ControlFlow<()>> Talk<'_, H> {
    /// What was used; this is the last that is asked.
    fn used(&mut self) -> Use {
        self.is_over = true;
        let mut used = self.used.clone();
        used.tokens += self.rounds.tokens(self.voice.len());
        used.took = self.begun.elapsed();
        used
    }

    /// What came of it, by `version` of the agent.
    fn answered(mut self, finish: Finish, version: Version) -> Result<Answered, Error> {
        let used = self.used();
        let (called, passed_over) = (self.rounds.called(), self.rounds.passed_over());
        Ok(Answered {
            text: self.voice.take_said(),
            meta: meta(&used, version.0, finish, called, passed_over)?,
            finish,
            used,
        })
    }
}

impl<H: FnMut(&str) -> ControlFlow<()>> Drop for Talk<'_, H> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let (app, used) = (self.app.clone(), self.used());
        // Without a runtime the process ends.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { app.count_in_vain(&used).await });
        }
    }
}

/// Who runs the model of `profile`, and which it is.
fn spoken_by<'a>(profile: &'a Profile, default: &'a DefaultModel) -> (Provider, &'a str) {
    let provider = profile.runs_on().unwrap_or(default.provider);
    let model = profile.model.as_deref().unwrap_or(&default.model);
    (provider, model)
}

fn upstream(reason: impl Into<std::borrow::Cow<'static, str>>, retryable: bool) -> Error {
    Error::Upstream {
        reason: reason.into(),
        retryable,
        retry_after: None,
    }
}

fn no_key(provider: Provider, has_more: bool) -> Error {
    if has_more {
        let reason =
            format!("{provider} took none of the first keys, and there are others. Try again");
        return upstream(reason, true);
    }
    let reason =
        format!("There is no active {provider} key. Add one, or give the agent another model");
    upstream(reason, false)
}

/// What is said of a failure: nothing that the provider said.
fn failed(provider: Provider, failure: ModelFailure) -> Error {
    match failure {
        ModelFailure::KeyRejected => no_key(provider, false),
        ModelFailure::Limited { retry_after } => Error::Upstream {
            reason: format!("{provider} takes no more requests with this key for now").into(),
            retryable: true,
            retry_after: retry_after.map(whole_seconds),
        },
        ModelFailure::Refused { status } => upstream(
            format!(
                "{provider} refused the request with status {status}. Check the agent's model and settings"
            ),
            false,
        ),
        // Some servers say so of a minute's quota.
        ModelFailure::NoQuota { retry_after } => Error::Upstream {
            reason: format!("The quota of this {provider} key is used up").into(),
            retryable: true,
            retry_after: retry_after.map(whole_seconds),
        },
        ModelFailure::Failed { what } => upstream(format!("{provider} failed: {what}"), true),
        ModelFailure::Resting { retry_after } => Error::Upstream {
            reason: format!("{provider} failed: it failed").into(),
            retryable: true,
            retry_after: Some(whole_seconds(retry_after)),
        },
        ModelFailure::Withheld => upstream(format!("{provider} withheld the answer"), false),
        ModelFailure::TimedOut => upstream(format!("{provider} did not answer in time"), true),
        ModelFailure::Empty => upstream(format!("{provider} gave an empty answer"), true),
        ModelFailure::UsedUp => upstream(
            "The model used all its tokens before a word. Raise the agent's maxTokens",
            false,
        ),
        ModelFailure::BrokeOff => upstream(format!("{provider} broke off its answer"), true),
    }
}

/// Rounded up, at least 1.
fn whole_seconds(wait: Duration) -> u64 {
    let rounded = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(rounded).max(1)
}
