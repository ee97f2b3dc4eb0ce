//! The row of a delivery, and what becomes of it.
//!
//! ```text
//!             ┌──────────── redriven ────────────┐
//!             ▼                                  │
//! (none) → queued → attempting → delivered     dead → discarded
//!             ▲      │  ▲    │                   ▲
//!             │      ▼  │    └─ attempts used up ┘
//!             └─ parked/waiting
//! ```
//!
//! A delivery that only paused endpoints have not taken is *held*: parked, with the time since when. It goes on when one
//! of them does ([`Delivery::woken`]), is looked at once a day, and is dead after [`HELD_SECONDS`].
//!
//! Each rule is a function of the row, the time and what happened; the store writes what it gives in one step,
//! if nobody wrote in between.
//!
//! **Invariants:** an attempt is counted before it starts. At most one attempt holds the lease. `delivered` and
//! `discarded` are final. Whatever is open is listed under the time at which somebody must look after it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Job, Subject};
use crate::{
    DeliveryId, Error, RoomId, TenantId, Timestamp, UserId, subscription::Topic,
    tenant::RetrySchedule, text,
};

/// How long an attempt may take before another may start, in seconds. Whoever attempts must give up before.
pub const LEASE_SECONDS: i64 = 60;
/// The longest wait that is left to the queue, in seconds: a longer one is parked in the row.
pub const LONGEST_HELD_SECONDS: u32 = 15 * 60;
/// The longest wait that a receiver may ask for, in seconds.
const LONGEST_ASKED_SECONDS: u32 = 24 * 3_600;
/// How long after the time at which an open delivery should have ended it counts as overdue, in seconds: its job
/// may come back late from a worker that died.
const SLACK_SECONDS: i64 = 15 * 60;
/// How long after a redrive its job must have been received, in seconds: longer than a queue with a backlog takes, which
/// more jobs would make longer.
const REDRIVE_SECONDS: i64 = 15 * 60;
/// How long it may take until a job that was made is with the queue, in seconds.
const SENDING_SECONDS: i64 = 30;
/// How long after now an open delivery may be due, in seconds: with the longest schedule, nine waits of 12 hours, it is
/// less than six days.
pub const LONGEST_OPEN_SECONDS: i64 = 6 * 24 * 3_600;
/// How long a delivery is held for paused endpoints, in seconds: two weeks.
pub const HELD_SECONDS: i64 = 14 * 24 * 3_600;
/// How often a held delivery is looked at although nobody has said that its endpoints go on, in seconds.
pub const LOOKED_AT_SECONDS: i64 = 24 * 3_600;
/// Why a delivery is held, or dead after that.
const PAUSED: &str = "endpoint paused";
/// Why an attempt failed of which nobody heard again.
const BROKEN_OFF: &str = "attempt broke off";

/// A delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What is told.
    pub subject: Subject,
    /// To whom; nobody in particular where only the tenant's endpoints are told.
    pub user: Option<UserId>,
    /// What its subject is about.
    pub about: About,
    /// Where it stands.
    pub state: State,
    /// How often it was tried.
    pub attempts: u32,
    /// How often of that since it was redriven last.
    pub round: u32,
    /// The endpoints that took it.
    pub done: BTreeSet<String>,
    /// The endpoints that are not asked again before it is redriven, and why: they refused it for good, or used up
    /// their attempts while others were still owed it.
    pub refused: BTreeMap<String, String>,
    /// Whether it was to be told to an endpoint at any attempt so far.
    pub is_owed: bool,
    /// Since when it is held for paused endpoints, if it is or was at the last attempt.
    pub held_since: Option<Timestamp>,
    /// When it was first tried.
    pub created_at: Timestamp,
    /// When it was last tried.
    pub last_attempt_at: Option<Timestamp>,
    /// Why it last failed.
    pub error: Option<String>,
    /// The endpoint that `error` is about, if it is about one.
    pub error_endpoint: Option<String>,
    /// When somebody must look after it, while it is open.
    pub overdue_at: Timestamp,
    /// What to tell, once it may outlive its source.
    pub content: Option<String>,
    /// Who wrote last: a token by which a writer whose answer was lost recognises itself.
    pub token: u128,
}

/// What a subject is about, for who looks at its deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// What happened: `message.created` and so on.
    pub event: String,
    /// Where.
    pub room: Option<RoomId>,
    /// A notification's topic.
    pub topic: Option<Topic>,
}

