//! Fair queues: where a standard queue has a backlog, the groups that hold the fewest messages go first, so
//! that one with many waits alone.
//!
//! SQS does so when a group's share of the messages in flight is out of proportion; here the order is exact.

use rusqlite::params;

use super::database::Turn;
use super::queue::Queue;
use super::receive::Stored;

/// More than so many messages in flight count as so many: it only orders.
const MOST_COUNTED: i64 = 1_000;

/// A group that has something to give out.
struct Group {
    id: String,
    held: i64,
    waiting: std::vec::IntoIter<Stored>,
}

/// Up to `most` messages that may be received, from the groups that hold the fewest; `None` if the queue has
/// fewer than two groups.
pub(super) fn choose(
    turn: &Turn<'_>,
    queue: &Queue,
    most: usize,
) -> rusqlite::Result<Option<Vec<Stored>>> {
    let mut groups = groups(turn, queue)?;
    if groups.len() < 2 {
        return Ok(None);
    }
    groups.sort_by_key(|group| group.held);
    // More than these are not needed.
    groups.truncate(most);
    for group in &mut groups {
        group.waiting = waiting(turn, queue, &group.id, most)?.into_iter();
    }
    let mut chosen = Vec::with_capacity(most);
    while chosen.len() < most {
        groups.retain(|group| group.waiting.len() > 0);
        let Some(next) = groups.iter_mut().min_by_key(|group| group.held) else {
            break;
        };
        next.held += 1;
        chosen.extend(next.waiting.next());
    }
    Ok(Some(chosen))
}

/// The groups with a message that may be received, each found by one step through the index.
fn groups(turn: &Turn<'_>, queue: &Queue) -> rusqlite::Result<Vec<Group>> {
    turn.db
        .prepare_cached(
            "WITH RECURSIVE groups(id) AS (
                 SELECT min(group_id) FROM messages INDEXED BY messages_by_group
                 WHERE queue = ?1 AND group_id IS NOT NULL AND dedup IS NULL
                 UNION ALL
                 SELECT (SELECT min(group_id) FROM messages INDEXED BY messages_by_group
                         WHERE queue = ?1 AND group_id > groups.id AND dedup IS NULL)
                 FROM groups WHERE groups.id IS NOT NULL)
             SELECT id, (SELECT count(*) FROM (
                             SELECT 1 FROM messages INDEXED BY messages_by_group
                             WHERE queue = ?1 AND group_id = groups.id AND dedup IS NULL
                               AND visible > ?2 LIMIT ?3))
             FROM groups WHERE id IS NOT NULL AND EXISTS (
                 SELECT 1 FROM messages INDEXED BY messages_by_group
                 WHERE queue = ?1 AND group_id = groups.id AND dedup IS NULL AND visible <= ?2)",
        )?
        .query_map(params![queue.name, turn.now, MOST_COUNTED], |row| {
            Ok(Group {
                id: row.get(0)?,
                held: row.get(1)?,
                waiting: Vec::new().into_iter(),
            })
        })?
        .collect()
}

fn waiting(
    turn: &Turn<'_>,
    queue: &Queue,
    group: &str,
    most: usize,
) -> rusqlite::Result<Vec<Stored>> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    turn.db
        .prepare_cached(
            "SELECT * FROM messages INDEXED BY messages_by_group
             WHERE queue = ?1 AND group_id = ?2 AND dedup IS NULL AND visible <= ?3 AND sent > ?4
             ORDER BY visible, seq LIMIT ?5",
        )?
        .query_map(
            params![queue.name, group, turn.now, queue.horizon(turn.now), most],
            Stored::read,
        )?
        .collect()
}
