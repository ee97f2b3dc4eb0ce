//! The embedded DynamoDB: dynoxide on one file, behind the connector of the AWS SDK.
//!
//! There is no mode without a file. dynoxide could keep everything in memory, but then its stream
//! records could neither be indexed nor trimmed, and it is no faster; `--memory` puts the file
//! into a temporary folder instead.
//!
//! **Invariant:** what was answered with success has been committed to the file.

mod arns;
mod connector;
mod contents;
mod engine;
mod iterators;
mod operation;
mod reads;
mod records;
mod request;
mod shards;
mod streamed;
#[cfg(test)]
mod tests;
mod tokens;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use aws_smithy_runtime_api::client::http::{SharedHttpClient, SharedHttpConnector, http_client_fn};
use aws_smithy_types::body::SdkBody;
use dynoxide::{Database, DynoxideError};
use parlance::app::{StoreFault, StoreFaults};
use tokio::sync::{oneshot, watch};
use tokio::task::coop;

use connector::Connector;
pub(crate) use contents::Contents;
use engine::{Engine, Job, Place, note_fault};
use operation::Operation;
use reads::Reads;
use records::Records;
pub use records::Trim;
pub(crate) use records::written_at;

/// The operation by which a stream is looked for.
const LIST_STREAMS: &str = "DynamoDBStreams_20120810.ListStreams";

/// An HTTP answer of the embedded store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status: 200, 400, 500, or 507 if the file cannot be read or written.
    pub status: u16,
    /// JSON.
    pub body: Vec<u8>,
}

/// How safe a write is when it is acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sync {
    /// Survives the death of any process; a power cut may take the last moments.
    #[default]
    Normal,
    /// Survives a power cut too, at several times the cost.
    Full,
}

/// Why the store did not open, in one line.
#[derive(Debug)]
pub struct OpenError(String);

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OpenError {}

/// Why a trim or a sweep failed, in one line.
#[derive(Debug)]
pub struct MaintenanceError(String);

impl fmt::Display for MaintenanceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MaintenanceError {}

/// The store. Clones share one database thread.
#[derive(Clone)]
pub struct DynamoDb {
    jobs: Sender<Job>,
    queued: Arc<AtomicUsize>,
    reads: Arc<Reads>,
    signal: watch::Sender<u64>,
    faults: StoreFaults,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl fmt::Debug for DynamoDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DynamoDb")
    }
}

impl DynamoDb {
    /// Opens the store in `path`, which is made if it does not exist.
    pub fn open(path: &Path, sync: Sync) -> Result<Self, OpenError> {
        let failed = |reason: &dyn fmt::Display| {
            let (path, reason) = (path.display(), reason.to_string());
            let hint = match crate::storage::fault_in(&reason) {
                Some(StoreFault::Refused) => {
                    ". A start writes to it: is the disk full, or read-only?"
                }
                Some(StoreFault::Damaged) | None => "",
            };
            OpenError(format!("cannot open the database {path}: {reason}{hint}"))
        };
        let name = path
            .to_str()
            .ok_or_else(|| failed(&"its path is not UTF-8"))?;
        let database = Database::new(name).map_err(|error| failed(&reason(&error)))?;
        if sync == Sync::Normal {
            // Its name says otherwise, but this is the one way to `synchronous = NORMAL`.
            database
                .disable_bulk_loading()
                .map_err(|error| failed(&error))?;
        }
        let records = Records::open(path).map_err(|error| failed(&error))?;
        let (signal, _) = watch::channel(0);
        let reads = Arc::new(Reads::new(path));
        let faults = StoreFaults::default();
        let engine = Engine::new(
            database,
            records,
            reads.clone(),
            signal.clone(),
            faults.clone(),
        )
        .map_err(|error| failed(&reason(&error)))?;
        let (jobs, queue) = channel();
        let thread = std::thread::Builder::new()
            .name("dynamodb".to_owned())
            .spawn(move || {
                if catch_unwind(AssertUnwindSafe(|| engine.run(&queue))).is_err() {
                    // Without its store the runner could only fail; what was acknowledged is in the
                    // file, and whoever starts it again finds it there.
                    tracing::error!("the embedded DynamoDB died");
                    std::process::exit(1);
                }
            })
            .map_err(|error| failed(&error))?;
        Ok(Self {
            jobs,
            queued: Arc::default(),
            reads,
            signal,
            faults,
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }

    /// The connector for an SDK client.
    pub fn http_client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(Connector(self.clone()));
        http_client_fn(move |_, _| connector.clone())
    }

    /// Answers a request that came over HTTP; `target` is its `X-Amz-Target`.
    pub async fn handle(&self, target: &str, body: Vec<u8>) -> Answer {
        let Some(operation) = Operation::from_target(target) else {
            return self.submit(target, SdkBody::from(body)).await;
        };
        let answer = match self.answer(operation, target, body).await {
            Ok(answer) | Err(answer) => answer,
        };
        arns::outward(operation, answer)
    }

    /// The answer, or the refusal of what AWS refuses and dynoxide does not.
    async fn answer(
        &self,
        operation: Operation,
        target: &str,
        body: Vec<u8>,
    ) -> Result<Answer, Answer> {
        let stream = shards::named(operation, &body)?;
        if let Some(stream) = &stream {
            let siblings = SdkBody::from(stream.siblings());
            let listed = self.submit(LIST_STREAMS, siblings).await;
            if let Some(refusal) = stream.absent_from(&listed) {
                return Err(refusal);
            }
        }
        let request = shards::inward(operation, body)?;
        let answer = self.submit(target, SdkBody::from(&*request)).await;
        Ok(shards::outward(
            operation,
            stream.as_ref(),
            &request,
            answer,
        ))
    }

    /// The known faults of its file.
    pub fn faults(&self) -> StoreFaults {
        self.faults.clone()
    }

    /// Changes whenever a write has added to a stream.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.signal.subscribe()
    }

