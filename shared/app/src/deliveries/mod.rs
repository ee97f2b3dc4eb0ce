//! Attempts: what happened is told to who is to hear of it, and what came of that is noted.

mod content;
mod held;
mod overdue;
mod redrive;
mod schedules;
mod status;

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout_at};

use self::content::Content;
pub(super) use self::schedules::Schedules;
pub use self::{
    overdue::Requeued,
    redrive::{Filter, Selected, Swept},
};
use super::App;
use crate::{
    domain::{
        Error, Moment, TenantId, UserId,
        delivery::{
            About, Attempt, Begun, Delivery, Ended, Failure, Fault, Job, Left, Owed, Receipt,
            Recipient, Step, Subject, Telling,
        },
        live::Reach,
        webhook::{Endpoint, EventType, Outgoing},
    },
    providers::sealing::is_unopened,
    store::{Backoff, deliveries::Row},
};

/// How much of a moment is kept for writing down what came of an attempt.
const AFTERWARDS: Duration = Duration::from_secs(10);
/// How much of a moment an attempt needs to tell of it: who begins later would blame the receiver for our own delay. A
/// receiver has 10 seconds to answer, and connections come first.
const TELLING: Duration = Duration::from_secs(12);
/// How often a connection that was made just now is tried before the attempt has failed, and how long after
/// the last time.
const LIVE_TRIES: u32 = 4;
const LIVE_PAUSE: Duration = Duration::from_secs(1);
/// Why an attempt failed through a fault of ours.
const INTERNAL: &str = "internal error";
/// Why an endpoint was not told: its secret was sealed with a key that is not there any more.
const UNOPENED: &str = "the endpoint's secret cannot be opened with the sealing key";

/// What became of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is delivered, by this attempt.
    Delivered,
    /// There was nothing to do any more.
    Done,
    /// It must come again.
    Again {
        /// When: at most 15 minutes from now.
        seconds: u32,
    },
    /// It waits for longer than a queue holds it: this job is not needed, [`App::requeue`] sends another.
    Parked,
    /// It waits for an endpoint that is paused: this job is not needed, [`App::requeue`] sends another.
    Held,
    /// Its attempts are used up: the job belongs to the dead letters.
    Dead {
        /// Whether that came of this job.
        fresh: bool,
    },
}

/// Who took something, and who did not.
#[derive(Debug, Default)]
struct Taken {
    /// All but what was told.
    failure: Failure,
    /// The endpoints that could not be told through a fault of ours, which is no reason to count the attempt.
    untold: BTreeSet<String>,
    /// That fault.
    fault: Option<Error>,
    /// Whether there was nobody to take it.
    is_nobodys: bool,
}

