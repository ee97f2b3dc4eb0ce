//! The stream records in the store's file, reached by a second connection.
//!
//! dynoxide finds the last sequence number of a table by a scan and never forgets a record, so its
//! writes slow down and its file grows. Two indexes and a trimmer cure both. They rely on the
//! layout of dynoxide's `_stream_records`, which is why its version is pinned.
//!
//! **Invariant:** a record past the limit its caller gives stays, and so does the newest record
//! of each table: the next sequence number is counted from it.

use std::path::Path;

use parlance::domain::Timestamp;
use rusqlite::Connection;

/// Small enough to hold up other writers for some milliseconds only.
const BATCH: usize = 500;

const INDEXES: &str = "
    CREATE INDEX IF NOT EXISTS parlance_stream_tail
        ON _stream_records(table_name, CAST(sequence_number AS INTEGER));
    CREATE INDEX IF NOT EXISTS parlance_stream_shard
        ON _stream_records(table_name, shard_id, CAST(sequence_number AS INTEGER));";

/// `?1` the table, `?2` the last number that may go, `?3` the second before which it was made.
const TRIM: &str = "
    DELETE FROM _stream_records WHERE id IN (
        SELECT id FROM (
            SELECT id, created_at, CAST(sequence_number AS INTEGER) AS number
            FROM _stream_records WHERE table_name = ?1
            ORDER BY CAST(sequence_number AS INTEGER) LIMIT ?4)
        WHERE number <= ?2 AND created_at < ?3
    ) AND id <> (
        SELECT id FROM _stream_records WHERE table_name = ?1
        ORDER BY CAST(sequence_number AS INTEGER) DESC LIMIT 1)";

/// No shard has this name.
const BURY: &str = "UPDATE _stream_records SET shard_id = 'over' WHERE table_name = ?";

/// What dynoxide adds to a stored number to show it with 21 digits, as DynamoDB's are.
const SHOWN_OFFSET: u128 = 100_000_000_000_000_000_000;

/// A stored sequence number as it is shown. All have as many digits, so that text sorts like numbers.
pub(super) fn shown(stored: i64) -> String {
    (SHOWN_OFFSET + u128::try_from(stored).unwrap_or(0)).to_string()
}

/// When the record with this number, as it is shown, was written, by the clock of then: dynoxide counts on from the
/// microseconds since 1970. `None` for a number that this store cannot have given.
pub(crate) fn written_at(shown: &str) -> Option<Timestamp> {
    let stored = shown.parse::<u128>().ok()?.checked_sub(SHOWN_OFFSET)?;
    i64::try_from(stored).ok().map(Timestamp::from_micros)
}

/// Which records of a table may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trim {
    table: String,
    last: i64,
    made_before: i64,
}

impl Trim {
    /// Those that every consumer has taken: up to and with this sequence number.
    ///
    /// `None` for a number that this store cannot have given.
    pub fn consumed(table: &str, sequence_number: &str) -> Option<Self> {
        let shown: u128 = sequence_number.parse().ok()?;
        let last = i64::try_from(shown.checked_sub(SHOWN_OFFSET)?).ok()?;
        Some(Self {
            table: table.to_owned(),
            last,
            made_before: i64::MAX,
        })
    }

    /// Those of a table nobody consumes that are older than this, in Unix seconds.
    pub fn made_before(table: &str, second: i64) -> Self {
        Self {
            table: table.to_owned(),
            last: i64::MAX,
            made_before: second,
        }
    }
}

/// The second connection.
#[derive(Debug)]
pub(super) struct Records(Connection);

impl Records {
    /// Opens the file that dynoxide has set up, and indexes its records.
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        // A sweep of expired items may be writing meanwhile.
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        // A lost trim is repeated; it never needs a flush of its own.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.execute_batch(INDEXES)?;
        Ok(Self(connection))
    }

    /// Leaves the records of a stream that is over to nobody: another one of the table begins without them. They stay for a
    /// while, since the next number is counted from the last of them.
    pub(super) fn bury(&self, table: &str) -> rusqlite::Result<()> {
        let mut statement = self.0.prepare_cached(BURY)?;
        statement.execute([table]).map(drop)
    }

    /// Deletes one batch; whether there may be more.
    pub(super) fn trim(&self, trim: &Trim) -> rusqlite::Result<bool> {
        let mut statement = self.0.prepare_cached(TRIM)?;
        let gone = statement.execute((&trim.table, trim.last, trim.made_before, BATCH))?;
        // The newest is spared, so a last full batch may lack one.
        Ok(gone + 1 >= BATCH)
    }
}
