//! Clients' connections, reached through API Gateway's `@connections`.

use std::{error::Error as StdError, fmt, time::Duration};

use aws_sdk_apigatewaymanagement::{Client, error::SdkError, primitives::Blob};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use tokio::time::timeout;

use crate::domain::{ConnectionId, Error};

/// The largest frame that a connection is sent, in bytes: API Gateway's limit of a message.
pub const LARGEST_FRAME: usize = 128 * 1024;
/// How long any of this may take, with its retries.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// The way to connections.
#[derive(Debug, Clone)]
pub struct Sockets {
    client: Client,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// The gateway has it, and hands over what it has in order.
    Taken,
    /// There is no such connection, no longer or not yet.
    Gone,
    /// The connection takes no more at the moment.
    Busy,
}

/// A connection could not be asked.
#[derive(Debug)]
struct Failed<E> {
    call: &'static str,
    error: E,
}

impl<E> fmt::Display for Failed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of a connection", self.call)
    }
}

impl<E: StdError + 'static> StdError for Failed<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}

/// The gateway is asked for too much at once.
#[derive(Debug)]
struct Throttled;

impl fmt::Display for Throttled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many requests")
    }
}

impl StdError for Throttled {}

/// It took too long.
#[derive(Debug)]
struct Slow;

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer within {} s", PATIENCE.as_secs())
    }
}

impl StdError for Slow {}

impl Sockets {
    /// Reached by `client`, whose endpoint is that of a WebSocket API's stage.
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    /// Sends `frame`, at most [`LARGEST_FRAME`] bytes. Takes at most [`PATIENCE`].
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if nobody knows what became of it: it may arrive, once or twice.
    pub async fn post(&self, connection: &ConnectionId, frame: &str) -> Result<Posted, Error> {
        if frame.len() > LARGEST_FRAME {
            return Err(Error::internal("a frame of more than 128 KB"));
        }
        let call = self
            .client
            .post_to_connection()
            .connection_id(connection.as_str())
            .data(Blob::new(frame))
            .send();
        asked("PostToConnection", call).await
    }

    /// Ends a connection. Takes at most [`PATIENCE`].
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if nobody knows what became of it.
    pub async fn close(&self, connection: &ConnectionId) -> Result<(), Error> {
        let call = self
            .client
            .delete_connection()
            .connection_id(connection.as_str())
            .send();
        let name = "DeleteConnection";
        match asked(name, call).await? {
            // Who is gone is closed.
            Posted::Taken | Posted::Gone => Ok(()),
            Posted::Busy => Err(Error::Unavailable(Box::new(Failed {
                call: name,
                error: Throttled,
            }))),
        }
    }

    /// Whether there is such a connection. Takes at most [`PATIENCE`].
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if that cannot be known.
    pub async fn is_open(&self, connection: &ConnectionId) -> Result<bool, Error> {
        let call = self
            .client
            .get_connection()
            .connection_id(connection.as_str())
            .send();
        Ok(asked("GetConnection", call).await? != Posted::Gone)
    }
}

/// Waits for a call, and reads its answer by its status alone.
async fn asked<T, E>(
    call: &'static str,
    answer: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
) -> Result<Posted, Error>
where
    E: StdError + Send + Sync + 'static,
{
    let Ok(answer) = timeout(PATIENCE, answer).await else {
        return Err(Error::Unavailable(Box::new(Failed { call, error: Slow })));
    };
    let Err(error) = answer else {
        return Ok(Posted::Taken);
    };
    match error.raw_response().map(|raw| raw.status().as_u16()) {
        Some(410) => Ok(Posted::Gone),
        Some(429) => Ok(Posted::Busy),
        Some(_) | None => Err(Error::Unavailable(Box::new(Failed { call, error }))),
    }
}
