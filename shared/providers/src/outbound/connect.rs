//! Connecting to an address that was checked, and to no other: the name is resolved here, so nobody resolves it
//! again in between.

use std::{
    error::Error as StdError,
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::Uri;
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpStream, lookup_host},
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tower::Service;

use crate::domain::address::Targets;

/// How many names are looked up at the same time. Each takes a thread of the runtime's until the system gives up, long after
/// we have: names that hang must leave some.
const LOOKUPS: usize = 64;

/// Makes connections to what `targets` allow.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    targets: Targets,
    patience: Duration,
    lookups: Arc<Semaphore>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Unreached {
    /// The name has no address.
    NoHost,
    /// None of its addresses is allowed.
    NotAllowed,
    /// Nobody answered in time.
    TimedOut,
    /// The network, or the other side, refused.
    Failed(io::Error),
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHost => f.write_str("the name has no address"),
            Self::NotAllowed => f.write_str("no address of the name is allowed"),
            Self::TimedOut => f.write_str("nobody answered in time"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl StdError for Unreached {}

impl Checked {
    pub(super) fn new(targets: Targets, patience: Duration) -> Self {
        Self {
            targets,
            patience,
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
        }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, Unreached> {
        let end = Instant::now() + self.patience;
        let addresses = self.addresses(&uri, end).await?;
        let mut failure = Unreached::NoHost;
        for (tried, address) in addresses.iter().enumerate() {
            // None of them may use up the time of those after it.
            let left = end.saturating_duration_since(Instant::now());
            let others = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            let turn = Instant::now() + left / others;
            match timeout_at(turn, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // A request is one write; waiting for more would only take time.
                    stream.set_nodelay(true).map_err(Unreached::Failed)?;
                    return Ok(TokioIo::new(stream));
                }
                Ok(Err(error)) => failure = Unreached::Failed(error),
                Err(_) => failure = Unreached::TimedOut,
            }
        }
        Err(failure)
    }

    /// The addresses of a URI's host that are allowed: at least one.
    async fn addresses(&self, uri: &Uri, end: Instant) -> Result<Vec<SocketAddr>, Unreached> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let found: Vec<_> = if let Ok(address) = host.parse::<IpAddr>() {
            vec![SocketAddr::new(address, port)]
        } else {
            let turn = Arc::clone(&self.lookups).acquire_owned();
            let turn = timeout_at(end, turn).await;
            let turn = turn.map_err(|_| Unreached::TimedOut)?;
            let host = host.to_owned();
            // By itself, so that it holds its turn for as long as it holds its thread.
            let lookup = tokio::spawn(async move {
                let _turn = turn;
                let found = lookup_host((host, port)).await;
                found.map(Iterator::collect::<Vec<_>>)
            });
            let found = timeout_at(end, lookup).await;
            let found = found.map_err(|_| Unreached::TimedOut)?;
            let found = found.map_err(|error| Unreached::Failed(io::Error::other(error)))?;
            found.map_err(|_| Unreached::NoHost)?
        };
        if found.is_empty() {
            return Err(Unreached::NoHost);
        }
        let is_allowed = |address: &SocketAddr| self.targets.allow(address.ip());
        let allowed: Vec<_> = found.into_iter().filter(is_allowed).collect();
        if allowed.is_empty() {
            return Err(Unreached::NotAllowed);
        }
        Ok(allowed)
    }
}

impl Service<Uri> for Checked {
    type Response = TokioIo<TcpStream>;
    type Error = Unreached;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Unreached>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unreached>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}
