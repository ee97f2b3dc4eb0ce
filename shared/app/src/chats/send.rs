//! A send: a person's message is stored, an agent's model is asked, and its answer is stored.
//!
//! **Invariant:** a question is answered from exactly the messages before it in its log, and has at most one answer,
//! whatever is sent at the same time, lost or repeated. Both are decided by the transactions of
//! [`crate::store::chats::ChatStore`]; the lease that goes with an `Idempotency-Key` sees to it that no model is asked in vain
//! meanwhile.

use std::{ops::ControlFlow, pin::pin, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    runtime::Handle,
    time::{Instant, timeout, timeout_at},
};

use super::{Doing, log, visible};
use crate::{
    App,
    answering::{Past, Question},
    domain::{
        ChatId, Done, Error, KeyHolder, LogId, MessageId, Moment, Once, UserId,
        agent::Agent,
        chat::{Chat, NO_CHAT, WINDOW_MESSAGES, window},
        message::{Content, Draft, Message, Role, Sent, Seq, Tail},
        model::Finish,
        model_usage::Use,
        provider_key::Scopes,
    },
    store::{
        Backoff,
        chats::{Answer, Asked, Earlier, Kept},
        guards::{Claim, Lease},
    },
};

/// For how long nobody else answers what somebody has begun to answer, in seconds: longer than any request lives.
const LEASE_SECONDS: i64 = 30;
/// How much of a request's time is kept for storing the answer.
const STORING: Duration = Duration::from_secs(3);
/// How long after its deadline a request is given up, whatever it waits for: a store that is slow, above all. That is after an
/// answer that is not kept was looked for and counted ([`KEEPING_LATE`], [`LOOKING`], and a second).
const LATE: Duration = Duration::from_millis(1_600);
/// How long after its deadline an answer may still be kept: then what was used for it is counted as used in vain.
const KEEPING_LATE: Duration = Duration::from_millis(300);
/// How long is looked whether it is.
const LOOKING: Duration = Duration::from_millis(200);
/// How long it is tried to end a lease early. Where that fails, it ends by itself. With [`LATE`] well under the five
/// seconds that a function lives on after a request's deadline.
const RELEASING: Duration = Duration::from_millis(1_500);
/// After how many seconds at most it is worth a look whether somebody else has answered.
const LOOK_AGAIN: i64 = 3;

const TOO_SLOW: &str = "the store was too slow for an answer";

/// A message to a chat.
#[derive(Debug)]
pub struct Say {
    /// Which chat.
    pub chat: ChatId,
    /// Whose the caller says that it is.
    pub user: Option<UserId>,
    /// What is said.
    pub content: Content,
    /// By what a repetition is known.
    pub once: Option<Once>,
}

/// A question that is stored, and that this request is to answer.
struct Open {
    log: LogId,
    agent: Arc<Agent>,
    question: MessageId,
    /// The last messages of the log up to the question, which is the last of them.
    known: Vec<Message>,
    began: Instant,
}

/// What is to be done about a question.
enum Begun<T> {
    /// Nothing: it is answered.
    Answered(Box<Message>),
    /// It is to be answered, and the lease is ours.
    Open(T),
}

/// A lease that ends when what it was taken for ends without an answer: if that is dropped, too, as it is when the
/// client leaves.
struct Leased {
    app: App,
    claim: Claim,
    lease: Lease,
    hold: Hold,
}

/// Whether a lease is to be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// It is not ours, or is not needed any more.
    No,
    /// What takes it is on its way, or may have landed.
    Perhaps,
    /// It is ours.
    Yes,
}

