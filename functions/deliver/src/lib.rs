//! Attempts deliveries: webhooks, and notifications to those who are connected.

use std::{panic::AssertUnwindSafe, time::Duration};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures_util::{FutureExt, future::join_all};
use parlance::{
    app::{App, Keep, Verdict},
    domain::{
        Error, Timestamp,
        delivery::{Job, Receipt},
    },
    http::{
        counts, moment,
        telemetry::batch::{Observed, Outcome, oldest_job},
    },
    queue::{PoisonQueue, Sending, Sent, parse_job},
};
use serde_json::json;

/// How long an attempt may take, its writes included: less than its lease, and less than the function's time.
const PATIENCE: Duration = Duration::from_secs(30);
/// A job that failed through a fault of ours comes back after so many seconds, twice as many each time, and at most
/// after [`LONGEST_WAIT`]: an outage of hours must not use up the times that it may be received.
const FIRST_WAIT: u32 = 15;
const LONGEST_WAIT: u32 = 900;
/// A job that waits for longer is replaced by a copy that SQS delays: what was received and comes back is in flight, of
/// which SQS allows 120,000 of all tenants together. A copy that meets an attempt under way is not copied for that: its
/// lease is over in a minute.
const LONGEST_IN_FLIGHT: u32 = 61;
/// A job that was received so often is replaced by a copy of it instead of coming again: SQS moves what was received
/// 20 times to the dead-letter queue, and only what is dead belongs there.
const WORN_OUT: u32 = 15;

/// What a message of the queue asks for, and how it came.
struct Read {
    job: Job,
    receipt: Receipt,
}

/// What is to become of a message of the queue.
enum Fate {
    /// It is done with.
    Delete,
    /// It comes back after so many seconds.
    Again(u32),
}

/// Attempts the deliveries of a batch, all at once, and names those whose jobs are to come again. What is no job is put
/// aside.
///
/// A job comes again when its delivery is due. One whose attempts are used up comes again at once, until SQS moves it to
/// the dead-letter queue.
pub async fn handle(app: &App, poison: &PoisonQueue, event: SqsEvent) -> SqsBatchResponse {
    let observed = Observed::begin();
    let mut outcome = Outcome {
        records: event.records.len(),
        oldest: oldest_job(
            event
                .records
                .iter()
                .filter_map(|message| message.attributes.get("SentTimestamp")),
        ),
        ..Outcome::default()
    };
    let work = event
        .records
        .iter()
        .map(|message| one(app, poison, message));
    let work = async {
        let done = join_all(work).await;
        counts::keep(app, Keep::WhenDue).await;
        done
    };
    let work = observed.of(work).await;
    let mut response = SqsBatchResponse::default();
    for (message, (fate, counted)) in event.records.into_iter().zip(work) {
        counted.add_to(&mut outcome);
        match fate {
            Fate::Delete => {}
            Fate::Again(_) => {
                let mut failure = BatchItemFailure::default();
                failure.item_identifier = message.message_id.unwrap_or_default();
                response.batch_item_failures.push(failure);
            }
        }
    }
    observed.end(&outcome);
    response
}

/// What a message counts as.
#[derive(Clone, Copy)]
enum Counted {
    Nothing,
    Delivered,
    Retried,
    Held,
    Dead,
    PutAside,
    Failed,
}

impl Counted {
    const fn add_to(self, outcome: &mut Outcome) {
        match self {
            Self::Nothing => {}
            Self::Delivered => outcome.delivered += 1,
            Self::Retried => outcome.retried += 1,
            Self::Held => outcome.held += 1,
            Self::Dead => outcome.dead += 1,
            Self::PutAside => outcome.put_aside += 1,
            Self::Failed => outcome.failed += 1,
        }
    }
}

