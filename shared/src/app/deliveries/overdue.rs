//! Deliveries that nobody brings forward any more: parked ones whose time has come, and those whose job was lost.

use futures_util::{StreamExt, stream};
use tokio::time::{Duration, Instant};

use crate::{
    app::App,
    domain::{Error, Moment},
    store::{
        Backoff,
        deliveries::{OPEN_SHARDS, Row},
    },
};

/// How many are read and sent at once.
const PAGE: usize = 100;
/// How many rows are written at the same time.
const AT_ONCE: usize = 16;
/// How much of a moment is kept for the page that is under way.
const AFTERWARDS: Duration = Duration::from_secs(8);

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
    /// Sends the jobs of all deliveries that are overdue at `moment`, the longest overdue of each shard first, as many
    /// as can be done until 8 seconds before its deadline.
    ///
    /// The job is sent first and noted after that: a crash in between sends it twice, and never not at all.
    ///
    /// # Errors
    ///
    /// If the deliveries could not be read, or the queue does not take jobs.
    pub async fn requeue(&self, moment: &Moment) -> Result<Requeued, Error> {
        let mut done = Requeued::default();
        let deliveries = &self.stores().deliveries;
        // Whoever is first today is last tomorrow: a shard with too much for one run delays the others by turns.
        let turn = u8::try_from(moment.now.seconds().rem_euclid(OPEN_SHARDS.into()));
        for shard in 0..OPEN_SHARDS {
            let shard = (shard + turn.unwrap_or_default()) % OPEN_SHARDS;
            let mut start = None;
            loop {
                if Instant::now() + AFTERWARDS > moment.deadline {
                    done.more = true;
                    return Ok(done);
                }
                let (rows, next) = deliveries.overdue(shard, moment.now, PAGE, start).await?;
                let jobs: Vec<_> = rows.iter().map(|row| row.delivery.job()).collect();
                self.jobs().deliver(&jobs, 0).await?;
                done.sent += rows.len();
                let noted = stream::iter(rows).map(|row| self.note_requeued(row, moment));
                let noted: Vec<_> = noted.buffer_unordered(AT_ONCE).collect().await;
                done.failed += noted.iter().filter(|noted| !**noted).count();
                start = next;
                if start.is_none() {
                    break;
                }
            }
        }
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
