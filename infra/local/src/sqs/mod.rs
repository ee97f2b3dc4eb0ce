//! SQS in one `SQLite` database: awsJson1.0, served in process to the SDK and, by the runner's HTTP
//! server, to anything else.
//!
//! ```text
//! SDK ── connector ──┐
//!                    ├── Sqs::handle ── one operation ── Database (one thread, one connection)
//! CLI ── loopback ───┘
//! ```
//!
//! Region and account are fixed; requests are not authenticated. What AWS does eventually or
//! approximately is immediate and exact here. Not served: permissions, encryption, and the waits
//! of 60 seconds after a purge or a deletion.
//!
//! **Invariant:** what was answered as done survives the death of the process, and with
//! [`Sync::Full`] that of the machine.

mod attributes;
mod batch;
mod characters;
mod clock;
mod connector;
mod database;
mod fair;
mod fault;
mod listing;
mod md5;
mod moves;
mod name;
mod queue;
mod receipt;
mod receive;
mod retention;
mod send;
mod settings;
mod tags;
#[cfg(test)]
mod tests;
mod waiters;

use aws_smithy_runtime_api::client::http::SharedHttpClient;
pub(crate) use database::holds_queues;
use database::{Database, Turn};
use fault::{Fault, Kind};
use parlance::app::StoreFaults;
use parlance::domain::Pauses;
use receive::{ReceiveMessage, Received};
use retention::Progress;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use waiters::Waiters;

use crate::storage;

/// Pause between two steps of a move task; longer and longer while they fail.
const MOVE_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_MOVE_PAUSE: Duration = Duration::from_secs(30);

/// What a committed change survives beside the death of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Nothing more: a power cut may undo the last changes, though it never corrupts.
    Normal,
    /// A power cut.
    Full,
}

/// A queue service. Clones share it; its thread ends with the last of them, or when one is closed.
#[derive(Debug, Clone)]
pub struct Sqs {
    database: Arc<Database>,
    waiters: Arc<Waiters>,
    faults: StoreFaults,
}

/// The answer to one request, for an HTTP server to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The header `x-amzn-query-error`, by which the SDKs tell errors apart.
    pub query_error: Option<String>,
    /// JSON, to be sent as `application/x-amz-json-1.0`.
    pub body: Vec<u8>,
}

impl Sqs {
    /// Opens the store in the file at `path`, or one in memory that is lost with the last clone.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened as a database, or no thread can be started.
    pub fn open(path: Option<&Path>, sync: Sync) -> Result<Self, OpenError> {
        let waiters = Arc::new(Waiters::default());
        let database = Database::open(path, sync, Arc::clone(&waiters))?;
        Ok(Self {
            database: Arc::new(database),
            waiters,
            faults: StoreFaults::default(),
        })
    }

    /// Does what is queued, closes the file, and returns when that is done. Whoever asks later is told
    /// of a fault.
    pub fn close(&self) {
        self.database.close();
    }

    /// The known faults of its file.
    pub fn faults(&self) -> StoreFaults {
        self.faults.clone()
    }

    /// The HTTP client for an `aws_sdk_sqs::Config`; the endpoint and the credentials are not
    /// looked at.
    pub fn http_client(&self) -> SharedHttpClient {
        connector::http_client(self.clone())
    }

    /// Serves one request. `target` is the header `X-Amz-Target`: `AmazonSQS.SendMessage`.
    ///
    /// A long poll is answered when there is a message or its time is up. To drop the returned
    /// future does not undo the request.
    pub async fn handle(&self, target: &str, body: &[u8]) -> Answer {
        let operation = target
            .rsplit_once('.')
            .map_or(target, |(_, operation)| operation);
        match self.serve(operation, body).await {
            Ok(body) => Answer {
                status: 200,
                query_error: None,
                body,
            },
            Err(fault) => {
                if let Kind::Storage(kind) = fault.kind {
                    storage::note(&self.faults, kind, "SQS", &fault.message);
                }
                refusal(operation, &fault)
            }
        }
    }

    /// Gives back at once what was received from the queue called `name` and not deleted: for a runner that
    /// starts, since whoever had it in hand died with the one before.
    ///
    /// # Errors
    ///
    /// What the database says, in words for a log.
    pub async fn release(&self, name: &str) -> Result<(), String> {
        let name = name::QueueName::parse(name).map_err(|fault| fault.message)?;
        let released = self
            .database
            .turn(move |turn| receive::release(turn, &name));
        released.await.map_err(|fault| fault.message)
    }

    /// Goes on with the move tasks that were running when the store was closed, or its process died.
    ///
    /// # Errors
    ///
    /// The database's own words, for a log.
    pub async fn resume_moves(&self) -> Result<(), String> {
        let running = self.database.turn(moves::running).await;
        for handle in running.map_err(|fault| fault.message)? {
            self.go_on_moving(handle);
        }
        Ok(())
    }

    /// Takes the further steps of a move task, until it has ended or the store is closed.
    fn go_on_moving(&self, handle: String) {
        let database = Arc::clone(&self.database);
        tokio::spawn(async move {
            let mut pauses = Pauses::between(2 * MOVE_PAUSE, LONGEST_MOVE_PAUSE);
            loop {
                let mut wait = MOVE_PAUSE;
                let task = handle.clone();
                match database.turn(move |turn| moves::step(turn, &task)).await {
                    Ok(false) => return,
                    Ok(true) => pauses.reset(),
                    Err(fault) if database.is_closed() => {
                        tracing::debug!(
                            error = fault.message,
                            "a move task waits for the next start"
                        );
                        return;
                    }
                    Err(fault) => {
                        tracing::warn!(error = fault.message, "a move task cannot go on yet");
                        wait = pauses.after_failure();
                    }
                }
                sleep(wait).await;
            }
        });
    }

