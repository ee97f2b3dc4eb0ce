//! `ReceiveMessage`: one look into a queue. The wait between looks is [`super::Sqs`]'s.
//!
//! **Invariants:** a message leaves for the dead-letter queue instead of being received more than
//! `maxReceiveCount` times. A FIFO group gives out nothing while one of its messages is in flight,
//! and nothing that was sent after one that is still delayed.

use super::attributes::MessageAttributes;
use super::database::Turn;
use super::fair;
use super::fault::Fault;
use super::md5;
use super::name::QueueName;
use super::queue::Queue;
use super::receipt::Receipt;
use super::send::sequence_number;
use super::settings::RedrivePolicy;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Gives back what was received from a queue and not deleted, by readers that are gone, as if they had not
/// received it: to be killed often must not make dead letters.
pub(super) fn release(turn: &mut Turn<'_>, name: &QueueName) -> Result<(), Fault> {
    turn.db
        .prepare_cached(
            "UPDATE messages SET visible = ?2, receives = receives - 1
             WHERE queue = ?1 AND visible > ?2 AND receives > 0",
        )?
        .execute(params![name, turn.now])?;
    turn.wake(name);
    Ok(())
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ReceiveMessage {
    pub(super) queue_url: QueueName,
    max_number_of_messages: Option<i64>,
    visibility_timeout: Option<i64>,
    wait_time_seconds: Option<i64>,
    message_system_attribute_names: Vec<String>,
    /// The older name of the same.
    attribute_names: Vec<String>,
    message_attribute_names: Vec<String>,
}

/// What a look found.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) found: Received,
    /// How long the request is willing to wait in all.
    pub(super) patience: Duration,
    /// When a hidden message comes back, if none is received or deleted before.
    pub(super) next_visible: Option<Duration>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Received {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) messages: Vec<Message>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Message {
    #[serde(rename = "MessageId")]
    id: String,
    receipt_handle: String,
    #[serde(rename = "MD5OfBody")]
    body_digest: String,
    body: String,
    #[serde(rename = "Attributes", skip_serializing_if = "BTreeMap::is_empty")]
    system: BTreeMap<&'static str, String>,
    #[serde(
        rename = "MD5OfMessageAttributes",
        skip_serializing_if = "Option::is_none"
    )]
    attributes_digest: Option<String>,
    #[serde(
        rename = "MessageAttributes",
        skip_serializing_if = "MessageAttributes::is_empty"
    )]
    attributes: MessageAttributes,
}

/// Takes what can be received now.
pub(super) fn look(turn: &mut Turn<'_>, request: &ReceiveMessage) -> Result<Look, Fault> {
    let queue = Queue::load(turn.db, &request.queue_url)?;
    let most = within(
        "MaxNumberOfMessages",
        request.max_number_of_messages,
        1,
        1..=10,
    )?;
    let hidden = queue.settings.visibility_timeout();
    let hidden = within(
        "VisibilityTimeout",
        request.visibility_timeout,
        hidden,
        0..=43_200,
    )?;
    let wait = queue.settings.receive_wait();
    let wait = within("WaitTimeSeconds", request.wait_time_seconds, wait, 0..=20)?;

    let mut messages = Vec::new();
    for stored in choose(turn, &queue, most)? {
        messages.push(stored.receive(turn, hidden, request)?);
    }
    let next_visible = if messages.is_empty() {
        next_visible(turn, &queue)?
    } else {
        None
    };
    Ok(Look {
        found: Received { messages },
        patience: Duration::from_secs(wait.unsigned_abs()),
        next_visible,
    })
}

fn within(
    parameter: &str,
    asked: Option<i64>,
    otherwise: i64,
    range: std::ops::RangeInclusive<i64>,
) -> Result<i64, Fault> {
    let value = asked.unwrap_or(otherwise);
    if range.contains(&value) {
        return Ok(value);
    }
    Err(Fault::invalid(format!(
        "Value {value} for parameter {parameter} is invalid. Reason: Must be >= {} and <= {}, if provided.",
        range.start(),
        range.end()
    )))
}

/// Up to `most` messages to be received, after moving those away that were received too often.
fn choose(turn: &mut Turn<'_>, queue: &Queue, most: i64) -> Result<Vec<Stored>, Fault> {
    let redrive = match queue.settings.redrive_policy() {
        // Without its dead-letter queue a policy is void, and messages stay.
        Some(policy) if Queue::find(turn.db, &policy.dead_letters)?.is_none() => None,
        policy => policy,
    };
    loop {
        let candidates = candidates(turn, queue, most)?;
        let Some(redrive) = &redrive else {
            return Ok(candidates);
        };
        let is_spent = |message: &Stored| message.receives >= redrive.max_receives;
        if !candidates.iter().any(is_spent) {
            return Ok(candidates);
        }
        // Look again: those that leave make room for others.
        for message in candidates.into_iter().filter(is_spent) {
            message.bury(turn, queue, redrive)?;
        }
        turn.wake(&redrive.dead_letters);
    }
}

