//! One try to have a question answered by a provider that is far away.

use std::{ops::ControlFlow, pin::pin, time::Duration};

use futures_util::StreamExt;
use genai::chat::{ChatStream, ChatStreamEvent, StreamEnd};
use hyper::Uri;
use tokio::time::{Instant, timeout_at};
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::{
    Ask, asked, estimate,
    passing::{Passing, Stopped},
    relay::{Errand, Outcome, Refused, Relay},
    words::{self, Calls, TooMuch},
};
use crate::{
    domain::{
        address::Targets,
        model::{Finish, ModelFailure, ModelReply, Provider, Tokens, is_name},
        webhook::EndpointUrl,
    },
    outbound::{Client, reason},
};

/// For how long nothing may come once the model speaks. Before that it may think for as long as there is time.
const SILENCE: Duration = Duration::from_secs(15);

/// Why a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) why: ModelFailure,
    /// Whether the same may succeed in a moment.
    pub(super) may_pass: bool,
    /// How long the provider asks us to wait.
    pub(super) wait: Option<Duration>,
    /// Whether the provider may ask for money although nothing came of it: it had begun to answer, or nobody knows.
    pub(super) may_be_used: bool,
    /// What the provider says was used, if it does.
    pub(super) reported: Option<Tokens>,
}

impl Failed {
    const fn once(what: &'static str) -> Self {
        Self {
            may_pass: true,
            ..Self::for_good(ModelFailure::Failed { what })
        }
    }

    const fn for_good(why: ModelFailure) -> Self {
        Self {
            why,
            may_pass: false,
            wait: None,
            may_be_used: false,
            reported: None,
        }
    }

    const fn used(why: ModelFailure, reported: Option<Tokens>) -> Self {
        Self {
            reported,
            ..Self::for_good(why)
        }
    }
}

/// Asks once, by `end`.
pub(super) async fn answer<H: FnMut(&str) -> ControlFlow<()>>(
    client: &Client,
    targets: Targets,
    ask: &Ask<'_>,
    seed: u128,
    passing: &mut Passing<'_, H>,
    end: Instant,
) -> Result<ModelReply, Failed> {
    if !is_name(ask.model) {
        return Err(Failed::for_good(ModelFailure::Refused { status: 404 }));
    }
    let not_allowed = Failed::for_good(ModelFailure::Failed {
        what: "its address is not allowed",
    });
    let place = words::place(ask).ok_or(not_allowed)?;
    // What was allowed when it was stored may not be any more.
    EndpointUrl::parse(String::from(place.clone()), targets).map_err(|_| not_allowed)?;
    let origin = Uri::builder()
        .scheme(place.scheme())
        .authority(place.authority())
        .path_and_query("/")
        .build()
        .map_err(|_| not_allowed)?;
    let target = words::target(ask, place).ok_or(not_allowed)?;

    let relay = Relay::open(seed).map_err(|error| unable(&error))?;
    let web = reqwest::Client::builder()
        .unix_socket(relay.socket())
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_gzip()
        .build()
        .map_err(|error| unable(&error))?;
    let genai = genai::Client::builder().with_reqwest(web).build();
    let genai = genai.map_err(|_| unable(&"no client"))?;
    let errand = Errand::new(client, ask.provider, origin, ask.now);
    let conversation = async {
        let options = words::options(ask);
        let stream = genai.exec_chat_stream(target, words::request(ask), Some(&options));
        // Nothing was sent yet.
        let stream = stream.await.map_err(|_| Unwritten)?;
        Ok(hear(ask, stream.stream, passing, &errand, end).await)
    };
    // `genai` quotes providers in what it logs. Nothing that we have to say may be said in there.
    let conversation = conversation.with_subscriber(NoSubscriber::default());
    let reply = tokio::select! {
        biased;
        reply = conversation => reply.unwrap_or_else(|Unwritten| Err(unable(&"it cannot be written"))),
        error = relay.run(&errand) => Err(unable(&error)),
    };
    reply.map_err(|failed| Failed {
        may_be_used: errand.has_begun() || failed.why == ModelFailure::TimedOut,
        ..failed
    })
}

/// A question that `genai` has no words for.
struct Unwritten;

/// It is we who cannot ask.
fn unable(error: &dyn std::fmt::Display) -> Failed {
    tracing::error!(%error, "a model cannot be asked");
    Failed::for_good(ModelFailure::Failed {
        what: "it could not be asked",
    })
}

