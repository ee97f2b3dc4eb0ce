//! Faults below the SDK: throttles, lost and late requests, lost answers, doubled requests, and a count of
//! what was called.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient as _, HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector,
        http_client_fn,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};
use tokio::{
    runtime::Handle,
    sync::Notify,
    task::{spawn_blocking, yield_now},
    time::timeout,
};

/// What to do to one call.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Nothing.
    Pass,
    /// Refuse it as throttled; it is not done.
    Throttle,
    /// Refuse it with this code; it is not done.
    Refuse(&'static str),
    /// Lose it on the way: it is not done, and the client sees a time-out.
    LoseRequest,
    /// Do it, and lose the answer: the client sees a time-out.
    LoseAnswer,
    /// The client sees a time-out at once; the request is done just before the `n`th call after it.
    Late(u64),
    /// Do it twice, and give the second answer.
    Double,
    /// Refuse it as a transaction that met another one.
    Conflict,
    /// Do it once the test opens the gate.
    Hold(Gate),
}

/// Where a call waits until the test lets it go on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<Doors>);

#[derive(Debug, Default)]
struct Doors {
    reached: Notify,
    open: Notify,
}

impl Gate {
    /// Waits until a call stands before it. Fails if none comes.
    pub(crate) async fn reached(&self) {
        let reached = self.0.reached.notified();
        let reached = timeout(Duration::from_mins(1), reached).await;
        reached.expect("a call comes to the gate");
    }

    /// Lets that call go on.
    pub(crate) fn open(&self) {
        self.0.open.notify_one();
    }
}

/// Decides the fate of each call by its operation and its number, from 0.
pub(crate) type Plan = Arc<dyn Fn(&str, u64) -> Fault + Send + Sync>;

/// No faults.
pub(crate) fn calm() -> Plan {
    Arc::new(|_, _| Fault::Pass)
}

/// These fates for the calls of `operation`, in turn. All other calls pass.
pub(crate) fn script(operation: &'static str, fates: impl IntoIterator<Item = Fault>) -> Plan {
    let fates: Mutex<VecDeque<_>> = Mutex::new(fates.into_iter().collect());
    Arc::new(move |name, _| {
        let next = (name == operation).then(|| fates.lock().unwrap().pop_front());
        next.flatten().unwrap_or(Fault::Pass)
    })
}

/// This fate for every call of `operation`.
pub(crate) fn always(operation: &'static str, fate: Fault) -> Plan {
    Arc::new(move |name, _| {
        if name == operation {
            fate.clone()
        } else {
            Fault::Pass
        }
    })
}

/// Faults for about one call in `one_in`, chosen by a hash of the call's number, so that a run can be
/// repeated.
pub(crate) fn storm(seed: u64, one_in: u64) -> Plan {
    const KINDS: [Fault; 7] = [
        Fault::Throttle,
        Fault::LoseRequest,
        Fault::LoseAnswer,
        Fault::Late(1),
        Fault::Late(5),
        Fault::Double,
        Fault::Conflict,
    ];
    Arc::new(move |_, number| {
        let hash = hashed(seed, number);
        if !hash.is_multiple_of(one_in) {
            return Fault::Pass;
        }
        KINDS[usize::try_from((hash >> 32) % KINDS.len() as u64).unwrap()].clone()
    })
}

/// Faults for about one call in `one_in` of SQS or DynamoDB while it rages. Unlike [`storm`] none is late, since what is
/// late to a queue is only another duplicate.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outage(Arc<Raging>);

#[derive(Debug, Default)]
struct Raging {
    over: AtomicBool,
    hit: AtomicU64,
}

impl Outage {
    /// Throttles, refuses, times out and loses answers until it is over.
    pub(crate) fn plan(&self, seed: u64, one_in: u64) -> Plan {
        const KINDS: [Fault; 6] = [
            Fault::Throttle,
            Fault::Refuse("InternalServerError"),
            Fault::Refuse("ServiceUnavailable"),
            Fault::LoseRequest,
            Fault::LoseAnswer,
            Fault::Double,
        ];
        let raging = Arc::clone(&self.0);
        Arc::new(move |_, number| {
            let hash = hashed(seed, number);
            if raging.over.load(Ordering::Relaxed) || !hash.is_multiple_of(one_in) {
                return Fault::Pass;
            }
            raging.hit.fetch_add(1, Ordering::Relaxed);
            KINDS[usize::try_from((hash >> 32) % KINDS.len() as u64).unwrap()].clone()
        })
    }

    /// How many calls it has hit.
    pub(crate) fn hit(&self) -> u64 {
        self.0.hit.load(Ordering::Relaxed)
    }

