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
//! Each rule is a function of the row, the time and what happened; the store writes what it gives in one step,
//! if nobody wrote in between.
//!
//! **Invariants:** an attempt is counted before it starts. At most one attempt holds the lease. `delivered` and
//! `discarded` are final. Whatever is open is listed under the time at which somebody must look after it.

use std::collections::BTreeSet;

use super::{Job, Subject};
use crate::domain::{
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
    /// When it was first tried.
    pub created_at: Timestamp,
    /// When it was last tried.
    pub last_attempt_at: Option<Timestamp>,
    /// Why it last failed.
    pub error: Option<String>,
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

/// Why a dead letter is given up: 1 to 256 bytes with something to see in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    /// The longest one, in bytes of UTF-8.
    pub const MAX: usize = 256;

    /// Reads field `reason`.
    pub fn parse(reason: String) -> Result<Self, Error> {
        text::check("reason", &reason, Self::MAX)?;
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

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In a few words.
    pub reason: String,
    /// The endpoints that took it nevertheless.
    pub took: BTreeSet<String>,
    /// For how many seconds the receiver asked not to be tried again.
    pub retry_after: Option<u32>,
    /// Whether no other attempt could succeed.
    pub is_final: bool,
    /// What was to be told, if it may outlive its source.
    pub content: Option<String>,
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
            return Self::first(job, telling.about, now).try_now(attempt);
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
                    Self { round: 0, ..known }.try_now(attempt)
                } else {
                    Step::Stay(Begun::Dead { fresh: false })
                }
            }
            State::Attempting { .. } => Self {
                error: Some(BROKEN_OFF.to_owned()),
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
            created_at: now,
            last_attempt_at: None,
            error: None,
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
        self.try_now(attempt)
    }

    fn try_now(self, attempt: Attempt) -> Step<Begun> {
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
                    error: None,
                    content: None,
                    ..self
                };
                Step::Write(Box::new(delivered), ())
            }
        }
    }

    /// The attempt failed.
    pub fn failed(self, failure: &Failure, attempt: Attempt) -> Step<Ended> {
        let Attempt {
            lease,
            now,
            schedule,
        } = attempt;
        let is_ours = matches!(self.state, State::Attempting { .. }) && self.token == lease;
        if !is_ours {
            return self.outrun(&failure.took, now);
        }
        let waits = schedule.wait_after(self.round);
        let asked = failure.retry_after.unwrap_or_default();
        let wait = waits.max(asked.min(LONGEST_ASKED_SECONDS));
        let until = now.plus_seconds(wait.into());
        let kept = || self.content.clone().or_else(|| failure.content.clone());
        let (state, content, overdue_at, ended) =
            if failure.is_final || self.round >= schedule.attempts() {
                let dead = State::Dead { at: now };
                (dead, kept(), self.overdue_at, Ended::Dead)
            } else if wait > LONGEST_HELD_SECONDS {
                (State::Parked { until }, kept(), until, Ended::Parked)
            } else {
                let overdue_at = self.overdue_at.max(until.plus_seconds(SLACK_SECONDS));
                let waiting = State::Waiting { until };
                let ended = Ended::Waiting { seconds: wait };
                (waiting, self.content.clone(), overdue_at, ended)
            };
        let failed = Self {
            state,
            done: self.done.union(&failure.took).cloned().collect(),
            error: Some(failure.reason.clone()),
            content,
            overdue_at,
            ..self
        };
        Step::Write(Box::new(failed), ended)
    }

    /// The attempt came to nothing through a fault of ours: it does not count, and its job may come again at once. Whoever
    /// took it nevertheless is not told again.
    pub fn unmade(self, took: &BTreeSet<String>, attempt: Attempt) -> Step<()> {
        let Attempt { lease, now, .. } = attempt;
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
                    round: 0,
                    overdue_at: now.plus_seconds(REDRIVE_SECONDS),
                    token,
                    ..self
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

    /// One that is overdue, or due at a time that is too far off to be true, has a job again.
    pub fn requeued(self, now: Timestamp) -> Step<()> {
        if !self.state.is_open() || self.overdue_at.is_awaited(now, LONGEST_OPEN_SECONDS) {
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
}

fn not_yet(until: Timestamp, now: Timestamp) -> Begun {
    Begun::NotYet {
        seconds: seconds_until(until, now).min(LONGEST_HELD_SECONDS),
    }
}

/// Whole seconds from `now` until `until` has passed, at least 1.
fn seconds_until(until: Timestamp, now: Timestamp) -> u32 {
    let seconds = (until.micros() - now.micros()).div_euclid(1_000_000) + 1;
    u32::try_from(seconds.max(1)).unwrap_or(u32::MAX)
}
