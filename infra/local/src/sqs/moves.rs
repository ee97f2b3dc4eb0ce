//! Message move tasks: dead letters go back to the queue they came from, or to another.
//!
//! ```text
//! start ──▶ RUNNING ── step, step, … ──▶ COMPLETED, or FAILED if some have no queue to go to
//!              └──────── cancel ───────▶ CANCELLED
//! ```
//!
//! A step is one transaction. A task without a rate is done in one, which its start waits for; one with a rate moves what
//! is due by then, twenty times a second, and goes on after a restart. Time in which nobody steps does not count. A message keeps its id and starts anew in all else.
//!
//! **Invariant:** a queue has at most one running task, and a task has moved no more than its rate allows since it began.

use super::database::Turn;
use super::fault::{Fault, Kind};
use super::listing::sources_of;
use super::name::QueueName;
use super::queue::Queue;
use rusqlite::{OptionalExtension as _, params};
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
    pub(super) task_handle: String,
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

    let running: i64 = turn.db.query_row(
        "SELECT count(*) FROM moves WHERE source = ? AND status = 'RUNNING'",
        params![source.name],
        |row| row.get(0),
    )?;
    if running > 0 {
        return Err(Fault::invalid(
            "There is already a task running. Only one active task is allowed for a source queue arn at a given time.",
        ));
    }

    let found: i64 = turn.db.query_row(
        "SELECT count(*) FROM messages WHERE queue = ? AND visible <= ? AND sent > ?",
        params![source.name, turn.now, source.horizon(turn.now)],
        |row| row.get(0),
    )?;
    let handle = Uuid::new_v4().to_string();
    turn.db.execute(
        "INSERT INTO moves (handle, source, destination, rate, moved, found, failure, started, status)
         VALUES (?, ?, ?, ?, 0, ?, NULL, ?, 'RUNNING')",
        params![
            handle,
            source.name,
            destination.map(|queue| queue.name),
            rate,
            found,
            turn.now
        ],
    )?;
    step(turn, &handle)?;
    turn.db.execute(
        "DELETE FROM moves WHERE source = ?1 AND handle NOT IN
             (SELECT handle FROM moves WHERE source = ?1 ORDER BY started DESC LIMIT ?2)",
        params![source.name, REMEMBERED],
    )?;
    Ok(Started {
        task_handle: handle,
    })
}

/// The handles of the tasks that are running.
pub(super) fn running(turn: &mut Turn<'_>) -> Result<Vec<String>, Fault> {
    let mut running = turn
        .db
        .prepare("SELECT handle FROM moves WHERE status = 'RUNNING'")?;
    let handles = running.query_map([], |row| row.get(0))?;
    Ok(handles.collect::<Result<_, _>>()?)
}

/// A running task.
struct Running {
    source: QueueName,
    destination: Option<QueueName>,
    rate: Option<i64>,
    moved: i64,
    found: i64,
    started: i64,
    /// When the last step was, in milliseconds since 1970.
    stepped: i64,
    /// How long nobody stepped, in milliseconds.
    lost: i64,
}

/// Steps are made so often, in milliseconds, unless the process is held up, ends, or its clock is set.
const LONGEST_PAUSE: i64 = 1_000;

impl Running {
    /// How long nobody had stepped by `now`.
    const fn lost_by(&self, now: i64) -> i64 {
        let pause = now - self.stepped;
        if pause < 0 || pause > LONGEST_PAUSE {
            self.lost + pause
        } else {
            self.lost
        }
    }
}

