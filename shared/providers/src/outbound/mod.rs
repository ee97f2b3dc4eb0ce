//! What goes out to addresses that somebody else chose.
//!
//! **Invariant:** nothing is connected to but an address that was checked when it was connected to; no redirection is
//! followed unseen; and the head of an answer is bounded.

mod connect;
mod fetch;
pub(super) mod reason;
pub(super) mod wait;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};

use self::connect::Checked;
pub use self::fetch::{Fetched, Fetcher, Unfetched};
use crate::domain::address::Targets;

/// How many unused connections to one host are kept.
const KEPT_EACH: usize = 2;
/// The longest head of an answer, in bytes.
pub(super) const LONGEST_HEAD: usize = 32 * 1024;

/// How much of a body that nobody wants is read and thrown away, in bytes.
const PASSED_OVER: u64 = 16 * 1024;

/// Sends requests to addresses that are checked.
pub(super) type Client = legacy::Client<HttpsConnector<Checked>, Full<Bytes>>;

/// A client that reaches `targets`, and believes whom `roots` vouch for. A connection is made within `connect`, without
/// its TLS, and kept for `kept` when it is not used.
pub(super) fn client(
    roots: Arc<RootCertStore>,
    targets: Targets,
    connect: Duration,
    kept: Duration,
) -> Client {
    let crypto = Arc::new(ring::default_provider());
    #[expect(
        clippy::expect_used,
        reason = "it fails for a provider without these versions, and this one has them"
    )]
    let tls = ClientConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnector::from((Checked::new(targets, connect), tls));
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(kept)
        .pool_max_idle_per_host(KEPT_EACH)
        .http1_max_buf_size(LONGEST_HEAD)
        .build(connector)
}

/// Reads a body that nobody wants, so that its connection can be used again: if it is short.
pub(super) async fn pass_over(mut body: Incoming) {
    if body.size_hint().lower() > PASSED_OVER {
        return;
    }
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, |data| data.len() as u64);
        if read > PASSED_OVER {
            return;
        }
    }
}

/// The certificates that this machine trusts, read when they are first needed: that takes longer than the rest of a
/// start.
pub(super) fn trusted() -> Arc<RootCertStore> {
    static TRUSTED: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    Arc::clone(TRUSTED.get_or_init(|| Arc::new(read_trusted())))
}

fn read_trusted() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (trusted, _) = roots.add_parsable_certificates(found.certs);
    if trusted == 0 {
        // Whoever sends without TLS needs none.
        let errors = found.errors.iter().map(ToString::to_string);
        let cause = errors.collect::<Vec<_>>().join(", ");
        tracing::warn!(cause, "this machine trusts no certificate");
    }
    roots
}
