//! What the edge knows of a request besides its words.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::{FromRequestParts, MatchedPath, Request as HttpRequest},
    http::{HeaderMap, Method, request::Parts},
};
use tokio::time::Instant;

use super::{Failure, ignored::Ignored};
use crate::{
    app::quota::{Quota, Refusal},
    domain::{Error, Moment, TenantId, Timestamp},
};

/// How long a request may take before it is given up with a 503: well under the 30 s of API Gateway.
const PATIENCE: Duration = Duration::from_secs(10);

/// One request, as its edge and its extractors share it.
#[derive(Debug, Clone)]
pub struct Request {
    pub(super) moment: Moment,
    pub(super) address: Option<IpAddr>,
    pub(super) method: Method,
    /// The route that the path matches, if one does.
    pub(super) route: Option<MatchedPath>,
    /// What the caller has left, once somebody was charged.
    pub(super) quota: Arc<OnceLock<Quota>>,
    /// Whose request it is, once a key has said so.
    pub(super) tenant: Arc<OnceLock<TenantId>>,
    /// Members and parameters that nobody has read.
    pub(super) ignored: Ignored,
}

impl Request {
    /// A request that begins now.
    pub(super) fn begin(http: &HttpRequest, address: Option<IpAddr>) -> Result<Self, Error> {
        Ok(Self {
            moment: moment(PATIENCE)?,
            address,
            method: http.method().clone(),
            route: http.extensions().get::<MatchedPath>().cloned(),
            quota: Arc::default(),
            tenant: Arc::default(),
            ignored: Ignored::parameters_of(http.uri()),
        })
    }

    /// Notes whose budget the answer tells of. The first to pay is told.
    pub(super) fn pays(&self, quota: Quota) {
        let _ = self.quota.set(quota);
    }

    /// Notes the budget that is used up, if that is why a credential was refused. Gives back the reason.
    pub(super) fn refused(&self, refusal: Refusal) -> Error {
        if let Some(quota) = refusal.quota {
            self.pays(quota);
        }
        refusal.error
    }

    /// Whether it asks for the service's health.
    pub(super) fn is_health(&self) -> bool {
        let route = self.route.as_ref();
        route.is_some_and(|route| route.as_str() == "/health")
    }

    /// Notes whose request it is.
    pub(super) fn belongs_to(&self, tenant: TenantId) {
        let _ = self.tenant.set(tenant);
    }

    /// The one that the edge put into `parts`.
    pub(super) fn of(parts: &Parts) -> Result<Self, Failure> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Error::internal("the route has no edge").into())
    }
}

/// The moment of something that begins now and is given up after `patience`.
///
/// # Errors
///
/// [`Error::Internal`] if the clock or the source of randomness fails.
pub fn moment(patience: Duration) -> Result<Moment, Error> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(Error::internal)?;
    let micros = i64::try_from(since.as_micros()).map_err(Error::internal)?;
    let mut seed = [0; 16];
    getrandom::fill(&mut seed).map_err(Error::internal)?;
    let (now, seed) = (Timestamp::from_micros(micros), u128::from_be_bytes(seed));
    Ok(Moment::new(now, Instant::now(), patience, seed))
}

/// What is left of `moment`, from now on: a budget is charged at the time when it is, however long the look-up of the key
/// has taken. An older time would take what others took meanwhile for what a clock that was ahead has written.
///
/// # Errors
///
/// As [`moment`].
pub fn onward(begun: &Moment) -> Result<Moment, Error> {
    let Moment { now, started, .. } = moment(Duration::ZERO)?;
    Ok(Moment {
        now,
        started,
        ..*begun
    })
}

/// 256 random bits, for a secret.
pub fn entropy() -> Result<[u8; 32], Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(Error::internal)?;
    Ok(bytes)
}

/// The moment of the request.
#[derive(Debug)]
pub struct Now(pub Moment);

impl<S: Sync> FromRequestParts<S> for Now {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Request::of(parts).map(|request| Self(request.moment))
    }
}

/// The one value of header `name`; `None` without it.
///
/// # Errors
///
/// [`Error::Unauthenticated`] with `twice` if it was sent more than once: which one is meant?
pub(super) fn single<'a>(
    headers: &'a HeaderMap,
    name: &str,
    twice: &'static str,
) -> Result<Option<&'a [u8]>, Error> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(axum::http::HeaderValue::as_bytes);
    if values.next().is_some() {
        return Err(Error::Unauthenticated(twice));
    }
    Ok(first)
}
