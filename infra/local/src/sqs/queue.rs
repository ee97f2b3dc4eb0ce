//! One queue: its row, and the operations that create, read, change and delete it.

use super::Empty;
use super::database::Turn;
use super::fault::{Fault, Kind};
use super::name::{Located, QueueName};
use super::settings::{FIFO_QUEUE, Settings};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A queue as it is now.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: QueueName,
    pub(super) settings: Settings,
    created: i64,
    modified: i64,
}

impl Queue {
    pub(super) fn find(db: &Connection, name: &QueueName) -> Result<Option<Self>, Fault> {
        let row = db
            .prepare_cached("SELECT attributes, created, modified FROM queues WHERE name = ?")?
            .query_row([name], |row| {
                Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        let Some((attributes, created, modified)) = row else {
            return Ok(None);
        };
        let settings = serde_json::from_str(&attributes).map_err(Fault::internal)?;
        Ok(Some(Self {
            name: name.clone(),
            settings,
            created,
            modified,
        }))
    }

    /// The queue a request names.
    pub(super) fn load(db: &Connection, name: &QueueName) -> Result<Self, Fault> {
        if name.as_str().is_empty() {
            return Err(Fault::missing("QueueUrl"));
        }
        Self::find(db, name)?.ok_or_else(|| {
            Fault::new(
                Kind::QueueDoesNotExist,
                "The specified queue does not exist.",
            )
        })
    }

    /// Whether a creator who asks for these attributes means this queue.
    fn check_same(&self, attributes: &BTreeMap<String, String>) -> Result<(), Fault> {
        let mut wanted = self.settings.clone();
        wanted.change(&self.name, attributes)?;
        let Some(attribute) = wanted.difference(&self.settings) else {
            return Ok(());
        };
        Err(Fault::new(
            Kind::QueueNameExists,
            format!(
                "A queue already exists with the same name and a different value for attribute {attribute}"
            ),
        ))
    }

    /// Messages sent at this time or before are past their retention.
    pub(super) fn horizon(&self, now: i64) -> i64 {
        now - self.settings.retention() * 1000
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct CreateQueue {
    queue_name: String,
    attributes: BTreeMap<String, String>,
    #[serde(rename = "tags", alias = "Tags")]
    tags: BTreeMap<String, String>,
}

/// Creates a queue, unless one of that name and with those attributes exists.
pub(super) fn create(turn: &mut Turn<'_>, request: &CreateQueue) -> Result<Located, Fault> {
    let name = QueueName::parse(&request.queue_name)?;
    // The name says it already, but AWS insists on hearing it twice.
    if name.is_fifo() && !request.attributes.contains_key(FIFO_QUEUE) {
        return Err(Fault::invalid(
            "A queue whose name ends in .fifo needs FifoQueue=true",
        ));
    }
    if let Some(existing) = Queue::find(turn.db, &name)? {
        existing.check_same(&request.attributes)?;
        return Ok(Located::from(&name));
    }
    let mut settings = Settings::defaults(&name);
    settings.change(&name, &request.attributes)?;
    check_dead_letters(turn.db, &name, &settings)?;
    turn.db
        .prepare_cached(
            "INSERT INTO queues (name, attributes, tags, created, modified)
             VALUES (?1, ?2, ?3, ?4, ?4)",
        )?
        .execute(params![
            name,
            json(&settings)?,
            json(&request.tags)?,
            turn.now
        ])?;
    Ok(Located::from(&name))
}

/// A redrive policy must lead to a queue of the same kind.
fn check_dead_letters(db: &Connection, name: &QueueName, settings: &Settings) -> Result<(), Fault> {
    let Some(policy) = settings.redrive_policy() else {
        return Ok(());
    };
    let reason = if policy.dead_letters.is_fifo() != name.is_fifo() {
        "Dead-letter queue must be same type of queue as the source"
    } else if Queue::find(db, &policy.dead_letters)?.is_none() {
        "Dead letter target does not exist"
    } else {
        return Ok(());
    };
    Err(Fault::invalid(format!(
        "Value {policy} for parameter RedrivePolicy is invalid. Reason: {reason}."
    )))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct GetQueueUrl {
    queue_name: String,
}

pub(super) fn locate(turn: &mut Turn<'_>, request: &GetQueueUrl) -> Result<Located, Fault> {
    let queue = Queue::load(turn.db, &QueueName::parse(&request.queue_name)?)?;
    Ok(Located::from(&queue.name))
}

/// A request that says only which queue.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct OneQueue {
    pub(super) queue_url: QueueName,
}

/// Deletes a queue and its messages. The name is free again at once, not after 60 seconds.
pub(super) fn delete(turn: &mut Turn<'_>, request: &OneQueue) -> Result<Empty, Fault> {
    let name = Queue::load(turn.db, &request.queue_url)?.name;
    turn.db
        .execute("DELETE FROM messages WHERE queue = ?", [&name])?;
    turn.db
        .execute("DELETE FROM duplicates WHERE queue = ?", [&name])?;
    turn.db
        .execute("DELETE FROM moves WHERE source = ?", [&name])?;
    turn.db
        .execute("DELETE FROM queues WHERE name = ?", [&name])?;
    turn.wake(&name);
    Ok(Empty {})
}

pub(super) fn purge(turn: &mut Turn<'_>, request: &OneQueue) -> Result<Empty, Fault> {
    let name = Queue::load(turn.db, &request.queue_url)?.name;
    turn.db
        .execute("DELETE FROM messages WHERE queue = ?", [&name])?;
    Ok(Empty {})
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct SetQueueAttributes {
    queue_url: QueueName,
    attributes: BTreeMap<String, String>,
}

pub(super) fn set_attributes(
    turn: &mut Turn<'_>,
    request: &SetQueueAttributes,
) -> Result<Empty, Fault> {
    let Queue {
        name, mut settings, ..
    } = Queue::load(turn.db, &request.queue_url)?;
    settings.change(&name, &request.attributes)?;
    check_dead_letters(turn.db, &name, &settings)?;
    turn.db
        .prepare_cached("UPDATE queues SET attributes = ?2, modified = ?3 WHERE name = ?1")?
        .execute(params![name, json(&settings)?, turn.now])?;
    turn.wake(&name);
    Ok(Empty {})
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct GetQueueAttributes {
    queue_url: QueueName,
    attribute_names: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Attributes {
    attributes: BTreeMap<String, String>,
}

pub(super) fn attributes(
    turn: &mut Turn<'_>,
    request: &GetQueueAttributes,
) -> Result<Attributes, Fault> {
    let queue = Queue::load(turn.db, &request.queue_url)?;
    let counts = Counts::of(turn.db, &queue, turn.now)?;
    let mut attributes = BTreeMap::from(
        [
            ("ApproximateNumberOfMessages", counts.visible),
            ("ApproximateNumberOfMessagesDelayed", counts.delayed),
            ("ApproximateNumberOfMessagesNotVisible", counts.in_flight),
            ("CreatedTimestamp", queue.created / 1000),
            ("LastModifiedTimestamp", queue.modified / 1000),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_string())),
    );
    attributes.insert("QueueArn".to_owned(), queue.name.arn());
    attributes.extend(queue.settings.into_map());

    let wanted = &request.attribute_names;
    if !wanted.iter().any(|name| name == "All") {
        attributes.retain(|name, _| wanted.contains(name));
    }
    Ok(Attributes { attributes })
}

/// How many messages a queue holds. Unlike AWS's these are exact.
struct Counts {
    visible: i64,
    /// Never received yet and not to be received yet.
    delayed: i64,
    /// Received and not deleted.
    in_flight: i64,
}

impl Counts {
    fn of(db: &Connection, queue: &Queue, now: i64) -> rusqlite::Result<Self> {
        db.prepare_cached(
            "SELECT count(*) FILTER (WHERE visible <= ?2),
                    count(*) FILTER (WHERE visible > ?2 AND receives = 0),
                    count(*) FILTER (WHERE visible > ?2 AND receives > 0)
             FROM messages WHERE queue = ?1 AND sent > ?3",
        )?
        .query_row(params![queue.name, now, queue.horizon(now)], |row| {
            Ok(Self {
                visible: row.get(0)?,
                delayed: row.get(1)?,
                in_flight: row.get(2)?,
            })
        })
    }
}

fn json(value: &impl Serialize) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(Fault::internal)
}
