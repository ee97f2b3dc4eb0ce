//! The line of an event of a connection: as that of a request, with `$connect`, `$disconnect` or the type of a
//! client's frame for its route.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use axum::http::StatusCode;
use tracing::Level;

use super::{Ids, REQUEST, is_first, outages, request::millis};
use crate::{
    domain::{Error, TenantId},
    store::usage::Usage,
};

/// An event under way.
#[derive(Debug)]
pub struct Observed {
    started: Instant,
    request_id: String,
    /// What a client made up is not shown.
    route: OnceLock<&'static str>,
    tenant: OnceLock<TenantId>,
    error: OnceLock<Error>,
    is_counted: bool,
    usage: Arc<Usage>,
}

impl Observed {
    /// An event of `route` that begins now.
    pub fn begin(route: &str, request_id: String) -> Self {
        let known = match route {
            "$connect" => OnceLock::from("$connect"),
            "$disconnect" => OnceLock::from("$disconnect"),
            // The frame's type says more.
            _ => OnceLock::new(),
        };
        Self {
            started: Instant::now(),
            request_id,
            route: known,
            tenant: OnceLock::new(),
            error: OnceLock::new(),
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
            trace: None,
        };
        ids.within(self.usage.of(work)).await
    }

    /// Notes which of the known types the client's frame has.
    pub fn says(&self, kind: &'static str) {
        let _ = self.route.set(kind);
    }

    /// Notes whose event it is.
    pub fn belongs_to(&self, tenant: TenantId) {
        let _ = self.tenant.set(tenant);
    }

    /// Notes why the client was told of an error in a frame. The first one is shown.
    pub fn fails_with(&self, error: Error) {
        let _ = self.error.set(error);
    }

    /// Writes the line of an event that was answered with `status`, because of `error` if it failed.
    pub fn end(&self, surface: &'static str, status: StatusCode, error: Option<&Error>) {
        let error = error.or_else(|| self.error.get());
        let is_ours = error.is_some_and(|error| error.cause().is_some());
        if !self.is_counted && !is_ours {
            return;
        }
        let usage = &self.usage;
        let counted = |count: u64| self.is_counted.then_some(count);
        let seldom = |count: u64| (count > 0).then_some(count);
        let is_outage = matches!(error, Some(Error::Unavailable(_)));
        let times = if is_outage {
            outages::due(error)
        } else {
            Some(1)
        };
        let is_limited = matches!(error, Some(Error::RateLimited { .. }));
        macro_rules! write {
            ($level:expr, $($message:tt)+) => {
                tracing::event!(
                    target: REQUEST,
                    $level,
                    request_id = self.request_id,
                    method = "WS",
                    route = self.route.get().copied().unwrap_or("unknown"),
                    surface,
                    tenant = self.tenant.get().map(tracing::field::display),
                    status = status.as_u16(),
                    duration_ms = millis(self.started),
                    dynamodb_calls = counted(usage.calls()),
                    dynamodb_retries = seldom(usage.retries()),
                    throttles = seldom(usage.throttles()),
                    read_units = usage.read_units().filter(|_| self.is_counted),
                    write_units = usage.write_units().filter(|_| self.is_counted),
                    client_errors = seldom((error.is_some() && !is_ours).into()),
                    server_errors = u64::from(is_ours),
                    rate_limited = seldom(is_limited.into()),
                    cold_start = is_first().then_some(1_u64),
                    cause = error.and_then(Error::why),
                    times = times.filter(|times| *times > 1),
                    $($message)+
                )
            };
        }
        match error {
            Some(error) if times.is_none() => write!(Level::INFO, "{error}"),
            Some(error) if is_ours => write!(Level::ERROR, "{error}"),
            Some(_) | None => write!(Level::INFO, "request"),
        }
    }
}