impl App {
    /// Attempts the delivery of `job`, if it is due, until 10 seconds before the deadline of `moment`, which must be
    /// less than [`crate::domain::delivery::LEASE_SECONDS`] away. No two jobs may share a moment.
    ///
    /// # Errors
    ///
    /// If a store could not be read or written, nobody could be told through a fault of ours, or there is too little time
    /// left to tell: the job must come again, and its attempt does not count. What was told by then may be told twice.
    pub async fn attempt(
        &self,
        job: &Job,
        receipt: Receipt,
        moment: &Moment,
    ) -> Result<Verdict, Error> {
        let stores = self.stores();
        let mut race = Backoff::until(moment.deadline, moment.seed);
        // Whose job comes for the first time is not there, as a rule.
        let known = async {
            match receipt.receives {
                0 | 1 => Ok(None),
                _ => stores.deliveries.get(job.tenant, job.id()).await,
            }
        };
        let (schedule, known) = tokio::try_join!(self.schedule(job.tenant), known)?;
        let attempt = Attempt {
            lease: moment.seed,
            now: moment.now,
            schedule,
        };
        if let Some(Row { delivery, .. }) = &known {
            let telling = Telling {
                about: &delivery.about,
                content: None,
                is_owed: false,
            };
            let step = Delivery::begin(Some(delivery.clone()), job, telling, receipt, attempt);
            if let Step::Stay(begun) = step
                && let Some(verdict) = verdict(begun)
            {
                // Early, a copy, or on its way to the dead letters: there is nothing to read for it.
                return Ok(verdict);
            }
        }
        // All that may fail through no fault of a receiver's comes before the attempt is counted.
        let content = self.content(job).await?;
        let about = content.as_ref().map_or_else(
            || Content::unknown(&job.subject),
            |content| content.about.clone(),
        );
        let endpoints = self.wanting(job.tenant, &about, content.as_ref()).await?;
        let kept = content
            .clone()
            .and_then(|content| content.into_kept(&job.subject));
        let telling = Telling {
            about: &about,
            content: kept.as_deref(),
            is_owed: !endpoints.is_empty(),
        };
        let begin_by = until(moment) - TELLING;
        if Instant::now() > begin_by {
            return Err(too_late());
        }
        let mut start = Backoff::until(begin_by, moment.seed);
        let (begun, row) = stores
            .deliveries
            .begin(known, job, telling, receipt, attempt, &mut start)
            .await?;
        if let Some(verdict) = verdict(begun) {
            if verdict == (Verdict::Dead { fresh: true }) {
                self.count_dead(job.tenant);
            }
            return Ok(verdict);
        }
        let mut is_nobodys = false;
        let taken = self.tell_row(&row, content.as_ref(), &endpoints, moment);
        let failure = match taken.await? {
            None => lost(),
            Some(taken) => {
                is_nobodys = taken.is_nobodys;
                let (failure, fault) = taken.counted();
                if let Some(fault) = fault {
                    let unmade = stores.deliveries.unmade(row, &failure, attempt, &mut race);
                    unmade.await?;
                    return Err(fault);
                }
                Failure {
                    content: kept,
                    ..failure
                }
            }
        };
        if failure.is_none() {
            let delivered = stores
                .deliveries
                .delivered(row, &failure.took, moment.now, &mut race);
            delivered.await?;
            if is_nobodys {
                return Ok(Verdict::Done);
            }
            self.count_delivered(job.tenant);
            return Ok(Verdict::Delivered);
        }
        self.fail(row, &about, &failure, attempt, moment).await
    }

    /// Notes that an attempt failed, and what follows.
    async fn fail(
        &self,
        row: Row,
        about: &About,
        failure: &Failure,
        attempt: Attempt,
        moment: &Moment,
    ) -> Result<Verdict, Error> {
        let tenant = row.delivery.tenant;
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let deliveries = &self.stores().deliveries;
        if let Step::Write(held, Ended::Held { .. }) = row.delivery.clone().failed(failure, attempt)
        {
            for endpoint in &failure.paused {
                deliveries
                    .mark_held(&held, endpoint, moment.now, &mut race)
                    .await?;
            }
        }
        let (ended, row) = deliveries.failed(row, failure, attempt, &mut race).await?;
        self.count_failed(tenant, failure, ended);
        Ok(match ended {
            Ended::Waiting { seconds } => Verdict::Again { seconds },
            Ended::Parked => Verdict::Parked,
            Ended::Held { .. } => self.hold(row, about, &failure.paused, moment).await?,
            Ended::Dead => Verdict::Dead { fresh: true },
            Ended::Done => Verdict::Done,
        })
    }

    /// Tells what `row` is about: `content`, or what was kept of it. `None` if nothing is.
    async fn tell_row(
        &self,
        row: &Row,
        content: Option<&Content>,
        endpoints: &[Endpoint],
        moment: &Moment,
    ) -> Result<Option<Taken>, Error> {
        let delivery = &row.delivery;
        Ok(match (content, &delivery.content) {
            (Some(content), _) => Some(self.take(delivery, content, endpoints, moment).await),
            (None, Some(kept)) => {
                let content = Content::kept(delivery.about.clone(), kept.clone());
                let wanting = self.wanting(delivery.tenant, &content.about, Some(&content));
                let endpoints = wanting.await?;
                Some(self.take(delivery, &content, &endpoints, moment).await)
            }
            (None, None) => None,
        })
    }

