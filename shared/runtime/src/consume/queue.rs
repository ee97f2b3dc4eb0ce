//! Consumers of SQS queues.
//!
//! | queue                        | a batch is done                    | what failed comes back                          |
//! |------------------------------|------------------------------------|-------------------------------------------------|
//! | standard: [`consume`]        | all messages at once               | after the consumer's wait, or the queue's own   |
//! | FIFO: [`consume_in_order`]   | all groups at once, each in order  | after 1, 2, 4 … 60 s, with the rest of its group |
//!
//! **Invariant:** of a FIFO group nothing is done that was sent after a message which is neither done nor put aside. So
//! after the first that fails the rest of the group is named as failed too, unattempted: what is not named is deleted.

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

/// Seconds after which a group of a FIFO queue comes back at most. A fault holds up its group alone, and is often over soon.
const LONGEST_GROUP_WAIT: u32 = 60;

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
    /// Its group: in a FIFO queue, the messages whose order is kept.
    pub group: String,
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

/// Has `consumer` do a batch of a standard queue, all of it at once, and names the messages that are to come again.
pub async fn consume<C: Consumer>(
    consumer: &C,
    poison: &PoisonQueue,
    event: SqsEvent,
) -> SqsBatchResponse {
    let batch = Batch::begin(consumer, poison, &event);
    let pieces = pieces::<C>(event.records);
    batch
        .end(pieces.into_iter().map(|piece| batch.work(piece)))
        .await
}

/// Has `consumer` do a batch of a FIFO queue, each group in its order, and names the messages that are to come again: of a
/// group, the first that failed and all that follow it. [`Consumer::join`], [`Consumer::wait`] and
/// [`Consumer::is_replaced`] are for standard queues, and are not asked.
pub async fn consume_in_order<C: Consumer>(
    consumer: &C,
    poison: &PoisonQueue,
    event: SqsEvent,
) -> SqsBatchResponse {
    let batch = Batch::begin(consumer, poison, &event);
    let groups = groups(event.records);
    batch
        .end(groups.iter().map(|group| batch.in_order(group)))
        .await
}

/// Seconds that double from `first` on with each further receive, at most `longest`.
pub fn doubled(first: u32, receives: u32, longest: u32) -> u32 {
    let doublings = receives.saturating_sub(1).min(31);
    let seconds = u64::from(first) << doublings;
    u32::try_from(seconds).map_or(longest, |seconds| seconds.min(longest))
}

/// After how many seconds a group comes back: 1, 2, 4, …
fn group_wait(receives: u32) -> u32 {
    doubled(1, receives, LONGEST_GROUP_WAIT)
}

/// A job with the messages that ask for it, or one message and the reason why it cannot be read.
struct Piece<J> {
    messages: Vec<Message>,
    job: Result<J, String>,
}

fn read<C: Consumer>(message: &Message) -> Result<C::Job, String> {
    catch_unwind(|| C::read(message))
        .unwrap_or_else(|_| Err("reading the message panicked".to_owned()))
}