/// Does one message, whatever it makes us do, and has it come back when it should.
async fn one(app: &App, poison: &PoisonQueue, message: &SqsMessage) -> (Fate, Counted) {
    let attempted = AssertUnwindSafe(Box::pin(attempt(app, poison, message)))
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(Error::internal("a delivery panicked")));
    let (fate, counted) = attempted.unwrap_or_else(|error| {
        let id = message.message_id.as_deref();
        tracing::warn!(message_id = id, cause = error.why(), %error, "a delivery is to be done again");
        let receives = read(message).map_or_else(|_| receives(message), |read| read.receipt.receives);
        (Fate::Again(wait(receives)), Counted::Failed)
    });
    if let Fate::Again(seconds @ 1..) = fate
        && (seconds > LONGEST_IN_FLIGHT || receives(message) >= WORN_OUT)
        && is_replaced(app, message, seconds).await
    {
        return (Fate::Delete, counted);
    }
    if let (Fate::Again(seconds), Some(receipt)) = (&fate, &message.receipt_handle) {
        // Without an answer it comes back by itself, when the queue's own time is over.
        if let Err(error) = app.jobs().deliver_again(receipt, *seconds).await {
            tracing::warn!(cause = error.why(), "a delivery's wait was not set");
        }
    }
    (fate, counted)
}

/// Whether a copy of a job was sent that comes after so many seconds.
async fn is_replaced(app: &App, message: &SqsMessage, seconds: u32) -> bool {
    let Ok(Read { job, receipt }) = read(message) else {
        return false;
    };
    let now = match moment(PATIENCE) {
        Ok(moment) => moment.now,
        Err(error) => {
            tracing::warn!(cause = error.why(), "a job was not replaced");
            return false;
        }
    };
    let sending = Sending {
        now,
        delay: u16::try_from(seconds.min(LONGEST_WAIT)).unwrap_or_default(),
        tries: receipt.receives,
    };
    match app.jobs().deliver(&[job], sending).await {
        Ok(()) => true,
        Err(unsent) => {
            let cause = unsent.error.why();
            tracing::warn!(cause, "a job was not replaced");
            false
        }
    }
}

async fn attempt(
    app: &App,
    poison: &PoisonQueue,
    message: &SqsMessage,
) -> Result<(Fate, Counted), Error> {
    let Read { job, receipt } = match read(message) {
        Ok(read) => read,
        Err(reason) => {
            put_aside(poison, message, &reason).await?;
            return Ok((Fate::Delete, Counted::PutAside));
        }
    };
    let verdict = app.attempt(&job, receipt, &moment(PATIENCE)?).await?;
    Ok(match verdict {
        Verdict::Delivered => (Fate::Delete, Counted::Delivered),
        Verdict::Done => (Fate::Delete, Counted::Nothing),
        Verdict::Again { seconds } => (Fate::Again(seconds), Counted::Retried),
        Verdict::Parked => (Fate::Delete, Counted::Retried),
        Verdict::Held => (Fate::Delete, Counted::Held),
        Verdict::Dead { fresh: true } => (Fate::Again(0), Counted::Dead),
        Verdict::Dead { fresh: false } => (Fate::Again(0), Counted::Nothing),
    })
}

fn read(message: &SqsMessage) -> Result<Read, String> {
    let Sent {
        job,
        tries,
        made_at,
    } = parse_job(message.body.as_deref().unwrap_or_default())?;
    let sent = message.attributes.get("SentTimestamp");
    let sent = sent.and_then(|millis| millis.parse::<i64>().ok());
    let sent = sent.ok_or("the message does not say when it was sent")?;
    let receipt = Receipt {
        receives: receives(message).saturating_add(tries),
        made_at,
        sent_at: Timestamp::from_micros(sent.saturating_mul(1_000)),
    };
    Ok(Read { job, receipt })
}

/// How often a message was received, copies before it left out. One that does not say is none that was received for the first time.
fn receives(message: &SqsMessage) -> u32 {
    let receives = message.attributes.get("ApproximateReceiveCount");
    receives.and_then(|count| count.parse().ok()).unwrap_or(2)
}

/// After how many seconds it is worth another try: 15, 30, 60, …
fn wait(receives: u32) -> u32 {
    let doublings = receives.saturating_sub(1).min(6);
    (FIRST_WAIT << doublings).min(LONGEST_WAIT)
}

async fn put_aside(poison: &PoisonQueue, message: &SqsMessage, reason: &str) -> Result<(), Error> {
    tracing::error!(
        message_id = message.message_id,
        reason,
        "a delivery's job is poison"
    );
    let record = json!({ "messageId": message.message_id, "body": message.body });
    poison.put_aside("deliver", record, reason).await
}
