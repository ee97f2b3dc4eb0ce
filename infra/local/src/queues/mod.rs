//! The queue poller: what Lambda's event source mapping is in AWS.
//!
//! It receives batches, hands each to a function, and deletes what the function did not name as failed. What
//! is not deleted comes back by itself: a function that dies loses nothing.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::cause::Cause;
use crate::clock::{POLLER_PAUSES, is_stopped_within};
use crate::template::QueueMapping;

/// How many batches a function may have in hand at once. Lambda would start so many instances and more; here it
/// bounds open sockets.
const BATCHES: usize = 40;
/// The most that SQS gives out, and deletes, at once.
const RECEIVED_AT_ONCE: usize = 10;
/// How long a receive waits for a message, in seconds: the longest that SQS allows.
const LONG_POLL: i32 = 20;

/// What a poller needs besides its function.
#[derive(Debug, Clone)]
pub struct Queue {
    /// The client of the queues.
    pub client: Client,
    /// Where the queue is.
    pub url: String,
    /// Turns true when the runner stops.
    pub stop: watch::Receiver<bool>,
}

/// Feeds `handler` until the runner stops; what is in hand then is finished.
pub async fn poll<H, F>(queue: Queue, mapping: QueueMapping, handler: H)
where
    H: Fn(SqsEvent) -> F + Send + Sync + 'static,
    F: Future<Output = SqsBatchResponse> + Send + 'static,
{
    let (handler, mapping) = (Arc::new(handler), Arc::new(mapping));
    let room = Arc::new(Semaphore::new(BATCHES));
    let mut tasks = JoinSet::new();
    let mut stop = queue.stop.clone();
    let mut pauses = POLLER_PAUSES;
    while !*stop.borrow() {
        while tasks.try_join_next().is_some() {}
        // It is never closed.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            break;
        };
        let received = tokio::select! {
            received = receive(&queue, &mapping) => received,
            _ = stop.wait_for(|stopped| *stopped) => break,
        };
        if received.is_ok() {
            pauses.reset();
        }
        match received {
            Ok(messages) if messages.is_empty() => {}
            Ok(messages) => {
                let (queue, mapping) = (queue.clone(), Arc::clone(&mapping));
                let handler = Arc::clone(&handler);
                tasks.spawn(async move {
                    hand_over(&queue, &mapping, handler.as_ref(), messages).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(queue = mapping.queue, error, "cannot receive from a queue");
                is_stopped_within(pauses.after_failure(), &mut stop).await;
            }
        }
    }
    while tasks.join_next().await.is_some() {}
}

async fn receive(queue: &Queue, mapping: &QueueMapping) -> Result<Vec<Message>, String> {
    let most = mapping.batch_size.clamp(1, RECEIVED_AT_ONCE);
    let received = queue
        .client
        .receive_message()
        .queue_url(&queue.url)
        .wait_time_seconds(LONG_POLL)
        .max_number_of_messages(i32::try_from(most).unwrap_or(1))
        .message_system_attribute_names(MessageSystemAttributeName::All)
        .send()
        .await;
    received
        .map(|received| received.messages.unwrap_or_default())
        .map_err(|error| Cause(&error).to_string())
}

/// Has the function take `messages`, and deletes those it took.
async fn hand_over<H, F>(queue: &Queue, mapping: &QueueMapping, handler: &H, messages: Vec<Message>)
where
    H: Fn(SqsEvent) -> F + Send + Sync + 'static,
    F: Future<Output = SqsBatchResponse> + Send + 'static,
{
    let mut event = SqsEvent::default();
    event.records = messages
        .iter()
        .map(|message| shown(message, mapping))
        .collect();
    // In a task of its own, so that a panic is its failure and not ours.
    let response = match tokio::spawn(handler(event)).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(function = mapping.function, %error, "a function died on a batch");
            return;
        }
    };
    let failed: HashSet<_> = response
        .batch_item_failures
        .iter()
        .map(|failure| failure.item_identifier.as_str())
        .collect();
    let known = |id: &&str| messages.iter().any(|it| it.message_id() == Some(*id));
    if !failed.iter().all(known) {
        // As Lambda does with a response it does not understand: all of them come back.
        tracing::error!(
            function = mapping.function,
            "a function named a message it was not given"
        );
        return;
    }
    let taken: Vec<_> = messages
        .iter()
        .filter(|it| !failed.contains(it.message_id().unwrap_or_default()))
        .collect();
    delete(queue, mapping, &taken).await;
}

async fn delete(queue: &Queue, mapping: &QueueMapping, taken: &[&Message]) {
    let entries: Result<Vec<_>, _> = taken
        .iter()
        .enumerate()
        .map(|(index, message)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(message.receipt_handle().unwrap_or_default())
                .build()
        })
        .collect();
    let entries = match entries {
        Ok(entries) if entries.is_empty() => return,
        Ok(entries) => entries,
        Err(error) => {
            tracing::error!(queue = mapping.queue, %error, "messages were not deleted");
            return;
        }
    };
    let deleted = queue
        .client
        .delete_message_batch()
        .queue_url(&queue.url)
        .set_entries(Some(entries))
        .send()
        .await;
    match deleted {
        Ok(deleted) if deleted.failed.is_empty() => {}
        // They come back and are done again, which does no harm.
        Ok(deleted) => {
            let count = deleted.failed.len();
            tracing::warn!(queue = mapping.queue, count, "messages were not deleted");
        }
        Err(error) => {
            let error = Cause(&error).to_string();
            tracing::warn!(queue = mapping.queue, error, "messages were not deleted");
        }
    }
}

/// A message as Lambda shows it.
fn shown(message: &Message, mapping: &QueueMapping) -> SqsMessage {
    let mut shown = SqsMessage::default();
    shown.message_id.clone_from(&message.message_id);
    shown.receipt_handle.clone_from(&message.receipt_handle);
    shown.body.clone_from(&message.body);
    shown.md5_of_body.clone_from(&message.md5_of_body);
    let attributes = message.attributes.iter().flatten();
    shown.attributes = attributes
        .map(|(name, value)| (name.as_str().to_owned(), value.clone()))
        .collect::<HashMap<_, _>>();
    shown.event_source = Some("aws:sqs".to_owned());
    shown.event_source_arn = Some(mapping.queue.clone());
    shown
}
