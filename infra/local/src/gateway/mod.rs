//! The API: every function's routes on one port, as API Gateway puts them behind one address.
//!
//! **Invariant:** a client that says or reads nothing holds a connection for a bounded time, and never keeps others out:
//! at the limit of connections, those that wait longest for a request are closed for new ones (see [`Connections`]).

mod body;
mod connections;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parlance::http::telemetry::Warning;
use rustix::io::Errno;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_io_timeout::TimeoutStream;
use tower::Service as _;

use self::body::{Answered, Timed};
pub(crate) use self::connections::Slot;
pub use self::connections::{Caps, Connections};

/// Pause after an accept that failed for want of descriptors: those that are being closed are soon there again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Time limits of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From the end of one answer, or from the start, to the end of the next request's headers. Longer than the minute
    /// for which reverse proxies keep a connection that is not in use: the proxy should be the one that closes it.
    pub header: Duration,
    /// A whole request body, once its headers are read. As long as API Gateway gives a request.
    pub body: Duration,
    /// How long a client may read nothing of an answer, or of what a WebSocket sends.
    pub write: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(75),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
        }
    }
}

/// Maximum number of bytes that the kernel takes for a client before it has read them; Linux doubles it for its own books.
/// By itself it takes megabytes for each, which no bound of ours sees.
const SEND_BUFFER: usize = 64 * 1024;

/// Bounds the send buffers of all connections that `listener` accepts, which have its own.
fn bound_send_buffers(listener: &TcpListener) {
    if let Err(error) = sockopt::set_socket_send_buffer_size(listener, SEND_BUFFER) {
        tracing::warn!(%error, "SO_SNDBUF was refused: slow readers take more memory");
    }
}

/// Serves `router` until `stop` turns true and the requests in flight are answered.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    connections: Connections,
    mut stop: watch::Receiver<bool>,
) {
    bound_send_buffers(&listener);
    let (open, mut ended) = mpsc::channel::<Infallible>(1);
    let mut failed = Warning::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // An error means that nobody is left to stop it, which is a stop as well.
            _ = stop.wait_for(|stopped| *stopped) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                let errno = error.raw_os_error().map(Errno::from_raw_os_error);
                if matches!(errno, Some(Errno::MFILE | Errno::NFILE)) {
                    if let Some(times) = failed.due() {
                        tracing::warn!(
                            %error,
                            times,
                            "no file descriptor is left for a new connection: raise `ulimit -n`, or lower --max-connections"
                        );
                    }
                    tokio::select! {
                        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                        _ = stop.wait_for(|stopped| *stopped) => break,
                    }
                } else {
                    // The client has gone before it was accepted.
                    tracing::debug!(%error, "a connection was not accepted");
                }
                continue;
            }
        };
        let slot = match connections.admit(peer.ip()) {
            Ok(slot) => Arc::new(slot),
            Err(refusal) => {
                // The client may have gone already, or not wait for an answer.
                drop(stream.try_write(refusal.answer()));
                continue;
            }
        };
        // Answers are small and written at once: waiting for more would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
        let serving = connection(stream, peer, router.clone(), slot, stop.clone());
        let open = open.clone();
        tokio::spawn(async move {
            serving.await;
            drop(open);
        });
        // Those that are closed for it must end before many more are accepted.
        tokio::task::yield_now().await;
    }
    drop((listener, open));
    // Nothing is sent: it returns when the last connection has ended.
    ended.recv().await;
}

/// Serves one connection until it ends, is closed for another one, or becomes a WebSocket.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    slot: Arc<Slot>,
    mut stop: watch::Receiver<bool>,
) {
    let timeouts = slot.timeouts();
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(timeouts.write));
    let serving = Arc::clone(&slot);
    let service = service_fn(move |request: Request<Incoming>| {
        let busy = serving.busy();
        let mut request = request.map(|body| Body::new(Timed::new(body, timeouts.body)));
        let extensions = request.extensions_mut();
        extensions.insert(ConnectInfo(peer));
        // A WebSocket holds it for as long as it lives.
        extensions.insert(Arc::clone(&serving));
        let mut router = router.clone();
        async move {
            let response: Response<Body> = router.call(request).await?;
            Ok::<_, Infallible>(response.map(|body| Answered::new(body, busy)))
        }
    });
    let stream: Pin<Box<TimeoutStream<TcpStream>>> = Box::pin(stream);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeouts.header)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut served = pin!(served);
    let is_stopped = tokio::select! {
        biased;
        ended = &mut served => {
            slot.detach();
            note(ended);
            return;
        }
        () = slot.closed() => false,
        _ = stop.wait_for(|stopped| *stopped) => true,
    };
    // A request whose headers are incomplete is not waited for. One that has just come is answered.
    if slot.is_waiting() {
        return;
    }
    if is_stopped {
        served.as_mut().graceful_shutdown();
    }
    let ended = served.await;
    slot.detach();
    note(ended);
}

fn note(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection failed");
    }
}