/// Where a delivery stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Its job is with the queue, or will be.
    Queued,
    /// Somebody tries it.
    Attempting {
        /// Until when nobody else may.
        until: Timestamp,
    },
    /// Its job waits in the queue.
    Waiting {
        /// Until when.
        until: Timestamp,
    },
    /// It waits without a job.
    Parked {
        /// Until when.
        until: Timestamp,
    },
    /// It was taken.
    Delivered {
        /// When.
        at: Timestamp,
    },
    /// Its attempts are used up.
    Dead {
        /// Since when.
        at: Timestamp,
    },
    /// An admin gave it up.
    Discarded {
        /// When.
        at: Timestamp,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
}

impl State {
    /// Its name, in rows and on the wire.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Attempting { .. } => "attempting",
            Self::Waiting { .. } => "waiting",
            Self::Parked { .. } => "parked",
            Self::Delivered { .. } => "delivered",
            Self::Dead { .. } => "dead",
            Self::Discarded { .. } => "discarded",
        }
    }

    /// Whether it is neither delivered nor dead nor discarded.
    pub const fn is_open(&self) -> bool {
        match self {
            Self::Queued | Self::Attempting { .. } | Self::Waiting { .. } | Self::Parked { .. } => {
                true
            }
            Self::Delivered { .. } | Self::Dead { .. } | Self::Discarded { .. } => false,
        }
    }

    /// When it is tried next, if that is known.
    pub const fn next_attempt_at(&self) -> Option<Timestamp> {
        match self {
            Self::Waiting { until } | Self::Parked { until } => Some(*until),
            Self::Queued
            | Self::Attempting { .. }
            | Self::Delivered { .. }
            | Self::Dead { .. }
            | Self::Discarded { .. } => None,
        }
    }
}

/// Why a dead letter is given up: 1 to 256 bytes with something to see in it, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    /// The longest one, in bytes of UTF-8.
    pub const MAX: usize = 256;

    /// Reads field `reason`.
    pub fn parse(reason: String) -> Result<Self, Error> {
        text::check_line("reason", &reason, Self::MAX)?;
        if reason.trim().is_empty() {
            return Err(Error::invalid(
                "reason",
                "Invalid reason. It must not be empty",
            ));
        }
        Ok(Self(reason))
    }

    /// The reason as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a rule makes of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<T> {
    /// It is written so, and this is the answer.
    Write(Box<Delivery>, T),
    /// It stays as it is, and this is the answer.
    Stay(T),
}

/// How a job came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// How often it and the copies before it were received, this time included.
    pub receives: u32,
    /// When it was sent to the queue, or moved back there from the dead letters: by the queue's clock.
    pub sent_at: Timestamp,
    /// When it was made, by ours. The version before this one did not say.
    pub made_at: Option<Timestamp>,
}

impl Receipt {
    /// Whether a job of what is dead since `death` was moved back from the dead letters: SQS says that it was sent after
    /// the death, and it was made before. One that was made after it is a late copy, unless it was sent long after that.
    ///
    /// That holds however often it was received: the first time may have been lost.
    fn is_moved_back(self, death: Timestamp) -> bool {
        let Some(made_at) = self.made_at else {
            return self.receives == 1 && self.sent_at > death;
        };
        let on_its_way = made_at.plus_seconds(SENDING_SECONDS);
        self.sent_at > death && (made_at <= death || self.sent_at > on_its_way)
    }
}

/// Who tries, when, and by what schedule.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// A random number that names it.
    pub lease: u128,
    /// When it starts, or ends.
    pub now: Timestamp,
    /// The tenant's.
    pub schedule: RetrySchedule,
}

/// What a delivery tells, as far as the row keeps it.
#[derive(Debug, Clone, Copy)]
pub struct Telling<'a> {
    /// What it is about.
    pub about: &'a About,
    /// What to tell, if that may outlive its source.
    pub content: Option<&'a str>,
    /// Whether an endpoint wants to be told of it now.
    pub is_owed: bool,
}

/// Whether a delivery may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Try it: nobody else does.
    Go,
    /// There is nothing left to do.
    Done,
    /// The job came early, or somebody tries it at the moment.
    NotYet {
        /// When to come back.
        seconds: u32,
    },
    /// It waits for longer than a queue holds a job: this one is not needed.
    Parked,
    /// Its attempts are used up.
    Dead {
        /// Whether that was found just now.
        fresh: bool,
    },
}

