//! Attempts: what happened is told to who is to hear of it, and what came of that is noted.

mod content;
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
            About, Attempt, Begun, Delivery, Ended, Failure, Job, Receipt, Step, Subject, Telling,
        },
        live::Reach,
        webhook::{Endpoint, EventType, Outgoing, Refused, UnknownEventType},
    },
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
    /// Its attempts are used up: the job belongs to the dead letters.
    Dead {
        /// Whether that came of this job.
        fresh: bool,
    },
}

/// Who took something, and who did not.
#[derive(Debug, Default)]
struct Taken {
    /// The endpoints that took it.
    took: BTreeSet<String>,
    /// Those that did not, and why.
    refused: Vec<Refused>,
    /// A fault of ours, which is no reason to count the attempt.
    fault: Option<Error>,
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
        let endpoints = self.wanting(job.tenant, &about).await?;
        let kept = content
            .clone()
            .and_then(|content| content.into_kept(&job.subject));
        let telling = Telling {
            about: &about,
            content: kept.as_deref(),
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
        let taken = self.tell_row(&row, content.as_ref(), &endpoints, moment);
        let taken = taken.await?;
        let taken = match taken {
            Some(Taken {
                took,
                refused,
                fault: Some(fault),
            }) if refused.is_empty() => {
                let unmade = stores.deliveries.unmade(row, &took, attempt, &mut race);
                unmade.await?;
                return Err(fault);
            }
            taken => taken,
        };
        let failure = match taken {
            Some(taken) => match taken.failure(kept) {
                Ok(took) => {
                    let delivered = stores
                        .deliveries
                        .delivered(row, &took, moment.now, &mut race);
                    delivered.await?;
                    self.count_delivered(job.tenant);
                    return Ok(Verdict::Delivered);
                }
                Err(failure) => failure,
            },
            None => lost(),
        };
        let ended = stores
            .deliveries
            .failed(row, &failure, attempt, &mut race)
            .await?;
        self.count_failed(job.tenant, ended);
        Ok(match ended {
            Ended::Waiting { seconds } => Verdict::Again { seconds },
            Ended::Parked => Verdict::Parked,
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
                let endpoints = self.wanting(delivery.tenant, &content.about).await?;
                Some(self.take(delivery, &content, &endpoints, moment).await)
            }
            (None, None) => None,
        })
    }

    /// The tenant's endpoints that are to be told of this.
    async fn wanting(&self, tenant: TenantId, about: &About) -> Result<Vec<Endpoint>, Error> {
        match about.event.parse::<EventType>() {
            Ok(event) => {
                let endpoints = self.endpoints_for(tenant, event).await?;
                if endpoints.is_empty() && event != EventType::Notification {
                    // Nobody else is there to be told, so one that was made just now must not be overlooked.
                    return self.endpoints_now(tenant, event).await;
                }
                Ok(endpoints)
            }
            // What no endpoint can want.
            Err(UnknownEventType) => Ok(Vec::new()),
        }
    }

    /// Tells whoever is to hear of it and has not taken it yet. If nobody refuses, it is delivered.
    async fn take(
        &self,
        delivery: &Delivery,
        content: &Content,
        endpoints: &[Endpoint],
        moment: &Moment,
    ) -> Taken {
        let user = match (&delivery.subject, &delivery.user) {
            (Subject::Notification(_), Some(user)) => user,
            (
                Subject::MessageCreated { .. }
                | Subject::MessageEdited { .. }
                | Subject::MessageDeleted { .. }
                | Subject::Notification(_)
                | Subject::Event(_),
                _,
            ) => {
                // Nobody is left whom it was to reach. It was dead once, so somebody waits to hear what became of it.
                if endpoints.is_empty() && delivery.attempts > delivery.round {
                    return Taken::nobody();
                }
                let taken = self.take_by_webhooks(delivery, content, endpoints, moment);
                return taken.await;
            }
        };
        match self.take_live(delivery, user, content, moment).await {
            Ok(Reach::Reached) => Taken::default(),
            Ok(Reach::Later) if endpoints.is_empty() => Taken::refused("connection busy"),
            Ok(Reach::Offline) if endpoints.is_empty() => Taken::refused("user offline"),
            // A connection that takes nothing for seconds is as good as none.
            Ok(Reach::Later | Reach::Offline) => {
                let taken = self.take_by_webhooks(delivery, content, endpoints, moment);
                taken.await
            }
            Err(error) => {
                let mut taken = Taken::default();
                taken.fail(error);
                taken
            }
        }
    }

    /// Posts `content` to those of `endpoints` that have not taken it, all at once.
    async fn take_by_webhooks(
        &self,
        delivery: &Delivery,
        content: &Content,
        endpoints: &[Endpoint],
        moment: &Moment,
    ) -> Taken {
        let Ok(event) = content.about.event.parse::<EventType>() else {
            return Taken::default();
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
            .filter(|(id, _)| !delivery.done.contains(id));
        let posts = left.map(|(id, endpoint)| async move {
            if !endpoint.is_active() {
                return Ok(Err(Refused::new("endpoint paused")));
            }
            // Not cut off from here: that the endpoint failed must be noted too.
            let posted = self.post_to(endpoint, &what, until(moment), moment).await?;
            Ok(posted.map(|()| id))
        });
        let mut taken = Taken::default();
        for posted in join_all(posts).await {
            match posted {
                Ok(Ok(id)) => {
                    taken.took.insert(id);
                }
                Ok(Err(refused)) => taken.refused.push(refused),
                Err(error) => taken.fail(error),
            }
        }
        taken
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
    Failure {
        reason: "its content is no longer kept".to_owned(),
        took: BTreeSet::new(),
        retry_after: None,
        is_final: true,
        content: None,
    }
}

impl Taken {
    fn refused(reason: &str) -> Self {
        Self {
            refused: vec![Refused::new(reason)],
            ..Self::default()
        }
    }

    /// There is no endpoint, and as long as there is none no attempt could succeed.
    fn nobody() -> Self {
        let refused = Refused {
            gone: true,
            ..Refused::new("no endpoint")
        };
        Self {
            refused: vec![refused],
            ..Self::default()
        }
    }

    /// Notes a fault of ours. One that passes does not count as an attempt; one that does not must end somewhere.
    fn fail(&mut self, error: Error) {
        tracing::warn!(cause = error.why(), %error, "a delivery could not be attempted");
        if matches!(error, Error::Unavailable(_) | Error::Busy) {
            self.fault = Some(error);
        } else {
            self.refused.push(Refused::new("internal error"));
        }
    }

    /// Who took it, if nobody refused. What is to be kept of what was told is `content`.
    fn failure(self, content: Option<String>) -> Result<BTreeSet<String>, Failure> {
        let Self { took, refused, .. } = self;
        let Some(first) = refused.first() else {
            return Ok(took);
        };
        let asked = refused.iter().filter_map(|refused| refused.retry_after);
        let asked = asked
            .max()
            .map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX));
        Err(Failure {
            reason: first.reason.clone(),
            took,
            retry_after: asked,
            // Nobody is there any more who could ever take it.
            is_final: refused.iter().all(|refused| refused.gone),
            content,
        })
    }
}