    /// Everything works again.
    pub(crate) fn heal(&self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

fn hashed(seed: u64, number: u64) -> u64 {
    let mut hash = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed;
    hash ^= hash >> 31;
    hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^ (hash >> 29)
}

/// `client` with faults. It holds a paused clock still while the store works.
pub(crate) fn faulty(client: SharedHttpClient, plan: Plan) -> SharedHttpClient {
    let wire = Arc::new(Wire {
        plan,
        calls: AtomicU64::new(0),
        late: Mutex::default(),
    });
    http_client_fn(move |settings, components| {
        SharedHttpConnector::new(Faulty {
            inner: client.http_connector(settings, components),
            wire: Arc::clone(&wire),
        })
    })
}

struct Wire {
    plan: Plan,
    calls: AtomicU64,
    /// Requests under way, each with the number of the call before which it arrives.
    late: Mutex<Vec<(u64, HttpRequest)>>,
}

impl Wire {
    fn arriving(&self, number: u64) -> Vec<HttpRequest> {
        let mut late = self.late.lock().unwrap();
        let (due, rest) = std::mem::take(&mut *late)
            .into_iter()
            .partition(|(due, _)| *due <= number);
        *late = rest;
        Vec::into_iter(due).map(|(_, request)| request).collect()
    }
}

struct Faulty {
    inner: SharedHttpConnector,
    wire: Arc<Wire>,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

/// What `request` asks for: `PutItem`, `SendMessage` and so on.
pub(crate) fn operation(request: &HttpRequest) -> String {
    let target = request.headers().get("x-amz-target").unwrap_or_default();
    target.rsplit('.').next().unwrap_or_default().to_owned()
}

/// The answer of the store. A paused clock stands still meanwhile: it would otherwise jump to the next
/// deadline whenever every task waits for the store's thread.
async fn answer(
    inner: &SharedHttpConnector,
    request: HttpRequest,
) -> Result<HttpResponse, ConnectorError> {
    let call = inner.call(request);
    let runtime = Handle::current();
    spawn_blocking(move || runtime.block_on(call))
        .await
        .expect("the store does not panic")
}

impl HttpConnector for Faulty {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let number = self.wire.calls.fetch_add(1, Ordering::Relaxed);
        let operation = operation(&request);
        let fault = (self.wire.plan)(&operation, number);
        let (inner, wire) = (self.inner.clone(), Arc::clone(&self.wire));
        HttpConnectorFuture::new(async move {
            for late in wire.arriving(number) {
                answer(&inner, late).await?;
            }
            let lost = || Err(ConnectorError::timeout("injected time-out".into()));
            match fault {
                Fault::Pass => answer(&inner, request).await,
                Fault::Throttle => Ok(throttled(&request)),
                Fault::Refuse(code) => Ok(refused_by(&request, code)),
                Fault::Conflict => Ok(conflict(&request, &operation)),
                Fault::LoseRequest => lost(),
                Fault::LoseAnswer => {
                    answer(&inner, request).await?;
                    lost()
                }
                Fault::Late(calls) => {
                    wire.late.lock().unwrap().push((number + calls, request));
                    lost()
                }
                Fault::Double => {
                    let again = request.try_clone().expect("its body is in memory");
                    answer(&inner, request).await?;
                    answer(&inner, again).await
                }
                Fault::Hold(gate) => {
                    gate.0.reached.notify_one();
                    gate.0.open.notified().await;
                    answer(&inner, request).await
                }
            }
        })
    }
}

/// Whether `request` is for SQS, and not for DynamoDB.
fn is_for_sqs(request: &HttpRequest) -> bool {
    let target = request.headers().get("x-amz-target").unwrap_or_default();
    target.starts_with("AmazonSQS.")
}

fn throttled(request: &HttpRequest) -> HttpResponse {
    let code = if is_for_sqs(request) {
        "RequestThrottled"
    } else {
        "ProvisionedThroughputExceededException"
    };
    refused_by(request, code)
}

/// As the service words it that `request` is for.
fn refused_by(request: &HttpRequest, code: &str) -> HttpResponse {
    let mut refusal = refusal(code, json!({ "message": "injected" }));
    if is_for_sqs(request) {
        let body = json!({ "__type": format!("com.amazonaws.sqs#{code}"), "message": "injected" });
        *refusal.body_mut() = SdkBody::from(body.to_string());
        let header = format!("{code};Sender");
        refusal.headers_mut().insert("x-amzn-query-error", header);
    }
    refusal
}

/// As DynamoDB words it: a transaction is cancelled with reasons, a single write is refused.
fn conflict(request: &HttpRequest, operation: &str) -> HttpResponse {
    if operation != "TransactWriteItems" {
        return refusal(
            "TransactionConflictException",
            json!({ "message": "injected" }),
        );
    }
    let writes = body(request)["TransactItems"].as_array().unwrap().len();
    let reasons: Vec<_> = (0..writes)
        .map(|index| match index {
            0 => json!({ "Code": "TransactionConflict", "Message": "injected" }),
            _ => json!({ "Code": "None" }),
        })
        .collect();
    refusal(
        "TransactionCanceledException",
        json!({ "Message": "injected", "CancellationReasons": reasons }),
    )
}

/// An answer that refuses a request.
pub(crate) fn refusal(code: &str, mut body: Value) -> HttpResponse {
    body["__type"] = json!(format!("com.amazonaws.dynamodb.v20120810#{code}"));
    let mut response = HttpResponse::new(400.try_into().unwrap(), SdkBody::from(body.to_string()));
    response
        .headers_mut()
        .insert("content-type", "application/x-amz-json-1.0");
    response
}

/// What `request` says.
pub(crate) fn body(request: &HttpRequest) -> Value {
    serde_json::from_slice(request.body().bytes().unwrap()).unwrap()
}

/// What some calls cost.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Cost {
    /// Calls in sequence: the longest chain in which each began after the one before it had ended.
    pub(crate) round_trips: usize,
    /// The operations, in the order they were sent.
    pub(crate) operations: Vec<String>,
    /// Write units, as the store reports them.
    pub(crate) write_units: f64,
    /// Read units, as the store reports them.
    pub(crate) read_units: f64,
}

/// Counts what calls cost.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    cost: Cost,
    /// The longest chain of calls that have ended.
    ended: usize,
}

