//! Faults below the SDK: throttles, lost answers, doubled requests, and a count of what was called.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};
use aws_smithy_runtime_api::client::http::HttpClient as _;
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};

/// What to do to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    Pass,
    /// Refuse it as throttled; it is not done.
    Throttle,
    /// Lose it on the way: it is not done, and the client sees a time-out.
    LoseRequest,
    /// Do it, and lose the answer: the client sees a time-out.
    LoseAnswer,
    /// Do it twice, and give the second answer.
    Double,
    /// Refuse it as a transaction that met another one.
    Conflict,
}

/// Decides the fate of each call by its operation and its number, from 0.
pub type Plan = Arc<dyn Fn(&str, u64) -> Fault + Send + Sync>;

/// `client` with faults.
pub fn faulty(client: SharedHttpClient, plan: Plan) -> SharedHttpClient {
    let calls = Arc::new(AtomicU64::new(0));
    http_client_fn(move |settings, components| {
        SharedHttpConnector::new(Faulty {
            inner: client.http_connector(settings, components),
            plan: Arc::clone(&plan),
            calls: Arc::clone(&calls),
        })
    })
}

/// Faults for about one call in `one_in`, chosen by a hash of the call's number, so that a run can be
/// repeated.
pub fn storm(seed: u64, one_in: u64) -> Plan {
    const KINDS: [Fault; 5] = [
        Fault::Throttle,
        Fault::LoseRequest,
        Fault::LoseAnswer,
        Fault::Double,
        Fault::Conflict,
    ];
    Arc::new(move |_, number| {
        let mut hash = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed;
        hash ^= hash >> 31;
        hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash ^= hash >> 29;
        if hash % one_in != 0 {
            return Fault::Pass;
        }
        KINDS[usize::try_from((hash >> 32) % KINDS.len() as u64).unwrap()]
    })
}

struct Faulty {
    inner: SharedHttpConnector,
    plan: Plan,
    calls: Arc<AtomicU64>,
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faulty")
    }
}

fn operation(request: &HttpRequest) -> String {
    let target = request.headers().get("x-amz-target").unwrap_or_default();
    target.rsplit('.').next().unwrap_or_default().to_owned()
}

impl HttpConnector for Faulty {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let operation = operation(&request);
        let fault = (self.plan)(&operation, number);
        let inner = self.inner.clone();
        HttpConnectorFuture::new(async move {
            let lost = || Err(ConnectorError::timeout("injected time-out".into()));
            match fault {
                Fault::Pass => inner.call(request).await,
                Fault::Throttle => Ok(refusal("ProvisionedThroughputExceededException")),
                Fault::Conflict => Ok(refusal("TransactionConflictException")),
                Fault::LoseRequest => lost(),
                Fault::LoseAnswer => {
                    inner.call(request).await?;
                    lost()
                }
                Fault::Double => {
                    let again = request.try_clone().expect("its body is in memory");
                    inner.call(request).await?;
                    inner.call(again).await
                }
            }
        })
    }
}

fn refusal(code: &str) -> HttpResponse {
    let body = json!({
        "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"),
        "message": "injected",
    });
    let mut response = HttpResponse::new(400.try_into().unwrap(), SdkBody::from(body.to_string()));
    response
        .headers_mut()
        .insert("content-type", "application/x-amz-json-1.0");
    response
}

/// What some calls cost.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Cost {
    /// Calls in sequence: those that were under way together count once.
    pub round_trips: usize,
    /// The operations, in the order they were sent.
    pub operations: Vec<String>,
    /// Write units, as the store reports them.
    pub write_units: f64,
    /// Read units, as the store reports them.
    pub read_units: f64,
}

/// Counts what calls cost.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    under_way: AtomicUsize,
    cost: Mutex<Cost>,
}

impl Meter {
    /// `client`, metered.
    pub fn meter(&self, client: SharedHttpClient) -> SharedHttpClient {
        let counts = Arc::clone(&self.0);
        http_client_fn(move |settings, components| {
            SharedHttpConnector::new(Metered {
                inner: client.http_connector(settings, components),
                counts: Arc::clone(&counts),
            })
        })
    }

    /// What calls have cost since this was last asked.
    pub fn take(&self) -> Cost {
        std::mem::take(&mut self.0.cost.lock().unwrap())
    }
}

#[derive(Debug)]
struct Metered {
    inner: SharedHttpConnector,
    counts: Arc<Counts>,
}

impl HttpConnector for Metered {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let operation = operation(&request);
        if self.counts.under_way.fetch_add(1, Ordering::SeqCst) == 0 {
            self.counts.cost.lock().unwrap().round_trips += 1;
        }
        self.counts.cost.lock().unwrap().operations.push(operation.clone());
        let reads = matches!(operation.as_str(), "GetItem" | "Query" | "BatchGetItem");
        let mut body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        body["ReturnConsumedCapacity"] = json!("TOTAL");
        *request.body_mut() = SdkBody::from(body.to_string());
        let (inner, counts) = (self.inner.clone(), Arc::clone(&self.counts));
        HttpConnectorFuture::new(async move {
            let answer = inner.call(request).await;
            counts.under_way.fetch_sub(1, Ordering::SeqCst);
            let answer = answer?;
            let body: Value = serde_json::from_slice(answer.body().bytes().unwrap()).unwrap();
            let units = match &body["ConsumedCapacity"] {
                Value::Array(tables) => tables.iter().map(units).sum(),
                one => units(one),
            };
            let mut cost = counts.cost.lock().unwrap();
            if reads {
                cost.read_units += units;
            } else {
                cost.write_units += units;
            }
            drop(cost);
            Ok(answer)
        })
    }
}

fn units(consumed: &Value) -> f64 {
    consumed["CapacityUnits"].as_f64().unwrap_or_default()
}