impl App {
    /// Stores what is said, has the chat's agent answer, and stores its answer, which is given back. `heard` is told
    /// the answer while it comes, and may stop it, as the end of `gone` does, which tells how many bytes of it were
    /// taken: the rest is not said. Three round trips, besides what the agent does. Ends soon after the deadline.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such chat, or no longer, or its agent is gone. [`Error::TokensUsedUp`].
    /// [`Error::Upstream`] if there was no answer: then what was said is stored, and with an `Idempotency-Key` the same
    /// request may be sent again, which goes on instead of saying it twice. [`Error::InProgress`] while it is being
    /// answered, [`Error::Conflict`] if the key was used for another request.
    pub async fn say(
        &self,
        holder: &KeyHolder,
        say: Say,
        heard: &mut (impl FnMut(&str) -> ControlFlow<()> + Send),
        gone: impl Future<Output = usize> + Send,
        moment: &Moment,
    ) -> Result<Done<Message>, Error> {
        let saying = Doing::Saying(say.chat);
        let claim = say
            .once
            .as_ref()
            .map(|once| self.claim_of(holder, saying, once, moment));
        let mut leased = claim.transpose()?.map(|claim| Leased {
            app: self.clone(),
            claim,
            lease: Lease {
                holder: moment.seed,
                until: moment.now.plus_seconds(LEASE_SECONDS),
            },
            hold: Hold::No,
        });
        let saying = async {
            match self
                .put_question(holder, say, leased.as_mut(), moment)
                .await?
            {
                Begun::Answered(answer) => Ok(Done::before(*answer)),
                Begun::Open(open) => self.close(holder, &open, heard, gone, moment).await,
            }
        };
        let answer = timeout_at(moment.deadline + LATE, saying).await;
        let answer = answer.unwrap_or_else(|_| Err(Error::Unavailable(TOO_SLOW.into())));
        if let Some(leased) = leased {
            leased.end(answer.is_ok()).await;
        }
        answer
    }

    /// Stores what is said, unless that is done.
    async fn put_question(
        &self,
        holder: &KeyHolder,
        say: Say,
        mut leased: Option<&mut Leased>,
        moment: &Moment,
    ) -> Result<Begun<Open>, Error> {
        let began = Instant::now();
        let (tenant, stores) = (holder.tenant(), self.stores());
        let log = log(tenant, say.chat);
        let (chat, known, may) = tokio::join!(
            stores.chats.get(tenant, say.chat),
            self.told_before(log, Seq::MAX),
            self.check_token_cap(tenant, holder.token_cap(), moment),
        );
        let chat = visible(holder.sees(), chat?, say.user.as_ref())?;
        let agent = match may {
            Ok(()) => self.agent(tenant, chat.agent).await,
            Err(error) => Err(error),
        };
        let agent = match agent {
            Ok(agent) => agent,
            // What was answered before is answered so again.
            Err(error) => {
                let claim = leased.as_ref().map(|leased| &leased.claim);
                let before = self.answered_before(log, claim).await?;
                return before
                    .map(|answer| Begun::Answered(Box::new(answer)))
                    .ok_or(error);
            }
        };
        let draft = question(holder, &chat, log, say.content, moment);
        let mut known = known?;
        let tail = known.last().map_or(Tail::EMPTY, Tail::from);
        // From here on the lease may be ours, whether or not we hear of it.
        let once = leased.as_mut().map(|leased| {
            leased.hold = Hold::Perhaps;
            (&leased.claim, &leased.lease)
        });
        let asked = stores
            .chats
            .ask(&stores.messages, &draft, tail, once, moment.deadline);
        let question = match asked.await {
            Ok(Asked::Gone) => {
                hold(leased, Hold::No);
                return Err(NO_CHAT);
            }
            Err(error @ Error::Conflict(_)) => {
                hold(leased, Hold::No);
                return Err(error);
            }
            Err(error) => return Err(error),
            Ok(Asked::Now(sent)) => {
                hold(leased, Hold::Yes);
                if tail.seq.next() == sent.seq {
                    known.push(draft.stored_as(&sent));
                } else {
                    known = self.until_question(log, sent.id).await?;
                }
                sent.id
            }
            Ok(Asked::Before(earlier)) => {
                // Only a claim is met by another.
                let leased = leased.ok_or(Error::Busy)?;
                match self.go_on(log, leased, earlier, moment).await? {
                    Begun::Answered(answer) => return Ok(Begun::Answered(answer)),
                    Begun::Open(until) => known = until,
                }
                earlier.question
            }
        };
        Ok(Begun::Open(Open {
            log,
            agent,
            question,
            known,
            began,
        }))
    }

