//! Faults of the embedded stores that no retry mends: a full disk, a damaged file.
//!
//! Each store answers them at once with the code [`CODE`] and a status that the AWS SDK does not retry, and notes them for
//! `GET /health`. What passes by itself (a lock held by another) is not one of them.

use std::path::Path;
use std::time::Duration;

use parlance::app::{StoreFault, StoreFaults};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// The error code, for both stores.
pub(crate) const CODE: &str = "StorageFailure";
/// 507 Insufficient Storage. The AWS SDK retries 500, 502, 503 and 504.
pub(crate) const STATUS: u16 = 507;

/// Messages of SQLite, where its code is lost on the way, as `sqlite3_errstr` words them.
const MESSAGES: [(&str, StoreFault); 6] = [
    ("database disk image is malformed", StoreFault::Damaged),
    ("file is not a database", StoreFault::Damaged),
    ("database or disk is full", StoreFault::Refused),
    ("disk I/O error", StoreFault::Refused),
    ("attempt to write a readonly database", StoreFault::Refused),
    ("unable to open database file", StoreFault::Refused),
];

/// Opens a file that exists, to look at what it holds before its store is opened. Neither it nor its WAL is changed, made or
/// removed, whatever becomes of this process.
pub(crate) fn look(path: &Path, has_wal: bool) -> rusqlite::Result<Connection> {
    if !has_wal {
        // Otherwise a WAL is made even for a reader.
        let path = percent_encode(path.as_os_str().as_encoded_bytes(), NON_ALPHANUMERIC);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        return Connection::open_with_flags(format!("file:{path}?immutable=1"), flags);
    }
    // To read a WAL one must be able to write its index.
    let file = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    file.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    file.busy_timeout(Duration::from_secs(5))?;
    Ok(file)
}

/// Whether a file has a table called `name`.
pub(crate) fn has_table(file: &Connection, name: &str) -> rusqlite::Result<bool> {
    file.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?)",
        [name],
        |row| row.get(0),
    )
}

/// The fault that `error` is, if it does not pass by itself.
pub(crate) fn fault(error: &rusqlite::Error) -> Option<StoreFault> {
    match error.sqlite_error_code()? {
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Some(StoreFault::Damaged),
        ErrorCode::DiskFull
        | ErrorCode::SystemIoFailure
        | ErrorCode::ReadOnly
        | ErrorCode::CannotOpen => Some(StoreFault::Refused),
        _ => None,
    }
}

/// The same, of an error whose message is all that is left of it.
pub(crate) fn fault_in(message: &str) -> Option<StoreFault> {
    let found = MESSAGES.iter().find(|(words, _)| message.contains(words));
    found.map(|(_, fault)| *fault)
}

/// Notes a fault of `store`, and logs it unless that was done within the last minute.
pub(crate) fn note(faults: &StoreFaults, fault: StoreFault, store: &str, error: &str) {
    if !faults.note(fault) {
        return;
    }
    match fault {
        StoreFault::Damaged => tracing::error!(
            error,
            "the file of the embedded {store} is damaged: stop the runner, and restore the data folder from a backup"
        ),
        StoreFault::Refused => tracing::error!(
            error,
            "the embedded {store} cannot write its file: is the disk full?"
        ),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn a_message_is_the_fault_that_its_code_is() {
        let codes = [
            (ffi::SQLITE_CORRUPT, "database disk image is malformed"),
            (ffi::SQLITE_NOTADB, "file is not a database"),
            (ffi::SQLITE_FULL, "database or disk is full"),
            (ffi::SQLITE_IOERR_WRITE, "disk I/O error"),
            (ffi::SQLITE_READONLY, "attempt to write a readonly database"),
            (ffi::SQLITE_CANTOPEN, "unable to open database file"),
            (ffi::SQLITE_BUSY, "database is locked"),
            (ffi::SQLITE_CONSTRAINT, "UNIQUE constraint failed: t.a"),
        ];
        for (code, words) in codes {
            let error = ffi::Error::new(code);
            let error = rusqlite::Error::SqliteFailure(error, Some(words.to_owned()));
            let told = fault(&error);
            assert_eq!(told, fault_in(&error.to_string()), "{words}");
            let passes = [ffi::SQLITE_BUSY, ffi::SQLITE_CONSTRAINT].contains(&code);
            assert_eq!(told.is_none(), passes, "{words}");
        }
    }
}