impl Meter {
    /// `client`, metered.
    pub(crate) fn meter(&self, client: SharedHttpClient) -> SharedHttpClient {
        let meter = self.clone();
        http_client_fn(move |settings, components| {
            SharedHttpConnector::new(Metered {
                inner: client.http_connector(settings, components),
                meter: meter.clone(),
            })
        })
    }

    /// What calls have cost since this was last asked. None may be under way.
    pub(crate) fn take(&self) -> Cost {
        std::mem::take(&mut *self.0.lock().unwrap()).cost
    }

    fn begin(&self, operation: &str) -> usize {
        let mut counts = self.0.lock().unwrap();
        let depth = counts.ended + 1;
        counts.cost.round_trips = counts.cost.round_trips.max(depth);
        counts.cost.operations.push(operation.to_owned());
        depth
    }

    fn end(&self, depth: usize, operation: &str, answer: &HttpResponse) {
        let body: Value = serde_json::from_slice(answer.body().bytes().unwrap()).unwrap();
        let units = match &body["ConsumedCapacity"] {
            Value::Null => refused(&body),
            Value::Array(tables) => tables.iter().map(units).sum(),
            one => units(one),
        };
        let mut counts = self.0.lock().unwrap();
        counts.ended = counts.ended.max(depth);
        if matches!(operation, "GetItem" | "Query" | "BatchGetItem") {
            counts.cost.read_units += units;
        } else {
            counts.cost.write_units += units;
        }
    }
}

/// Keeps the requests that go by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tap(Arc<Mutex<Vec<String>>>);

impl Tap {
    /// `client`, whose requests are kept.
    pub(crate) fn tap(&self, client: SharedHttpClient) -> SharedHttpClient {
        let tap = self.clone();
        http_client_fn(move |settings, components| {
            SharedHttpConnector::new(Tapped {
                inner: client.http_connector(settings, components),
                tap: tap.clone(),
            })
        })
    }

    /// The bodies of the requests since this was last asked.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

#[derive(Debug)]
struct Tapped {
    inner: SharedHttpConnector,
    tap: Tap,
}

impl HttpConnector for Tapped {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = request.body().bytes().unwrap().to_vec();
        let body = String::from_utf8(body).unwrap();
        self.tap.0.lock().unwrap().push(body);
        self.inner.call(request)
    }
}

#[derive(Debug)]
struct Metered {
    inner: SharedHttpConnector,
    meter: Meter,
}

impl HttpConnector for Metered {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let operation = operation(&request);
        let depth = self.meter.begin(&operation);
        let mut asking = body(&request);
        asking["ReturnConsumedCapacity"] = json!("TOTAL");
        *request.body_mut() = SdkBody::from(asking.to_string());
        let (inner, meter) = (self.inner.clone(), self.meter.clone());
        HttpConnectorFuture::new(async move {
            // Lets the calls that go together begin: the store may answer the first one before that.
            yield_now().await;
            let answer = inner.call(request).await?;
            meter.end(depth, &operation, &answer);
            Ok(answer)
        })
    }
}

fn units(consumed: &Value) -> f64 {
    consumed["CapacityUnits"].as_f64().unwrap()
}

/// A refused write is charged too, but not reported: items of at most 1 KB are assumed.
fn refused(body: &Value) -> f64 {
    let code = body["__type"].as_str().unwrap_or_default();
    if code.ends_with("ConditionalCheckFailedException") {
        return 1.0;
    }
    let reasons = body["CancellationReasons"].as_array();
    reasons.map_or(0.0, |reasons| reasons.iter().map(|_| 2.0).sum())
}
