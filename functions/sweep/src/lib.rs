//! Removes the logs of chats and the versions of agents that were deleted, some at a time: the rest is the next job's.

use std::{panic::AssertUnwindSafe, time::Duration};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures_util::{FutureExt, future::join_all};
use parlance::{
    app::App,
    domain::Error,
    http::{
        moment,
        telemetry::batch::{Observed, Outcome, oldest_job},
    },
    queue::{PoisonQueue, Sweep},
};
use serde_json::json;

/// How long a job is tried before it goes back to the queue.
const PATIENCE: Duration = Duration::from_secs(15);

/// What became of a job.
enum End {
    Done,
    PutAside,
    /// It comes back when the queue's own time is over: whatever is out may be back by then.
    Again,
}

/// Does the jobs of a batch, all at once, and names those to be done again. What is no job is put aside.
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
    let work = event.records.iter();
    let work = join_all(work.map(|message| one(app, poison, message)));
    let ends = observed.of(work).await;
    let mut response = SqsBatchResponse::default();
    for (message, end) in event.records.into_iter().zip(ends) {
        match end {
            End::Done => {}
            End::PutAside => outcome.put_aside += 1,
            End::Again => {
                outcome.failed += 1;
                let mut failure = BatchItemFailure::default();
                failure.item_identifier = message.message_id.unwrap_or_default();
                response.batch_item_failures.push(failure);
            }
        }
    }
    observed.end(&outcome);
    response
}

/// Does one message, whatever it makes us do.
async fn one(app: &App, poison: &PoisonQueue, message: &SqsMessage) -> End {
    AssertUnwindSafe(Box::pin(sweep(app, poison, message)))
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(Error::internal("a sweep panicked")))
        .unwrap_or_else(|error| {
            let id = message.message_id.as_deref();
            tracing::warn!(message_id = id, cause = error.why(), %error, "a sweep is to be done again");
            End::Again
        })
}

async fn sweep(app: &App, poison: &PoisonQueue, message: &SqsMessage) -> Result<End, Error> {
    let job = match Sweep::parse(message.body.as_deref().unwrap_or_default()) {
        Ok(job) => job,
        Err(reason) => {
            put_aside(poison, message, &reason).await?;
            return Ok(End::PutAside);
        }
    };
    let more = app.sweep_up(&job, &moment(PATIENCE)?).await?;
    if more {
        app.jobs().sweep(&[job], 0).await?;
    }
    Ok(End::Done)
}

async fn put_aside(poison: &PoisonQueue, message: &SqsMessage, reason: &str) -> Result<(), Error> {
    tracing::error!(
        message_id = message.message_id,
        reason,
        "a sweep's job is poison"
    );
    let record = json!({ "messageId": message.message_id, "body": message.body });
    poison.put_aside("sweep", record, reason).await
}
