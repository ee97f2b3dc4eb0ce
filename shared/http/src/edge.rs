//! The edge of a dialect: what surrounds its routes.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request as HttpRequest, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header, header::Entry,
    },
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use lambda_http::{RequestExt, request::RequestContext};
use percent_encoding::percent_decode_str;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{Any, CorsLayer},
};

use super::{
    Failure,
    dialects::{Cors, Dialect},
    ignored,
    request::Request,
    telemetry::{
        late::{Begun, Late},
        request::{ID_HEADER, Observed},
    },
    unrouted::name_methods,
};
use crate::{
    app::{App, quota::Quota},
    domain::{Error, RequestId, rate::Charge},
};

/// When to try again after contention or an outage, in seconds.
const SOON: u64 = 1;
/// The part of an IPv6 address that its network has in common: 64 bits.
const V6_NETWORK: u128 = !(u64::MAX as u128);
/// How long a browser may remember a preflight.
const PREFLIGHT: Duration = Duration::from_hours(2);

/// What a browser's page may read of an answer's headers.
const EXPOSED: [&str; 8] = [
    "link",
    "retry-after",
    "idempotent-replayed",
    "x-ignored",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    ID_HEADER,
];

/// `routes` with all that dialect `D` puts around them: panics become errors, errors become its
/// envelopes, every answer but a preflight's says what is left of the budget, and browsers of any origin may call.
pub fn edge<D: Dialect>(routes: Router<App>, app: &App) -> Router {
    let bare = routes.clone().with_state(app.clone());
    routes
        .layer(CatchPanicLayer::custom(|_| {
            Failure::from(Error::internal("a handler panicked")).into_response()
        }))
        .layer(cors(D::CORS))
        .layer(from_fn_with_state((app.clone(), bare), around::<D>))
        .with_state(app.clone())
}

/// What `policy` lets pages ask for. Any origin may: the credential is a header that no browser adds by itself.
fn cors(policy: Cors) -> CorsLayer {
    let name = HeaderName::from_static;
    let mut headers = vec![
        header::ACCEPT,
        header::CONTENT_TYPE,
        name("idempotency-key"),
    ];
    headers.extend(policy.headers.iter().map(|it| name(it)));
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers(headers)
        .expose_headers(EXPOSED.map(HeaderName::from_static))
        .max_age(PREFLIGHT)
}

async fn around<D: Dialect>(
    State((app, bare)): State<(App, Router)>,
    mut http: HttpRequest,
    next: Next,
) -> Response {
    let (method, uri) = (http.method().clone(), http.uri().clone());
    let begun = Request::begin(&http, address(&http));
    let observed = Observed::begin(&http, || match &begun {
        Ok(request) => RequestId::at(&request.moment).to_string(),
        Err(_) => String::new(),
    });
    let (mut response, tenant) = match begun {
        Ok(request) => {
            http.extensions_mut().insert(request.clone());
            let mut response = observed.of(serve(&app, &request, http, next)).await;
            name_ignored(&mut response, &request);
            (response, request.tenant.get().copied())
        }
        Err(error) => (Failure::from(error).into_response(), None),
    };
    name_methods(&mut response, bare, method, uri).await;
    let error = render::<D>(&mut response);
    readable(&mut response);
    careful::<D>(&mut response);
    observed.name(&mut response);
    let status = response.status();
    match response.extensions_mut().remove::<Late>() {
        Some(late) => late.leave(Begun {
            observed,
            surface: D::NAME,
            tenant,
            status,
        }),
        None => observed.end(D::NAME, tenant, status, error.as_deref()),
    }
    response
}

