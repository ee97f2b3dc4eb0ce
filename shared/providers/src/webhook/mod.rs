//! Sending webhooks: one signed POST to an address that somebody else chose.
//!
//! **Invariant:** nothing is connected to but an address that was checked, and nothing that the receiver says is
//! kept: of an answer only the status and `Retry-After` are read.

mod answer;
mod sign;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{Request, Uri, body::Bytes, header, http::HeaderValue};
use rustls::RootCertStore;
use tokio::time::{Instant, timeout_at};

use super::outbound::{self, Client, reason};
use crate::domain::webhook::{EndpointUrl, Outgoing, Refused, Secret, Targets};

/// Who we say we are.
const AGENT: &str = concat!("Parlance-Webhooks/", env!("CARGO_PKG_VERSION"));
/// For how long an unused connection is kept. A busy receiver's is used again before that; those of many
/// receivers are not to use up the files a process may open.
const KEPT: Duration = Duration::from_secs(5);

/// How long a sender waits.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a name to be resolved and a connection to be made, without its TLS.
    pub connect: Duration,
    /// For everything.
    pub total: Duration,
    /// For the rest of an answer whose status is known, so that its connection can be used again.
    pub rest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            total: Duration::from_secs(10),
            rest: Duration::from_millis(250),
        }
    }
}

/// Sends webhooks. Its connections are kept for a while.
pub struct Sender {
    client: Client,
    targets: Targets,
    patience: Patience,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("targets", &self.targets)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

impl Sender {
    /// Sends to `targets`, and trusts the certificates that this machine trusts.
    pub fn new(targets: Targets) -> Self {
        Self::with_patience(targets, Patience::default())
    }

    /// The same with another `patience`.
    pub fn with_patience(targets: Targets, patience: Patience) -> Self {
        Self::trusting(outbound::trusted(), targets, patience)
    }

    fn trusting(
        roots: impl Into<Arc<RootCertStore>>,
        targets: Targets,
        patience: Patience,
    ) -> Self {
        let client = outbound::client(roots.into(), targets, patience.connect, KEPT);
        Self {
            client,
            targets,
            patience,
        }
    }

    /// Where this one sends to.
    pub const fn targets(&self) -> Targets {
        self.targets
    }

    /// Sends `what` to `url`, signed with each of `secrets`, of which the first is the newest. The status of the
    /// answer, which is a 2xx.
    ///
    /// # Errors
    ///
    /// [`Refused`] for any other answer, and for none within the patience of this sender or by `until`.
    pub async fn post(
        &self,
        url: &EndpointUrl,
        secrets: &[Secret],
        what: &Outgoing<'_>,
        until: Instant,
    ) -> Result<u16, Refused> {
        let end = until.min(Instant::now() + self.patience.total);
        let request = self.request(url, secrets, what)?;
        let answer = match timeout_at(end, self.client.request(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(Refused::new(reason::reason(&error))),
            Err(_) => return Err(Refused::new(reason::TIMEOUT)),
        };
        let (head, body) = answer.into_parts();
        // The status is known: whatever comes of the rest changes nothing.
        let rest = end.min(Instant::now() + self.patience.rest);
        let _ = timeout_at(rest, outbound::pass_over(body)).await;
        answer::judge(head.status.as_u16(), &head.headers, what.at)
    }

    fn request(
        &self,
        url: &EndpointUrl,
        secrets: &[Secret],
        what: &Outgoing<'_>,
    ) -> Result<Request<Full<Bytes>>, Refused> {
        // What was allowed when it was stored may not be any more.
        let allowed = EndpointUrl::parse(url.as_str().to_owned(), self.targets);
        let url = allowed.map_err(|_| Refused::new(reason::NOT_ALLOWED))?;
        let uri: Uri = url.normal().parse().map_err(unsendable)?;
        let mut request = Request::post(uri)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, AGENT)
            .header("webhook-id", what.id)
            .header("webhook-timestamp", what.at.seconds())
            .header("x-chatapi-event", what.event.name());
        if let Some(newest) = secrets.first() {
            let signatures = sensitive(&sign::standard(secrets, what))?;
            let chatapi = sensitive(&sign::chatapi(newest, what.body))?;
            request = request
                .header("webhook-signature", signatures)
                .header("x-chatapi-signature", chatapi);
        }
        let body = Full::new(Bytes::copy_from_slice(what.body.as_bytes()));
        request.body(body).map_err(unsendable)
    }
}

/// A value that no log shows.
fn sensitive(value: &str) -> Result<HeaderValue, Refused> {
    let mut value = HeaderValue::try_from(value).map_err(unsendable)?;
    value.set_sensitive(true);
    Ok(value)
}

/// What cannot be written as a request. Our URLs, ids and signatures can.
fn unsendable(error: impl fmt::Display) -> Refused {
    tracing::error!(%error, "a webhook cannot be written as a request");
    Refused::new("request cannot be written")
}
