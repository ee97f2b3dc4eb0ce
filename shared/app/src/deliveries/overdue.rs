//! Deliveries that nobody brings forward any more: parked ones whose time has come, those whose job was lost, and those
//! that a clock which was ahead has put off, be it by years or by minutes.

use futures_util::{StreamExt, stream};
use tokio::time::{Duration, Instant};

use crate::{
    App,
    domain::{Error, Moment},
    queue::Sending,
    store::{
        Backoff,
        deliveries::{OPEN_SHARDS, Row},
    },
};

/// How many are read and sent at once.
const PAGE: usize = 100;
/// How many pages of one shard one run does.
const PAGES: usize = 50;
/// How many shards are looked at at the same time. A page is at most 1 MB.
const SHARDS_AT_ONCE: usize = 16;
/// How many rows of one shard are written at the same time.
const AT_ONCE: usize = 4;
/// How much of a moment is kept for the page that is under way.
const AFTERWARDS: Duration = Duration::from_secs(8);

/// Which of the open deliveries need a job.
#[derive(Debug, Clone, Copy)]
enum Due {
    /// Those whose time has come.
    Overdue,
    /// Those whose time is too far off to be true.
    FarOff,
    /// Those that were tried at a time to come.
    TriedAhead,
}

/// What a look at the open deliveries has found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requeued {
    /// How many jobs were sent.
    pub sent: usize,
    /// How many of these could not be noted: they are sent again the next time, which does no harm.
    pub failed: usize,
    /// Whether there was more than could be done in time.
    pub more: bool,
}

impl App {
    /// Sends the jobs of deliveries that are held for endpoints which have gone on, within half of the time there is, and of
    /// all deliveries that are overdue at `moment`, the longest overdue of each shard first, as many
    /// as can be done until 8 seconds before its deadline.
    ///
    /// The job is sent first and noted after that: a crash in between sends it twice, and never not at all.
    ///
    /// # Errors
    ///
    /// If the deliveries could not be read, or the queue does not take jobs.
    pub async fn requeue(&self, moment: &Moment) -> Result<Requeued, Error> {
        let left = moment.deadline.saturating_duration_since(Instant::now());
        let woken = self.wake(Instant::now() + left / 2, moment).await;
        // Whoever is first in this minute is last in the next: a shard with too much for one run delays the others by turns.
        let minutes = moment.now.seconds().div_euclid(60);
        let turn = u8::try_from(minutes.rem_euclid(OPEN_SHARDS.into())).unwrap_or_default();
        let shards = (0..OPEN_SHARDS).map(|shard| (shard + turn) % OPEN_SHARDS);
        let all = shards.map(|shard| (shard, Due::Overdue));
        // Those that only a clock that was ahead has put off for so long are looked for now and then.
        let all = all.chain([(turn, Due::FarOff), (turn, Due::TriedAhead)]);
        let work = stream::iter(all).map(|(shard, due)| self.requeue_shard(shard, due, moment));
        let done: Vec<_> = work.buffer_unordered(SHARDS_AT_ONCE).collect().await;
        done.into_iter().try_fold(woken, |all, shard| {
            let shard = shard?;
            Ok(Requeued {
                sent: all.sent + shard.sent,
                failed: all.failed + shard.failed,
                more: all.more || shard.more,
            })
        })
    }

    /// The same for one shard, and for no more than [`PAGES`].
    async fn requeue_shard(&self, shard: u8, due: Due, moment: &Moment) -> Result<Requeued, Error> {
        let mut done = Requeued::default();
        let mut start = None;
        for _ in 0..PAGES {
            if Instant::now() + AFTERWARDS > moment.deadline {
                break;
            }
            let deliveries = &self.stores().deliveries;
            let (rows, next) = match due {
                Due::Overdue => deliveries.overdue(shard, moment.now, PAGE, start).await,
                Due::FarOff => deliveries.far_off(shard, moment.now, PAGE, start).await,
                Due::TriedAhead => deliveries.tried_ahead(shard, moment.now, PAGE, start).await,
            }?;
            let jobs: Vec<_> = rows.iter().map(|row| row.delivery.job()).collect();
            self.jobs()
                .deliver(&jobs, Sending::again(moment.now))
                .await?;
            done.sent += rows.len();
            let noted = stream::iter(rows).map(|row| self.note_requeued(row, moment));
            let noted: Vec<_> = noted.buffer_unordered(AT_ONCE).collect().await;
            done.failed += noted.iter().filter(|noted| !**noted).count();
            start = next;
            if start.is_none() {
                return Ok(done);
            }
        }
        done.more = true;
        Ok(done)
    }

    async fn note_requeued(&self, row: Row, moment: &Moment) -> bool {
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let deliveries = &self.stores().deliveries;
        match deliveries.requeued(row, moment.now, &mut race).await {
            // Expired meanwhile: there is nothing to note.
            Ok(()) | Err(Error::NotFound(_)) => true,
            Err(error) => {
                tracing::warn!(cause = error.why(), "a job that was sent was not noted");
                false
            }
        }
    }
}