/// Passes on what `stream` says.
async fn hear<H: FnMut(&str) -> ControlFlow<()>>(
    ask: &Ask<'_>,
    stream: ChatStream,
    passing: &mut Passing<'_, H>,
    errand: &Errand<'_>,
    end: Instant,
) -> Result<ModelReply, Failed> {
    let mut stream = pin!(stream);
    let mut calls = Calls::new(ask.provider);
    let reply = |passing: &mut Passing<'_, H>, calls: &mut Calls, ended: Ended| {
        let (dropped, calls) = (calls.dropped(), calls.take());
        let called: usize = calls.iter().map(|call| call.arguments.len()).sum();
        let thought = Tokens {
            input: asked(ask),
            output: estimate(passing.len() + called + passing.take_thoughts()),
        };
        ModelReply {
            text: passing.take(),
            tokens: words::tokens(ended.usage.as_ref(), thought),
            finish: ended.finish,
            calls,
            dropped,
        }
    };
    loop {
        let now = Instant::now();
        let thinks = passing.is_new() && calls.is_empty();
        let patience = if thinks { end } else { end.min(now + SILENCE) };
        // Who always has something to say would never be asked for the time.
        let event = match timeout_at(patience, stream.next()).await {
            Ok(event) if now < end => event,
            Ok(_) | Err(_) => {
                silenced(passing.is_new(), Instant::now() >= end)?;
                let ended = Ended {
                    finish: Finish::Length,
                    usage: None,
                };
                return Ok(reply(passing, &mut Calls::new(ask.provider), ended));
            }
        };
        let stopped = match event {
            Some(Ok(ChatStreamEvent::Chunk(chunk))) => match passing.pass(&chunk.content) {
                ControlFlow::Continue(()) => continue,
                ControlFlow::Break(stopped) => stopped,
            },
            Some(Ok(ChatStreamEvent::ToolCallChunk(chunk))) => match calls.add(chunk.tool_call) {
                Ok(()) => continue,
                Err(TooMuch) => return Err(broken(passing.is_new(), Outcome::Unreadable(MUCH))),
            },
            Some(Ok(ChatStreamEvent::End(end))) => {
                let ended = Ended::of(ask.provider, &end, !calls.is_empty());
                let Some(ended) = ended else {
                    return Err(broken(passing.is_new(), errand.outcome()));
                };
                let ended = ended.heard(errand.outcome());
                errand.note_heard();
                let (is_blank, is_call) = (passing.is_blank(), !calls.is_empty());
                let (finish, is_said) = (ended.finish, words::is_said(ended.usage.as_ref()));
                let reply = reply(passing, &mut calls, ended);
                let reported = is_said.then_some(reply.tokens);
                return match finish {
                    Finish::Filtered if is_blank => {
                        Err(Failed::used(ModelFailure::Withheld, reported))
                    }
                    // A call that was cut is none.
                    Finish::Length if is_blank => Err(Failed::used(ModelFailure::UsedUp, reported)),
                    Finish::Stop | Finish::ToolCalls if is_blank && !is_call => {
                        Err(Failed::used(ModelFailure::Empty, reported))
                    }
                    Finish::Stop
                    | Finish::ToolCalls
                    | Finish::Length
                    | Finish::Filtered
                    | Finish::Cancelled => Ok(reply),
                };
            }
            Some(Ok(ChatStreamEvent::ReasoningChunk(chunk))) => {
                passing.think(&chunk.content);
                continue;
            }
            Some(Ok(
                ChatStreamEvent::Start
                | ChatStreamEvent::ThoughtSignatureChunk(_)
                | ChatStreamEvent::Heartbeat,
            )) => continue,
            Some(Err(error)) => return Err(failed(&error, passing.is_new(), errand.outcome())),
            None => return Err(broken(passing.is_new(), errand.outcome())),
        };
        let finish = match stopped {
            Stopped::Gone => Finish::Cancelled,
            Stopped::Full => Finish::Length,
        };
        let ended = Ended {
            finish,
            usage: None,
        };
        // A call that is cut in the middle is none.
        return Ok(reply(passing, &mut Calls::new(ask.provider), ended));
    }
}

/// Whether an answer counts that is not waited for any longer: what was passed on until the time was up is one, if a
/// shorter one.
const fn silenced(is_new: bool, is_over: bool) -> Result<(), Failed> {
    match (is_new, is_over) {
        (true, _) => Err(Failed::for_good(ModelFailure::TimedOut)),
        (false, false) => Err(Failed::for_good(ModelFailure::BrokeOff)),
        (false, true) => Ok(()),
    }
}

