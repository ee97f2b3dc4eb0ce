//! Lines: what is logged, as one flat JSON object each.
//!
//! A subscriber of our own, because `tracing-subscriber` nests an event's fields and cannot write a line that
//! CloudWatch reads metrics from. Spans are left out: what they would add, every line has from [`CURRENT`].
//!
//! **Invariant:** below `INFO` nobody speaks but [`OURS`]. What libraries say there is whole requests, with the words and the
//! keys in them.

use std::{
    fmt,
    io::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
    subscriber::Interest,
};

use super::{CURRENT, REQUEST, metrics::Measures};
use crate::domain::Timestamp;

/// Our crates: of what these say is known that it holds nothing of a request's words.
pub const OURS: [&str; 28] = [
    "acks",
    "admin",
    "agents",
    "chats",
    "deliver",
    "edge",
    "fanout",
    "heads",
    "health",
    "keys",
    "live",
    "messages",
    "notify",
    "parlance",
    "parlance_app",
    "parlance_domain",
    "parlance_http",
    "parlance_lambda",
    "parlance_local",
    "parlance_providers",
    "parlance_queue",
    "parlance_runtime",
    "parlance_store",
    "reconcile",
    "rooms",
    "sockets",
    "sweep",
    "webhooks",
];
/// A usual line is shorter.
const USUAL: usize = 1024;

/// Where a line goes, its end included.
type Sink = Box<dyn Fn(&[u8]) + Send + Sync>;

/// Writes events as lines.
pub struct Lines {
    level: LevelFilter,
    /// The function whose lines these are, if they carry metrics.
    function: Option<String>,
    write: Sink,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Lines");
        shown.field("level", &self.level);
        shown.field("function", &self.function);
        shown.finish_non_exhaustive()
    }
}

impl Lines {
    /// Lines of `level` and above, of [`OURS`] alone below `INFO`, each given to `write` as a whole, its line end included.
    pub fn new(level: LevelFilter, write: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        Self {
            level,
            function: None,
            write: Box::new(write),
        }
    }

    /// Lines on standard output.
    pub fn to_stdout(level: LevelFilter) -> Self {
        // Who closes standard output does not want to read them.
        Self::new(level, |line| {
            drop(std::io::stdout().lock().write_all(line));
        })
    }

    /// Lines on standard error.
    pub fn to_stderr(level: LevelFilter) -> Self {
        Self::new(level, |line| {
            drop(std::io::stderr().lock().write_all(line));
        })
    }

    /// These lines, as those of Lambda function `function`: requests and batches carry metrics.
    #[must_use]
    pub fn with_metrics_of(self, function: String) -> Self {
        Self {
            function: Some(function),
            ..self
        }
    }
}

/// Where the AWS SDK warns, for each try of each call, that it closes a connection. The call itself says why it failed, and an
/// embedded store has no connections.
const NOISE: &str = "aws_smithy_runtime::client::http::connection_poisoning";

/// Whether a line of that kind may be written at all, whatever the level.
pub fn is_heard(metadata: &Metadata<'_>) -> bool {
    metadata.target() != NOISE && (*metadata.level() <= Level::INFO || is_ours(metadata))
}

/// Whether one of [`OURS`] says it.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let speaker = target.split_once("::").map_or(target, |(of, _)| of);
    OURS.contains(&speaker)
}

impl Subscriber for Lines {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !metadata.is_span() && *metadata.level() <= self.level && is_heard(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let measures = Measures::of(metadata.target());
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let micros = i64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(i64::MAX);

        let mut line = Line {
            json: Vec::with_capacity(USUAL),
            measures,
            measured: 0,
        };
        line.text("timestamp", &Timestamp::from_micros(micros));
        line.member("level", metadata.level().as_str());
        event.record(&mut line);
        if measures.is_none() {
            line.member("target", metadata.target());
        }
        let is_of_request = metadata.target() == REQUEST;
        // The line of a request has its ids. An error means that nobody is served at the moment.
        let _ = CURRENT.try_with(|ids| {
            if is_of_request {
                return;
            }
            line.member("request_id", &ids.request);
            if let Some(trace) = &ids.trace {
                line.member("trace_id", trace);
            }
        });
        if let Some(function) = &self.function {
            line.member("function", function);
            if let Some(measures) = measures
                && line.measured != 0
            {
                let directive = measures.directive(line.measured, micros.div_euclid(1_000));
                line.member("_aws", &directive);
            }
        }
        line.json.extend_from_slice(b"}\n");
        (self.write)(&line.json);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        // Never asked for: no span is enabled. All of them may share one id.
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// A line as it is written.
struct Line {
    json: Vec<u8>,
    measures: Option<&'static Measures>,
    /// The bits of the metrics it has so far.
    measured: u32,
}

impl Line {
    fn member(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        let begin = if self.json.is_empty() { b'{' } else { b',' };
        let whole = self.json.len();
        self.json.push(begin);
        let name = serde_json::to_writer(&mut self.json, name);
        self.json.push(b':');
        if name
            .and_then(|()| serde_json::to_writer(&mut self.json, value))
            .is_err()
        {
            // What has no JSON form is left out: the line stays one.
            self.json.truncate(whole);
        }
    }

    fn text(&mut self, name: &str, value: &impl ToString) {
        self.member(name, &value.to_string());
    }

    fn number(&mut self, field: &Field, value: impl Serialize) {
        if let Some(measures) = self.measures {
            self.measured |= measures.bit(field.name());
        }
        self.member(field.name(), &value);
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field.name(), &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.number(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.member(field.name(), &format!("{value:?}"));
    }
}
