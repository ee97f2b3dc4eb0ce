//! What operators see and what they rely on: lines, metrics, faults, credentials, the operator's key.

mod credentials;
mod faults;
mod lines;
mod metrics;
mod operator_key;
mod sealing;

use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::Client as DynamoDb;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use axum::Router;
use parlance::{
    app::{App, Settings},
    domain::secret::SecretHash,
    http::telemetry::Lines,
    store::usage::metered,
};
use parlance_local::{clients::embedded_dynamodb, functions};
use serde_json::Value;
use tracing::{level_filters::LevelFilter, subscriber::DefaultGuard};

use crate::support::World;

/// The operator's key of these services.
const MASTER_KEY: &str = "mk_the_operators_key_of_operations";
/// The Lambda function that these services pretend to be.
const FUNCTION: &str = "parlance-RoomsFunction-1A2B3C";

/// What is logged on this thread, until it is dropped.
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    _guard: DefaultGuard,
}

impl Log {
    /// As a Lambda function logs.
    fn begin() -> Self {
        Self::at(LevelFilter::INFO)
    }

    fn at(level: LevelFilter) -> Self {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = Arc::clone(&lines);
        let write = move |line: &[u8]| {
            let line = String::from_utf8(line.to_vec()).unwrap();
            sink.lock().unwrap().push(line);
        };
        let subscriber = Lines::new(level, write).with_metrics_of(FUNCTION.to_owned());
        Self {
            lines,
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    /// What was written since this was last asked, as it is.
    fn raw(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().unwrap())
    }

    /// What was written since this was last asked. Each is one line and one JSON object. What the SDK says
    /// of connections is left out: our stores in process have none.
    fn take(&self) -> Vec<Value> {
        let raw = self.raw();
        raw.iter()
            .map(|line| {
                assert_eq!(line.find('\n'), Some(line.len() - 1), "{line}");
                let line: Value = serde_json::from_str(line).unwrap();
                assert!(line.is_object(), "{line}");
                line
            })
            .filter(|line| {
                let target = line["target"].as_str().unwrap_or_default();
                !target.ends_with("connection_poisoning")
            })
            .collect()
    }

    /// The one line that was written since this was last asked.
    #[track_caller]
    fn one(&self) -> Value {
        let mut lines = self.take();
        assert_eq!(lines.len(), 1, "{lines:#?}");
        lines.remove(0)
    }
}

/// A function over the store of `world`, as it runs on AWS: its calls go through `wrap` and are counted.
fn function(world: &World, wrap: impl FnOnce(SharedHttpClient) -> SharedHttpClient) -> Router {
    let store = world.dynamodb.config().http_client().unwrap();
    function_over(&metered(&embedded_dynamodb(wrap(store)), true))
}

/// A function over `dynamodb`.
fn function_over(dynamodb: &DynamoDb) -> Router {
    functions::router(&App::new(&settings(), dynamodb))
}

fn settings() -> Settings {
    let mut settings = crate::support::settings();
    settings.master = Some(SecretHash::of(MASTER_KEY.as_bytes()));
    settings
}
