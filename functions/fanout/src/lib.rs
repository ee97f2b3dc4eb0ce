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
    panic::catch_unwind,
    time::{Duration, SystemTime},
};

use aws_lambda_events::{
    dynamodb::{Event, EventRecord},
    streams::{DynamoDbBatchItemFailure, DynamoDbEventResponse},
};
use parlance::{
    app::{App, Keep, crashes::Single},
    domain::{Error, TenantId, delivery::Subject},
    http::{
        counts, moment,
        telemetry::batch::{Observed, Outcome},
    },
    queue::{Audience, Fanout, PoisonQueue, Sweep},
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
    let observed = Observed::begin();
    let mut outcome = Outcome {
        records: event.records.len(),
        newest: event.records.iter().map(written).max(),
        ..Outcome::default()
    };
    let work = async {
        let mut read = Vec::new();
        let failed = guarded(app, poison, event, &mut read, &mut outcome).await;
        count(app, failed.as_deref(), &read);
        counts::keep(app, Keep::WhenDue).await;
        failed
    };
    let failed = observed.of(work).await;
    outcome.failed = usize::from(failed.is_some());
    observed.end(&outcome);
    let mut response = DynamoDbEventResponse::default();
    response
        .batch_item_failures
        .extend(failed.map(|sequence| failure(&sequence)));
    response
}

fn written(record: &EventRecord) -> SystemTime {
    record.change.approximate_creation_date_time.into()
}

/// A record's sequence number, and whose message it holds if it holds a new one.
type Read = (String, Option<TenantId>);

/// Counts the messages of the records that will not be given again.
fn count(app: &App, failed: Option<&str>, read: &[Read]) {
    let done = read
        .iter()
        .take_while(|(sequence, _)| failed != Some(sequence.as_str()));
    let mut messages: BTreeMap<TenantId, u64> = BTreeMap::new();
    for tenant in done.filter_map(|(_, tenant)| *tenant) {
        *messages.entry(tenant).or_default() += 1;
    }
    for (tenant, messages) in messages {
        app.count_messages(tenant, messages);
    }
}

const fn new_message(job: &Fanout) -> Option<TenantId> {
    match job {
        Fanout::Tell {
            tenant,
            subject: Subject::MessageCreated { .. },
            ..
        } => Some(*tenant),
        Fanout::Tell { .. }
        | Fanout::CatchUp { .. }
        | Fanout::PresenceCame { .. }
        | Fanout::PresenceGone { .. }
        | Fanout::Acked { .. }
        | Fanout::TypingEnds { .. } => None,
    }
}

/// As [`send`], unless it is a record that has ended its process again and again.
async fn guarded(
    app: &App,
    poison: &PoisonQueue,
    event: Event,
    read: &mut Vec<Read>,
    outcome: &mut Outcome,
) -> Option<String> {
    let first = event.records.first();
    let first = first.and_then(|record| record.change.sequence_number.clone());
    let done = async {
        let single = single(app, &event)?;
        let moment = moment(PATIENCE)?;
        let work = send(app, poison, event, read, outcome);
        app.guarded(poison, single, &moment, work).await
    };
    match done.await {
        Ok(Some(failed)) => failed,
        Ok(None) => {
            outcome.put_aside += 1;
            None
        }
        Err(error) => {
            tracing::warn!(cause = error.why(), "a batch was not begun: {error}");
            first
        }
    }
}

/// The record of a batch that holds no other, if its start is to be noted.
fn single(app: &App, event: &Event) -> Result<Option<Single>, Error> {
    let [record] = event.records.as_slice() else {
        return Ok(None);
    };
    if !app.notes_starts() {
        return Ok(None);
    }
    Ok(Some(Single {
        function: "fanout",
        event: record.event_id.clone(),
        sequence: record.change.sequence_number.clone().unwrap_or_default(),
        record: serde_json::to_value(record).map_err(Error::internal)?,
    }))
}