    /// Has a question answered, and stores the answer.
    async fn close(
        &self,
        holder: &KeyHolder,
        open: &Open,
        heard: &mut (impl FnMut(&str) -> ControlFlow<()> + Send),
        gone: impl Future<Output = usize> + Send,
        moment: &Moment,
    ) -> Result<Done<Message>, Error> {
        let asked = Moment {
            deadline: moment.deadline.checked_sub(STORING).unwrap_or(open.began),
            ..*moment
        };
        let question = Question {
            tenant: holder.tenant(),
            agent: &open.agent,
            scopes: Scopes::default(),
            past: Some(Past {
                log: open.log,
                before: open.question.seq(),
            }),
            turns: &window(&open.known),
            moment: &asked,
        };
        let (mut gone, mut taken) = (pin!(gone), None);
        let leaving = async { taken = Some(gone.as_mut().await) };
        let mut answered = self.answer_until(question, heard, leaving).await?;
        if matches!(answered.finish, Finish::Cancelled) {
            // Whoever `heard` was told by first, it is known by now.
            if let Some(taken) = taken.or_else(|| gone.now_or_never()) {
                let taken = answered.text.floor_char_boundary(taken);
                answered.text.truncate(taken);
            }
        }
        if answered.text.trim().is_empty() {
            self.count_in_vain(&answered.used).await;
            return Err(Error::Upstream {
                reason: "The client left before the answer began".into(),
                retryable: true,
                retry_after: None,
            });
        }
        let took = i64::try_from(open.began.elapsed().as_micros()).unwrap_or_default();
        let draft = Draft {
            log: open.log,
            author: UserId::stored(open.agent.id.to_string()),
            role: Some(Role::Assistant),
            in_reply_to: Some(open.question),
            content: Content::answered(answered.text),
            meta: Some(answered.meta),
            created_at: moment.now.plus_micros(took),
            seed: moment.seed,
        };
        let answer = Answer {
            draft: &draft,
            question: open.question,
            version: open.agent.version,
            used: &answered.used,
        };
        let stores = self.stores();
        let tail = open.known.last().map_or(Tail::EMPTY, Tail::from);
        let kept = stores.chats.answer(
            &stores.messages,
            &stores.model_usage,
            &answer,
            tail,
            moment.deadline,
        );
        let kept = timeout_at(moment.deadline + KEEPING_LATE, kept).await;
        let first = match kept {
            Ok(Ok(Kept::Now(sent))) => return Ok(Done::now(draft.stored_as(&sent))),
            Ok(Ok(Kept::Before(first))) => Some(first),
            Ok(Ok(Kept::Gone)) => None,
            Ok(Err(error)) => return self.unsure(open, draft, &answered.used, error).await,
            Err(_) => {
                let error = Error::Unavailable(TOO_SLOW.into());
                return self.unsure(open, draft, &answered.used, error).await;
            }
        };
        self.count_in_vain(&answered.used).await;
        match first {
            Some(first) => {
                let first = stores.messages.get(open.log, first).await?;
                first.map(Done::before).ok_or(NO_CHAT)
            }
            None => Err(NO_CHAT),
        }
    }

    /// Shows the answer `draft` if it is kept, of which nothing was heard but `error`. Else what was used for it is counted.
    async fn unsure(
        &self,
        open: &Open,
        draft: Draft,
        used: &Use,
        error: Error,
    ) -> Result<Done<Message>, Error> {
        let messages = &self.stores().messages;
        let looking = Instant::now() + LOOKING;
        let question = timeout_at(looking, messages.get(open.log, open.question));
        // A store that does not even tell this keeps nothing.
        if let Ok(Ok(Some(question))) = question.await
            && let Some(answer) = question.answer
            && answer == draft.id_at(answer.seq())
        {
            let stored = timeout_at(looking, messages.get(open.log, answer)).await;
            let stored = stored.ok().and_then(Result::ok).flatten();
            return Ok(Done::now(stored.unwrap_or_else(|| {
                draft.stored_as(&Sent {
                    id: answer,
                    seq: answer.seq(),
                    created_at: draft.created_at.max(question.created_at),
                })
            })));
        }
        self.count_in_vain(used).await;
        Err(error)
    }

    /// What an earlier request with `claim` was answered, if it was.
    async fn answered_before(
        &self,
        log: LogId,
        claim: Option<&Claim>,
    ) -> Result<Option<Message>, Error> {
        let Some(claim) = claim else {
            return Ok(None);
        };
        let stores = self.stores();
        let Some(earlier) = stores.chats.asked_before(&stores.guards, claim).await? else {
            return Ok(None);
        };
        let question = stores.messages.get(log, earlier.question).await?;
        match question.and_then(|question| question.answer) {
            Some(answer) => stores.messages.get(log, answer).await,
            None => Ok(None),
        }
    }