    /// The tenant's endpoints that are to be told of this, those that are paused among them.
    async fn wanting(
        &self,
        tenant: TenantId,
        about: &About,
        content: Option<&Content>,
    ) -> Result<Vec<Endpoint>, Error> {
        let Ok(event) = about.event.parse::<EventType>() else {
            // What no endpoint can want.
            return Ok(Vec::new());
        };
        let mut endpoints = self.endpoints_for(tenant, event).await?;
        if endpoints.is_empty() && event != EventType::Notification {
            // Nobody else is there to be told, so one that was made just now must not be overlooked.
            endpoints = self.endpoints_now(tenant, event).await?;
        }
        // An endpoint is not told that it is paused itself.
        let paused = content.and_then(Content::paused_endpoint);
        endpoints.retain(|endpoint| paused.as_ref() != Some(&endpoint.id.to_string()));
        Ok(endpoints)
    }

    /// Tells whoever is to hear of it and has not taken it yet. If nothing is in the way then, it is delivered.
    async fn take(
        &self,
        delivery: &Delivery,
        content: &Content,
        endpoints: &[Endpoint],
        moment: &Moment,
    ) -> Taken {
        let recipients: Vec<_> = endpoints.iter().map(recipient).collect();
        let user = match (&delivery.subject, &delivery.user) {
            (Subject::Notification(_), Some(user)) => Some(user),
            (
                Subject::MessageCreated { .. }
                | Subject::MessageEdited { .. }
                | Subject::MessageDeleted { .. }
                | Subject::Notification(_)
                | Subject::Event(_),
                _,
            ) => None,
        };
        let (left, is_nobody) = match delivery.owed(&recipients) {
            Owed::Taken => return Taken::default(),
            Owed::To(left) => (left, false),
            Owed::NoEndpoint => (Left::default(), true),
            Owed::Nobody if user.is_none() => {
                return Taken {
                    is_nobodys: true,
                    ..Taken::default()
                };
            }
            Owed::Nobody => (Left::default(), false),
        };
        let mut fault = is_nobody.then_some("no endpoint");
        if let Some(user) = user {
            fault = match self.take_live(delivery, user, content, moment).await {
                Ok(Reach::Reached) => return Taken::default(),
                // A connection that takes nothing for seconds is as good as none.
                Ok(Reach::Later | Reach::Offline) if !left.active.is_empty() => None,
                Ok(Reach::Later) => Some("connection busy"),
                Ok(Reach::Offline) => Some("user offline"),
                Err(error) => {
                    let mut taken = Taken::of(left);
                    taken.fail(None, error);
                    return taken;
                }
            };
        }
        let mut taken = Taken::of(left.clone());
        taken.failure.fault = fault.map(|reason| Fault::Passing(reason.to_owned()));
        self.take_by_webhooks(
            delivery,
            content,
            endpoints,
            &left.active,
            &mut taken,
            moment,
        )
        .await;
        taken
    }

    /// Posts `content` to those of `endpoints` that are `active`, all at once.
    async fn take_by_webhooks(
        &self,
        delivery: &Delivery,
        content: &Content,
        endpoints: &[Endpoint],
        active: &BTreeSet<String>,
        taken: &mut Taken,
        moment: &Moment,
    ) {
        let Ok(event) = content.about.event.parse::<EventType>() else {
            return;
        };
        let id = delivery.id.to_string();
        let what = Outgoing {
            id: &id,
            at: moment.now,
            event,
            body: &content.body,
        };
        let left = endpoints
            .iter()
            .map(|endpoint| (endpoint.id.to_string(), endpoint))
            .filter(|(id, _)| active.contains(id));
        let posts = left.map(|(id, endpoint)| async {
            // Not cut off from here: that the endpoint failed must be noted too.
            let posted = self.post_to(endpoint, &what, until(moment), moment).await;
            (id, posted)
        });
        for (id, posted) in join_all(posts).await {
            let failure = &mut taken.failure;
            match posted {
                Ok(Ok(())) => {
                    failure.took.insert(id);
                }
                Ok(Err(refused)) => {
                    let asked = refused.retry_after.map(saturated);
                    failure.retry_after = failure.retry_after.max(asked);
                    let reasons = if refused.gone {
                        &mut failure.refused
                    } else {
                        &mut failure.failed
                    };
                    reasons.insert(id, refused.reason);
                }
                Err(error) => taken.fail(Some(id), error),
            }
        }
    }

