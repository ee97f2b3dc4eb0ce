//! Finds whom something reaches: members of rooms, targets of notifications, webhooks. Whoever is connected
//! is told here; what remains is queued as deliveries.

use std::{collections::HashMap, panic::AssertUnwindSafe, time::Duration};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures_util::{FutureExt, StreamExt, stream};
use parlance::{
    app::App,
    domain::{Error, Moment, RoomId, TenantId, delivery::Subject},
    http::{
        moment,
        telemetry::batch::{Observed, Outcome},
    },
    queue::{Audience, Fanout, PoisonQueue},
};
use serde_json::json;

/// How long a job is tried before it goes back to the queue.
const PATIENCE: Duration = Duration::from_secs(15);
/// A job that failed comes back after at most so many seconds, and at first after one.
const LONGEST_WAIT: u32 = 60;

/// A message of the queue.
struct Received {
    id: String,
    receipt: String,
    receives: u32,
}

/// Jobs that are done together: messages of one log and one audience are, so that a connection is brought up to
/// the last of them at once.
struct Work {
    received: Vec<Received>,
    what: What,
}

enum What {
    Tell(TenantId, Vec<Subject>, Audience),
    Other(Fanout),
}

/// Does the jobs of a batch and names those to be done again. What is no job is put aside.
pub async fn handle(app: &App, poison: &PoisonQueue, event: SqsEvent) -> SqsBatchResponse {
    let observed = Observed::begin();
    let mut outcome = Outcome {
        records: event.records.len(),
        ..Outcome::default()
    };
    let failed = observed.of(work(app, poison, event, &mut outcome)).await;
    outcome.failed = failed.len();
    observed.end(&outcome);
    let mut response = SqsBatchResponse::default();
    response
        .batch_item_failures
        .extend(failed.into_iter().map(|id| {
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = id;
            failure
        }));
    response
}

/// Does the jobs of a batch; the ids of the messages that failed.
async fn work(
    app: &App,
    poison: &PoisonQueue,
    event: SqsEvent,
    outcome: &mut Outcome,
) -> Vec<String> {
    let mut failed = Vec::new();
    let mut jobs = Vec::new();
    for message in event.records {
        let received = Received::of(&message);
        match Fanout::parse(message.body.as_deref().unwrap_or_default()) {
            Ok(job) => jobs.push((received, job)),
            Err(reason) => match put_aside(poison, message, &reason).await {
                Ok(()) => outcome.put_aside += 1,
                Err(error) => {
                    tracing::warn!(cause = error.why(), "a poison job was not put aside");
                    failed.push(received.id);
                }
            },
        }
    }
    let works = gathered(jobs);
    let most = works.len().max(1);
    let done: Vec<_> = stream::iter(works)
        .map(|work| done(app, work))
        .buffer_unordered(most)
        .collect()
        .await;
    failed.extend(done.into_iter().flatten());
    failed
}

/// Puts those together that are done together.
fn gathered(jobs: Vec<(Received, Fanout)>) -> Vec<Work> {
    let mut logs: HashMap<(TenantId, RoomId, Audience), usize> = HashMap::new();
    let mut works: Vec<Work> = Vec::new();
    for (received, job) in jobs {
        let (tenant, subject, audience) = match job {
            Fanout::Tell {
                tenant,
                subject,
                audience,
            } => (tenant, subject, audience),
            other @ (Fanout::CatchUp { .. }
            | Fanout::PresenceCame { .. }
            | Fanout::PresenceGone { .. }) => {
                works.push(Work {
                    received: vec![received],
                    what: What::Other(other),
                });
                continue;
            }
        };
        if let Subject::MessageCreated { room, .. } = subject {
            let at = *logs
                .entry((tenant, room, audience.clone()))
                .or_insert(works.len());
            if let Some(Work {
                received: known,
                what: What::Tell(_, subjects, _),
            }) = works.get_mut(at)
            {
                known.push(received);
                // A message of the queue may come twice.
                if !subjects.contains(&subject) {
                    subjects.push(subject);
                }
                continue;
            }
        }
        works.push(Work {
            received: vec![received],
            what: What::Tell(tenant, vec![subject], audience),
        });
    }
    works
}

/// Does one piece of work, whatever it makes us do; the ids of its messages if it failed.
async fn done(app: &App, work: Work) -> Vec<String> {
    let Work { received, what } = work;
    let result = match moment(PATIENCE) {
        Ok(moment) => AssertUnwindSafe(Box::pin(act(app, what, &moment)))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(Error::internal("a job panicked"))),
        Err(error) => Err(error),
    };
    let Err(error) = result else {
        return Vec::new();
    };
    tracing::warn!(cause = error.why(), %error, "a job is to be done again");
    for message in &received {
        // Without an answer it comes back by itself, later.
        if let Err(error) = app
            .jobs()
            .fan_out_again(&message.receipt, message.wait())
            .await
        {
            tracing::warn!(cause = error.why(), "a job's wait was not set");
        }
    }
    received.into_iter().map(|message| message.id).collect()
}

async fn act(app: &App, what: What, moment: &Moment) -> Result<(), Error> {
    match what {
        What::Tell(tenant, subjects, audience) => {
            app.tell(tenant, &subjects, &audience, moment).await
        }
        What::Other(Fanout::Tell {
            tenant,
            subject,
            audience,
        }) => app.tell(tenant, &[subject], &audience, moment).await,
        What::Other(Fanout::CatchUp {
            tenant,
            connection,
            rooms,
        }) => {
            app.bring_up_to_date(tenant, &connection, &rooms, moment)
                .await
        }
        What::Other(Fanout::PresenceCame { tenant, user }) => {
            app.presence_came(tenant, &user, moment).await
        }
        What::Other(Fanout::PresenceGone { tenant, user, at }) => {
            app.presence_gone(tenant, &user, at, moment).await
        }
    }
}

impl Received {
    fn of(message: &SqsMessage) -> Self {
        let receives = message.attributes.get("ApproximateReceiveCount");
        Self {
            id: message.message_id.clone().unwrap_or_default(),
            receipt: message.receipt_handle.clone().unwrap_or_default(),
            receives: receives
                .and_then(|count| count.parse().ok())
                .unwrap_or_default(),
        }
    }

    /// After how many seconds it is worth another try: 1, 2, 4, …
    fn wait(&self) -> u32 {
        let doublings = self.receives.saturating_sub(1).min(6);
        (1_u32 << doublings).min(LONGEST_WAIT)
    }
}

async fn put_aside(poison: &PoisonQueue, message: SqsMessage, reason: &str) -> Result<(), Error> {
    tracing::error!(message_id = message.message_id, reason, "a job is poison");
    let record = json!({ "messageId": message.message_id, "body": message.body });
    poison.put_aside("live", record, reason).await
}