/// Why an attempt did not end in a delivery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// The endpoints that took it nevertheless.
    pub took: BTreeSet<String>,
    /// The endpoints that may take it at another attempt, and why they did not at this one.
    pub failed: BTreeMap<String, String>,
    /// The endpoints that refused it for good, at this attempt or before, and why.
    pub refused: BTreeMap<String, String>,
    /// The endpoints that are paused.
    pub paused: BTreeSet<String>,
    /// Why it failed that is about no endpoint.
    pub fault: Option<Fault>,
    /// For how many seconds a receiver asked not to be tried again.
    pub retry_after: Option<u32>,
    /// What was to be told, if it may outlive its source.
    pub content: Option<String>,
}

/// Why an attempt failed that is about no endpoint, in a few words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Another attempt may succeed.
    Passing(String),
    /// No other attempt could.
    Final(String),
}

impl Failure {
    /// Whether nothing is in the way: it is delivered.
    pub fn is_none(&self) -> bool {
        self.failed.is_empty()
            && self.refused.is_empty()
            && self.paused.is_empty()
            && self.fault.is_none()
    }

    /// Whether another attempt may succeed although nobody changes anything.
    fn may_pass(&self) -> bool {
        match &self.fault {
            Some(Fault::Final(_)) => false,
            Some(Fault::Passing(_)) => true,
            None => !self.failed.is_empty(),
        }
    }

    /// In a few words, and the endpoint that they are about. Nothing, if only paused ones are left.
    fn cause(&self) -> Option<(&str, Option<&str>)> {
        let endpoint = self.failed.iter().chain(&self.refused).next();
        let endpoint = endpoint.map(|(id, reason)| (reason.as_str(), Some(id.as_str())));
        match &self.fault {
            Some(Fault::Final(reason)) => Some((reason, None)),
            Some(Fault::Passing(reason)) => endpoint.or(Some((reason, None))),
            None => endpoint,
        }
    }
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Another one.
    Waiting {
        /// When.
        seconds: u32,
    },
    /// Another one, so late that its job is not needed until then.
    Parked,
    /// Another one when a paused endpoint goes on: its job is not needed until then.
    Held {
        /// Whether it was not held before.
        fresh: bool,
    },
    /// None.
    Dead,
    /// None: it is delivered, or discarded.
    Done,
}

impl Delivery {
    /// Its job.
    pub fn job(&self) -> Job {
        Job {
            tenant: self.tenant,
            subject: self.subject,
            user: self.user.clone(),
        }
    }

    /// Whether `job` may be tried, of which `known` is the row.
    pub fn begin(
        known: Option<Self>,
        job: &Job,
        telling: Telling<'_>,
        receipt: Receipt,
        attempt: Attempt,
    ) -> Step<Begun> {
        let now = attempt.now;
        let Some(known) = known else {
            return Self::first(job, telling.about, now).try_now(telling, attempt);
        };
        match known.state {
            State::Delivered { .. } | State::Discarded { .. } => Step::Stay(Begun::Done),
            // Our own, whose answer was lost.
            State::Attempting { .. } if known.token == attempt.lease => Step::Stay(Begun::Go),
            State::Attempting { until } if until.is_awaited(now, LEASE_SECONDS) => {
                Step::Stay(not_yet(until, now))
            }
            State::Waiting { until } if until.is_awaited(now, LONGEST_HELD_SECONDS.into()) => {
                Step::Stay(not_yet(until, now))
            }
            State::Parked { until } if until.is_awaited(now, LONGEST_ASKED_SECONDS.into()) => {
                Step::Stay(Begun::Parked)
            }
            State::Dead { at } => {
                // Moved back from the dead letters: that alone makes a job young again.
                // A death to come is none that times can be compared with: the clock was set back.
                if receipt.is_moved_back(at) || at > now.farthest_end(0) {
                    known.afresh().try_now(telling, attempt)
                } else {
                    Step::Stay(Begun::Dead { fresh: false })
                }
            }
            State::Attempting { .. } => Self {
                error: Some(BROKEN_OFF.to_owned()),
                error_endpoint: None,
                ..known
            }
            .try_again(telling, attempt),
            State::Queued | State::Waiting { .. } | State::Parked { .. } => {
                known.try_again(telling, attempt)
            }
        }
    }

