//! Consumers of SQS queues.
//!
//! The messages of a batch are worked on at once. A message that failed comes back after the wait that the consumer sets,
//! or at the queue's own time.

use std::{
    future::ready,
    panic::{AssertUnwindSafe, catch_unwind},
};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures_util::{FutureExt, future::join_all};
use serde_json::json;

use crate::{
    domain::Error,
    http::telemetry::batch::{Observed, Outcome, oldest_job},
    queue::{PoisonQueue, Source},
};

/// How a consumer's lines name it and its work.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// The function, for those who look at what was put aside.
    pub function: &'static str,
    /// A piece of its work: "a delivery".
    pub work: &'static str,
    /// What a message asks for: "a delivery's job".
    pub job: &'static str,
}

/// A message of a queue.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// Names it in the response.
    pub id: String,
    /// The proof that it was received.
    pub receipt: Option<String>,
    /// What it says.
    pub body: String,
    /// How often it was received, if it says.
    pub receives: Option<u32>,
    /// When it was sent, in milliseconds since 1970, if it says.
    pub sent_millis: Option<i64>,
}

/// What is to become of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is done with.
    Done,
    /// It comes back after so many seconds.
    Again(u32),
    /// It can never be done: it is put aside with this reason.
    PutAside(String),
}

/// A function that Lambda feeds from a queue.
pub trait Consumer: Sync {
    /// How its lines name it and its work.
    const NAMES: Names;
    /// What a message asks for.
    type Job: Send;

    /// The queue, where waits are set.
    fn source(&self) -> Source;

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// The reason why it is put aside.
    fn read(message: &Message) -> Result<Self::Job, String>;

    /// Adds `next` to `job` if the two are done together, or else gives it back.
    fn join(_job: &mut Self::Job, next: Self::Job) -> Option<Self::Job> {
        Some(next)
    }

    /// Does a job, and counts what is particular to it in `outcome`.
    ///
    /// # Errors
    ///
    /// A fault that may pass: the job is done again.
    fn work(
        &self,
        job: Self::Job,
        outcome: &mut Outcome,
    ) -> impl Future<Output = Result<Fate, Error>> + Send;

    /// After how many seconds a message comes back whose work failed; `None` for the queue's own time.
    fn wait(_message: &Message) -> Option<u32> {
        None
    }

    /// Whether a message that is to come back after so many seconds is done with, since a copy of it comes then.
    fn is_replaced(&self, _message: &Message, _seconds: u32) -> impl Future<Output = bool> + Send {
        ready(false)
    }

    /// Follows each batch, and counts as part of it.
    fn finish(&self) -> impl Future<Output = ()> + Send {
        ready(())
    }
}

/// Has `consumer` do a batch, all of it at once, and names the messages that are to come again.
pub async fn consume<C: Consumer>(
    consumer: &C,
    poison: &PoisonQueue,
    event: SqsEvent,
) -> SqsBatchResponse {
    let observed = Observed::begin();
    let sent = |message: &SqsMessage| message.attributes.get("SentTimestamp").cloned();
    let sent: Vec<_> = event.records.iter().filter_map(sent).collect();
    let mut outcome = Outcome {
        records: event.records.len(),
        oldest: oldest_job(sent.iter()),
        ..Outcome::default()
    };
    let batch = Batch {
        consumer,
        poison,
        source: consumer.source(),
    };
    let work = async {
        let pieces = pieces::<C>(event.records);
        let ended = join_all(pieces.into_iter().map(|piece| batch.work(piece))).await;
        consumer.finish().await;
        ended
    };
    let mut response = SqsBatchResponse::default();
    for (again, counted) in observed.of(work).await {
        outcome.add(&counted);
        response
            .batch_item_failures
            .extend(again.into_iter().map(failure));
    }
    observed.end(&outcome);
    response
}

/// Seconds that double from `first` on with each further receive, at most `longest`.
pub fn doubled(first: u32, receives: u32, longest: u32) -> u32 {
    let doublings = receives.saturating_sub(1).min(31);
    let seconds = u64::from(first) << doublings;
    u32::try_from(seconds).map_or(longest, |seconds| seconds.min(longest))
}

/// A job with the messages that ask for it, or one message and the reason why it cannot be read.
struct Piece<J> {
    messages: Vec<Message>,
    job: Result<J, String>,
}

/// Reads messages, and puts those together that are done together.
fn pieces<C: Consumer>(messages: Vec<SqsMessage>) -> Vec<Piece<C::Job>> {
    let mut pieces = Vec::new();
    for message in messages.into_iter().map(Message::from) {
        let read = catch_unwind(|| C::read(&message))
            .unwrap_or_else(|_| Err("reading the message panicked".to_owned()));
        let job = match read {
            Ok(job) => match join::<C>(&mut pieces, job) {
                Ok(piece) => {
                    piece.messages.push(message);
                    continue;
                }
                Err(job) => Ok(job),
            },
            Err(reason) => Err(reason),
        };
        pieces.push(Piece {
            messages: vec![message],
            job,
        });
    }
    pieces
}

