//! What an admin does with dead letters: tries them again, or gives them up.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

pub use crate::store::deliveries::Filter;
use crate::{
    App,
    domain::{
        Auditor, Cursor, DeliveryId, Error, Moment, TenantId, Timestamp,
        delivery::{Reason, State},
    },
    queue::Sending,
    store::{
        Backoff,
        deliveries::{Place, Purpose, Row},
    },
};

/// The most dead letters of one request.
const MOST: usize = 1_000;
/// How many are read at once.
const PAGE: usize = 100;
/// How many rows are written at the same time.
const AT_ONCE: usize = 16;
/// How much of a moment is kept for the page that is under way.
const AFTERWARDS: Duration = Duration::from_secs(4);

/// Which dead letters are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selected {
    /// This one.
    One(DeliveryId),
    /// All to which this applies, from where a request before this one got to.
    All {
        /// Which.
        filter: Filter,
        /// [`Swept::next`] of that request, which was the same but for this.
        from: Option<Cursor>,
    },
}

/// What became of the dead letters that were meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many were dead until now.
    pub count: usize,
    /// Where to go on, if there may be more.
    pub next: Option<Cursor>,
}

/// What is done with a dead letter.
#[derive(Debug, Clone, Copy)]
enum Deed<'a> {
    Count,
    Redrive,
    Discard { by: &'a str, reason: &'a str },
}

impl Deed<'_> {
    const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Redrive => "redrive",
            Self::Discard { .. } => "discard",
        }
    }
}

impl App {
    /// How many dead letters of a tenant [`App::redrive`] or [`App::discard`] would take in one request. Nothing changes.
    ///
    /// # Errors
    ///
    /// As [`App::redrive`].
    pub async fn count_selected(
        &self,
        auditor: &Auditor,
        tenant: TenantId,
        selected: &Selected,
        moment: &Moment,
    ) -> Result<Swept, Error> {
        self.audits(auditor, tenant).await?;
        let mut swept = Swept::default();
        self.sweep(tenant, selected, Deed::Count, moment, &mut swept)
            .await?;
        Ok(swept)
    }

    /// Tries dead letters of a tenant again, each with a fresh set of attempts: at most 1,000, the oldest first in each
    /// part of the index.
    ///
    /// What is not dead any more stays as it is, so doing it twice is doing it once. The row is written first, as
    /// overdue in a quarter of an hour, and its job sent after that: a crash in between is healed by [`App::requeue`].
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such tenant, or if one is meant that is not there. If the queue or the store is out: some may be done.
    pub async fn redrive(
        &self,
        auditor: &Auditor,
        tenant: TenantId,
        selected: &Selected,
        moment: &Moment,
    ) -> Result<Swept, Error> {
        self.audits(auditor, tenant).await?;
        let mut swept = Swept::default();
        self.sweep(tenant, selected, Deed::Redrive, moment, &mut swept)
            .await?;
        Ok(swept)
    }

    /// Gives dead letters of a tenant up: at most 1,000. Their rows say who did it, when and why, and so does a line.
    ///
    /// # Errors
    ///
    /// As [`App::redrive`].
    pub async fn discard(
        &self,
        auditor: &Auditor,
        tenant: TenantId,
        selected: &Selected,
        reason: &Reason,
        moment: &Moment,
    ) -> Result<Swept, Error> {
        self.audits(auditor, tenant).await?;
        let by = match auditor {
            Auditor::Operator(_) => "operator",
            Auditor::Tenant(actor) => actor.user().as_str(),
        };
        let reason = reason.as_str();
        let deed = Deed::Discard { by, reason };
        let mut swept = Swept::default();
        let done = self.sweep(tenant, selected, deed, moment, &mut swept).await;
        // Before the failure is told: those that are given up are.
        let is_operator = matches!(auditor, Auditor::Operator(_));
        let (count, is_whole) = (swept.count, done.is_ok());
        let (one, filter) = match selected {
            Selected::One(id) => (Some(id), None),
            Selected::All { filter, .. } => (None, Some(filter)),
        };
        let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
        tracing::info!(
            %tenant,
            is_operator,
            by,
            count,
            is_whole,
            delivery = one.map(ToString::to_string),
            room = filter.and_then(|it| it.room).map(|room| room.to_string()),
            of_a_topic = filter.map(|it| it.topic.is_some()),
            older_than = time(filter.and_then(|it| it.older_than)),
            newer_than = time(filter.and_then(|it| it.newer_than)),
            "dead letters were discarded"
        );
        done?;
        Ok(swept)
    }

    async fn sweep(
        &self,
        tenant: TenantId,
        selected: &Selected,
        deed: Deed<'_>,
        moment: &Moment,
        swept: &mut Swept,
    ) -> Result<(), Error> {
        let deliveries = &self.stores().deliveries;
        let (filter, from) = match selected {
            Selected::One(id) => {
                let row = deliveries.get(tenant, *id).await?;
                let row = row.ok_or(Error::NotFound("Delivery"))?;
                let page = self.sweep_page(vec![row], deed, moment, &mut swept.count);
                return page.await;
            }
            Selected::All { filter, from } => (filter, from),
        };
        let purpose = Purpose::new(tenant, filter, deed.name());
        let parse = |cursor| Place::parse(cursor, &purpose);
        let start = from.as_ref().map(parse).transpose()?;
        let mut place = start.or_else(|| Place::of(0));
        while let Some(at) = &place {
            if swept.count >= MOST || Instant::now() + AFTERWARDS > moment.deadline {
                break;
            }
            let limit = PAGE.min(MOST - swept.count);
            let (rows, next) = deliveries.dead_of(tenant, at, filter, limit).await?;
            self.sweep_page(rows, deed, moment, &mut swept.count)
                .await?;
            place = next;
        }
        swept.next = place.as_ref().map(|place| place.cursor(&purpose));
        Ok(())
    }

    /// Adds to `count` how many of `rows` were dead until now.
    async fn sweep_page(
        &self,
        rows: Vec<Row>,
        deed: Deed<'_>,
        moment: &Moment,
        count: &mut usize,
    ) -> Result<(), Error> {
        let written = stream::iter(rows).map(|row| async move {
            let job = row.delivery.job();
            let is_ours = self.sweep_one(row, deed, moment).await?;
            Ok::<_, Error>(is_ours.then_some(job))
        });
        let written: Vec<_> = written.buffer_unordered(AT_ONCE).collect().await;
        // Those that were written are sent even if another one failed.
        let (mut jobs, mut failure) = (Vec::new(), None);
        for written in written {
            match written {
                Ok(job) => jobs.extend(job),
                Err(error) => failure = Some(error),
            }
        }
        *count += jobs.len();
        match deed {
            Deed::Redrive => {
                self.jobs()
                    .deliver(&jobs, Sending::again(moment.now))
                    .await?;
            }
            Deed::Count | Deed::Discard { .. } => {}
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Whether the row was dead until now.
    async fn sweep_one(&self, row: Row, deed: Deed<'_>, moment: &Moment) -> Result<bool, Error> {
        let deliveries = &self.stores().deliveries;
        let Moment { now, seed, .. } = *moment;
        let mut race = Backoff::until(moment.deadline, seed);
        match deed {
            Deed::Count => Ok(matches!(row.delivery.state, State::Dead { .. })),
            Deed::Redrive => deliveries.redrive(row, seed, now, &mut race).await,
            Deed::Discard { by, reason } => {
                deliveries
                    .discard(row, by, reason, seed, now, &mut race)
                    .await
            }
        }
    }
}