    /// Forgets stream records, in batches between which others get their turn.
    pub async fn trim(&self, trim: &Trim) -> Result<(), MaintenanceError> {
        loop {
            let (reply, more) = oneshot::channel();
            self.send(Job::Trim {
                trim: trim.clone(),
                reply,
            })?;
            match more.await.map_err(|_| closed())? {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => return Err(MaintenanceError(format!("cannot trim: {error}"))),
            }
        }
    }

    /// Deletes what has expired; how many items that were.
    ///
    /// It reads every table that has a TTL, so it runs beside the database thread: dynoxide lets
    /// waiting requests in after each page, which it could not do if they waited in our channel.
    pub async fn sweep(&self) -> Result<usize, MaintenanceError> {
        let (reply, lent) = oneshot::channel();
        self.send(Job::Lend { reply })?;
        let lent = lent.await.map_err(|_| closed())?;
        let gone = tokio::task::spawn_blocking(move || lent.0.sweep_ttl())
            .await
            .map_err(|error| MaintenanceError(format!("the sweep died: {error}")))?
            .map_err(|error| {
                note_fault(&self.faults, &error);
                MaintenanceError(format!("cannot sweep: {error}"))
            })?;
        if gone > 0 {
            self.signal.send_modify(|count| *count += 1);
        }
        Ok(gone)
    }

    /// Answers what is queued, closes the file, and returns when that is done.
    pub fn close(&self) {
        self.reads.close();
        // If nobody takes the job, the thread has ended already.
        drop(self.jobs.send(Job::Close));
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the database thread had died");
        }
    }

    fn submit(&self, target: &str, body: SdkBody) -> impl Future<Output = Answer> + use<> {
        let way = Way::choose(self, target, body);
        async move {
            match way {
                Way::Short(body) => {
                    // What is always ready must let others have their turn.
                    coop::consume_budget().await;
                    Answer { status: 200, body }
                }
                // The job was dropped with the thread, which ends when the store is closed.
                Way::Long(answer) => answer.await.unwrap_or_else(|_| Answer {
                    status: 500,
                    body: br#"{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError","message":"The embedded store is closed"}"#
                        .to_vec(),
                }),
                Way::None => Answer {
                    status: 400,
                    body: br#"{"__type":"com.amazon.coral.service#UnknownOperationException"}"#
                        .to_vec(),
                },
            }
        }
    }

    fn send(&self, job: Job) -> Result<(), MaintenanceError> {
        self.jobs.send(job).map_err(|_| closed())
    }
}

/// How a request is answered.
enum Way {
    /// It was, in the task that asks.
    Short(Vec<u8>),
    /// By the database thread.
    Long(oneshot::Receiver<Answer>),
    /// Not at all: there is no such operation.
    None,
}

impl Way {
    fn choose(store: &DynamoDb, target: &str, body: SdkBody) -> Self {
        let Some(operation) = Operation::from_target(target) else {
            return Self::None;
        };
        if store.queued.load(Relaxed) == 0 {
            let bytes = body.bytes().unwrap_or_default();
            if let Some(answer) = store.reads.answer(operation, bytes) {
                return Self::Short(answer);
            }
        }
        let (reply, answer) = oneshot::channel();
        drop(store.jobs.send(Job::Request {
            operation,
            body,
            reply,
            place: Place::take(&store.queued),
        }));
        Self::Long(answer)
    }
}

/// dynoxide speaks of its encryption, which is not compiled in.
fn reason(error: &DynoxideError) -> String {
    let said = error.to_string();
    if said.contains("not a valid SQLite database") {
        return "it is damaged, or not a database".to_owned();
    }
    said.trim_start_matches("Internal error: ").to_owned()
}

fn closed() -> MaintenanceError {
    MaintenanceError("the embedded store is closed".to_owned())
}
