//! Makes a job of everything that happened: of each message that was written, changed or taken back, of each
//! notification and event. That a chat or an agent was deleted is told to nobody: the job is to remove its log or
//! its versions.
//!
//! The streams are the outbox: a record is done with once its job is in the queue, or in the queue of what
//! cannot be read. It may be sent twice, which does no harm; whom it reaches is the job's question, so that a
//! large room does not hold up the stream. What happens in a tenant that nobody listens to makes no job. Messages are
//! counted here, since every one comes by.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_lambda_events::{
    dynamodb::{Event, EventRecord},
    streams::DynamoDbEventResponse,
};
use parlance::{
    app::{App, Keep},
    domain::{Error, TenantId, delivery::Subject},
    http::{counts, moment, telemetry::batch::Outcome},
    queue::{Audience, Fanout, PoisonQueue, Sweep},
    runtime::consume::stream::{self, Consumer},
    store::{events, messages},
};

/// How long it is asked who listens.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a deletion has left is removed at once, and after so many seconds again: no request lives as long that was under
/// way. Of an agent nothing can be written after it was deleted; but a version that was written just before may not be
/// seen yet by the first sweep, since a transaction is not seen at once as a whole by who reads without one.
const ONCE_MORE: u16 = 60;

/// What a record makes to do.
enum Job {
    Tell(Fanout),
    Sweep(Sweep),
}

/// Sends the jobs of a batch, in its order, and names the first record whose job was not sent: the stream is
/// read again from there, for as long as it takes.
pub async fn handle(app: &App, poison: &PoisonQueue, event: Event) -> DynamoDbEventResponse {
    stream::consume(&Outbox(app), poison, event).await
}

struct Outbox<'a>(&'a App);

impl Consumer for Outbox<'_> {
    const FUNCTION: &'static str = "fanout";
    type Item = Job;

    fn app(&self) -> &App {
        self.0
    }

    /// Returns the job that a record calls for; `None` for an item that is gone.
    fn read(record: &EventRecord) -> Result<Option<Job>, Error> {
        if record.event_name == "REMOVE" {
            return Ok(None);
        }
        let text = |name: &str| stream::text(record, name);
        // Of the two tables, only the log has a sort key.
        let told = if text("sk").is_some() {
            messages::told_of(text)?
        } else if let Some((tenant, gone)) = events::gone(text)? {
            return Ok(Some(Job::Sweep(Sweep { tenant, gone })));
        } else {
            Some(events::told_of(text)?)
        };
        Ok(told.map(|(tenant, subject)| {
            Job::Tell(Fanout::Tell {
                tenant,
                subject,
                audience: Audience::All,
            })
        }))
    }

    async fn work(&self, items: Vec<(String, Job)>, outcome: &mut Outcome) -> Vec<String> {
        let (sequences, jobs): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        let written: Vec<_> = jobs.iter().map(new_message).collect();
        let failed = send(self.0, &sequences, jobs, outcome).await;
        // The others will be given again.
        let done = failed.unwrap_or(written.len());
        count(self.0, written.into_iter().take(done).flatten());
        failed
            .and_then(|place| sequences.into_iter().nth(place))
            .into_iter()
            .collect()
    }

    async fn finish(&self) {
        counts::keep(self.0, Keep::WhenDue).await;
    }
}

/// Counts messages by whose they are.
fn count(app: &App, written: impl Iterator<Item = TenantId>) {
    let mut messages: BTreeMap<TenantId, u64> = BTreeMap::new();
    for tenant in written {
        *messages.entry(tenant).or_default() += 1;
    }
    for (tenant, messages) in messages {
        app.count_messages(tenant, messages);
    }
}

/// The tenant whose new message a job tells of.
const fn new_message(job: &Job) -> Option<TenantId> {
    match job {
        Job::Tell(Fanout::Tell {
            tenant,
            subject: Subject::MessageCreated { .. },
            ..
        }) => Some(*tenant),
        Job::Tell(
            Fanout::Tell { .. }
            | Fanout::CatchUp { .. }
            | Fanout::PresenceCame { .. }
            | Fanout::PresenceGone { .. }
            | Fanout::Acked { .. }
            | Fanout::TypingEnds { .. },
        )
        | Job::Sweep(_) => None,
    }
}

/// Sends jobs; the place of the first that is not done with.
async fn send(
    app: &App,
    sequences: &[String],
    jobs: Vec<Job>,
    outcome: &mut Outcome,
) -> Option<usize> {
    let (mut told, mut sweeps) = (Vec::new(), Vec::new());
    for (place, job) in jobs.into_iter().enumerate() {
        match job {
            Job::Tell(job) => told.push((place, job)),
            Job::Sweep(job) => sweeps.push((place, job)),
        }
    }
    // Before the others, which may fail: what is sent twice is done twice, to no harm.
    if let Err((place, error)) = sweep(app, sweeps).await {
        let sequence = sequences.get(place);
        tracing::warn!(sequence, cause = error.why(), "a sweep was not sent");
        return told
            .first()
            .map(|(first, _)| place.min(*first))
            .or(Some(place));
    }
    let first = told.first().map(|(place, _)| *place);
    if let Err(error) = drop_unheard(app, &mut told).await {
        let sequence = first.and_then(|place| sequences.get(place));
        let cause = error.why();
        tracing::warn!(sequence, cause, "who listens is not known");
        return first;
    }
    let (places, jobs): (Vec<_>, Vec<_>) = told.into_iter().unzip();
    let Err(unsent) = app.jobs().fan_out(&jobs, 0).await else {
        outcome.sent = jobs.len();
        return None;
    };
    outcome.sent = unsent.first;
    let place = places.get(unsent.first).copied();
    let sequence = place.and_then(|place| sequences.get(place));
    tracing::warn!(sequence, cause = unsent.error.why(), "jobs were not sent");
    place
}

/// Has what deletions have left removed, now and once more. The place of the first for which that failed, and why.
async fn sweep(app: &App, sweeps: Vec<(usize, Sweep)>) -> Result<(), (usize, Error)> {
    let (places, jobs): (Vec<_>, Vec<_>) = sweeps.into_iter().unzip();
    for delay in [0, ONCE_MORE] {
        if let Err(unsent) = app.jobs().sweep(&jobs, delay).await {
            // Of those that were sent now, not all are sent for later.
            let first = if delay == 0 { unsent.first } else { 0 };
            let place = places.get(first).copied().unwrap_or_default();
            return Err((place, unsent.error));
        }
    }
    Ok(())
}

/// Drops the jobs of tenants that nobody listens to. A notification is told to its targets in any case: one that
/// reaches nobody must be seen.
async fn drop_unheard(app: &App, jobs: &mut Vec<(usize, Fanout)>) -> Result<(), Error> {
    let quiet = |job: &Fanout| {
        !matches!(
            job,
            Fanout::Tell {
                subject: Subject::Notification(_),
                ..
            }
        )
    };
    let tenants: BTreeSet<_> = jobs
        .iter()
        .filter(|(_, job)| quiet(job))
        .map(|(_, job)| job.tenant())
        .collect();
    if tenants.is_empty() {
        return Ok(());
    }
    let listened = app.listened(&tenants, &moment(PATIENCE)?).await?;
    jobs.retain(|(_, job)| !quiet(job) || listened.contains(&job.tenant()));
    Ok(())
}