/// Moves what a task may have moved by now, and ends it when that was all. Whether it goes on.
pub(super) fn step(turn: &mut Turn<'_>, handle: &str) -> Result<bool, Fault> {
    let task = turn
        .db
        .query_row(
            "SELECT source, destination, rate, moved, found, started,
                    coalesce(stepped, started) AS stepped, coalesce(lost, 0) AS lost FROM moves
             WHERE handle = ? AND status = 'RUNNING'",
            params![handle],
            |row| {
                Ok(Running {
                    source: row.get("source")?,
                    destination: row.get("destination")?,
                    rate: row.get("rate")?,
                    moved: row.get("moved")?,
                    found: row.get("found")?,
                    started: row.get("started")?,
                    stepped: row.get("stepped")?,
                    lost: row.get("lost")?,
                })
            },
        )
        .optional()?;
    // Cancelled, or its queue was deleted.
    let Some(task) = task else { return Ok(false) };
    let left = task.found - task.moved;
    let lost = task.lost_by(turn.now);
    let due = task.rate.map_or(left, |rate| {
        let millis = (turn.now - task.started - lost).max(0);
        let allowed = 1 + rate.saturating_mul(millis) / 1_000;
        (allowed - task.moved).clamp(0, left)
    });
    let source = Queue::find(turn.db, &task.source)?;
    let moved = match &source {
        Some(source) => move_visible(turn, source, task.destination.as_ref(), due)?,
        None => 0,
    };
    // Fewer than were due: no more can be moved.
    let is_over = moved < due || task.moved + moved >= task.found;
    let failure = (is_over && task.moved + moved < task.found && source.is_some())
        .then_some("CouldNotDetermineMessageSource");
    let status = match (is_over, failure) {
        (false, _) => "RUNNING",
        (true, None) => "COMPLETED",
        (true, Some(_)) => "FAILED",
    };
    turn.db.execute(
        "UPDATE moves SET moved = moved + ?2, failure = ?3, status = ?4, stepped = ?5, lost = ?6
         WHERE handle = ?1",
        params![handle, moved, failure, status, turn.now, lost],
    )?;
    Ok(!is_over)
}

/// Moves at most `most` of the visible messages of `source`; answers how many.
///
/// Without a `destination` each goes to its own queue. One that was sent to the dead-letter queue
/// directly, or whose queue is gone, stays.
fn move_visible(
    turn: &mut Turn<'_>,
    source: &Queue,
    destination: Option<&QueueName>,
    most: i64,
) -> Result<i64, Fault> {
    let horizon = source.horizon(turn.now);
    let due: Vec<(i64, QueueName)> = turn
        .db
        .prepare_cached(
            "SELECT seq, coalesce(?3, source) AS target FROM messages
             WHERE queue = ?1 AND visible <= ?2 AND sent > ?4
               AND coalesce(?3, source) IN (SELECT name FROM queues)
             ORDER BY seq LIMIT ?5",
        )?
        .query_map(
            params![source.name, turn.now, destination, horizon, most],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?
        .collect::<Result<_, _>>()?;
    let mut moved = 0;
    for (seq, target) in due {
        turn.db
            .prepare_cached(
                "UPDATE messages
                 SET queue = ?2, visible = ?3, sent = ?3, receives = 0, first_received = NULL,
                     receipt = NULL, source = NULL
                 WHERE seq = ?1",
            )?
            .execute(params![seq, target, turn.now])?;
        moved += 1;
        turn.wake(&target);
    }
    Ok(moved)
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
    /// Shown while the task is running.
    #[serde(rename = "TaskHandle", skip_serializing_if = "Option::is_none")]
    handle: Option<String>,
    status: String,
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
            "SELECT handle, destination, rate, moved, found, failure, started, status FROM moves
             WHERE source = ? ORDER BY started DESC LIMIT ?",
        )?
        .query_map(params![source, most], |row| {
            let destination: Option<QueueName> = row.get("destination")?;
            let failure_reason: Option<String> = row.get("failure")?;
            let status: Option<String> = row.get("status")?;
            // Tasks of earlier versions have none.
            let status = status.unwrap_or_else(|| match failure_reason {
                Some(_) => "FAILED".to_owned(),
                None => "COMPLETED".to_owned(),
            });
            let handle: String = row.get("handle")?;
            Ok(Task {
                handle: (status == "RUNNING").then_some(handle),
                status,
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

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Cancelled {
    approximate_number_of_messages_moved: i64,
}

/// Ends a running task. What it has moved stays moved.
pub(super) fn cancel(
    turn: &mut Turn<'_>,
    request: &CancelMessageMoveTask,
) -> Result<Cancelled, Fault> {
    if request.task_handle.is_empty() {
        return Err(Fault::missing("TaskHandle"));
    }
    let moved = turn
        .db
        .query_row(
            "UPDATE moves SET status = 'CANCELLED' WHERE handle = ? AND status = 'RUNNING' RETURNING moved",
            params![request.task_handle],
            |row| row.get(0),
        )
        .optional()?;
    let approximate_number_of_messages_moved = moved
        .ok_or_else(|| Fault::new(Kind::ResourceNotFound, "No running task has that handle."))?;
    Ok(Cancelled {
        approximate_number_of_messages_moved,
    })
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
