//! Message move tasks: dead letters go back to the queue they came from, or to another.
//!
//! A task is one transaction: it is done when its start is answered, and never found half done.
//! It therefore keeps to no rate, and there is never one to cancel. A message keeps its id and
//! starts anew in all else.

use super::Empty;
use super::database::Turn;
use super::fault::{Fault, Kind};
use super::listing::sources_of;
use super::name::QueueName;
use super::queue::Queue;
use rusqlite::params;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Tasks remembered per queue: as many as a client can list.
const REMEMBERED: i64 = 10;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct StartMessageMoveTask {
    source_arn: String,
    destination_arn: Option<String>,
    max_number_of_messages_per_second: Option<i64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Started {
    task_handle: String,
}

pub(super) fn start(turn: &mut Turn<'_>, request: &StartMessageMoveTask) -> Result<Started, Fault> {
    let source = queue_at(turn, "SourceArn", &request.source_arn)?;
    if sources_of(turn, &source.name, "")?.is_empty() {
        return Err(Fault::invalid(
            "Source queue must be configured as a Dead Letter Queue.",
        ));
    }
    let destination = match &request.destination_arn {
        Some(arn) => Some(queue_at(turn, "DestinationArn", arn)?),
        None => None,
    };
    if let Some(destination) = &destination
        && (destination.name == source.name || destination.name.is_fifo() != source.name.is_fifo())
    {
        return Err(Fault::invalid(
            "The destination must be another queue of the source queue's type.",
        ));
    }
    let rate = request.max_number_of_messages_per_second;
    if rate.is_some_and(|rate| !(1..=500).contains(&rate)) {
        return Err(Fault::invalid(
            "MaxNumberOfMessagesPerSecond must be between 1 and 500.",
        ));
    }

    let destination = destination.map(|queue| queue.name);
    let (moved, found) = move_visible(turn, &source, destination.as_ref())?;
    let failure = (moved < found).then_some("CouldNotDetermineMessageSource");
    let handle = Uuid::new_v4().to_string();
    turn.db.execute(
        "INSERT INTO moves (handle, source, destination, rate, moved, found, failure, started)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            handle,
            source.name,
            destination,
            rate,
            moved,
            found,
            failure,
            turn.now
        ],
    )?;
    turn.db.execute(
        "DELETE FROM moves WHERE source = ?1 AND handle NOT IN
             (SELECT handle FROM moves WHERE source = ?1 ORDER BY started DESC LIMIT ?2)",
        params![source.name, REMEMBERED],
    )?;
    Ok(Started {
        task_handle: handle,
    })
}

/// Moves the visible messages of `source`; answers how many, and out of how many.
///
/// Without a `destination` each goes to its own queue. One that was sent to the dead-letter queue
/// directly, or whose queue is gone, stays.
fn move_visible(
    turn: &mut Turn<'_>,
    source: &Queue,
    destination: Option<&QueueName>,
) -> Result<(i64, i64), Fault> {
    let horizon = source.horizon(turn.now);
    let candidates: Vec<(Option<QueueName>, i64)> = turn
        .db
        .prepare(
            "SELECT coalesce(?3, source), count(*) FROM messages
             WHERE queue = ?1 AND visible <= ?2 AND sent > ?4 GROUP BY 1",
        )?
        .query_map(
            params![source.name, turn.now, destination, horizon],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?
        .collect::<Result<_, _>>()?;

    let (mut moved, mut found) = (0, 0);
    for (target, count) in candidates {
        found += count;
        let Some(target) = target else { continue };
        if Queue::find(turn.db, &target)?.is_none() {
            continue;
        }
        turn.db
            .prepare(
                "UPDATE messages
                 SET queue = ?3, visible = ?2, sent = ?2, receives = 0, first_received = NULL,
                     receipt = NULL, source = NULL
                 WHERE queue = ?1 AND visible <= ?2 AND sent > ?5
                   AND coalesce(?4, source) = ?3",
            )?
            .execute(params![source.name, turn.now, target, destination, horizon])?;
        moved += count;
        turn.wake(&target);
    }
    Ok((moved, found))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ListMessageMoveTasks {
    source_arn: String,
    max_results: Option<i64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tasks {
    results: Vec<Task>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Task {
    status: &'static str,
    source_arn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_number_of_messages_per_second: Option<i64>,
    approximate_number_of_messages_moved: i64,
    approximate_number_of_messages_to_move: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_reason: Option<String>,
    started_timestamp: i64,
}

pub(super) fn list(turn: &mut Turn<'_>, request: &ListMessageMoveTasks) -> Result<Tasks, Fault> {
    let source = queue_at(turn, "SourceArn", &request.source_arn)?.name;
    let most = request.max_results.unwrap_or(1);
    if !(1..=REMEMBERED).contains(&most) {
        return Err(Fault::invalid("MaxResults must be between 1 and 10."));
    }
    let results = turn
        .db
        .prepare(
            "SELECT destination, rate, moved, found, failure, started FROM moves
             WHERE source = ? ORDER BY started DESC LIMIT ?",
        )?
        .query_map(params![source, most], |row| {
            let destination: Option<QueueName> = row.get("destination")?;
            let failure_reason: Option<String> = row.get("failure")?;
            Ok(Task {
                status: if failure_reason.is_some() {
                    "FAILED"
                } else {
                    "COMPLETED"
                },
                source_arn: source.arn(),
                destination_arn: destination.map(|queue| queue.arn()),
                max_number_of_messages_per_second: row.get("rate")?,
                approximate_number_of_messages_moved: row.get("moved")?,
                approximate_number_of_messages_to_move: row.get("found")?,
                failure_reason,
                started_timestamp: row.get("started")?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(Tasks { results })
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct CancelMessageMoveTask {
    task_handle: String,
}

/// Always refuses: no task is ever found running.
pub(super) fn cancel(_: &mut Turn<'_>, request: &CancelMessageMoveTask) -> Result<Empty, Fault> {
    if request.task_handle.is_empty() {
        return Err(Fault::missing("TaskHandle"));
    }
    Err(Fault::new(
        Kind::ResourceNotFound,
        "No running task has that handle.",
    ))
}

/// The queue an ARN names.
fn queue_at(turn: &Turn<'_>, parameter: &str, arn: &str) -> Result<Queue, Fault> {
    if arn.is_empty() {
        return Err(Fault::missing(parameter));
    }
    let name = QueueName::from_arn(arn).ok_or_else(|| {
        Fault::invalid(format!("Value {arn} for parameter {parameter} is invalid."))
    })?;
    Queue::find(turn.db, &name)?.ok_or_else(|| {
        let message =
            format!("The resource that you specified for the {parameter} parameter doesn't exist.");
        Fault::new(Kind::ResourceNotFound, message)
    })
}
