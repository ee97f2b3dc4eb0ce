//! The one `SQLite` database, and the one thread that uses it.
//!
//! | table         | a row is                                                     | key             |
//! |---------------|--------------------------------------------------------------|-----------------|
//! | `queues`      | a queue: its attributes and tags, as JSON                    | `name`          |
//! | `messages`    | a message: `visible` is when it may be received next         | `seq`           |
//! | `duplicates`  | a deduplication id a FIFO queue has seen, and its first message | `queue`, `dedup` |
//! | `moves`       | a move task; of earlier versions, without a `status`         | `handle`        |
//!
//! Times are milliseconds since 1970. A message has a `receipt` from its first receive on, a
//! `dedup` if and only if its queue is FIFO, and a `source` if a redrive brought it here. The `dedup` of a duplicate begins
//! with its group where that is the queue's scope of deduplication.
//!
//! The thread takes what requests have piled up into one transaction, so that many concurrent
//! sends share one sync of the disk; each request has a savepoint of its own.
//!
//! **Invariant:** a request is answered, and the waiters it concerns are woken, only after its
//! changes are committed.

use super::clock::{self, Clock};
use super::fault::Fault;
use super::name::QueueName;
use super::waiters::Waiters;
use super::{OpenError, Sync};
use crate::storage::has_table;
use rusqlite::{Connection, TransactionBehavior};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;

/// Bounds how long the first request of a transaction waits for the last.
const MOST_REQUESTS_PER_TRANSACTION: usize = 64;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS queues (
        name TEXT PRIMARY KEY,
        attributes TEXT NOT NULL,
        tags TEXT NOT NULL DEFAULT '{}',
        created INTEGER NOT NULL,
        modified INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS messages (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        queue TEXT NOT NULL,
        visible INTEGER NOT NULL,
        receives INTEGER NOT NULL DEFAULT 0,
        sent INTEGER NOT NULL,
        first_received INTEGER,
        receipt TEXT,
        group_id TEXT,
        dedup TEXT,
        source TEXT,
        id TEXT NOT NULL,
        trace TEXT,
        attributes TEXT,
        body TEXT NOT NULL
    );
    CREATE INDEX IF NOT EXISTS messages_by_visible ON messages (queue, visible);
    CREATE INDEX IF NOT EXISTS messages_by_sent ON messages (queue, sent);
    CREATE INDEX IF NOT EXISTS fifo_messages_by_seq ON messages (queue, seq)
        WHERE dedup IS NOT NULL;
    CREATE INDEX IF NOT EXISTS fifo_messages_by_group ON messages (queue, group_id, visible)
        WHERE dedup IS NOT NULL;
    CREATE INDEX IF NOT EXISTS messages_by_group ON messages (queue, group_id, visible)
        WHERE dedup IS NULL AND group_id IS NOT NULL;
    CREATE TABLE IF NOT EXISTS duplicates (
        queue TEXT NOT NULL,
        dedup TEXT NOT NULL,
        id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        sent INTEGER NOT NULL,
        PRIMARY KEY (queue, dedup)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS moves (
        handle TEXT PRIMARY KEY,
        source TEXT NOT NULL,
        destination TEXT,
        rate INTEGER,
        moved INTEGER NOT NULL,
        found INTEGER NOT NULL,
        failure TEXT,
        started INTEGER NOT NULL,
        status TEXT,
        stepped INTEGER,
        lost INTEGER
    ) WITHOUT ROWID;
";

/// Adds what the tables of earlier versions lack.
fn upgrade(connection: &Connection) -> rusqlite::Result<()> {
    let known = "SELECT count(*) FROM pragma_table_info('moves') WHERE name = ?";
    for (name, kind) in [
        ("status", "TEXT"),
        ("stepped", "INTEGER"),
        ("lost", "INTEGER"),
    ] {
        let known: i64 = connection.query_row(known, [name], |row| row.get(0))?;
        if known == 0 {
            connection.execute_batch(&format!("ALTER TABLE moves ADD COLUMN {name} {kind}"))?;
        }
    }
    Ok(())
}

/// Whether a file of this store holds a queue.
pub(crate) fn holds_queues(file: &Connection) -> rusqlite::Result<bool> {
    if !has_table(file, "queues")? {
        return Ok(false);
    }
    file.query_row("SELECT EXISTS (SELECT 1 FROM queues)", [], |row| row.get(0))
}

/// One request's turn at the database.
pub(super) struct Turn<'c> {
    pub(super) db: &'c Connection,
    /// When the turn began.
    pub(super) now: i64,
    changed: Vec<QueueName>,
}

impl Turn<'_> {
    /// Wakes whoever waits at `queue` once this turn's changes are committed.
    pub(super) fn wake(&mut self, queue: &QueueName) {
        if !self.changed.contains(queue) {
            self.changed.push(queue.clone());
        }
    }
}

