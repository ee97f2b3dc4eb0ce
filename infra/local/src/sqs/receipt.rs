//! Receipts, and what their holders may do: delete a message, or change how long it stays hidden.
//!
//! A handle is `seq.secret`; every receive writes a new secret to the message.
//!
//! **Invariant:** only the latest receipt of a message counts, so a consumer that was too slow
//! cannot delete the message under the one that has it now.

use super::Empty;
use super::batch::{self, Outcome};
use super::database::Turn;
use super::fault::{Fault, Kind};
use super::name::QueueName;
use super::queue::Queue;
use rusqlite::{OptionalExtension, params};
use serde::Deserialize;
use std::fmt;
use uuid::Uuid;

/// Proof of a receive.
#[derive(Debug)]
pub(super) struct Receipt {
    seq: i64,
    secret: String,
}

impl Receipt {
    pub(super) fn new(seq: i64) -> Self {
        Self {
            seq,
            secret: Uuid::new_v4().simple().to_string(),
        }
    }

    fn parse(handle: &str) -> Result<Self, Fault> {
        if handle.is_empty() {
            return Err(Fault::missing("ReceiptHandle"));
        }
        let parts = handle.split_once('.');
        let receipt = parts.and_then(|(seq, secret)| {
            Some(Self {
                seq: seq.parse().ok()?,
                secret: secret.to_owned(),
            })
        });
        receipt.ok_or_else(|| {
            let message =
                format!("The input receipt handle \"{handle}\" is not a valid receipt handle.");
            Fault::new(Kind::ReceiptHandleIsInvalid, message)
        })
    }

    pub(super) fn secret(&self) -> &str {
        &self.secret
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.seq, self.secret)
    }
}

/// An entry of a batch, or with an empty `id` a request of its own.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Held {
    id: String,
    receipt_handle: String,
    visibility_timeout: Option<i64>,
}

impl batch::Entry for Held {
    fn id(&self) -> &str {
        &self.id
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct One {
    queue_url: QueueName,
    #[serde(flatten)]
    held: Held,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Many {
    queue_url: QueueName,
    entries: Vec<Held>,
}

pub(super) fn delete_one(turn: &mut Turn<'_>, request: &One) -> Result<Empty, Fault> {
    let queue = Queue::load(turn.db, &request.queue_url)?;
    let deleted = delete(turn, &queue, &request.held)?;
    wake_groups(turn, &queue);
    Ok(deleted)
}

pub(super) fn delete_many(turn: &mut Turn<'_>, request: &Many) -> Result<Outcome<Empty>, Fault> {
    let queue = Queue::load(turn.db, &request.queue_url)?;
    let outcome = batch::each(&request.entries, |held| delete(turn, &queue, held))?;
    wake_groups(turn, &queue);
    Ok(outcome)
}

pub(super) fn change_one(turn: &mut Turn<'_>, request: &One) -> Result<Empty, Fault> {
    let queue = Queue::load(turn.db, &request.queue_url)?;
    let changed = change_visibility(turn, &queue, &request.held)?;
    turn.wake(&queue.name);
    Ok(changed)
}

pub(super) fn change_many(turn: &mut Turn<'_>, request: &Many) -> Result<Outcome<Empty>, Fault> {
    let queue = Queue::load(turn.db, &request.queue_url)?;
    let outcome = batch::each(&request.entries, |held| {
        change_visibility(turn, &queue, held)
    })?;
    turn.wake(&queue.name);
    Ok(outcome)
}

/// A deletion makes others available only where it frees a group.
fn wake_groups(turn: &mut Turn<'_>, queue: &Queue) {
    if queue.name.is_fifo() {
        turn.wake(&queue.name);
    }
}

/// Succeeds too if the message is gone, or someone else has it by now.
fn delete(turn: &Turn<'_>, queue: &Queue, held: &Held) -> Result<Empty, Fault> {
    let receipt = Receipt::parse(&held.receipt_handle)?;
    turn.db
        .prepare_cached("DELETE FROM messages WHERE seq = ? AND queue = ? AND receipt = ?")?
        .execute(params![receipt.seq, queue.name, receipt.secret])?;
    Ok(Empty {})
}

fn change_visibility(turn: &Turn<'_>, queue: &Queue, held: &Held) -> Result<Empty, Fault> {
    let receipt = Receipt::parse(&held.receipt_handle)?;
    let Some(timeout) = held.visibility_timeout else {
        return Err(Fault::missing("VisibilityTimeout"));
    };
    if !(0..=43_200).contains(&timeout) {
        return Err(Fault::invalid(format!(
            "Value {timeout} for parameter VisibilityTimeout is invalid. Reason: VisibilityTimeout must be an integer between 0 and 43200."
        )));
    }
    let visible: Option<i64> = turn
        .db
        .prepare_cached("SELECT visible FROM messages WHERE seq = ? AND queue = ? AND receipt = ?")?
        .query_row(params![receipt.seq, queue.name, receipt.secret], |row| {
            row.get(0)
        })
        .optional()?;
    match visible {
        None => Err(Fault::invalid(format!(
            "Value {receipt} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for visibility timeout change."
        ))),
        Some(visible) if visible <= turn.now => Err(Fault::new(
            Kind::MessageNotInflight,
            "The specified message isn't in flight.",
        )),
        Some(_) => {
            turn.db
                .prepare_cached("UPDATE messages SET visible = ?2 WHERE seq = ?1")?
                .execute(params![receipt.seq, turn.now + timeout * 1000])?;
            Ok(Empty {})
        }
    }
}
