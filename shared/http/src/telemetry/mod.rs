//! What operators see: one line for each request and for each batch, which is its metrics too.
//!
//! | in a line                        | is                                                          |
//! |----------------------------------|-------------------------------------------------------------|
//! | `timestamp`, `level`, `message`  | on every line                                               |
//! | `request_id`, `trace_id`         | on every line of a request: API Gateway's id, X-Ray's trace |
//! | `function`                       | the Lambda function; not on one machine                     |
//! | `target`                         | which part of the program says it; not on the two below     |
//!
//! The line of a request ([`request`]), and of an event of a connection ([`socket`]), has target `parlance::request`, that of a batch of a stream
//! ([`batch`]) `parlance::batch`. The line of an answer that goes on after its head ([`late`]) is written at its end. On AWS Lambda both carry metrics in CloudWatch's embedded format
//! ([`metrics`]). Nothing of a request's words enters a line: no content, key, cookie, query value or id
//! that a user chose.

pub mod batch;
pub mod late;
mod lines;
mod metrics;
pub mod outages;
pub mod request;
pub mod socket;
mod trace;
mod warning;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tracing::level_filters::LevelFilter;

pub use self::{
    lines::{Lines, OURS, is_heard},
    warning::Warning,
};

/// The target of a request's line.
const REQUEST: &str = "parlance::request";
/// The target of a batch's line.
const BATCH: &str = "parlance::batch";

tokio::task_local! {
    /// In whose course lines are written.
    static CURRENT: Arc<Ids>;
}

/// What joins the lines of one request or batch with each other and with its trace.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Names the request in our logs, in API Gateway's and to the client.
    pub request: String,
    /// The trace that AWS X-Ray knows it by.
    pub trace: Option<String>,
}

impl Ids {
    /// The ids of an invocation of a Lambda function: `request`, and `trace` in the form of
    /// `X-Amzn-Trace-Id`.
    pub fn of_invocation(request: String, trace: Option<&str>) -> Self {
        Self {
            request,
            trace: trace.and_then(trace::xray).map(str::to_owned),
        }
    }

    /// Does `work`, whose lines carry these ids.
    pub fn within<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(Arc::new(self), work)
    }
}

/// Whether this process has served before. Its first request or batch is a cold start.
fn is_first() -> bool {
    static SERVED: AtomicBool = AtomicBool::new(false);
    !SERVED.swap(true, Relaxed)
}

/// Writes what a Lambda function logs from now on to standard output, with its metrics. The level is
/// `AWS_LAMBDA_LOG_LEVEL`, or else `RUST_LOG`, or else `INFO`; below `INFO` only [`OURS`] are heard.
pub fn start() {
    let function = std::env::var("AWS_LAMBDA_FUNCTION_NAME");
    start_with(Lines::to_stdout(level()).with_metrics_of(function.unwrap_or_default()));
}

/// Writes what the one-machine runner logs from now on at `level` and above to standard error, as lines.
pub fn start_on_one_machine(level: LevelFilter) {
    start_with(Lines::to_stderr(level));
}

fn start_with(lines: Lines) {
    if tracing::subscriber::set_global_default(lines).is_err() {
        tracing::warn!("lines go where an earlier start sent them");
    }
    std::panic::set_hook(Box::new(|panic| {
        // What a panic says may hold words of a request, unless it was written down in the code.
        let message = panic.payload().downcast_ref::<&'static str>();
        let at = panic.location().map(ToString::to_string);
        tracing::error!(at, panic = message, "panicked");
    }));
}

fn level() -> LevelFilter {
    let env = |name| std::env::var(name).ok();
    let name = env("AWS_LAMBDA_LOG_LEVEL").or_else(|| env("RUST_LOG"));
    level_of(name.as_deref())
}

/// The level that Lambda or a person names.
fn level_of(name: Option<&str>) -> LevelFilter {
    match name.map(str::to_ascii_lowercase).as_deref() {
        Some("fatal") => LevelFilter::ERROR,
        Some(name) => name.parse().unwrap_or(LevelFilter::INFO),
        None => LevelFilter::INFO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lambdas_levels_are_known() {
        let levels = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL", "loud"];
        let known = levels.map(|name| level_of(Some(name)));
        assert_eq!(
            known,
            [
                LevelFilter::TRACE,
                LevelFilter::DEBUG,
                LevelFilter::INFO,
                LevelFilter::WARN,
                LevelFilter::ERROR,
                LevelFilter::ERROR,
                LevelFilter::INFO,
            ]
        );
    }
}
