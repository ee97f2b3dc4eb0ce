//! The line of a request.
//!
//! At level `INFO`, or `ERROR` with the cause if it failed for a reason of ours: that is the one place where
//! a fault is logged. On one machine most of an outage are `INFO` too ([`outages`]). Where lines of requests are not wanted, only faults are written, and nothing is counted.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{MatchedPath, Request as HttpRequest},
    http::{HeaderMap, HeaderValue, Method, StatusCode},
    response::Response,
};
use lambda_http::{RequestExt, request::RequestContext};
use tracing::Level;

use super::{Ids, REQUEST, is_first, outages, trace};
use crate::{
    domain::{Error, TenantId},
    store::usage::Usage,
};

/// The header that tells a client the request's id.
pub const ID_HEADER: &str = "x-request-id";
/// A route that no path matches.
const UNKNOWN: &str = "unknown";

/// A request under way, as its line will show it.
#[derive(Debug)]
pub struct Observed {
    started: Instant,
    request_id: String,
    /// The id of Lambda's own lines about it.
    invocation_id: Option<String>,
    trace_id: Option<String>,
    w3c_trace_id: Option<String>,
    method: Method,
    route: Option<MatchedPath>,
    is_counted: bool,
    usage: Arc<Usage>,
}

impl Observed {
    /// A request that begins now. `id` names it unless API Gateway has done so.
    pub fn begin(http: &HttpRequest, id: impl FnOnce() -> String) -> Self {
        let gateway = match http.extensions().get::<RequestContext>() {
            Some(RequestContext::ApiGatewayV2(context)) => context.request_id.clone(),
            Some(_) | None => None,
        };
        let invocation = http.lambda_context_ref();
        let headers = http.headers();
        Self {
            started: Instant::now(),
            request_id: gateway.unwrap_or_else(id),
            invocation_id: invocation.map(|context| context.request_id.clone()),
            trace_id: taken(headers, "x-amzn-trace-id", trace::xray),
            w3c_trace_id: taken(headers, "traceparent", trace::w3c),
            method: http.method().clone(),
            route: http.extensions().get::<MatchedPath>().cloned(),
            is_counted: tracing::enabled!(target: REQUEST, Level::INFO),
            usage: Arc::default(),
        }
    }

    /// Does `work`, and counts what it calls if the line will show it.
    pub async fn of<F: Future>(&self, work: F) -> F::Output {
        if !self.is_counted {
            return work.await;
        }
        let ids = Ids {
            request: self.request_id.clone(),
            trace: self.trace_id.clone(),
        };
        ids.within(self.usage.of(work)).await
    }

    /// Tells the client the request's id.
    pub fn name(&self, response: &mut Response) {
        if self.request_id.is_empty() {
            return;
        }
        if let Ok(id) = HeaderValue::try_from(&self.request_id) {
            response.headers_mut().insert(ID_HEADER, id);
        }
    }

    /// Writes the line of a request that was answered with `status`, because of `error` if it failed.
    pub fn end(
        &self,
        surface: &'static str,
        tenant: Option<TenantId>,
        status: StatusCode,
        error: Option<&Error>,
    ) {
        self.write(surface, tenant, status, status, error);
    }

    /// Writes the line of a request whose client was told `status`, and which failed after that if `failed`: with the status
    /// that this would have been, as which it is counted.
    pub(super) fn end_late(
        &self,
        surface: &'static str,
        tenant: Option<TenantId>,
        status: StatusCode,
        failed: Option<(StatusCode, &Error)>,
    ) {
        match failed {
            Some((counted, error)) => self.write(surface, tenant, status, counted, Some(error)),
            None => self.write(surface, tenant, status, status, None),
        }
    }

    fn write(
        &self,
        surface: &'static str,
        tenant: Option<TenantId>,
        told: StatusCode,
        status: StatusCode,
        error: Option<&Error>,
    ) {
        if !self.is_counted && !status.is_server_error() {
            return;
        }
        let usage = &self.usage;
        let counted = |count: u64| self.is_counted.then_some(count);
        let seldom = |count: u64| (count > 0).then_some(count);
        // Somebody else's fault: told to the caller, counted apart from ours.
        let is_upstream = matches!(error, Some(Error::Upstream { .. }));
        let is_outage = status == StatusCode::SERVICE_UNAVAILABLE && !is_upstream;
        let times = if is_outage {
            outages::due(error)
        } else {
            Some(1)
        };
        macro_rules! write {
            ($level:expr, $($message:tt)+) => {
                tracing::event!(
                    target: REQUEST,
                    $level,
                    request_id = self.request_id,
                    invocation_id = self.invocation_id,
                    trace_id = self.trace_id,
                    w3c_trace_id = self.w3c_trace_id,
                    method = known(&self.method),
                    route = self.route.as_ref().map_or(UNKNOWN, MatchedPath::as_str),
                    surface,
                    tenant = tenant.map(tracing::field::display),
                    status = told.as_u16(),
                    duration_ms = millis(self.started),
                    dynamodb_calls = counted(usage.calls()),
                    dynamodb_retries = seldom(usage.retries()),
                    throttles = seldom(usage.throttles()),
                    read_units = usage.read_units().filter(|_| self.is_counted),
                    write_units = usage.write_units().filter(|_| self.is_counted),
                    client_errors = seldom(status.is_client_error().into()),
                    server_errors = u64::from(status.is_server_error() && !is_upstream),
                    upstream_errors = seldom(is_upstream.into()),
                    late_errors = seldom((status.is_server_error() && told != status).into()),
                    rate_limited = seldom((status == StatusCode::TOO_MANY_REQUESTS).into()),
                    cold_start = is_first().then_some(1_u64),
                    cause = error.and_then(Error::why),
                    times = times.filter(|times| *times > 1),
                    $($message)+
                )
            };
        }
        match error {
            Some(error) if is_upstream => write!(Level::WARN, "{error}"),
            Some(error) if times.is_none() => write!(Level::INFO, "{error}"),
            None if times.is_none() => write!(Level::INFO, "request"),
            Some(error) if status.is_server_error() => write!(Level::ERROR, "{error}"),
            // The health probe has said why.
            None if status.is_server_error() => write!(Level::ERROR, "request"),
            Some(_) | None => write!(Level::INFO, "request"),
        }
    }
}

/// What `read` finds in header `name`.
fn taken(headers: &HeaderMap, name: &str, read: fn(&str) -> Option<&str>) -> Option<String> {
    let header = headers.get(name)?.to_str().ok()?;
    read(header).map(str::to_owned)
}

/// The method, unless a client made it up.
fn known(method: &Method) -> &str {
    const KNOWN: [Method; 9] = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::HEAD,
        Method::TRACE,
        Method::CONNECT,
    ];
    let is_known = KNOWN.contains(method);
    if is_known { method.as_str() } else { UNKNOWN }
}

/// Milliseconds since `started`, to the microsecond.
pub(super) fn millis(started: Instant) -> f64 {
    let micros = u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX);
    f64::from(micros) / 1_000.0
}