/// The sequence number of the first record that is not done with.
async fn send(
    app: &App,
    poison: &PoisonQueue,
    event: Event,
    read: &mut Vec<Read>,
    outcome: &mut Outcome,
) -> Option<String> {
    let mut unread = None;
    let (mut jobs, mut sequences) = (Vec::new(), Vec::new());
    let mut sweeps = Vec::new();
    for record in event.records {
        let sequence = record.change.sequence_number.clone().unwrap_or_default();
        // Whatever a record makes us do, it holds up nobody else.
        let job = catch_unwind(|| job(&record))
            .unwrap_or_else(|_| Err(Error::internal("reading the record panicked")));
        let written = match &job {
            Ok(Some(Job::Tell(job))) => new_message(job),
            Ok(Some(Job::Sweep(_)) | None) | Err(_) => None,
        };
        read.push((sequence.clone(), written));
        match job {
            Ok(None) => {}
            Ok(Some(Job::Sweep(sweep))) => sweeps.push((sequence, sweep)),
            Ok(Some(Job::Tell(job))) => {
                jobs.push(job);
                sequences.push(sequence);
            }
            Err(error) => {
                if let Err(error) = put_aside(poison, &record, &error).await {
                    tracing::warn!(
                        sequence,
                        cause = error.why(),
                        "a poison record was not put aside"
                    );
                    unread = Some(sequence);
                    break;
                }
                outcome.put_aside += 1;
            }
        }
    }
    // Before the others, which may fail: what is sent twice is done twice, to no harm.
    if let Err((sequence, error)) = sweep(app, sweeps).await {
        tracing::warn!(sequence, cause = error.why(), "a sweep was not sent");
        let first = sequences.first().cloned();
        return [Some(sequence), unread, first]
            .into_iter()
            .flatten()
            .min_by_key(|sequence| read.iter().position(|(known, _)| known == sequence));
    }
    let sequences = match drop_unheard(app, &mut jobs, sequences).await {
        Ok(sequences) => sequences,
        Err((first, error)) => {
            tracing::warn!(
                sequence = first,
                cause = error.why(),
                "who listens is not known"
            );
            return first;
        }
    };
    let Err(unsent) = app.jobs().fan_out(&jobs, 0).await else {
        outcome.sent = jobs.len();
        return unread;
    };
    outcome.sent = unsent.first;
    let sequence = sequences.get(unsent.first).cloned();
    tracing::warn!(sequence, cause = unsent.error.why(), "jobs were not sent");
    sequence
}

/// Has what deletions have left removed, now and once more. The first of them for which that failed, and why.
async fn sweep(app: &App, sweeps: Vec<(String, Sweep)>) -> Result<(), (String, Error)> {
    let (sequences, jobs): (Vec<_>, Vec<_>) = sweeps.into_iter().unzip();
    for delay in [0, ONCE_MORE] {
        if let Err(unsent) = app.jobs().sweep(&jobs, delay).await {
            // Of those that were sent now, not all are sent for later.
            let first = if delay == 0 { unsent.first } else { 0 };
            let sequence = sequences.get(first).cloned().unwrap_or_default();
            return Err((sequence, unsent.error));
        }
    }
    Ok(())
}

/// Drops the jobs of tenants that nobody listens to. A notification is told to its targets in any case: one that
/// reaches nobody must be seen. The sequence numbers of the jobs that are left; or the first of all, and why it failed.
async fn drop_unheard(
    app: &App,
    jobs: &mut Vec<Fanout>,
    sequences: Vec<String>,
) -> Result<Vec<String>, (Option<String>, Error)> {
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
        .filter(|job| quiet(job))
        .map(Fanout::tenant)
        .collect();
    if tenants.is_empty() {
        return Ok(sequences);
    }
    let listened = async {
        let moment = moment(PATIENCE)?;
        app.listened(&tenants, &moment).await
    };
    let listened = match listened.await {
        Ok(listened) => listened,
        Err(error) => return Err((sequences.into_iter().next(), error)),
    };
    let heard = |job: &Fanout| !quiet(job) || listened.contains(&job.tenant());
    let left = jobs
        .iter()
        .zip(sequences)
        .filter(|(job, _)| heard(job))
        .map(|(_, sequence)| sequence)
        .collect();
    jobs.retain(heard);
    Ok(left)
}

async fn put_aside(poison: &PoisonQueue, record: &EventRecord, why: &Error) -> Result<(), Error> {
    let reason = why.why().unwrap_or_else(|| why.to_string());
    tracing::error!(
        sequence = record.change.sequence_number,
        reason,
        "a record is poison"
    );
    let record = serde_json::to_value(record).map_err(Error::internal)?;
    poison.put_aside("fanout", record, &reason).await
}

fn failure(sequence: &str) -> DynamoDbBatchItemFailure {
    let mut failure = DynamoDbBatchItemFailure::default();
    failure.item_identifier = Some(sequence.to_owned());
    failure
}

/// What a record makes to do; nothing for an item that is gone.
fn job(record: &EventRecord) -> Result<Option<Job>, Error> {
    if record.event_name == "REMOVE" {
        return Ok(None);
    }
    let text = |name: &str| match record.change.new_image.get(name) {
        Some(serde_dynamo::AttributeValue::S(text)) => Some(text.as_str()),
        Some(_) | None => None,
    };
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