/// What an answer holds that wants too much to be called.
const MUCH: &str = "it called more than can be";

/// How an answer ended.
struct Ended {
    finish: Finish,
    usage: Option<genai::chat::Usage>,
}

impl Ended {
    /// `None` if it did not end but broke off, which `genai` does not tell of Google's.
    fn of(provider: Provider, end: &StreamEnd, has_calls: bool) -> Option<Self> {
        let reason = end.captured_stop_reason.as_ref();
        if provider == Provider::Google && reason.is_none() {
            return None;
        }
        Some(Self {
            finish: words::finish(reason, has_calls),
            usage: end.captured_usage.clone(),
        })
    }

    /// The same, of which the relay knows `outcome`.
    fn heard(mut self, outcome: Outcome) -> Self {
        if outcome == Outcome::Withheld {
            self.finish = Finish::Filtered;
        }
        self
    }
}

/// What `error` means. Its words are the provider's, and are not looked at.
fn failed(error: &genai::Error, is_new: bool, outcome: Outcome) -> Failed {
    match (error, outcome) {
        // It said in its stream that it failed, or broke off.
        (genai::Error::ChatResponse { .. } | genai::Error::WebStream { .. }, _)
        | (
            _,
            Outcome::Refused { .. }
            | Outcome::Unreached(_)
            | Outcome::Unreadable(_)
            | Outcome::Withheld,
        ) => broken(is_new, outcome),
        (_, Outcome::Comes | Outcome::Heard | Outcome::None) if is_new => {
            Failed::for_good(ModelFailure::Failed { what: UNREADABLE })
        }
        (_, Outcome::Comes | Outcome::Heard | Outcome::None) => {
            Failed::for_good(ModelFailure::BrokeOff)
        }
    }
}

/// Who says so itself.
const FAILED: &str = "it failed";
/// Whose answer is nothing that its kind of provider says.
const UNREADABLE: &str = "its answer cannot be read";

/// What it means that there is no more of an answer.
fn broken(is_new: bool, outcome: Outcome) -> Failed {
    if !is_new {
        return Failed::for_good(ModelFailure::BrokeOff);
    }
    match outcome {
        Outcome::None => Failed::once("it could not be asked"),
        Outcome::Comes | Outcome::Heard => Failed::once("its answer broke off"),
        Outcome::Unreadable(what) => Failed::for_good(ModelFailure::Failed { what }),
        Outcome::Unreached(what @ reason::NOT_ALLOWED) => {
            Failed::for_good(ModelFailure::Failed { what })
        }
        Outcome::Unreached(what) => Failed::once(what),
        Outcome::Withheld
        | Outcome::Refused {
            what: Refused::Words,
            ..
        } => Failed::for_good(ModelFailure::Withheld),
        Outcome::Refused {
            what: Refused::Key, ..
        } => Failed::for_good(ModelFailure::KeyRejected),
        Outcome::Refused {
            what: Refused::Quota,
            wait: retry_after,
            ..
        } => Failed::for_good(ModelFailure::NoQuota { retry_after }),
        Outcome::Refused {
            status,
            wait,
            what: Refused::Request,
        } => match status {
            429 => Failed {
                why: ModelFailure::Limited { retry_after: wait },
                may_pass: true,
                wait,
                may_be_used: false,
                reported: None,
            },
            300..=399 => Failed::for_good(ModelFailure::Failed {
                what: "it redirects, which is not followed",
            }),
            408 | 500..=599 => Failed {
                why: wait.map_or(ModelFailure::Failed { what: FAILED }, |retry_after| {
                    ModelFailure::Resting { retry_after }
                }),
                may_pass: true,
                wait,
                may_be_used: false,
                reported: None,
            },
            _ => Failed::for_good(ModelFailure::Refused { status }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_until_the_time_was_up_is_an_answer_and_before_it_broke_off() {
        let why = |is_new, is_over| silenced(is_new, is_over).map_err(|failed| failed.why);
        assert_eq!(why(false, true), Ok(()));
        assert_eq!(why(false, false), Err(ModelFailure::BrokeOff));
        assert_eq!(why(true, true), Err(ModelFailure::TimedOut));
        assert_eq!(why(true, false), Err(ModelFailure::TimedOut));
    }
}
