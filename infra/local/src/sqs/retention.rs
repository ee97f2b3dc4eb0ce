//! Forgetting: messages past their queue's retention, and deduplication ids past their time.
//!
//! Nothing reads either any more, so this only frees space. It deletes a little at a time, because
//! every other request waits meanwhile.

use super::database::Turn;
use super::fault::Fault;
use super::send::DEDUPLICATION_INTERVAL;
use rusqlite::params;

/// Rows deleted in one turn; a few milliseconds.
const STEP: usize = 1000;

/// Whether anything is left to delete.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Done,
    More,
}

/// Deletes some of what is expired at `now`.
pub(super) fn step(turn: &mut Turn<'_>, now: i64) -> Result<Progress, Fault> {
    let messages = turn
        .db
        .prepare_cached(
            "DELETE FROM messages WHERE seq IN (
                 SELECT seq FROM queues CROSS JOIN messages
                 WHERE queue = name AND sent <= ?1 - 1000 * CAST(
                     json_extract(queues.attributes, '$.MessageRetentionPeriod') AS INTEGER)
                 LIMIT ?2)",
        )?
        .execute(params![now, STEP])?;
    let duplicates = turn
        .db
        .prepare_cached(
            "DELETE FROM duplicates WHERE (queue, dedup) IN (
                 SELECT queue, dedup FROM duplicates WHERE sent <= ?1 LIMIT ?2)",
        )?
        .execute(params![now - DEDUPLICATION_INTERVAL, STEP])?;
    let full = messages == STEP || duplicates == STEP;
    Ok(if full { Progress::More } else { Progress::Done })
}