    fn first(job: &Job, about: &About, now: Timestamp) -> Self {
        Self {
            id: job.id(),
            tenant: job.tenant,
            subject: job.subject,
            user: job.user.clone(),
            about: about.clone(),
            state: State::Queued,
            attempts: 0,
            round: 0,
            done: BTreeSet::new(),
            refused: BTreeMap::new(),
            is_owed: false,
            held_since: None,
            created_at: now,
            last_attempt_at: None,
            error: None,
            error_endpoint: None,
            overdue_at: now,
            content: None,
            token: 0,
        }
    }

    fn try_again(self, telling: Telling<'_>, attempt: Attempt) -> Step<Begun> {
        // The schedule may have become shorter, or the last attempt broke off.
        if self.round >= attempt.schedule.attempts() {
            let content = telling.content.map(ToOwned::to_owned);
            let dead = Self {
                content: self.content.or(content),
                state: State::Dead { at: attempt.now },
                token: attempt.lease,
                ..self
            };
            return Step::Write(Box::new(dead), Begun::Dead { fresh: true });
        }
        self.try_now(telling, attempt)
    }

    /// With a fresh set of attempts at every endpoint. It was dead, so somebody waits to hear what becomes of it.
    fn afresh(self) -> Self {
        Self {
            round: 0,
            refused: BTreeMap::new(),
            is_owed: true,
            held_since: None,
            ..self
        }
    }

    fn try_now(self, telling: Telling<'_>, attempt: Attempt) -> Step<Begun> {
        let Attempt {
            lease,
            now,
            schedule,
        } = attempt;
        let overdue_at = if self.round == 0 {
            let leases = i64::from(schedule.attempts()) * LEASE_SECONDS;
            now.plus_seconds(schedule.seconds() + leases + SLACK_SECONDS)
        } else {
            self.overdue_at.max(now.plus_seconds(SLACK_SECONDS))
        };
        let trying = Self {
            state: State::Attempting {
                until: now.plus_seconds(LEASE_SECONDS),
            },
            attempts: self.attempts.saturating_add(1),
            round: self.round.saturating_add(1),
            last_attempt_at: Some(now),
            is_owed: self.is_owed || telling.is_owed,
            overdue_at,
            token: lease,
            ..self
        };
        Step::Write(Box::new(trying), Begun::Go)
    }

    /// It was taken by `took`, whoever holds the lease by now: what is delivered is not undone.
    pub fn delivered(self, took: &BTreeSet<String>, now: Timestamp) -> Step<()> {
        match self.state {
            State::Delivered { .. } | State::Discarded { .. } => Step::Stay(()),
            State::Queued
            | State::Attempting { .. }
            | State::Waiting { .. }
            | State::Parked { .. }
            | State::Dead { .. } => {
                let delivered = Self {
                    state: State::Delivered { at: now },
                    done: self.done.union(took).cloned().collect(),
                    held_since: None,
                    error: None,
                    error_endpoint: None,
                    content: None,
                    ..self
                };
                Step::Write(Box::new(delivered), ())
            }
        }
    }

    /// The attempt did not end in a delivery: it is tried again on the schedule, or held for paused endpoints, or dead.
    pub fn failed(self, failure: &Failure, attempt: Attempt) -> Step<Ended> {
        let is_ours = matches!(self.state, State::Attempting { .. }) && self.token == attempt.lease;
        if !is_ours {
            return self.outrun(&failure.took, attempt.now);
        }
        let is_spent = self.round >= attempt.schedule.attempts();
        if failure.may_pass() && !is_spent && !self.is_still_held(failure) {
            self.retried(failure, attempt)
        } else {
            self.given_up(failure, attempt.now)
        }
    }

    /// Whether it was held, and paused endpoints still keep it. A user who is away is then not looked for on the schedule.
    fn is_still_held(&self, failure: &Failure) -> bool {
        self.held_since.is_some() && failure.failed.is_empty() && !failure.paused.is_empty()
    }

    fn retried(self, failure: &Failure, attempt: Attempt) -> Step<Ended> {
        let Attempt { now, schedule, .. } = attempt;
        let waits = schedule.wait_after(self.round);
        let asked = failure.retry_after.unwrap_or_default();
        let wait = waits.max(asked.min(LONGEST_ASKED_SECONDS));
        let until = now.plus_seconds(wait.into());
        let (state, content, overdue_at, ended) = if wait > LONGEST_HELD_SECONDS {
            let content = self.kept(failure);
            (State::Parked { until }, content, until, Ended::Parked)
        } else {
            let overdue_at = self.overdue_at.max(until.plus_seconds(SLACK_SECONDS));
            let ended = Ended::Waiting { seconds: wait };
            let content = self.content.clone();
            (State::Waiting { until }, content, overdue_at, ended)
        };
        let refused = merged([&self.refused, &failure.refused]);
        let retried = Self {
            state,
            content,
            overdue_at,
            refused,
            held_since: None,
            ..self.because(failure.cause(), &failure.took)
        };
        Step::Write(Box::new(retried), ended)
    }