fn candidates(turn: &Turn<'_>, queue: &Queue, most: i64) -> rusqlite::Result<Vec<Stored>> {
    let sql = if queue.name.is_fifo() {
        "SELECT * FROM messages AS this INDEXED BY fifo_messages_by_seq
         WHERE queue = ?1 AND dedup IS NOT NULL AND visible <= ?2 AND sent > ?3
           AND NOT EXISTS (
               SELECT 1 FROM messages AS other
               WHERE other.queue = ?1 AND other.dedup IS NOT NULL
                 AND other.group_id = this.group_id AND other.visible > ?2 AND other.sent > ?3
                 AND (other.receives > 0 OR other.seq < this.seq))
         ORDER BY seq LIMIT ?4"
    } else {
        "SELECT * FROM messages INDEXED BY messages_by_visible
         WHERE queue = ?1 AND visible <= ?2 AND sent > ?3 ORDER BY visible, seq LIMIT ?4"
    };
    let horizon = queue.horizon(turn.now);
    let first: Vec<Stored> = turn
        .db
        .prepare_cached(sql)?
        .query_map(params![queue.name, turn.now, horizon, most], Stored::read)?
        .collect::<Result<_, _>>()?;
    // Where all that waits is given out, nobody waits for anybody.
    let most = usize::try_from(most).unwrap_or_default();
    let is_grouped = first.iter().all(|message| message.group.is_some());
    if queue.name.is_fifo() || first.len() < most || !is_grouped {
        return Ok(first);
    }
    Ok(fair::choose(turn, queue, most)?.unwrap_or(first))
}

fn next_visible(turn: &Turn<'_>, queue: &Queue) -> rusqlite::Result<Option<Duration>> {
    let next: Option<i64> = turn
        .db
        .prepare_cached("SELECT min(visible) FROM messages WHERE queue = ? AND visible > ?")?
        .query_row(params![queue.name, turn.now], |row| row.get(0))?;
    Ok(next.map(|next| Duration::from_millis((next - turn.now).unsigned_abs())))
}

/// A message's row.
pub(super) struct Stored {
    seq: i64,
    receives: i64,
    sent: i64,
    first_received: Option<i64>,
    group: Option<String>,
    dedup: Option<String>,
    source: Option<QueueName>,
    id: String,
    trace: Option<String>,
    attributes: Option<String>,
    body: String,
}

impl Stored {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get("seq")?,
            receives: row.get("receives")?,
            sent: row.get("sent")?,
            first_received: row.get("first_received")?,
            group: row.get("group_id")?,
            dedup: row.get("dedup")?,
            source: row.get("source")?,
            id: row.get("id")?,
            trace: row.get("trace")?,
            attributes: row.get("attributes")?,
            body: row.get("body")?,
        })
    }

    /// Moves the message to the dead-letter queue. It keeps its age there, but in a FIFO queue.
    fn bury(self, turn: &Turn<'_>, queue: &Queue, redrive: &RedrivePolicy) -> rusqlite::Result<()> {
        let sent = if queue.name.is_fifo() {
            turn.now
        } else {
            self.sent
        };
        turn.db
            .prepare_cached(
                "UPDATE messages
                 SET queue = ?2, source = ?3, sent = ?4, visible = ?5, receipt = NULL
                 WHERE seq = ?1",
            )?
            .execute(params![
                self.seq,
                redrive.dead_letters,
                queue.name,
                sent,
                turn.now
            ])?;
        Ok(())
    }

    /// Hides the message for `hidden` seconds and hands it out under a new receipt.
    fn receive(
        self,
        turn: &Turn<'_>,
        hidden: i64,
        request: &ReceiveMessage,
    ) -> Result<Message, Fault> {
        let receipt = Receipt::new(self.seq);
        let receives = self.receives + 1;
        let first_received = self.first_received.unwrap_or(turn.now);
        turn.db
            .prepare_cached(
                "UPDATE messages SET visible = ?2, receives = ?3, first_received = ?4, receipt = ?5
                 WHERE seq = ?1",
            )?
            .execute(params![
                self.seq,
                turn.now + hidden * 1000,
                receives,
                first_received,
                receipt.secret(),
            ])?;

        let all = [
            ("SenderId", Some("000000000000".to_owned())),
            ("SentTimestamp", Some(self.sent.to_string())),
            ("ApproximateReceiveCount", Some(receives.to_string())),
            (
                "ApproximateFirstReceiveTimestamp",
                Some(first_received.to_string()),
            ),
            (
                "SequenceNumber",
                self.dedup.as_ref().map(|_| sequence_number(self.seq)),
            ),
            ("MessageGroupId", self.group),
            ("MessageDeduplicationId", self.dedup),
            (
                "DeadLetterQueueSourceArn",
                self.source.map(|source| source.arn()),
            ),
            ("AWSTraceHeader", self.trace),
        ];
        let attributes = match self.attributes {
            Some(json) => serde_json::from_str::<MessageAttributes>(&json)
                .map_err(Fault::internal)?
                .only(&request.message_attribute_names),
            None => MessageAttributes::default(),
        };
        Ok(Message {
            id: self.id,
            receipt_handle: receipt.to_string(),
            body_digest: md5::digest(&self.body),
            body: self.body,
            system: all
                .into_iter()
                .filter(|(name, _)| request.wants(name))
                .filter_map(|(name, value)| Some((name, value?)))
                .collect(),
            attributes_digest: attributes.digest()?,
            attributes,
        })
    }
}

impl ReceiveMessage {
    fn wants(&self, system_attribute: &str) -> bool {
        let mut wanted = self
            .message_system_attribute_names
            .iter()
            .chain(&self.attribute_names);
        wanted.any(|name| name == "All" || name == system_attribute)
    }
}