/// Lets a browser's page read an answer that no route gave: what is refused before is not seen by [`cors`].
fn readable(response: &mut Response) {
    if let Entry::Vacant(origin) = response
        .headers_mut()
        .entry(header::ACCESS_CONTROL_ALLOW_ORIGIN)
    {
        origin.insert(HeaderValue::from_static("*"));
        if let Ok(exposed) = HeaderValue::try_from(EXPOSED.join(",")) {
            let headers = response.headers_mut();
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }
}

/// Names what was passed over in an answer to what was read. A request that failed was not read to its end.
fn name_ignored(response: &mut Response, request: &Request) {
    if response.extensions().get::<Failure>().is_none()
        && response.status().is_success()
        && let Some(names) = request.ignored.header()
    {
        response.headers_mut().insert(ignored::HEADER, names);
    }
}

/// What keeps an answer out of caches and browsers from guessing its type; and which credential a 401 wants (RFC 9110,
/// section 11.6.1). A route that gains by revalidation says so itself.
fn careful<D: Dialect>(response: &mut Response) {
    let is_unauthenticated = response.status() == StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    if let Entry::Vacant(cache) = headers.entry(header::CACHE_CONTROL) {
        cache.insert(HeaderValue::from_static("no-store"));
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if is_unauthenticated {
        headers.insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static(D::CHALLENGE),
        );
    }
}

async fn serve(app: &App, request: &Request, http: HttpRequest, next: Next) -> Response {
    let mut response = match whole_path(&http).and_then(|()| one_host(&http)) {
        // Nothing is done for it, and what says 429 to it says to the page that it may not ask at all.
        Ok(()) if is_preflight(&http) => return next.run(http).await,
        Ok(()) => next.run(http).await,
        Err(error) => Failure::from(error).into_response(),
    };
    let quota = if let Some(quota) = request.quota.get() {
        *quota
    } else {
        charge_address(app, request, &mut response)
    };
    say(&mut response, quota);
    response
}

/// Charges the address with a request that nobody else has paid for, which is refused if that was one too many. What is
/// left for it.
fn charge_address(app: &App, request: &Request, response: &mut Response) -> Quota {
    let (address, moment) = (request.address, &request.moment);
    let charge = match response.extensions().get::<Failure>() {
        None if request.is_health() => Charge::Health,
        None => Charge::Public,
        Some(Failure(error)) if is_unproved(error) => {
            return app.address_quota(Charge::Invalid, address, moment);
        }
        Some(Failure(_)) => Charge::Invalid,
    };
    let (quota, verdict) = app.charge_address(charge, address, moment);
    if let Err(error) = verdict {
        response.extensions_mut().insert(Failure::from(error));
    }
    quota
}

/// Whether a request failed with `error` before it was known to be invalid.
fn is_unproved(error: &Error) -> bool {
    match error {
        Error::RateLimited { .. }
        | Error::Busy
        | Error::Unavailable(_)
        | Error::Internal(_)
        | Error::Upstream { .. }
        | Error::TokensUsedUp { .. }
        | Error::InProgress { .. } => true,
        Error::Invalid { .. }
        | Error::TooLarge { .. }
        | Error::UnsupportedMedia(_)
        | Error::Unauthenticated(_)
        | Error::Forbidden(_)
        | Error::SecretKeyOnly
        | Error::NotFound(_)
        | Error::MethodNotAllowed { .. }
        | Error::Conflict(_)
        | Error::RoomExists(_) => false,
    }
}

/// Whether a browser asks what a page may send: [`cors`] answers it, whatever the route.
fn is_preflight(http: &HttpRequest) -> bool {
    let headers = http.headers();
    http.method() == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Refuses a path that API Gateway has changed.
///
/// An HTTP API hands over a decoded path. Where an id in it holds `#`, `?` or `%`, what is left of it could
/// name somebody else: `DELETE …/members/bob%232` would remove bob.
fn whole_path(http: &HttpRequest) -> Result<(), Error> {
    let handed_over = http.raw_http_path();
    let read: Vec<u8> = percent_decode_str(http.uri().path()).collect();
    if handed_over.is_empty() || handed_over.as_bytes() == read {
        return Ok(());
    }
    Err(Error::invalid(
        "path",
        "Invalid path. Give an id with one of / \\ ? # % as a query parameter",
    ))
}

/// Refuses a request of HTTP/1.1 that names no host, or two (RFC 9112, section 3.2). API Gateway has checked its own.
fn one_host(http: &HttpRequest) -> Result<(), Error> {
    let is_direct = http.extensions().get::<ConnectInfo<SocketAddr>>().is_some();
    if !is_direct || names_one_host(http.headers(), http.version()) {
        return Ok(());
    }
    Err(Error::invalid("Host", "Invalid Host. Send it once"))
}

/// Whether a request that came straight from its client says once to which host it goes, as HTTP/1.1 requires.
pub fn names_one_host(headers: &HeaderMap, version: Version) -> bool {
    let hosts = headers.get_all(header::HOST).iter().count();
    hosts == 1 || (hosts == 0 && version != Version::HTTP_11)
}

/// Where the request came from: as API Gateway says, or as the socket does. A network of IPv6 addresses
/// counts as one: whoever has one of them has them all.
fn address(http: &HttpRequest) -> Option<IpAddr> {
    let address = match http.extensions().get::<RequestContext>() {
        Some(RequestContext::ApiGatewayV2(context)) => {
            context.http.source_ip.as_ref()?.parse().ok()
        }
        Some(_) => None,
        None => http
            .extensions()
            .get::<ConnectInfo<SocketAddr>>()
            .map(|peer| peer.ip()),
    };
    address.map(network)
}

/// Which network `address` counts as. One of IPv4 that is written as one of IPv6 is itself.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & V6_NETWORK).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Replaces the placeholder of a [`Failure`] by what dialect `D` says, and gives back why it failed.
fn render<D: Dialect>(response: &mut Response) -> Option<Arc<Error>> {
    let Failure(error) = response.extensions_mut().remove::<Failure>()?;
    let status = D::status(&error);
    *response.status_mut() = status;
    // An envelope is strings and booleans: it always has a JSON form.
    let body = serde_json::to_vec(&D::envelope(&error)).unwrap_or_default();
    *response.body_mut() = Body::from(body);
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    let retry_after = match &*error {
        Error::RateLimited { retry_after }
        | Error::TokensUsedUp { retry_after, .. }
        | Error::InProgress { retry_after } => Some(*retry_after),
        Error::Upstream { retry_after, .. } => *retry_after,
        Error::Busy | Error::Unavailable(_) => Some(SOON),
        Error::MethodNotAllowed { allowed } => {
            if let Ok(allowed) = HeaderValue::try_from(allowed) {
                headers.insert(header::ALLOW, allowed);
            }
            None
        }
        Error::Invalid { .. }
        | Error::TooLarge { .. }
        | Error::UnsupportedMedia(_)
        | Error::Unauthenticated(_)
        | Error::Forbidden(_)
        | Error::SecretKeyOnly
        | Error::NotFound(_)
        | Error::Conflict(_)
        | Error::RoomExists(_)
        | Error::Internal(_) => None,
    };
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    Some(error)
}

/// What is left of the caller's budget, on every answer that is charged.
fn say(response: &mut Response, quota: Quota) {
    let headers = response.headers_mut();
    headers.insert("x-ratelimit-limit", HeaderValue::from(quota.limit));
    headers.insert("x-ratelimit-remaining", HeaderValue::from(quota.remaining));
    headers.insert("x-ratelimit-reset", HeaderValue::from(quota.reset));
}
