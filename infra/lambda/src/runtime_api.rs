//! The Runtime API, which a bootstrap asks for events and tells what became of them.
//!
//! Each process has a server of its own, as each Lambda sandbox has. The protocol is that of
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>, and of the Extensions API as far as an
//! internal extension without events needs it.

use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// The most bytes of a response: 6 MB and a little. Lambda names this number in its error.
const LARGEST_RESPONSE: usize = 6_291_556;

/// Why an invocation has no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind of error, such as `Runtime.ExitError`.
    pub kind: String,
    /// What happened.
    pub message: String,
}

impl Failure {
    pub(crate) fn new(kind: &str, message: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl std::error::Error for Failure {}

/// An event on its way to a process.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) body: Bytes,
    pub(crate) deadline: SystemTime,
    pub(crate) trace: String,
    pub(crate) arn: String,
    pub(crate) answer: Answer,
    /// Whoever wants a streamed response as it comes; the answer is then empty.
    pub(crate) parts: Option<Parts>,
}

/// Where the parts of a streamed response go.
pub(crate) type Parts = mpsc::Sender<Bytes>;

type Answer = oneshot::Sender<Result<Bytes, Failure>>;

/// The server of one process. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct RuntimeApi {
    /// `127.0.0.1:port`, as `AWS_LAMBDA_RUNTIME_API` says it.
    pub(crate) address: String,
    /// Whether the process has asked for an event.
    pub(crate) polled: watch::Receiver<bool>,
    events: mpsc::Sender<Event>,
    server: JoinHandle<()>,
}

impl RuntimeApi {
    pub(crate) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?.to_string();
        let (events, waiting) = mpsc::channel(1);
        let (asked, polled) = watch::channel(false);
        let desk = Arc::new(Desk {
            waiting: AsyncMutex::new(waiting),
            open: Mutex::new(None),
            asked,
        });
        let server = tokio::spawn(async move {
            // It ends with its task: the listener itself never gives up.
            drop(axum::serve(listener, router(desk)).await);
        });
        Ok(Self {
            address,
            polled,
            events,
            server,
        })
    }

    /// Hands an event to the process as soon as it asks. Nothing is said if it never does.
    pub(crate) async fn hand_over(&self, event: Event) {
        // The other end lives as long as the server does.
        drop(self.events.send(event).await);
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Where events wait, and the one that is being worked on.
#[derive(Debug)]
struct Desk {
    waiting: AsyncMutex<mpsc::Receiver<Event>>,
    open: Mutex<Option<Open>>,
    asked: watch::Sender<bool>,
}

/// An event that is being worked on.
#[derive(Debug)]
struct Open {
    id: String,
    answer: Answer,
    parts: Option<Parts>,
}

impl Desk {
    /// Who wants the response to invocation `id` as it comes.
    fn parts(&self, id: &str) -> Option<Parts> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.as_ref().filter(|open| open.id == id)?;
        open.parts.clone()
    }

    /// Ends the invocation `id`; whether it was the one that is open.
    fn close(&self, id: &str, outcome: Result<Bytes, Failure>) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.take() {
            Some(current) if current.id == id => {
                // Whoever asked may have stopped waiting.
                drop(current.answer.send(outcome));
                true
            }
            other => {
                *open = other;
                false
            }
        }
    }
}

fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route(
            "/2018-06-01/runtime/invocation/{id}/response",
            post(response),
        )
        .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
        .route("/2018-06-01/runtime/init/error", post(init_error))
        .route("/2020-01-01/extension/register", post(register))
        .route("/2020-01-01/extension/event/next", get(next_of_extension))
        .layer(DefaultBodyLimit::disable())
        .with_state(desk)
}

async fn next(State(desk): State<Arc<Desk>>) -> Response<Body> {
    desk.asked.send_replace(true);
    let Some(event) = desk.waiting.lock().await.recv().await else {
        return pending().await;
    };
    let deadline = event.deadline.duration_since(UNIX_EPOCH);
    let deadline = deadline.unwrap_or_default().as_millis().to_string();
    let response = Response::builder()
        .header("content-type", "application/json")
        .header("lambda-runtime-aws-request-id", &event.id)
        .header("lambda-runtime-deadline-ms", deadline)
        .header("lambda-runtime-invoked-function-arn", event.arn)
        .header("lambda-runtime-trace-id", event.trace)
        .body(Body::from(event.body));
    let mut open = desk.open.lock().unwrap_or_else(PoisonError::into_inner);
    *open = Some(Open {
        id: event.id,
        answer: event.answer,
        parts: event.parts,
    });
    // Ids, numbers and ARNs are header values.
    response.unwrap_or_default()
}

async fn response(
    State(desk): State<Arc<Desk>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    mut body: Body,
) -> Response<Body> {
    let is_streamed = headers
        .get("lambda-runtime-function-response-mode")
        .is_some_and(|mode| mode == "streaming");
    let parts = desk.parts(&id).filter(|_| is_streamed);
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            let failure = Failure::new("Runtime.TruncatedResponse", "the response broke off");
            return accepted(desk.close(&id, Err(failure)));
        };
        let Ok(part) = frame.into_data() else {
            continue;
        };
        match &parts {
            // Whoever has gone is told nothing; the function is not told that, as in Lambda.
            Some(parts) => drop(parts.send(part).await),
            None => whole.extend_from_slice(&part),
        }
    }
    let body = Bytes::from(whole);
    // Of a streamed response 200 MB are taken, which nothing here comes near.
    if body.len() > LARGEST_RESPONSE {
        let message = format!(
            "Response payload size exceeded maximum allowed payload size ({LARGEST_RESPONSE} bytes)."
        );
        let failure = Failure::new("Function.ResponseSizeTooLarge", message);
        desk.close(&id, Err(failure));
        return refused(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge");
    }
    accepted(desk.close(&id, Ok(body)))
}

async fn error(
    State(desk): State<Arc<Desk>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    accepted(desk.close(&id, Err(reported(&headers, &body))))
}

/// A process that reports why it cannot start ends soon after; its log says the same.
async fn init_error() -> Response<Body> {
    accepted(true)
}

async fn register() -> Response<Body> {
    let extension =
        json!({ "functionName": "", "functionVersion": "$LATEST", "handler": "bootstrap" });
    Response::builder()
        .header(
            "lambda-extension-identifier",
            uuid::Uuid::new_v4().to_string(),
        )
        .header("content-type", "application/json")
        .body(Body::from(extension.to_string()))
        .unwrap_or_default()
}

/// An extension that registered for no events gets none.
async fn next_of_extension() -> Response<Body> {
    pending().await
}

/// What a bootstrap says went wrong.
fn reported(headers: &HeaderMap, body: &Bytes) -> Failure {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| said[name].as_str().map(str::to_owned);
    let header = headers.get("lambda-runtime-function-error-type");
    let header = header
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    Failure {
        kind: text("errorType").unwrap_or_else(|| header.to_owned()),
        message: text("errorMessage").unwrap_or_default(),
    }
}

fn accepted(known: bool) -> Response<Body> {
    if !known {
        return refused(StatusCode::BAD_REQUEST, "InvalidRequestID");
    }
    let mut response = axum::response::IntoResponse::into_response(Json(json!({ "status": "OK" })));
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

fn refused(status: StatusCode, kind: &str) -> Response<Body> {
    let said = Json(json!({ "errorMessage": kind, "errorType": kind }));
    let mut response = axum::response::IntoResponse::into_response(said);
    *response.status_mut() = status;
    response
}