    /// Goes on with a question that an earlier request has stored. The last messages up to it.
    ///
    /// # Errors
    ///
    /// [`Error::InProgress`] while somebody else answers it.
    async fn go_on(
        &self,
        log: LogId,
        leased: &mut Leased,
        earlier: Earlier,
        moment: &Moment,
    ) -> Result<Begun<Vec<Message>>, Error> {
        leased.hold = Hold::No;
        let known = self.until_question(log, earlier.question).await?;
        let stores = self.stores();
        if let Some(answer) = known.last().and_then(|question| question.answer) {
            let answer = stores.messages.get(log, answer).await?;
            let answer = answer.ok_or(NO_CHAT)?;
            return Ok(Begun::Answered(Box::new(answer)));
        }
        let until = earlier.lease.until;
        if until.is_awaited(moment.now, LEASE_SECONDS) {
            return Err(in_progress(until.micros() - moment.now.micros()));
        }
        leased.hold = Hold::Perhaps;
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let taken =
            stores
                .guards
                .take_over(&leased.claim, &earlier.lease, &leased.lease, &mut race);
        if taken.await? {
            leased.hold = Hold::Yes;
            Ok(Begun::Open(known))
        } else {
            leased.hold = Hold::No;
            Err(in_progress(0))
        }
    }

    /// The last messages of a log before `before`: as many as a model is told, at least. Where one page of the store does not
    /// hold 20 of them, it is 1 MB, of which what is attached to them is a third at most: the rest is far more than a model's
    /// window.
    async fn told_before(&self, log: LogId, before: Seq) -> Result<Vec<Message>, Error> {
        let messages = &self.stores().messages;
        messages.last(log, before, WINDOW_MESSAGES).await
    }

    /// The last messages of a log up to `question`, which is the last of them.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the log is gone.
    async fn until_question(&self, log: LogId, question: MessageId) -> Result<Vec<Message>, Error> {
        let known = self.told_before(log, question.seq().next()).await?;
        match known.last() {
            Some(last) if last.id == question => Ok(known),
            Some(_) | None => Err(NO_CHAT),
        }
    }
}

impl Leased {
    /// Ends it, unless there is an answer, after which nobody asks for it.
    async fn end(mut self, is_answered: bool) {
        if !is_answered && self.hold != Hold::No {
            self.release(false).await;
        }
        self.hold = Hold::No;
    }

    /// Ends it. `insist` if what takes it may still be on its way.
    async fn release(&self, insist: bool) {
        if timeout(RELEASING, self.try_release(insist)).await.is_err() {
            tracing::warn!("a lease ends by itself: there was no time to end it");
        }
    }

    async fn try_release(&self, insist: bool) {
        let Self {
            app, claim, lease, ..
        } = self;
        let mut race = Backoff::until(Instant::now() + RELEASING, lease.holder);
        let guards = &app.stores().guards;
        loop {
            match guards.release(claim, lease, &mut race).await {
                Ok(false) if insist && race.pause().await.is_ok() => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(cause = error.why(), "a lease ends by itself");
                    return;
                }
            }
        }
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        let insist = match self.hold {
            Hold::No => return,
            Hold::Perhaps => true,
            Hold::Yes => false,
        };
        // Without a runtime the process ends, and the lease by itself.
        if let Ok(runtime) = Handle::try_current() {
            let dropped = Self {
                app: self.app.clone(),
                claim: self.claim.clone(),
                lease: self.lease,
                hold: Hold::No,
            };
            runtime.spawn(async move { dropped.release(insist).await });
        }
    }
}

fn hold(leased: Option<&mut Leased>, hold: Hold) {
    if let Some(leased) = leased {
        leased.hold = hold;
    }
}

/// What is said in a chat: by its user, or by the key where it has none.
fn question(
    holder: &KeyHolder,
    chat: &Chat,
    log: LogId,
    content: Content,
    moment: &Moment,
) -> Draft {
    let key = || UserId::stored(holder.key().to_string());
    Draft {
        log,
        author: chat.user.clone().unwrap_or_else(key),
        role: Some(Role::User),
        in_reply_to: None,
        content,
        meta: None,
        created_at: moment.now,
        seed: moment.seed,
    }
}

/// Somebody answers it, for at most so many microseconds more.
fn in_progress(micros: i64) -> Error {
    let seconds = micros.div_euclid(1_000_000) + 1;
    Error::InProgress {
        retry_after: u64::try_from(seconds.clamp(1, LOOK_AGAIN)).unwrap_or(1),
    }
}