    /// Posts `content` to the user's connections, and waits a little for one that takes nothing yet.
    async fn take_live(
        &self,
        delivery: &Delivery,
        user: &UserId,
        content: &Content,
        moment: &Moment,
    ) -> Result<Reach, Error> {
        let frame = content.frame()?;
        let mut tries = 0;
        loop {
            let posting = self.post_to_user(delivery.tenant, user, &frame, moment);
            tries += 1;
            match timeout_at(until(moment), posting).await {
                Ok(Ok(Reach::Later)) if tries < LIVE_TRIES => sleep(LIVE_PAUSE).await,
                Ok(reach) => return reach,
                Err(_) => return Ok(Reach::Later),
            }
        }
    }
}

/// What became of a job whose delivery is not to be tried; `None` if it is.
const fn verdict(begun: Begun) -> Option<Verdict> {
    match begun {
        Begun::Go => None,
        Begun::Done => Some(Verdict::Done),
        Begun::NotYet { seconds } => Some(Verdict::Again { seconds }),
        Begun::Parked => Some(Verdict::Parked),
        Begun::Dead { fresh } => Some(Verdict::Dead { fresh }),
    }
}

/// When whoever has not taken it by then has not.
fn until(moment: &Moment) -> Instant {
    moment.deadline - AFTERWARDS
}

fn too_late() -> Error {
    Error::Unavailable("too little time is left to tell of it".into())
}

/// Nothing is left to be told.
fn lost() -> Failure {
    let reason = "its content is no longer kept".to_owned();
    Failure {
        fault: Some(Fault::Final(reason)),
        ..Failure::default()
    }
}

fn recipient(endpoint: &Endpoint) -> Recipient {
    Recipient {
        endpoint: endpoint.id.to_string(),
        is_active: endpoint.is_active(),
    }
}

fn saturated(seconds: u64) -> u32 {
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

impl Taken {
    /// Nobody has taken it yet, and these are left.
    fn of(left: Left) -> Self {
        let failure = Failure {
            paused: left.paused,
            refused: left.refused,
            ..Failure::default()
        };
        Self {
            failure,
            ..Self::default()
        }
    }

    /// Notes a fault of ours. One that passes does not count as an attempt; one that does not must end somewhere.
    fn fail(&mut self, endpoint: Option<String>, error: Error) {
        tracing::warn!(cause = error.why(), %error, "a delivery could not be attempted");
        let passes = matches!(error, Error::Unavailable(_) | Error::Busy);
        let reason = if is_unopened(&error) {
            UNOPENED
        } else {
            INTERNAL
        };
        match endpoint {
            Some(endpoint) if passes => {
                self.untold.insert(endpoint);
            }
            Some(endpoint) => {
                self.failure.failed.insert(endpoint, reason.to_owned());
            }
            None if passes => {}
            None => self.failure.fault = Some(Fault::Passing(INTERNAL.to_owned())),
        }
        if passes {
            self.fault = Some(error);
        }
    }

    /// What became of the attempt, and the fault of ours if it failed through that alone, which does not count.
    fn counted(self) -> (Failure, Option<Error>) {
        let Self {
            mut failure,
            untold,
            fault,
            is_nobodys: _,
        } = self;
        match fault {
            Some(fault) if failure.failed.is_empty() && failure.fault.is_none() => {
                (failure, Some(fault))
            }
            Some(_) | None => {
                let untold = untold.into_iter().map(|id| (id, INTERNAL.to_owned()));
                failure.failed.extend(untold);
                (failure, None)
            }
        }
    }
}
