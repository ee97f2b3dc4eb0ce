//! Reads which tables and streams a file of the store holds, before the store is opened.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::records::shown;
use crate::storage::has_table;

const LAST: &str =
    "SELECT max(CAST(sequence_number AS INTEGER)) FROM _stream_records WHERE table_name = ?";

/// Tables and streams of a file.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Whether there is a table.
    pub(crate) has_tables: bool,
    /// Of each stream, as in `table/Messages/stream/1796078784.83`, the sequence number of its last record, which is never
    /// trimmed. `None` if there was no record yet.
    streams: BTreeMap<String, Option<String>>,
}

impl Contents {
    /// Reads them. A file that dynoxide has not set up holds nothing.
    pub(crate) fn of(file: &Connection) -> rusqlite::Result<Self> {
        let mut contents = Self::default();
        if !has_table(file, "_tables")? {
            return Ok(contents);
        }
        let mut tables = file.prepare("SELECT table_name, stream_label FROM _tables")?;
        let mut tables = tables.query([])?;
        while let Some(table) = tables.next()? {
            contents.has_tables = true;
            let (name, label): (String, Option<String>) = (table.get(0)?, table.get(1)?);
            if let Some(label) = label {
                let last: Option<i64> = file.query_row(LAST, [&name], |row| row.get(0))?;
                let stream = format!("table/{name}/stream/{label}");
                contents.streams.insert(stream, last.map(shown));
            }
        }
        Ok(contents)
    }

    /// Whether there is a stream with this ARN.
    pub(crate) fn has_stream(&self, arn: &str) -> bool {
        self.streams.contains_key(named(arn))
    }

    /// The sequence number of the last record of the stream with this ARN, if it has one.
    pub(crate) fn last(&self, arn: &str) -> Option<&str> {
        self.streams.get(named(arn))?.as_deref()
    }

    /// Whether a stream has a record.
    pub(crate) fn has_records(&self) -> bool {
        self.streams.values().any(Option::is_some)
    }
}

/// A stream as it is named here.
fn named(arn: &str) -> &str {
    arn.rsplit(':').next().unwrap_or_default()
}
