//! Deliveries that are held for paused endpoints, and those that go on when an endpoint does.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::{Verdict, overdue::Requeued};
use crate::{
    App,
    domain::{
        EndpointId, Error, Moment, TenantId,
        delivery::{About, Job, State},
        webhook::EventType,
    },
    queue::Sending,
    store::{
        Backoff,
        deliveries::{HELD_SHARDS, HeldMark, Resumed, Row},
    },
};

/// How many endpoints that have gone on are read at once.
const ENDPOINTS: usize = 100;
/// How many deliveries of one endpoint are read and sent at once, and how many pages of each of its shards one run does.
const PAGE: usize = 100;
const PAGES: usize = 5;
/// Maximum number of rows written at the same time.
const MAX_CONCURRENT_WRITES: usize = 16;

impl App {
    /// What becomes of the job of a delivery that was just held for the endpoints `paused`. One of them may have gone on,
    /// or be gone, since they were read: whoever did that may not have found the delivery, so this looks again.
    pub(super) async fn hold(
        &self,
        row: Row,
        about: &About,
        paused: &BTreeSet<String>,
        moment: &Moment,
    ) -> Result<Verdict, Error> {
        let tenant = row.delivery.tenant;
        match self.are_paused(tenant, about, paused).await {
            Ok(true) => return Ok(Verdict::Held),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(
                    cause = error.why(),
                    "a held delivery was not looked at again"
                );
            }
        }
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let deliveries = &self.stores().deliveries;
        deliveries
            .wake(row, moment.seed, moment.now, &mut race)
            .await?;
        Ok(Verdict::Again { seconds: 1 })
    }

    /// Whether all of `endpoints` are paused now, and still want what it is about.
    async fn are_paused(
        &self,
        tenant: TenantId,
        about: &About,
        endpoints: &BTreeSet<String>,
    ) -> Result<bool, Error> {
        let Ok(event) = about.event.parse::<EventType>() else {
            return Ok(false);
        };
        let now = self.endpoints_now(tenant, event).await?;
        let paused = now.iter().filter(|endpoint| !endpoint.is_active());
        let paused: BTreeSet<_> = paused.map(|endpoint| endpoint.id.to_string()).collect();
        Ok(endpoints.is_subset(&paused))
    }

    /// Notes that an endpoint is about to go on, or to be gone, so that [`App::requeue`] wakes what is held for it. That
    /// comes first: a crash after it wakes deliveries that are held again.
    pub(crate) async fn resume(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        moment: &Moment,
    ) -> Result<(), Error> {
        let resumed = Resumed {
            tenant,
            endpoint,
            at: moment.now,
        };
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let deliveries = &self.stores().deliveries;
        deliveries.resume(&resumed, &mut race).await
    }

    /// Sends the jobs of deliveries that were held for endpoints which have gone on since: at most 2,000 of each
    /// endpoint, as many as can be done by `until`.
    ///
    /// A fault is logged and counted, and keeps nobody else's deliveries back: the note stands, and the next run looks again.
    pub(super) async fn wake(&self, until: Instant, moment: &Moment) -> Requeued {
        let mut done = Requeued::default();
        let mut start = None;
        loop {
            let deliveries = &self.stores().deliveries;
            let (page, next) = match deliveries.resumed(moment.now, ENDPOINTS, start).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(
                        cause = error.why(),
                        "endpoints that have gone on were not read"
                    );
                    done.failed += 1;
                    done.more = true;
                    return done;
                }
            };
            for resumed in page {
                if Instant::now() > until {
                    done.more = true;
                    return done;
                }
                let (tenant, endpoint) = (resumed.tenant, resumed.endpoint);
                if let Err(error) = self.wake_endpoint(resumed, until, moment, &mut done).await {
                    tracing::warn!(%tenant, %endpoint, cause = error.why(), "held deliveries were not woken");
                    done.failed += 1;
                    done.more = true;
                }
            }
            start = next;
            if start.is_none() {
                return done;
            }
        }
    }

    /// The same for one endpoint. Its note is removed once nothing is held for it any more, so that notes of many
    /// endpoints delay nobody.
    async fn wake_endpoint(
        &self,
        resumed: Resumed,
        until: Instant,
        moment: &Moment,
        done: &mut Requeued,
    ) -> Result<(), Error> {
        let deliveries = &self.stores().deliveries;
        let mut is_idle = true;
        for shard in 0..HELD_SHARDS {
            let mut start = None;
            for _ in 0..PAGES {
                if Instant::now() > until {
                    done.more = true;
                    return Ok(());
                }
                let page = deliveries.held_for(&resumed, shard, moment.now, PAGE, start);
                let (marks, next) = page.await?;
                is_idle &= marks.is_empty();
                self.wake_page(resumed, marks, moment, done).await?;
                start = next;
                if start.is_none() {
                    break;
                }
            }
            is_idle &= start.is_none();
            done.more |= start.is_some();
        }
        if is_idle && resumed.is_heard(moment.now) {
            let mut race = Backoff::until(moment.deadline, moment.seed);
            deliveries.forget_resumed(&resumed, &mut race).await?;
        }
        Ok(())
    }

    /// Wakes those that are marked and were held until now. Their rows are written first, as overdue in a quarter of an
    /// hour, and their jobs sent after that: a crash in between is healed by [`App::requeue`].
    async fn wake_page(
        &self,
        resumed: Resumed,
        marks: Vec<HeldMark>,
        moment: &Moment,
        done: &mut Requeued,
    ) -> Result<(), Error> {
        let woken = stream::iter(marks).map(|mark| self.wake_one(resumed, mark, moment));
        let woken: Vec<_> = woken
            .buffer_unordered(MAX_CONCURRENT_WRITES)
            .collect()
            .await;
        let mut jobs = Vec::new();
        for woken in woken {
            match woken {
                Ok(job) => jobs.extend(job),
                // Its mark stands: the next run looks at it again.
                Err(error) => {
                    let tenant = resumed.tenant;
                    tracing::warn!(%tenant, cause = error.why(), "a held delivery was not woken");
                    done.failed += 1;
                }
            }
        }
        self.jobs()
            .deliver(&jobs, Sending::again(moment.now))
            .await?;
        done.sent += jobs.len();
        Ok(())
    }

    /// The job of a marked delivery, if it was held until now.
    async fn wake_one(
        &self,
        resumed: Resumed,
        mark: HeldMark,
        moment: &Moment,
    ) -> Result<Option<Job>, Error> {
        let deliveries = &self.stores().deliveries;
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let Some(row) = deliveries.get(resumed.tenant, mark.delivery).await? else {
            deliveries.unmark(&mark, &mut race).await?;
            return Ok(None);
        };
        let job = row.delivery.job();
        let has_ended = match &row.delivery.state {
            State::Delivered { .. } | State::Dead { .. } | State::Discarded { .. } => true,
            // It may be about to be held: whoever marked it looks at the endpoints after that.
            State::Queued
            | State::Attempting { .. }
            | State::Waiting { .. }
            | State::Parked { .. } => false,
        };
        let is_woken = !has_ended
            && deliveries
                .wake(row, moment.seed, moment.now, &mut race)
                .await?;
        if has_ended || is_woken {
            deliveries.unmark(&mark, &mut race).await?;
        }
        Ok(is_woken.then_some(job))
    }
}