    /// Forgets messages past their queue's retention. Returns at once; the work is done between
    /// requests.
    pub fn sweep(&self) {
        self.sweep_at(database::now());
    }

    fn sweep_at(&self, now: i64) {
        let again = self.clone();
        self.database.post(
            move |turn| retention::step(turn, now),
            move |progress| match progress {
                Ok(Progress::Done) => {}
                Ok(Progress::More) => again.sweep_at(now),
                Err(Fault { message, .. }) => tracing::error!(message, "queue sweep failed"),
            },
        );
    }

    async fn serve(&self, operation: &str, body: &[u8]) -> Result<Vec<u8>, Fault> {
        match operation {
            "CancelMessageMoveTask" => self.turn(body, moves::cancel).await,
            "ChangeMessageVisibility" => self.turn(body, receipt::change_one).await,
            "ChangeMessageVisibilityBatch" => self.turn(body, receipt::change_many).await,
            "CreateQueue" => self.turn(body, queue::create).await,
            "DeleteMessage" => self.turn(body, receipt::delete_one).await,
            "DeleteMessageBatch" => self.turn(body, receipt::delete_many).await,
            "DeleteQueue" => self.turn(body, queue::delete).await,
            "GetQueueAttributes" => self.turn(body, queue::attributes).await,
            "GetQueueUrl" => self.turn(body, queue::locate).await,
            "ListDeadLetterSourceQueues" => self.turn(body, listing::source_queues).await,
            "ListMessageMoveTasks" => self.turn(body, moves::list).await,
            "ListQueueTags" => self.turn(body, tags::list).await,
            "ListQueues" => self.turn(body, listing::queues).await,
            "PurgeQueue" => self.turn(body, queue::purge).await,
            "ReceiveMessage" => written(&self.receive(read(body)?).await?),
            "SendMessage" => self.turn(body, send::one).await,
            "SendMessageBatch" => self.turn(body, send::many).await,
            "SetQueueAttributes" => self.turn(body, queue::set_attributes).await,
            "StartMessageMoveTask" => {
                let request = read(body)?;
                let started = self.database.turn(move |turn| moves::start(turn, &request));
                let started = started.await?;
                self.go_on_moving(started.task_handle.clone());
                written(&started)
            }
            "TagQueue" => self.turn(body, tags::add).await,
            "UntagQueue" => self.turn(body, tags::remove).await,
            "AddPermission" | "RemovePermission" => Err(Fault::new(
                Kind::UnsupportedOperation,
                format!("{operation} is not supported by the embedded queues."),
            )),
            _ => Err(Fault::new(
                Kind::InvalidAction,
                format!("The action {operation} is not valid for this endpoint."),
            )),
        }
    }

    /// Serves an operation that needs one turn at the database.
    async fn turn<I, O>(
        &self,
        body: &[u8],
        operation: fn(&mut Turn<'_>, &I) -> Result<O, Fault>,
    ) -> Result<Vec<u8>, Fault>
    where
        I: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
    {
        let input = read(body)?;
        written(
            &self
                .database
                .turn(move |turn| operation(turn, &input))
                .await?,
        )
    }

    /// Looks until there is something or the request's patience ends; sleeps in between until the
    /// queue changes or a hidden message comes back.
    async fn receive(&self, request: ReceiveMessage) -> Result<Received, Fault> {
        let began = Instant::now();
        let signal = self.waiters.signal(&request.queue_url);
        let request = Arc::new(request);
        loop {
            let mut woken = std::pin::pin!(signal.notified());
            // From here on no change is missed, though nobody awaits it yet.
            woken.as_mut().enable();

            let asked = Arc::clone(&request);
            let look = self
                .database
                .turn(move |turn| receive::look(turn, &asked))
                .await?;
            let left = look.patience.saturating_sub(began.elapsed());
            if left.is_zero() || !look.found.messages.is_empty() {
                return Ok(look.found);
            }
            let nap = look.next_visible.map_or(left, |next| next.min(left));
            // Woken or not, the next step is to look again.
            let _ = timeout(nap, woken).await;
        }
    }
}

/// The answer of an operation that has nothing to say.
#[derive(Debug, Serialize)]
struct Empty {}

fn read<I: DeserializeOwned>(body: &[u8]) -> Result<I, Fault> {
    serde_json::from_slice(body)
        .map_err(|error| Fault::new(Kind::MalformedBody, format!("The request body: {error}")))
}

fn written(answer: &impl Serialize) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(answer).map_err(Fault::internal)
}

fn refusal(operation: &str, fault: &Fault) -> Answer {
    let (kind, query_code) = fault.kind.codes();
    let (status, culprit, message) = if let Kind::Storage(_) = fault.kind {
        // It was logged, and may come often.
        (storage::STATUS, "Receiver", fault.message.as_str())
    } else if fault.is_ours() {
        tracing::error!(operation, error = fault.message, "queue request failed");
        (
            500,
            "Receiver",
            "We encountered an internal error. Please try again.",
        )
    } else {
        (400, "Sender", fault.message.as_str())
    };
    Answer {
        status,
        query_error: Some(format!("{query_code};{culprit}")),
        body: json!({ "__type": kind, "message": message })
            .to_string()
            .into_bytes(),
    }
}

/// Why a store could not be opened.
#[derive(Debug)]
pub struct OpenError(Box<dyn std::error::Error + Send + std::marker::Sync>);

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the queue database cannot be opened")
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.0.as_ref())
    }
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.into())
    }
}

impl From<std::io::Error> for OpenError {
    fn from(error: std::io::Error) -> Self {
        Self(error.into())
    }
}
