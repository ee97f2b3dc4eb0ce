//! Credentials and clocks that AWS does not accept.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_config::Region;
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, future},
};
use aws_smithy_runtime_api::client::{
    http::{
        HttpClient as _, HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector,
        http_client_fn,
    },
    orchestrator::{HttpRequest, HttpResponse},
};
use aws_smithy_types::{DateTime, body::SdkBody, date_time::Format};
use parlance::{providers::aws::Aws, store::usage::metered};
use serde_json::json;
use tokio::task::yield_now;

use super::{Log, MASTER_KEY, function_over};
use crate::support::{Client, World, tenant, world};

/// What an AWS in front of the store refuses, before it asks it.
type Gatekeeper = Arc<dyn Fn(&HttpRequest) -> Option<HttpResponse> + Send + Sync>;

struct Guarded {
    store: SharedHttpConnector,
    gatekeeper: Gatekeeper,
}

impl std::fmt::Debug for Guarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guarded")
    }
}

impl HttpConnector for Guarded {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        match (self.gatekeeper)(&request) {
            Some(refusal) => HttpConnectorFuture::new(async {
                // Lets the calls that go together begin.
                yield_now().await;
                Ok(refusal)
            }),
            None => self.store.call(request),
        }
    }
}

fn guarded(world: &World, gatekeeper: Gatekeeper) -> SharedHttpClient {
    let store = world.dynamodb.config().http_client().unwrap();
    http_client_fn(move |settings, components| {
        SharedHttpConnector::new(Guarded {
            store: store.http_connector(settings, components),
            gatekeeper: Arc::clone(&gatekeeper),
        })
    })
}

fn refused(code: &str) -> HttpResponse {
    let body = json!({
        "__type": format!("com.amazon.coral.service#{code}"),
        "message": "The security token included in the request is expired",
    });
    HttpResponse::new(400.try_into().unwrap(), SdkBody::from(body.to_string()))
}

/// Credentials that are new each time they are read, and how often they were.
#[derive(Debug, Default, Clone)]
struct Role(Arc<AtomicUsize>);

impl ProvideCredentials for Role {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        // They say that they hold for an hour.
        let end = SystemTime::now() + Duration::from_hours(1);
        let (id, token) = (format!("ASIA{number}"), format!("token{number}"));
        let made = Credentials::new(id, "secret", Some(token), Some(end), "test");
        future::ProvideCredentials::ready(Ok(made))
    }
}

impl Role {
    fn read(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn operator(role: &Role, http: SharedHttpClient) -> Client {
    let credentials = SharedCredentialsProvider::new(role.clone());
    let region = Some(Region::from_static("eu-west-1"));
    let dynamodb = Aws::new(http, credentials, region).dynamodb();
    Client::new(function_over(&metered(&dynamodb, true))).with("x-master-key", MASTER_KEY)
}

/// Refuses the first credentials with `code`.
fn ended(code: &'static str) -> Gatekeeper {
    Arc::new(move |request| {
        let signed = request.headers().get("authorization").unwrap();
        signed.contains("Credential=ASIA0/").then(|| refused(code))
    })
}

#[tokio::test]
async fn credentials_that_ended_early_are_read_anew_and_nobody_notices() {
    for code in ["ExpiredTokenException", "UnrecognizedClientException"] {
        let role = Role::default();
        let operator = operator(&role, guarded(&world().await, ended(code)));
        let log = Log::begin();

        assert_eq!(operator.get("/admin/tenants").await.status, 200, "{code}");
        assert_eq!(operator.get("/admin/tenants").await.status, 200, "{code}");

        assert_eq!(role.read(), 2, "{code}");
        let retries: Vec<_> = log
            .take()
            .iter()
            .map(|line| line["dynamodb_retries"].as_u64())
            .collect();
        assert_eq!(retries, [Some(1), None], "{code}");
    }
}

#[tokio::test]
async fn calls_that_were_under_way_together_are_all_tried_again() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice"]).await;
    let role = Role::default();
    let accepted = Arc::new(AtomicBool::new(true));
    let accepts = Arc::clone(&accepted);
    let gatekeeper: Gatekeeper = Arc::new(move |request| {
        let signed = request.headers().get("authorization").unwrap();
        let is_first = signed.contains("Credential=ASIA0/");
        (is_first && !accepts.load(Ordering::Relaxed)).then(|| refused("ExpiredTokenException"))
    });
    let alice = operator(&role, guarded(&world().await, gatekeeper))
        .with("x-api-key", &tenant.key)
        .with("x-user-id", "alice");
    assert_eq!(alice.get("/rooms").await.status, 200);
    accepted.store(false, Ordering::Relaxed);
    let log = Log::begin();

    // It reads the caller's place and the log at the same time.
    let read = alice.get(&format!("/rooms/{room}/messages")).await;

    assert_eq!(read.status, 200, "{}", read.raw);
    assert_eq!(log.one()["dynamodb_retries"], 2);
    assert_eq!(role.read(), 2);
}

#[tokio::test]
async fn credentials_that_are_refused_again_are_not_read_again_at_once() {
    let role = Role::default();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let refused: Gatekeeper = Arc::new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Some(refused("ExpiredTokenException"))
    });
    let operator = operator(&role, guarded(&world().await, refused));
    let log = Log::begin();

    for _ in 0..3 {
        let answer = operator.get("/admin/tenants").await;
        answer.assert_error(503, "SERVICE_UNAVAILABLE", None);
        assert_eq!(answer.header("retry-after"), Some("1"));
        let line = log.one();
        let cause = line["cause"].as_str().unwrap();
        assert!(cause.contains("ExpiredTokenException"), "{cause}");
        assert!(!line.to_string().contains("token0"), "{line}");
    }
    assert_eq!(role.read(), 2);
    // The first request twice, with what was read anew; the others once.
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_made_up_for() {
    // AWS's clock, ten minutes before ours. It takes what was signed within five.
    let behind = Duration::from_mins(10);
    let refusals = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&refusals);
    let gatekeeper: Gatekeeper = Arc::new(move |request| {
        let now = SystemTime::now() - behind;
        let signed = request.headers().get("x-amz-date").unwrap();
        let signed = time::PrimitiveDateTime::parse(
            signed,
            time::macros::format_description!("[year][month][day]T[hour][minute][second]Z"),
        );
        let signed: SystemTime = signed.unwrap().assume_utc().into();
        let apart = signed
            .duration_since(now)
            .unwrap_or_else(|error| error.duration());
        if apart < Duration::from_mins(5) {
            return None;
        }
        *counted.lock().unwrap() += 1;
        let mut refusal = refused("InvalidSignatureException");
        let seconds = now.duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let date = DateTime::from_secs_f64(seconds)
            .fmt(Format::HttpDate)
            .unwrap();
        refusal.headers_mut().insert("date", date);
        Some(refusal)
    });
    let role = Role::default();
    let operator = operator(&role, guarded(&world().await, gatekeeper));

    assert_eq!(operator.get("/admin/tenants").await.status, 200);
    assert_eq!(*refusals.lock().unwrap(), 1);
}
