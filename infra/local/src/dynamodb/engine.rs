//! The one thread that runs the embedded DynamoDB.
//!
//! dynoxide serialises its calls anyway. A thread of its own, fed by a channel, costs the least
//! CPU per call of all the ways that were measured, and blocks no task.
//!
//! **Invariant:** requests that come here are answered one by one in the order they came.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use aws_smithy_types::body::SdkBody;
use dynoxide::actions::transact_write_items::TransactWriteItemsRequest;
use dynoxide::{Database, DynoxideError};
use parlance::app::StoreFaults;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use super::Answer;
use super::operation::Operation;
use super::reads::Reads;
use super::records::{Records, Trim};
use super::request;
use super::streamed::{StreamedTables, Writes};
use super::tokens::{Claim, Known, Tokens};
use crate::storage;

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    Request {
        operation: Operation,
        body: SdkBody,
        reply: oneshot::Sender<Answer>,
        place: Place,
    },
    Trim {
        trim: Trim,
        reply: oneshot::Sender<rusqlite::Result<bool>>,
    },
    Lend {
        reply: oneshot::Sender<Lent>,
    },
    Close,
}

/// A place in the queue before the thread. While there is one, reads queue too: a thread that is awake does
/// them for less than the task that asks.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    pub(super) fn take(queued: &Arc<AtomicUsize>) -> Self {
        queued.fetch_add(1, Relaxed);
        Self(queued.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A second handle on the database, for work that yields to requests by itself.
pub(super) struct Lent(pub(super) Database);

impl std::fmt::Debug for Lent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lent")
    }
}

/// A request about one table.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TableNamed {
    table_name: String,
}

/// The store's name in log lines.
const STORE: &str = "DynamoDB";

/// Notes a fault of the file, if `error` is one, so that `/health` tells of it whoever has met it. Whether it is one.
pub(super) fn note_fault(faults: &StoreFaults, error: &DynoxideError) -> bool {
    let fault = match error {
        DynoxideError::SqliteError(error) => storage::fault(error),
        DynoxideError::InternalServerError(message) => storage::fault_in(message),
        _ => None,
    };
    if let Some(fault) = fault {
        storage::note(faults, fault, STORE, &error.to_string());
    }
    fault.is_some()
}

/// The state of the thread.
pub(super) struct Engine {
    database: Database,
    records: Records,
    reads: Arc<Reads>,
    tokens: Tokens,
    streamed: StreamedTables,
    faults: StoreFaults,
    /// Whether the current request added records to a stream.
    wrote_to_stream: bool,
    changes: watch::Sender<u64>,
}

impl Engine {
    pub(super) fn new(
        database: Database,
        records: Records,
        reads: Arc<Reads>,
        changes: watch::Sender<u64>,
        faults: StoreFaults,
    ) -> Result<Self, DynoxideError> {
        Ok(Self {
            streamed: StreamedTables::of(&database)?,
            database,
            records,
            reads,
            tokens: Tokens::default(),
            faults,
            wrote_to_stream: false,
            changes,
        })
    }

