//! Attempts deliveries: webhooks, and notifications to those who are connected.

use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use parlance::{
    app::{App, Keep, Verdict},
    domain::{
        Error, Timestamp,
        delivery::{Job, Receipt},
    },
    http::{counts, moment, telemetry::batch::Outcome},
    queue::{PoisonQueue, Sending, Sent, Source, parse_job},
    runtime::consume::queue::{self, Consumer, Fate, Message, Names, doubled},
};

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

/// Attempts the deliveries of a batch, all at once, and names those whose jobs are to come again. What is no job is put
/// aside.
///
/// A job comes again when its delivery is due. One whose attempts are used up comes again at once, until SQS moves it to
/// the dead-letter queue.
pub async fn handle(app: &App, poison: &PoisonQueue, event: SqsEvent) -> SqsBatchResponse {
    queue::consume(&Deliveries(app), poison, event).await
}

struct Deliveries<'a>(&'a App);

impl Consumer for Deliveries<'_> {
    const NAMES: Names = Names {
        function: "deliver",
        work: "a delivery",
        job: "a delivery's job",
    };
    /// A delivery, and how its job came.
    type Job = (Job, Receipt);

    fn source(&self) -> Source {
        self.0.jobs().delivery_source()
    }

    fn read(message: &Message) -> Result<(Job, Receipt), String> {
        let Sent {
            job,
            tries,
            made_at,
        } = parse_job(&message.body)?;
        let sent = message.sent_millis;
        let sent = sent.ok_or("the message does not say when it was sent")?;
        let receipt = Receipt {
            receives: receives(message).saturating_add(tries),
            made_at,
            sent_at: Timestamp::from_micros(sent.saturating_mul(1_000)),
        };
        Ok((job, receipt))
    }

    async fn work(
        &self,
        (job, receipt): (Job, Receipt),
        outcome: &mut Outcome,
    ) -> Result<Fate, Error> {
        let verdict = self.0.attempt(&job, receipt, &moment(PATIENCE)?).await?;
        match verdict {
            Verdict::Delivered => outcome.delivered += 1,
            Verdict::Again { .. } | Verdict::Parked => outcome.retried += 1,
            Verdict::Held => outcome.held += 1,
            Verdict::Dead { fresh } => outcome.dead += usize::from(fresh),
            Verdict::Done => {}
        }
        Ok(match verdict {
            Verdict::Delivered | Verdict::Done | Verdict::Parked | Verdict::Held => Fate::Done,
            Verdict::Again { seconds } => Fate::Again(seconds),
            Verdict::Dead { .. } => Fate::Again(0),
        })
    }

    fn wait(message: &Message) -> Option<u32> {
        let receives =
            Self::read(message).map_or_else(|_| receives(message), |(_, receipt)| receipt.receives);
        Some(doubled(FIRST_WAIT, receives, LONGEST_WAIT))
    }

    async fn is_replaced(&self, message: &Message, seconds: u32) -> bool {
        let is_long = seconds > LONGEST_IN_FLIGHT || receives(message) >= WORN_OUT;
        match Self::read(message) {
            Ok((job, receipt)) if seconds > 0 && is_long => {
                is_replaced(self.0, job, receipt, seconds).await
            }
            Ok(_) | Err(_) => false,
        }
    }

    async fn finish(&self) {
        counts::keep(self.0, Keep::WhenDue).await;
    }
}

/// How often a message was received, copies before it left out. One that does not say is none that was received for the
/// first time.
fn receives(message: &Message) -> u32 {
    message.receives.unwrap_or(2)
}

/// Whether a copy of a job was sent that comes after so many seconds.
async fn is_replaced(app: &App, job: Job, receipt: Receipt, seconds: u32) -> bool {
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
