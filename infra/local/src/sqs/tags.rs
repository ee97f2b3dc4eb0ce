//! A queue's tags: kept and given back, for deployments that set them.

use super::Empty;
use super::database::Turn;
use super::fault::Fault;
use super::name::QueueName;
use super::queue::{OneQueue, Queue};
use rusqlite::params;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

type Tags = BTreeMap<String, String>;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct TagQueue {
    queue_url: QueueName,
    tags: Tags,
}

pub(super) fn add(turn: &mut Turn<'_>, request: &TagQueue) -> Result<Empty, Fault> {
    let mut tags = read(turn, &request.queue_url)?;
    tags.extend(request.tags.clone());
    write(turn, &request.queue_url, &tags)
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct UntagQueue {
    queue_url: QueueName,
    tag_keys: Vec<String>,
}

pub(super) fn remove(turn: &mut Turn<'_>, request: &UntagQueue) -> Result<Empty, Fault> {
    let mut tags = read(turn, &request.queue_url)?;
    tags.retain(|key, _| !request.tag_keys.contains(key));
    write(turn, &request.queue_url, &tags)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tagged {
    tags: Tags,
}

pub(super) fn list(turn: &mut Turn<'_>, request: &OneQueue) -> Result<Tagged, Fault> {
    Ok(Tagged {
        tags: read(turn, &request.queue_url)?,
    })
}

fn read(turn: &Turn<'_>, queue: &QueueName) -> Result<Tags, Fault> {
    let name = Queue::load(turn.db, queue)?.name;
    let json: String =
        turn.db
            .query_row("SELECT tags FROM queues WHERE name = ?", [name], |row| {
                row.get(0)
            })?;
    serde_json::from_str(&json).map_err(Fault::internal)
}

fn write(turn: &Turn<'_>, queue: &QueueName, tags: &Tags) -> Result<Empty, Fault> {
    let json = serde_json::to_string(tags).map_err(Fault::internal)?;
    turn.db.execute(
        "UPDATE queues SET tags = ?2 WHERE name = ?1",
        params![queue, json],
    )?;
    Ok(Empty {})
}
