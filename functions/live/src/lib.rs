//! Finds whom something reaches: members of rooms, targets of notifications, webhooks. Whoever is connected
//! is told here; what remains is queued as deliveries.

use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use parlance::{
    app::{App, Keep, Told},
    domain::{Error, Log, LogId, Moment, TenantId, delivery::Subject},
    http::{counts, moment, telemetry::batch::Outcome},
    queue::{Audience, Fanout, PoisonQueue, Source},
    runtime::consume::queue::{self, Consumer, Fate, Message, Names, doubled},
};

/// How long a job is tried before it goes back to the queue.
const PATIENCE: Duration = Duration::from_secs(15);
/// A job that failed comes back after at most so many seconds, and at first after one. SQS puts aside what it has handed
/// out 300 times, which so takes three days: an outage is over by then.
pub const LONGEST_WAIT: u32 = 900;

/// Does the jobs of a batch and names those to be done again. What is no job is put aside.
pub async fn handle(app: &App, poison: &PoisonQueue, event: SqsEvent) -> SqsBatchResponse {
    queue::consume(&Live(app), poison, event).await
}

struct Live<'a>(&'a App);

enum What {
    /// Messages of one log for one audience are told together, so that a connection is brought up to the last of them at
    /// once.
    Messages(TenantId, Log, Vec<Subject>, Audience),
    Other(Fanout),
}

impl Consumer for Live<'_> {
    const NAMES: Names = Names {
        function: "live",
        work: "a job",
        job: "a job",
    };
    type Job = What;

    fn source(&self) -> Source {
        self.0.jobs().fanout_source()
    }

    fn read(message: &Message) -> Result<What, String> {
        Ok(match Fanout::parse(&message.body)? {
            Fanout::Tell {
                tenant,
                subject: subject @ Subject::MessageCreated { log, .. },
                audience,
            } => What::Messages(tenant, log, vec![subject], audience),
            other => What::Other(other),
        })
    }

    fn join(job: &mut What, next: What) -> Option<What> {
        match (job, next) {
            (
                What::Messages(tenant, log, subjects, audience),
                What::Messages(its_tenant, its_log, more, its_audience),
            ) if (&*tenant, &*log, &*audience) == (&its_tenant, &its_log, &its_audience) => {
                for subject in more {
                    // A message of the queue may come twice.
                    if !subjects.contains(&subject) {
                        subjects.push(subject);
                    }
                }
                None
            }
            (_, next) => Some(next),
        }
    }

    async fn work(&self, job: What, _outcome: &mut Outcome) -> Result<Fate, Error> {
        Ok(match act(self.0, job, &moment(PATIENCE)?).await? {
            Told::Done => Fate::Done,
            Told::Lost(why) => Fate::PutAside(why.to_owned()),
        })
    }

    fn wait(message: &Message) -> Option<u32> {
        Some(wait(message.receives.unwrap_or_default()))
    }

    async fn finish(&self) {
        counts::keep(self.0, Keep::WhenDue).await;
    }
}

/// After how many seconds it is worth another try: 1, 2, 4, …
fn wait(receives: u32) -> u32 {
    doubled(1, receives, LONGEST_WAIT)
}

async fn act(app: &App, what: What, moment: &Moment) -> Result<Told, Error> {
    match what {
        What::Messages(tenant, _, subjects, audience) => {
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

#[cfg(test)]
mod tests {
    use super::*;

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
