//! Finds whom something reaches: members of rooms, targets of notifications, webhooks. Whoever is connected
//! is told here; what remains is queued as deliveries.

use std::{collections::HashMap, panic::AssertUnwindSafe, time::Duration};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures_util::{FutureExt, StreamExt, stream};
use parlance::{
    app::{App, Keep, Told},
    domain::{Error, Log, LogId, Moment, TenantId, delivery::Subject},
    http::{
        counts, moment,
        telemetry::batch::{Observed, Outcome, oldest_job},
    },
    queue::{Audience, Fanout, PoisonQueue},
};
use serde_json::json;

/// How long a job is tried before it goes back to the queue.
const PATIENCE: Duration = Duration::from_secs(15);
/// A job that failed comes back after at most so many seconds, and at first after one. SQS puts aside what it has handed
/// out 300 times, which so takes three days: an outage is over by then.
pub const LONGEST_WAIT: u32 = 900;

/// A message of the queue.
struct Received {
    id: String,
    receipt: String,
    body: String,
    receives: u32,
}

/// Jobs that are done together: messages of one log and one audience are, so that a connection is brought up to
/// the last of them at once.
struct Work {
    received: Vec<Received>,
    what: What,
}

/// What became of a piece of work.
enum End {
    Done,
    /// It is to be done again.
    Again,
    /// It can never be done, and why.
    Lost(&'static str),
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
        oldest: oldest_job(
            event
                .records
                .iter()
                .filter_map(|message| message.attributes.get("SentTimestamp")),
        ),
        ..Outcome::default()
    };
    let work = async {
        let failed = work(app, poison, event, &mut outcome).await;
        counts::keep(app, Keep::WhenDue).await;
        failed
    };
    let failed = observed.of(work).await;
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
    let mut lost = Vec::new();
    let mut failed = Vec::new();
    let mut jobs = Vec::new();
    for message in event.records {
        let received = Received::of(message);
        match Fanout::parse(&received.body) {
            Ok(job) => jobs.push((received, job)),
            Err(reason) => lost.push((received, reason)),
        }
    }
    let works = gathered(jobs);
    let most = works.len().max(1);
    let done: Vec<_> = stream::iter(works)
        .map(|work| done(app, work))
        .buffer_unordered(most)
        .collect()
        .await;
    for (received, end) in done {
        match end {
            End::Done => {}
            End::Again => failed.extend(received.into_iter().map(|message| message.id)),
            End::Lost(why) => {
                let why = |message| (message, why.to_owned());
                lost.extend(received.into_iter().map(why));
            }
        }
    }
    for (message, reason) in lost {
        match put_aside(poison, &message, &reason).await {
            Ok(()) => outcome.put_aside += 1,
            Err(error) => {
                tracing::warn!(cause = error.why(), "a poison job was not put aside");
                failed.push(message.id);
            }
        }
    }
    failed
}

/// Puts those together that are done together.
fn gathered(jobs: Vec<(Received, Fanout)>) -> Vec<Work> {
    let mut logs: HashMap<(TenantId, Log, Audience), usize> = HashMap::new();
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
            | Fanout::PresenceGone { .. }
            | Fanout::Acked { .. }
            | Fanout::TypingEnds { .. }) => {
                works.push(Work {
                    received: vec![received],
                    what: What::Other(other),
                });
                continue;
            }
        };
        if let Subject::MessageCreated { log, .. } = subject {
            let at = *logs
                .entry((tenant, log, audience.clone()))
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

/// Does one piece of work, whatever it makes us do.
async fn done(app: &App, work: Work) -> (Vec<Received>, End) {
    let Work { received, what } = work;
    let result = match moment(PATIENCE) {
        Ok(moment) => AssertUnwindSafe(Box::pin(act(app, what, &moment)))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(Error::internal("a job panicked"))),
        Err(error) => Err(error),
    };
    let error = match result {
        Ok(Told::Done) => return (received, End::Done),
        Ok(Told::Lost(why)) => return (received, End::Lost(why)),
        Err(error) => error,
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
    (received, End::Again)
}

async fn act(app: &App, what: What, moment: &Moment) -> Result<Told, Error> {
    match what {
        What::Tell(tenant, subjects, audience) => {
            return app.tell(tenant, &subjects, &audience, moment).await;
        }
        What::Other(Fanout::Tell {
            tenant,
            subject,
            audience,
        }) => return app.tell(tenant, &[subject], &audience, moment).await,
        What::Other(Fanout::CatchUp {
            tenant,
            connection,
            logs,
            tries,
        }) => {
            app.bring_up_to_date(tenant, &connection, &logs, tries, moment)
                .await?;
        }
        What::Other(Fanout::PresenceCame { tenant, user }) => {
            app.presence_came(tenant, &user, moment).await?;
        }
        What::Other(Fanout::PresenceGone { tenant, user, at }) => {
            app.presence_gone(tenant, &user, at, moment).await?;
        }
        What::Other(Fanout::Acked {
            tenant,
            log,
            user,
            seq,
            said_by,
        }) => {
            let log = LogId { tenant, log };
            app.tell_acked(log, &user, seq, said_by.as_ref(), moment)
                .await;
        }
        What::Other(Fanout::TypingEnds { tenant, typing }) => {
            app.end_typing(tenant, &typing, moment).await?;
        }
    }
    Ok(Told::Done)
}

impl Received {
    fn of(message: SqsMessage) -> Self {
        let receives = message.attributes.get("ApproximateReceiveCount");
        Self {
            receives: receives
                .and_then(|count| count.parse().ok())
                .unwrap_or_default(),
            id: message.message_id.unwrap_or_default(),
            receipt: message.receipt_handle.unwrap_or_default(),
            body: message.body.unwrap_or_default(),
        }
    }

    /// After how many seconds it is worth another try: 1, 2, 4, …
    fn wait(&self) -> u32 {
        let doublings = self.receives.saturating_sub(1).min(10);
        (1_u32 << doublings).min(LONGEST_WAIT)
    }
}

async fn put_aside(poison: &PoisonQueue, message: &Received, reason: &str) -> Result<(), Error> {
    tracing::error!(message_id = message.id, reason, "a job is poison");
    let record = json!({ "messageId": message.id, "body": message.body });
    poison.put_aside("live", record, reason).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(receives: u32) -> u32 {
        let message = Received {
            id: String::new(),
            receipt: String::new(),
            body: String::new(),
            receives,
        };
        message.wait()
    }

    #[test]
    fn a_job_that_fails_comes_back_ever_later_up_to_a_quarter_of_an_hour() {
        assert_eq!([1, 2, 3, 10, 11, 999].map(wait), [1, 2, 4, 512, 900, 900]);
    }

    /// The template's `maxReceiveCount`.
    #[test]
    fn a_job_that_always_fails_is_put_aside_by_sqs_no_sooner_than_in_three_days() {
        let seconds: u32 = (1..300).map(wait).sum();
        assert!(seconds > 3 * 24 * 3_600, "{seconds}");
    }
}