/// The piece that `job` is done with; or the job, if it is done by itself.
fn join<C: Consumer>(
    pieces: &mut [Piece<C::Job>],
    mut job: C::Job,
) -> Result<&mut Piece<C::Job>, C::Job> {
    for piece in pieces {
        if let Ok(known) = &mut piece.job {
            match C::join(known, job) {
                None => return Ok(piece),
                Some(other) => job = other,
            }
        }
    }
    Err(job)
}

/// A batch under way.
struct Batch<'a, C> {
    consumer: &'a C,
    poison: &'a PoisonQueue,
    source: Source,
}

impl<C: Consumer> Batch<'_, C> {
    /// Does one piece of work, whatever it makes us do. The ids of the messages that are to come again.
    async fn work(&self, piece: Piece<C::Job>) -> (Vec<String>, Outcome) {
        let Piece { messages, job } = piece;
        let mut outcome = Outcome::default();
        let mut again = Vec::new();
        let fate = match job {
            Ok(job) => self.fate(job, &mut outcome).await,
            Err(reason) => Ok(Fate::PutAside(reason)),
        };
        match fate {
            Ok(Fate::Done) => {}
            Ok(Fate::Again(seconds)) => {
                for message in messages {
                    again.extend(self.come_again(message, Some(seconds)).await);
                }
            }
            Ok(Fate::PutAside(reason)) => {
                for message in messages {
                    match self.put_aside(&message, &reason).await {
                        Ok(()) => outcome.put_aside += 1,
                        Err(error) => {
                            outcome.failed += 1;
                            again.extend(self.failed(vec![message], &error).await);
                        }
                    }
                }
            }
            Err(error) => {
                outcome.failed += messages.len();
                again.extend(self.failed(messages, &error).await);
            }
        }
        (again, outcome)
    }

    async fn fate(&self, job: C::Job, outcome: &mut Outcome) -> Result<Fate, Error> {
        AssertUnwindSafe(Box::pin(self.consumer.work(job, outcome)))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(Error::internal(format!("{} panicked", C::NAMES.work))))
    }

    /// Has messages come back because of `error`.
    async fn failed(&self, messages: Vec<Message>, error: &Error) -> Vec<String> {
        let id = messages.first().map(|message| message.id.as_str());
        let work = C::NAMES.work;
        tracing::warn!(message_id = id, cause = error.why(), %error, "{work} is to be done again");
        let mut again = Vec::new();
        for message in messages {
            let wait = C::wait(&message);
            again.extend(self.come_again(message, wait).await);
        }
        again
    }

    /// Has a message come back, or a copy of it; its id unless it is a copy that comes.
    async fn come_again(&self, message: Message, seconds: Option<u32>) -> Option<String> {
        if let Some(seconds) = seconds {
            if self.consumer.is_replaced(&message, seconds).await {
                return None;
            }
            if let Some(receipt) = &message.receipt
                && let Err(error) = self.source.hide(receipt, seconds).await
            {
                // Without an answer it comes back by itself, when the queue's own time is over.
                let work = C::NAMES.work;
                tracing::warn!(cause = error.why(), "{work}'s wait was not set");
            }
        }
        Some(message.id)
    }

    async fn put_aside(&self, message: &Message, reason: &str) -> Result<(), Error> {
        let Names { function, job, .. } = C::NAMES;
        tracing::error!(message_id = message.id, reason, "{job} is poison");
        let record = json!({ "messageId": message.id, "body": message.body });
        self.poison.put_aside(function, record, reason).await
    }
}

impl From<SqsMessage> for Message {
    fn from(message: SqsMessage) -> Self {
        let attribute = |name| message.attributes.get(name);
        Self {
            receives: attribute("ApproximateReceiveCount").and_then(|count| count.parse().ok()),
            sent_millis: attribute("SentTimestamp").and_then(|millis| millis.parse().ok()),
            id: message.message_id.unwrap_or_default(),
            receipt: message.receipt_handle,
            body: message.body.unwrap_or_default(),
        }
    }
}

fn failure(id: String) -> BatchItemFailure {
    let mut failure = BatchItemFailure::default();
    failure.item_identifier = id;
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_doubles_with_each_receive_up_to_the_longest() {
        let wait = |receives| doubled(15, receives, 900);
        assert_eq!(
            [0, 1, 2, 6, 7, 8, 999].map(wait),
            [15, 15, 30, 480, 900, 900, 900]
        );
    }
}
