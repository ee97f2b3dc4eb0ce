//! `SendMessage` and its batch.
//!
//! **Invariant:** within five minutes a FIFO queue, or each of its groups if that is its scope, takes one message per
//! deduplication id; a repeat is answered like the first and adds nothing.

use super::attributes::MessageAttributes;
use super::batch::{self, Outcome};
use super::characters;
use super::database::Turn;
use super::fault::{Fault, Kind};
use super::md5;
use super::name::QueueName;
use super::queue::Queue;
use super::settings::MAX_BYTES;
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Milliseconds for which a FIFO queue remembers a deduplication id.
pub(super) const DEDUPLICATION_INTERVAL: i64 = 5 * 60 * 1000;

const NOT_FOR_THIS_QUEUE: &str =
    "The request include parameter that is not valid for this queue type";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct SendMessage {
    queue_url: QueueName,
    #[serde(flatten)]
    draft: Draft,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct SendMessageBatch {
    queue_url: QueueName,
    entries: Vec<Draft>,
}

/// A message to be sent; `id` is set in a batch only.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Draft {
    id: String,
    message_body: String,
    delay_seconds: Option<i64>,
    message_attributes: MessageAttributes,
    message_system_attributes: MessageAttributes,
    message_group_id: Option<String>,
    message_deduplication_id: Option<String>,
}

impl batch::Entry for Draft {
    fn id(&self) -> &str {
        &self.id
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Sent {
    message_id: String,
    #[serde(rename = "MD5OfMessageBody")]
    body_digest: String,
    #[serde(
        rename = "MD5OfMessageAttributes",
        skip_serializing_if = "Option::is_none"
    )]
    attributes_digest: Option<String>,
    #[serde(
        rename = "MD5OfMessageSystemAttributes",
        skip_serializing_if = "Option::is_none"
    )]
    system_attributes_digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence_number: Option<String>,
}

pub(super) fn one(turn: &mut Turn<'_>, request: &SendMessage) -> Result<Sent, Fault> {
    let queue = Queue::load(turn.db, &request.queue_url)?;
    let sent = append(turn, &queue, &request.draft)?;
    turn.wake(&queue.name);
    Ok(sent)
}

pub(super) fn many(
    turn: &mut Turn<'_>,
    request: &SendMessageBatch,
) -> Result<Outcome<Sent>, Fault> {
    let queue = Queue::load(turn.db, &request.queue_url)?;
    let total: usize = request.entries.iter().map(Draft::weight).sum();
    if exceeds(total, MAX_BYTES) {
        return Err(Fault::new(
            Kind::BatchRequestTooLong,
            format!(
                "Batch requests cannot be longer than {MAX_BYTES} bytes. You have sent {total} bytes."
            ),
        ));
    }
    let outcome = batch::each(&request.entries, |draft| append(turn, &queue, draft))?;
    turn.wake(&queue.name);
    Ok(outcome)
}

fn append(turn: &Turn<'_>, queue: &Queue, draft: &Draft) -> Result<Sent, Fault> {
    draft.check(queue)?;
    let dedup = draft.deduplication_id(queue)?;
    let delay = draft.delay(queue)?;
    let mut sent = Sent {
        message_id: Uuid::new_v4().to_string(),
        body_digest: md5::digest(&draft.message_body),
        attributes_digest: draft.message_attributes.digest()?,
        system_attributes_digest: draft.message_system_attributes.digest()?,
        sequence_number: None,
    };
    let known = dedup.as_ref().map(|dedup| draft.known_as(queue, dedup));
    if let Some(known) = &known
        && let Some((id, seq)) = first_of(turn, queue, known)?
    {
        sent.message_id = id;
        sent.sequence_number = Some(sequence_number(seq));
        return Ok(sent);
    }

    let trace = draft.message_system_attributes.text("AWSTraceHeader");
    let attributes = (!draft.message_attributes.is_empty())
        .then(|| serde_json::to_string(&draft.message_attributes))
        .transpose()
        .map_err(Fault::internal)?;
    turn.db
        .prepare_cached(
            "INSERT INTO messages
                 (queue, visible, sent, group_id, dedup, id, trace, attributes, body)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            queue.name,
            turn.now + delay * 1000,
            turn.now,
            draft.message_group_id,
            dedup,
            sent.message_id,
            trace,
            attributes,
            draft.message_body,
        ])?;
    if let Some(known) = known {
        let seq = turn.db.last_insert_rowid();
        turn.db
            .prepare_cached(
                "INSERT OR REPLACE INTO duplicates (queue, dedup, id, seq, sent)
                 VALUES (?, ?, ?, ?, ?)",
            )?
            .execute(params![queue.name, known, sent.message_id, seq, turn.now])?;
        sent.sequence_number = Some(sequence_number(seq));
    }
    Ok(sent)
}