    /// Works until it is told to close, or nobody is left who could ask.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        // A caller may have gone away meanwhile: then nobody wants the answer.
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Request {
                    operation,
                    body,
                    reply,
                    place,
                } => {
                    let answer = self.answer(operation, body.bytes().unwrap_or_default());
                    drop(place);
                    drop(reply.send(answer));
                    if std::mem::take(&mut self.wrote_to_stream) {
                        self.changes.send_modify(|count| *count += 1);
                    }
                }
                Job::Trim { trim, reply } => {
                    let trimmed = self.records.trim(&trim);
                    if let Err(error) = &trimmed
                        && let Some(fault) = storage::fault(error)
                    {
                        storage::note(&self.faults, fault, STORE, &error.to_string());
                    }
                    drop(reply.send(trimmed));
                }
                Job::Lend { reply } => drop(reply.send(Lent(self.database.clone()))),
                Job::Close => return,
            }
        }
    }

    fn answer(&mut self, operation: Operation, body: &[u8]) -> Answer {
        if let Some(body) = self.reads.answer(operation, body) {
            return Answer { status: 200, body };
        }
        match self.dispatch(operation, body) {
            Ok(body) => Answer { status: 200, body },
            Err(error) => self.refusal(&error),
        }
    }

    fn refusal(&self, error: &DynoxideError) -> Answer {
        if !note_fault(&self.faults, error) {
            return Answer {
                status: error.status_code(),
                body: error.to_json().into_bytes(),
            };
        }
        let message = error.to_string();
        let body = serde_json::json!({ "__type": storage::CODE, "message": message });
        Answer {
            status: storage::STATUS,
            body: body.to_string().into_bytes(),
        }
    }

    fn dispatch(&mut self, operation: Operation, body: &[u8]) -> Result<Vec<u8>, DynoxideError> {
        match operation {
            Operation::GetItem => self.call(body, Database::get_item),
            Operation::Query => self.call(body, Database::query),
            Operation::PutItem => self.write(body, Database::put_item),
            Operation::UpdateItem => self.write(body, Database::update_item),
            Operation::DeleteItem => self.write(body, Database::delete_item),
            Operation::TransactWriteItems => self.transact(body),
            Operation::TransactGetItems => self.call(body, Database::transact_get_items),
            Operation::BatchGetItem => self.call(body, Database::batch_get_item),
            Operation::BatchWriteItem => self.write(body, Database::batch_write_item),
            Operation::Scan => self.call(body, Database::scan),
            Operation::GetRecords => self.call(body, Database::get_records),
            Operation::GetShardIterator => self.call(body, Database::get_shard_iterator),
            Operation::DescribeStream => self.call(body, Database::describe_stream),
            Operation::ListStreams => self.call(body, Database::list_streams),
            Operation::DescribeTable => self.call(body, Database::describe_table),
            Operation::ListTables => self.call(body, Database::list_tables),
            Operation::CreateTable => self.define(body, Database::create_table),
            Operation::UpdateTable => self.end_streams(body, Database::update_table),
            Operation::DeleteTable => self.end_streams(body, Database::delete_table),
            Operation::DescribeTimeToLive => self.call(body, Database::describe_time_to_live),
            Operation::UpdateTimeToLive => self.call(body, Database::update_time_to_live),
            Operation::TagResource => self.call(body, Database::tag_resource),
            Operation::UntagResource => self.call(body, Database::untag_resource),
            Operation::ListTagsOfResource => self.call(body, Database::list_tags_of_resource),
            Operation::ExecuteStatement => self.state(body, Database::execute_statement),
            Operation::ExecuteTransaction => self.state(body, Database::execute_transaction),
            Operation::BatchExecuteStatement => self.state(body, Database::batch_execute_statement),
        }
    }

    fn call<R: DeserializeOwned, T: Serialize>(
        &self,
        body: &[u8],
        run: fn(&Database, R) -> Result<T, DynoxideError>,
    ) -> Result<Vec<u8>, DynoxideError> {
        written(&run(&self.database, request::read(body)?)?)
    }

    /// A write to tables that the request names.
    fn write<R: DeserializeOwned + Writes, T: Serialize>(
        &mut self,
        body: &[u8],
        run: fn(&Database, R) -> Result<T, DynoxideError>,
    ) -> Result<Vec<u8>, DynoxideError> {
        let request: R = request::read(body)?;
        let is_streamed = request.is_streamed(&self.streamed);
        let answer = run(&self.database, request)?;
        self.wrote_to_stream = is_streamed;
        written(&answer)
    }

    /// A statement may write anywhere; finding out is not worth it.
    fn state<R: DeserializeOwned, T: Serialize>(
        &mut self,
        body: &[u8],
        run: fn(&Database, R) -> Result<T, DynoxideError>,
    ) -> Result<Vec<u8>, DynoxideError> {
        self.wrote_to_stream = true;
        self.call(body, run)
    }

    /// A change of the tables themselves.
    fn define<R: DeserializeOwned, T: Serialize>(
        &mut self,
        body: &[u8],
        run: fn(&Database, R) -> Result<T, DynoxideError>,
    ) -> Result<Vec<u8>, DynoxideError> {
        let held = self.reads.redefinition();
        let answer = self.call(body, run)?;
        drop(held);
        self.streamed = StreamedTables::of(&self.database)?;
        Ok(answer)
    }

    /// The same, where a stream of the table may be over by that.
    fn end_streams<R: DeserializeOwned, T: Serialize>(
        &mut self,
        body: &[u8],
        run: fn(&Database, R) -> Result<T, DynoxideError>,
    ) -> Result<Vec<u8>, DynoxideError> {
        let answer = self.define(body, run)?;
        let request: TableNamed = request::read(body)?;
        if !self.streamed.has(&request.table_name) {
            let buried = self.records.bury(&request.table_name);
            buried.map_err(DynoxideError::SqliteError)?;
        }
        Ok(answer)
    }

    /// A transaction, whose client token is kept here instead of in dynoxide (see [`Tokens`]).
    fn transact(&mut self, body: &[u8]) -> Result<Vec<u8>, DynoxideError> {
        let mut request: TransactWriteItemsRequest = request::read(body)?;
        // An ill-formed token stays, so that dynoxide words the error.
        let token = request
            .client_request_token
            .take_if(|token| (1..=36).contains(&token.len()));
        let claim = token.map(|token| Claim::new(&token, &request.transact_items));
        match claim
            .as_ref()
            .map(|claim| self.tokens.look_up(claim, Instant::now()))
        {
            None | Some(Known::Nothing) => {}
            Some(Known::Answered(first)) => return Ok(first),
            Some(Known::Mismatch) => {
                return Err(DynoxideError::IdempotentParameterMismatchException(
                    "The token was used before, with other items".to_owned(),
                ));
            }
        }
        let is_streamed = request.is_streamed(&self.streamed);
        let answer = written(&self.database.transact_write_items(request)?)?;
        self.wrote_to_stream = is_streamed;
        if let Some(claim) = claim {
            self.tokens.remember(claim, &answer, Instant::now());
        }
        Ok(answer)
    }
}

fn written(answer: &impl Serialize) -> Result<Vec<u8>, DynoxideError> {
    serde_json::to_vec(answer).map_err(|e| DynoxideError::InternalServerError(e.to_string()))
}