    /// The endpoints that failed are not asked again. If paused ones are left, it waits for them, and they have all
    /// their attempts still. Or else it is dead.
    fn given_up(self, failure: &Failure, now: Timestamp) -> Step<Ended> {
        let cause = failure.cause();
        let cause = match (cause, failure.paused.first()) {
            (Some((_, None)) | None, Some(paused)) => Some((PAUSED, Some(paused.as_str()))),
            (cause, _) => cause,
        };
        let content = self.kept(failure);
        // From a time to come, when the clock was set back since, the two weeks would be as much longer.
        let passed = self
            .held_since
            .filter(|since| *since <= now.farthest_end(0));
        let since = passed.unwrap_or(now);
        let held_until = since.plus_seconds(HELD_SECONDS);
        if failure.paused.is_empty() || now >= held_until {
            let dead = Self {
                state: State::Dead { at: now },
                content,
                held_since: None,
                ..self.because(cause, &failure.took)
            };
            return Step::Write(Box::new(dead), Ended::Dead);
        }
        let is_new = |id: &String| !self.refused.contains_key(id);
        let was_asked = !failure.took.is_empty()
            || !failure.failed.is_empty()
            || failure.refused.keys().any(is_new)
            || (failure.fault.is_some() && self.held_since.is_none());
        let attempts = self.attempts.saturating_sub((!was_asked).into());
        let refused = merged([&self.refused, &failure.refused, &failure.failed]);
        let until = now.plus_seconds(LOOKED_AT_SECONDS).min(held_until);
        let fresh = self.held_since.is_none();
        let held = Self {
            state: State::Parked { until },
            attempts,
            round: 0,
            refused,
            held_since: Some(since),
            last_attempt_at: self.last_attempt_at.filter(|_| attempts > 0),
            overdue_at: until,
            content,
            ..self.because(cause, &failure.took)
        };
        Step::Write(Box::new(held), Ended::Held { fresh })
    }

    /// What was to be told, where it must outlive its source.
    fn kept(&self, failure: &Failure) -> Option<String> {
        self.content.clone().or_else(|| failure.content.clone())
    }

    /// It failed for `cause`, and `took` took it nevertheless.
    fn because(self, cause: Option<(&str, Option<&str>)>, took: &BTreeSet<String>) -> Self {
        let (error, endpoint) = cause.unzip();
        Self {
            done: self.done.union(took).cloned().collect(),
            error: error.map(ToOwned::to_owned),
            error_endpoint: endpoint.flatten().map(ToOwned::to_owned),
            ..self
        }
    }

    /// Whether it waits for a paused endpoint to go on.
    pub const fn is_held(&self) -> bool {
        matches!(self.state, State::Parked { .. }) && self.held_since.is_some()
    }

    /// An endpoint goes on, or is gone, that it may be held for: it has a job again. The answer is whether it was held
    /// until this try, named `token`.
    pub fn woken(self, token: u128, now: Timestamp) -> Step<bool> {
        if self.is_held() {
            let queued = Self {
                state: State::Queued,
                overdue_at: now.plus_seconds(REDRIVE_SECONDS),
                token,
                ..self
            };
            return Step::Write(Box::new(queued), true);
        }
        let is_ours = matches!(self.state, State::Queued) && self.token == token;
        Step::Stay(is_ours)
    }

    /// The attempt came to nothing through a fault of ours: it does not count, and its job may come again at once. Whoever
    /// took or refused it nevertheless is not told again.
    pub fn unmade(self, failure: &Failure, attempt: Attempt) -> Step<()> {
        let Attempt { lease, now, .. } = attempt;
        let Failure { took, refused, .. } = failure;
        let is_ours = matches!(self.state, State::Attempting { .. }) && self.token == lease;
        if !is_ours {
            return match self.outrun(took, now) {
                Step::Write(row, _) => Step::Write(row, ()),
                Step::Stay(_) => Step::Stay(()),
            };
        }
        let unmade = Self {
            state: State::Waiting { until: now },
            attempts: self.attempts.saturating_sub(1),
            round: self.round.saturating_sub(1),
            done: self.done.union(took).cloned().collect(),
            refused: merged([&self.refused, refused]),
            ..self
        };
        Step::Write(Box::new(unmade), ())
    }