/// A handle to the database's thread, which ends when it is closed or the last handle is dropped.
#[derive(Debug)]
pub(super) struct Database {
    /// `None` closes it.
    jobs: mpsc::Sender<Option<Job>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Does a request's work inside the open transaction, or hears why there is none.
type Job = Box<dyn FnOnce(Result<&Connection, &rusqlite::Error>) -> Reply + Send>;
/// Tells the requester how it went, once it is known whether the transaction was committed.
type Reply = Box<dyn FnOnce(Result<(), &rusqlite::Error>, &Waiters)>;

impl Database {
    /// Opens the file at `path`, or a database in memory, and starts its thread.
    pub(super) fn open(
        path: Option<&Path>,
        sync: Sync,
        waiters: Arc<Waiters>,
    ) -> Result<Self, OpenError> {
        let connection = match path {
            Some(path) => Connection::open(path)?,
            None => Connection::open_in_memory()?,
        };
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.set_prepared_statement_cache_capacity(64);
        // The answer is the mode in force; a database in memory stays in its own.
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.pragma_update(
            None,
            "synchronous",
            match sync {
                Sync::Normal => "NORMAL",
                Sync::Full => "FULL",
            },
        )?;
        connection.execute_batch(SCHEMA)?;
        upgrade(&connection)?;
        clock::bound(&connection, now())?;

        let (jobs, inbox) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("sqs".to_owned())
            .spawn(move || work(connection, &inbox, &waiters))?;
        Ok(Self {
            jobs,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Does what is queued, closes the file, and returns when that is done.
    pub(super) fn close(&self) {
        // If nobody takes it, the thread has ended already.
        drop(self.jobs.send(None));
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the queue database's thread had died");
        }
    }

    /// Whether it was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none()
    }

    /// Takes a turn and answers once its changes are committed, or undone because it failed.
    ///
    /// The work is done even if the returned future is dropped, as it would be on AWS.
    pub(super) async fn turn<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&mut Turn<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        self.post(work, |outcome| drop(sender.send(outcome)));
        answer
            .await
            .unwrap_or_else(|_| Err(Fault::internal("the database dropped the request")))
    }

    /// Queues a turn and does not wait for it; `then` hears of its outcome on the database's thread.
    pub(super) fn post<T, F, D>(&self, work: F, then: D)
    where
        T: 'static,
        F: FnOnce(&mut Turn<'_>) -> Result<T, Fault> + Send + 'static,
        D: FnOnce(Result<T, Fault>) + Send + 'static,
    {
        let job: Job = Box::new(move |connection| {
            let connection = match connection {
                Ok(connection) => connection,
                Err(error) => {
                    let fault = Fault::from(error);
                    return Box::new(move |_, _| then(Err(fault)));
                }
            };
            let mut turn = Turn {
                db: connection,
                now: now(),
                changed: Vec::new(),
            };
            let outcome = in_savepoint(&mut turn, work);
            let changed = if outcome.is_ok() {
                turn.changed
            } else {
                Vec::new()
            };
            Box::new(move |committed, waiters| match committed {
                Ok(()) => {
                    for queue in &changed {
                        waiters.wake(queue);
                    }
                    then(outcome);
                }
                Err(error) => then(Err(Fault::from(error))),
            })
        });
        // If the thread is gone the job is dropped, and with it whoever waits for `then`.
        drop(self.jobs.send(Some(job)));
    }
}

/// Undoes what `work` wrote if it fails, and leaves the other turns of the transaction alone.
fn in_savepoint<T>(
    turn: &mut Turn<'_>,
    work: impl FnOnce(&mut Turn<'_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    turn.db.prepare_cached("SAVEPOINT turn")?.execute([])?;
    let outcome = work(turn);
    if outcome.is_err() {
        turn.db.prepare_cached("ROLLBACK TO turn")?.execute([])?;
    }
    turn.db.prepare_cached("RELEASE turn")?.execute([])?;
    outcome
}

/// The thread: sleeps until a job arrives, and ends when it is closed or with the last [`Database`]
/// handle.
fn work(mut connection: Connection, inbox: &mpsc::Receiver<Option<Job>>, waiters: &Waiters) {
    let mut is_open = true;
    let mut clock = Clock::default();
    while is_open && let Ok(Some(first)) = inbox.recv() {
        let piled_up = inbox.try_iter().take(MOST_REQUESTS_PER_TRANSACTION - 1);
        let piled_up = piled_up.map_while(|job| {
            is_open = job.is_some();
            job
        });
        let jobs = std::iter::once(first).chain(piled_up);
        // A panic undoes the transaction and drops its requests, and must not be the end of all others.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            transact(&mut connection, &mut clock, jobs, waiters)
        }));
        match outcome {
            Ok(Ok(())) => {}
            // Its requests were told, and say so.
            Ok(Err(error)) => tracing::debug!(%error, "the queue database takes no transactions"),
            Err(_) => tracing::error!("a queue request panicked"),
        }
    }
}

fn transact(
    connection: &mut Connection,
    clock: &mut Clock,
    jobs: impl Iterator<Item = Job>,
    waiters: &Waiters,
) -> rusqlite::Result<()> {
    let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    let begun = begun.and_then(|transaction| {
        if let Some(step) = clock.look() {
            clock::shift(&transaction, step, now())?;
        }
        Ok(transaction)
    });
    let transaction = match begun {
        Ok(transaction) => transaction,
        Err(error) => {
            for job in jobs {
                job(Err(&error))(Err(&error), waiters);
            }
            return Err(error);
        }
    };
    let replies: Vec<Reply> = jobs.map(|job| job(Ok(&transaction))).collect();
    let committed = transaction.commit();
    for reply in replies {
        reply(committed.as_ref().copied(), waiters);
    }
    Ok(())
}

/// Milliseconds since 1970. A clock before that, or far beyond, reads as the nearest we can say.
pub(super) fn now() -> i64 {
    let elapsed = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}
