//! How things stand, as JSON and as Prometheus reads it.

use axum::{
    Json,
    http::{HeaderMap, HeaderName, header},
    response::{IntoResponse, Response},
};
use parlance::app::Metrics;
use serde::Serialize;
use utoipa::ToSchema;

/// The text exposition format of Prometheus.
pub(crate) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How things stand. Counts are of all time; what a process counted in its last seconds may be missing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MetricsOut {
    /// Connections that clients have now. One whose end nobody heard of counts for some hours.
    #[schema(example = 42)]
    active_connections: u64,
    #[schema(example = 1_024)]
    messages_sent: u64,
    /// Attempts to deliver something to a webhook, or a notification to somebody connected.
    #[schema(example = 120)]
    delivery_attempts: u64,
    #[schema(example = 3)]
    delivery_failures: u64,
    /// Always 0: nothing is dropped. Who is slow is told later.
    #[schema(example = 0)]
    broadcast_drops: u64,
    /// Of the process that answers.
    #[schema(example = 3_600)]
    uptime_seconds: u64,
    #[schema(example = 118)]
    deliveries_queued: u64,
    #[schema(example = 117)]
    deliveries_delivered: u64,
    /// Attempts that failed and were not the last.
    #[schema(example = 2)]
    deliveries_retried: u64,
    /// Deliveries that began to wait for a paused endpoint.
    #[schema(example = 0)]
    deliveries_held: u64,
    #[schema(example = 1)]
    deliveries_dead: u64,
    /// How many dead letters there are now.
    #[schema(example = 1)]
    dead_letters: u64,
    /// Of those that have not ended and wait for no paused endpoint; `null` if there is none.
    #[schema(example = 12)]
    oldest_delivery_age_seconds: Option<u64>,
}

impl From<&Metrics> for MetricsOut {
    fn from(metrics: &Metrics) -> Self {
        let counts = &metrics.counts;
        Self {
            active_connections: metrics.connections,
            messages_sent: counts.messages_sent,
            delivery_attempts: counts.attempts,
            delivery_failures: counts.failures,
            broadcast_drops: 0,
            uptime_seconds: metrics.uptime.as_secs(),
            deliveries_queued: counts.queued,
            deliveries_delivered: counts.delivered,
            deliveries_retried: counts.retried,
            deliveries_held: counts.held,
            deliveries_dead: counts.dead,
            dead_letters: metrics.dead_letters,
            oldest_delivery_age_seconds: metrics.oldest_seconds,
        }
    }
}

/// How a client wants to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Text,
}

impl Format {
    /// What `Accept` prefers: the first of those with the greatest weight. JSON, if it says nothing of either.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(header::ACCEPT).iter();
        let ranges = accepted
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        let (mut best, mut format) = (0.0, Self::Json);
        for range in ranges {
            let mut parts = range.split(';').map(str::trim);
            let named = match parts.next().unwrap_or_default() {
                "application/json" | "application/*" | "*/*" => Self::Json,
                "text/plain" | "text/*" | "application/openmetrics-text" => Self::Text,
                _ => continue,
            };
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            let weight = weight.map_or(1.0, |weight| weight.parse::<f32>().unwrap_or(0.0));
            if weight > best {
                (best, format) = (weight, named);
            }
        }
        format
    }
}

impl MetricsOut {
    /// The same in `format`; `tenant` labels each sample of the text.
    pub(crate) fn show(&self, format: Format, tenant: Option<&str>) -> Response {
        const TYPE: HeaderName = header::CONTENT_TYPE;
        // Caches must not give one what the other asked for.
        let vary = [(header::VARY, "Accept")];
        match format {
            Format::Json => (vary, Json(self)).into_response(),
            Format::Text => (vary, [(TYPE, TEXT)], self.text(tenant)).into_response(),
        }
    }

    fn text(&self, tenant: Option<&str>) -> String {
        // An id holds nothing that a label would have to escape.
        let labels = tenant.map_or_else(String::new, |id| format!("{{tenant=\"{id}\"}}"));
        let samples = [
            (
                "active_connections",
                "gauge",
                "Connections that clients have now.",
                Some(self.active_connections),
            ),
            (
                "messages_sent_total",
                "counter",
                "Messages written.",
                Some(self.messages_sent),
            ),
            (
                "delivery_attempts_total",
                "counter",
                "Attempts of deliveries.",
                Some(self.delivery_attempts),
            ),
            (
                "delivery_failures_total",
                "counter",
                "Attempts that failed.",
                Some(self.delivery_failures),
            ),
            (
                "broadcast_drops_total",
                "counter",
                "Always 0: nothing is dropped.",
                Some(self.broadcast_drops),
            ),
            (
                "uptime_seconds",
                "gauge",
                "Since when the process that answers runs.",
                Some(self.uptime_seconds),
            ),
            (
                "deliveries_queued_total",
                "counter",
                "Deliveries queued.",
                Some(self.deliveries_queued),
            ),
            (
                "deliveries_delivered_total",
                "counter",
                "Deliveries made.",
                Some(self.deliveries_delivered),
            ),
            (
                "deliveries_retried_total",
                "counter",
                "Attempts that failed and were not the last.",
                Some(self.deliveries_retried),
            ),
            (
                "deliveries_held_total",
                "counter",
                "Deliveries that began to wait for a paused endpoint.",
                Some(self.deliveries_held),
            ),
            (
                "deliveries_dead_total",
                "counter",
                "Deliveries whose attempts were used up.",
                Some(self.deliveries_dead),
            ),
            (
                "dead_letters",
                "gauge",
                "Dead letters that there are now.",
                Some(self.dead_letters),
            ),
            (
                "oldest_delivery_age_seconds",
                "gauge",
                "Age of the oldest delivery that has not ended; absent if there is none.",
                self.oldest_delivery_age_seconds,
            ),
        ];
        let lines = samples.into_iter().map(|(name, kind, help, value)| {
            let sample = value.map_or_else(String::new, |value| {
                format!("parlance_{name}{labels} {value}\n")
            });
            format!("# HELP parlance_{name} {help}\n# TYPE parlance_{name} {kind}\n{sample}")
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_format_is_the_one_that_is_preferred() {
        let cases = [
            ("", Format::Json),
            ("*/*", Format::Json),
            ("application/json", Format::Json),
            ("text/plain", Format::Text),
            ("text/plain;version=0.0.4", Format::Text),
            ("text/*", Format::Text),
            ("application/openmetrics-text; version=1.0.0", Format::Text),
            // A Prometheus server, axios, a browser.
            (
                "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::Text,
            ),
            ("application/json, text/plain, */*", Format::Json),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                Format::Json,
            ),
            ("text/plain;q=0.1, application/json", Format::Json),
            ("text/plain;q=0", Format::Json),
            ("text/plain;q=x, image/png", Format::Json),
        ];
        for (accept, format) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(Format::of(&headers), format, "{accept}");
        }
        assert_eq!(Format::of(&HeaderMap::new()), Format::Json);
    }
}