    /// The attempt took longer than its lease, or its answer was lost: where it stands is what counts, and who
    /// took it is kept.
    fn outrun(self, took: &BTreeSet<String>, now: Timestamp) -> Step<Ended> {
        let ended = match self.state {
            State::Delivered { .. } | State::Discarded { .. } => return Step::Stay(Ended::Done),
            State::Queued => Ended::Waiting { seconds: 1 },
            State::Attempting { until } | State::Waiting { until } => Ended::Waiting {
                seconds: seconds_until(until, now).min(LONGEST_HELD_SECONDS),
            },
            State::Parked { .. } if self.is_held() => Ended::Held { fresh: false },
            State::Parked { .. } => Ended::Parked,
            State::Dead { .. } => Ended::Dead,
        };
        if took.is_subset(&self.done) {
            return Step::Stay(ended);
        }
        let known = Self {
            done: self.done.union(took).cloned().collect(),
            ..self
        };
        Step::Write(Box::new(known), ended)
    }

    /// A dead one gets a fresh set of attempts. The answer is whether it was dead until this try, named `token`.
    pub fn redriven(self, token: u128, now: Timestamp) -> Step<bool> {
        match self.state {
            State::Dead { .. } => {
                let queued = Self {
                    state: State::Queued,
                    overdue_at: now.plus_seconds(REDRIVE_SECONDS),
                    token,
                    ..self.afresh()
                };
                Step::Write(Box::new(queued), true)
            }
            State::Queued => Step::Stay(self.token == token),
            State::Attempting { .. }
            | State::Waiting { .. }
            | State::Parked { .. }
            | State::Delivered { .. }
            | State::Discarded { .. } => Step::Stay(false),
        }
    }

    /// A dead one is given up by `by`. The answer is whether it was dead until this try, named `token`.
    pub fn discarded(self, by: &str, reason: &str, token: u128, now: Timestamp) -> Step<bool> {
        match self.state {
            State::Dead { .. } => {
                let discarded = Self {
                    state: State::Discarded {
                        at: now,
                        by: by.to_owned(),
                        reason: reason.to_owned(),
                    },
                    content: None,
                    token,
                    ..self
                };
                Step::Write(Box::new(discarded), true)
            }
            State::Discarded { .. } => Step::Stay(self.token == token),
            State::Queued
            | State::Attempting { .. }
            | State::Waiting { .. }
            | State::Parked { .. }
            | State::Delivered { .. } => Step::Stay(false),
        }
    }

    /// One that is overdue, or that a clock which was ahead has put off, has a job again.
    pub fn requeued(self, now: Timestamp) -> Step<()> {
        let is_awaited = self.overdue_at.is_awaited(now, LONGEST_OPEN_SECONDS);
        if !self.state.is_open() || (is_awaited && !self.was_tried_ahead(now)) {
            return Step::Stay(());
        }
        let state = match self.state {
            State::Parked { .. } => State::Queued,
            state => state,
        };
        let queued = Self {
            state,
            overdue_at: now.plus_seconds(SLACK_SECONDS),
            ..self
        };
        Step::Write(Box::new(queued), ())
    }

    /// Whether it was last tried at a time to come: by a clock that was ahead, or ours was set back since. The end of its
    /// wait is as wrong.
    fn was_tried_ahead(&self, now: Timestamp) -> bool {
        self.last_attempt_at
            .is_some_and(|tried| tried > now.farthest_end(0))
    }
}

fn not_yet(until: Timestamp, now: Timestamp) -> Begun {
    Begun::NotYet {
        seconds: seconds_until(until, now).min(LONGEST_HELD_SECONDS),
    }
}

/// Reasons by endpoint.
fn merged<const N: usize>(reasons: [&BTreeMap<String, String>; N]) -> BTreeMap<String, String> {
    let all = reasons.into_iter().flatten();
    all.map(|(id, reason)| (id.clone(), reason.clone()))
        .collect()
}

/// Whole seconds from `now` until `until` has passed, at least 1.
fn seconds_until(until: Timestamp, now: Timestamp) -> u32 {
    let seconds = (until.micros() - now.micros()).div_euclid(1_000_000) + 1;
    u32::try_from(seconds.max(1)).unwrap_or(u32::MAX)
}