/// Reads messages, and puts those together that are done together.
fn pieces<C: Consumer>(messages: Vec<SqsMessage>) -> Vec<Piece<C::Job>> {
    let mut pieces = Vec::new();
    for message in messages.into_iter().map(Message::from) {
        let job = match read::<C>(&message) {
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

/// The messages of each group, in their order.
fn groups(messages: Vec<SqsMessage>) -> Vec<Vec<Message>> {
    let mut groups: Vec<Vec<Message>> = Vec::new();
    for message in messages.into_iter().map(Message::from) {
        let known = groups.iter_mut().find(|group| {
            let first = group.first();
            first.is_some_and(|first| first.group == message.group)
        });
        match known {
            Some(group) => group.push(message),
            None => groups.push(vec![message]),
        }
    }
    groups
}

/// A batch under way.
struct Batch<'a, C> {
    consumer: &'a C,
    poison: &'a PoisonQueue,
    source: Source,
    observed: Observed,
    /// What is known of it before it is done.
    outcome: Outcome,
}

impl<'a, C: Consumer> Batch<'a, C> {
    fn begin(consumer: &'a C, poison: &'a PoisonQueue, event: &SqsEvent) -> Self {
        let sent = event.records.iter();
        let sent = sent.filter_map(|message| message.attributes.get("SentTimestamp"));
        Self {
            consumer,
            poison,
            source: consumer.source(),
            observed: Observed::begin(),
            outcome: Outcome {
                records: event.records.len(),
                oldest: oldest_job(sent),
                ..Outcome::default()
            },
        }
    }

    /// Does all `work` at once, and writes the line of the batch.
    async fn end(
        &self,
        work: impl Iterator<Item = impl Future<Output = (Vec<String>, Outcome)>>,
    ) -> SqsBatchResponse {
        let work = async {
            let ended = join_all(work).await;
            self.consumer.finish().await;
            ended
        };
        let mut outcome = self.outcome;
        let mut response = SqsBatchResponse::default();
        for (again, counted) in self.observed.of(work).await {
            outcome.add(&counted);
            let again = again.into_iter().map(failure);
            response.batch_item_failures.extend(again);
        }
        self.observed.end(&outcome);
        response
    }

    /// Does the messages of a group one after the other, up to the first that fails. The ids of those that are to come
    /// again: this one, and those that were not attempted.
    async fn in_order(&self, group: &[Message]) -> (Vec<String>, Outcome) {
        let mut outcome = Outcome::default();
        let mut left = group;
        while let [message, rest @ ..] = left {
            if let Some(seconds) = self.next(message, &mut outcome).await {
                // One wait for all: SQS hands out nothing of a group while one of its messages is hidden.
                self.hide(left, seconds).await;
                break;
            }
            left = rest;
        }
        (left.iter().map(|it| it.id.clone()).collect(), outcome)
    }

    /// Does the next message of a group. The seconds after which the group comes again, unless it goes on.
    async fn next(&self, message: &Message, outcome: &mut Outcome) -> Option<u32> {
        let mut fate = self.fate(read::<C>(message), outcome).await;
        if let Ok(Fate::PutAside(reason)) = &fate {
            fate = self.put_aside(message, reason).await.map(|()| {
                outcome.put_aside += 1;
                Fate::Done
            });
        }
        match fate {
            Ok(Fate::Done | Fate::PutAside(_)) => None,
            Ok(Fate::Again(seconds)) => Some(seconds),
            Err(error) => {
                outcome.failed += 1;
                Self::tell(message, &error);
                Some(group_wait(message.receives.unwrap_or_default()))
            }
        }
    }

    /// Does one piece of work, whatever it makes us do. The ids of the messages that are to come again.
    async fn work(&self, piece: Piece<C::Job>) -> (Vec<String>, Outcome) {
        let Piece { messages, job } = piece;
        let mut outcome = Outcome::default();
        let mut again = Vec::new();
        match self.fate(job, &mut outcome).await {
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

    /// Does a job, unless it could not be read.
    async fn fate(
        &self,
        job: Result<C::Job, String>,
        outcome: &mut Outcome,
    ) -> Result<Fate, Error> {
        let job = match job {
            Ok(job) => job,
            Err(reason) => return Ok(Fate::PutAside(reason)),
        };
        AssertUnwindSafe(Box::pin(self.consumer.work(job, outcome)))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(Error::internal(format!("{} panicked", C::NAMES.work))))
    }

    /// Has messages come back because of `error`.
    async fn failed(&self, messages: Vec<Message>, error: &Error) -> Vec<String> {
        if let Some(message) = messages.first() {
            Self::tell(message, error);
        }
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
            self.hide(std::slice::from_ref(&message), seconds).await;
        }
        Some(message.id)
    }

    /// Has messages come back after so many seconds.
    async fn hide(&self, messages: &[Message], seconds: u32) {
        let receipts = messages.iter().filter_map(|it| it.receipt.as_deref());
        let receipts: Vec<_> = receipts.collect();
        if let Err(error) = self.source.hide(&receipts, seconds).await {
            // Without an answer they come back by themselves, when the queue's own time is over.
            let work = C::NAMES.work;
            tracing::warn!(cause = error.why(), "{work}'s wait was not set");
        }
    }

    fn tell(message: &Message, error: &Error) {
        let (id, work) = (&message.id, C::NAMES.work);
        tracing::warn!(message_id = id, cause = error.why(), %error, "{work} is to be done again");
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
            group: attribute("MessageGroupId").cloned().unwrap_or_default(),
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
    #[test]
    fn a_group_that_fails_comes_back_ever_later_up_to_a_minute() {
        let receives = [1, 2, 3, 6, 7, 1_000];
        assert_eq!(receives.map(group_wait), [1, 2, 4, 32, 60, 60]);
    }
}