/// The id and seq of the message that came first as `known`.
fn first_of(
    turn: &Turn<'_>,
    queue: &Queue,
    known: &str,
) -> rusqlite::Result<Option<(String, i64)>> {
    turn.db
        .prepare_cached(
            "SELECT id, seq FROM duplicates WHERE queue = ? AND dedup = ? AND sent > ?",
        )?
        .query_row(
            params![queue.name, known, turn.now - DEDUPLICATION_INTERVAL],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()
}

/// A seq as FIFO queues show it: sorts as text.
pub(super) fn sequence_number(seq: i64) -> String {
    format!("{seq:020}")
}

impl Draft {
    /// Bytes, as AWS counts them.
    fn weight(&self) -> usize {
        self.message_body.len() + self.message_attributes.weight()
    }

    fn check(&self, queue: &Queue) -> Result<(), Fault> {
        if self.message_body.is_empty() {
            return Err(Fault::missing("MessageBody"));
        }
        let most = queue.settings.max_message_size();
        if exceeds(self.weight(), most) {
            return Err(Fault::invalid(format!(
                "One or more parameters are invalid. Reason: Message must be shorter than {most} bytes."
            )));
        }
        characters::check(&self.message_body, "message body")?;
        let ids = [
            ("MessageGroupId", &self.message_group_id),
            ("MessageDeduplicationId", &self.message_deduplication_id),
        ];
        for (parameter, id) in ids {
            if id.as_ref().is_some_and(|id| !is_token(id)) {
                return Err(Fault::invalid(format!(
                    "Value for parameter {parameter} is invalid. Reason: {parameter} can only include alphanumeric and punctuation characters. 1 to 128 in length."
                )));
            }
        }
        if queue.name.is_fifo() && self.message_group_id.is_none() {
            return Err(Fault::missing("MessageGroupId"));
        }
        Ok(())
    }

    /// `None` in a standard queue, and only there.
    fn deduplication_id(&self, queue: &Queue) -> Result<Option<String>, Fault> {
        match &self.message_deduplication_id {
            Some(id) if queue.name.is_fifo() => Ok(Some(id.clone())),
            Some(id) => Err(Fault::invalid(format!(
                "Value {id} for parameter MessageDeduplicationId is invalid. Reason: {NOT_FOR_THIS_QUEUE}."
            ))),
            None if !queue.name.is_fifo() => Ok(None),
            None if queue.settings.deduplicates_by_content() => {
                Ok(Some(hex::encode(Sha256::digest(&self.message_body))))
            }
            None => Err(Fault::invalid(
                "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly",
            )),
        }
    }

    /// How a repeat is recognised. Neither id has a space.
    fn known_as(&self, queue: &Queue, dedup: &str) -> String {
        match &self.message_group_id {
            Some(group) if queue.settings.deduplicates_in_groups() => format!("{group} {dedup}"),
            Some(_) | None => dedup.to_owned(),
        }
    }

    /// Seconds.
    fn delay(&self, queue: &Queue) -> Result<i64, Fault> {
        match self.delay_seconds {
            None => Ok(queue.settings.delay()),
            Some(delay) if !(0..=900).contains(&delay) => Err(Fault::invalid(format!(
                "Value {delay} for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900."
            ))),
            Some(delay) if delay > 0 && queue.name.is_fifo() => Err(Fault::invalid(format!(
                "Value {delay} for parameter DelaySeconds is invalid. Reason: {NOT_FOR_THIS_QUEUE}."
            ))),
            Some(delay) => Ok(delay),
        }
    }
}

fn exceeds(bytes: usize, most: i64) -> bool {
    i64::try_from(bytes).map_or(true, |bytes| bytes > most)
}

fn is_token(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}
