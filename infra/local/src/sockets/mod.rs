//! What API Gateway's WebSocket API is in AWS, on the API's own port: `GET /ws`.
//!
//! ```text
//! client ── GET /ws ──▶ $connect ──▶ handler: its status is the handshake's
//!        ── text ─────▶ $default ──▶ handler: its body is sent back
//!        ── end ──────▶ $disconnect ▶ handler
//!        ◀── frames ── outbox ◀── @connections ◀── connector ◀── AWS SDK
//! ```
//!
//! As in AWS, a frame may have 32 KB and a message 128 KB, a connection ends after ten minutes of silence or two
//! hours, binary frames are refused, and a post to a connection whose `$connect` is not answered finds nothing.
//!
//! **Invariant:** the handler is given the events of one connection one after the other, `$disconnect` last, and once,
//! however the connection ended. One connection's frames wait in an outbox of its own, which is bounded, and so are all
//! outboxes together, with the posts that wait for room in one: who does not read is cut off, and delays nobody else.

mod connector;
mod event;
mod outbox;
#[cfg(test)]
mod tests;
mod upgrade;

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lambda_events::apigw::{ApiGatewayProxyResponse, ApiGatewayWebsocketProxyRequest};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use axum::Router;
use axum::extract::ws::Utf8Bytes;
use parlance::http::telemetry::Warning;
use tokio::sync::mpsc;
use tokio::time::timeout;

use self::outbox::{Backlog, Outbox, Post};

/// How long a connection may be silent, and live.
const IDLE: Duration = Duration::from_mins(10);
const LIFETIME: Duration = Duration::from_hours(2);
/// How long the ends of all connections may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// What is done with an event.
pub type Handled = Pin<Box<dyn Future<Output = ApiGatewayProxyResponse> + Send>>;

/// Whoever takes the events, as the function behind the WebSocket API does.
#[derive(Clone)]
pub struct Handler(Arc<dyn Fn(ApiGatewayWebsocketProxyRequest) -> Handled + Send + Sync>);

impl Handler {
    /// Takes events by `handle`.
    pub fn new(
        handle: impl Fn(ApiGatewayWebsocketProxyRequest) -> Handled + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(handle))
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handler")
    }
}

/// How long a connection may last.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// Without anything said in either direction.
    pub idle: Duration,
    /// At all.
    pub whole: Duration,
}

impl Default for Lifetimes {
    /// API Gateway's.
    fn default() -> Self {
        Self {
            idle: IDLE,
            whole: LIFETIME,
        }
    }
}

/// The connections of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sockets(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    outboxes: Mutex<HashMap<String, Arc<Outbox>>>,
    backlog: Arc<Backlog>,
    cut: Mutex<Warning>,
    lifetimes: Lifetimes,
    is_closing: AtomicBool,
    /// Each connection holds one: when none is left, all have ended.
    alive: Mutex<Option<mpsc::Sender<()>>>,
    ended: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

impl Default for Sockets {
    fn default() -> Self {
        Self::new(Lifetimes::default())
    }
}

impl Sockets {
    /// No connections yet.
    pub fn new(lifetimes: Lifetimes) -> Self {
        Self::with(lifetimes, Backlog::LIMIT)
    }

    /// The same, with at most `backlog` bytes in all outboxes together.
    fn with(lifetimes: Lifetimes, backlog: usize) -> Self {
        let (alive, ended) = mpsc::channel(1);
        Self(Arc::new(Inner {
            outboxes: Mutex::default(),
            backlog: Arc::new(Backlog::new(backlog)),
            cut: Mutex::default(),
            lifetimes,
            is_closing: AtomicBool::new(false),
            alive: Mutex::new(Some(alive)),
            ended: tokio::sync::Mutex::new(ended),
        }))
    }

    /// The SDK's way to `@connections`.
    pub fn http_client(&self) -> SharedHttpClient {
        connector::http_client(self.clone())
    }

    /// `api`, with `GET /ws` on top, whose events `handler` takes.
    pub fn router(&self, handler: Handler, api: Router) -> Router {
        upgrade::router(self.clone(), handler, api)
    }

    /// Tells every client to come back, and closes its connection once it was told.
    pub async fn shut_down(&self) {
        self.0.is_closing.store(true, Ordering::Release);
        drop(
            self.0
                .alive
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let outboxes: Vec<_> = self.outboxes().values().cloned().collect();
        for outbox in outboxes {
            outbox.say_goodbye();
        }
        let mut ended = self.0.ended.lock().await;
        if timeout(FAREWELL, ended.recv()).await.is_err() {
            tracing::warn!("some connections did not end, and are cut off");
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.outboxes().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a frame into an outbox, for which others may be cut off.
    async fn post(&self, outbox: &Outbox, frame: Utf8Bytes) -> Post {
        let Some(posting) = outbox.posting(frame) else {
            return Post::TooLarge;
        };
        // Before it waits for room, or many that wait would take more than may wait.
        self.cut_and_tell();
        outbox.put(posting).await
    }

    /// Cuts off clients if too much waits. With thousands of them that is done thousands of times a second, and said every
    /// ten seconds.
    fn cut_and_tell(&self) {
        let cut = self.cut_slowest();
        let mut warning = self.0.cut.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cut) = warning.due_after(cut) {
            tracing::warn!(
                cut,
                "clients that do not read are cut off: too much waits for them"
            );
        }
    }

    /// Cuts off clients, beginning with the one that has read nothing for longest, until what is left may stay. How many
    /// that were: none, if those that were cut before are still to go.
    fn cut_slowest(&self) -> u64 {
        let mut excess = self.0.backlog.excess();
        if excess == 0 {
            return 0;
        }
        let outboxes = self.outboxes();
        let mut stuck = Vec::new();
        for outbox in outboxes.values() {
            match (outbox.waiting(), outbox.stuck_since()) {
                (0, _) => {}
                (bytes, Some(since)) => stuck.push((since, bytes, outbox)),
                (going, None) => excess = excess.saturating_sub(going),
            }
        }
        stuck.sort_unstable_by_key(|(since, ..)| *since);
        let mut cut = 0;
        for (_, bytes, outbox) in stuck {
            if excess == 0 {
                break;
            }
            outbox.cut_off();
            cut += 1;
            excess = excess.saturating_sub(bytes);
        }
        cut
    }

    fn outbox(&self, id: &str) -> Option<Arc<Outbox>> {
        self.outboxes().get(id).cloned()
    }

    /// A panic elsewhere leaves the map whole: every change to it is one call.
    fn outboxes(&self) -> MutexGuard<'_, HashMap<String, Arc<Outbox>>> {
        self.0
            .outboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
