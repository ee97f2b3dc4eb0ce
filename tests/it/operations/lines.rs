//! The line of a request.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex},
};

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient as _, HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector,
        http_client_fn,
    },
    orchestrator::HttpRequest,
};
use axum::http::Method;
use parlance::{domain::address::Targets, http::telemetry::OURS, store::usage::metered};
use parlance_local::functions;
use serde_json::{Value, json};
use tower::ServiceExt;
use tracing::level_filters::LevelFilter;

use super::{FUNCTION, Log, MASTER_KEY, function};
use crate::{
    kodey::{Team, chats::chat, models::chat_at, streaming::streaming, team},
    support::{
        Client, Tenant, app,
        faults::{Fault, faulty, script},
        provider::{Act, Provider, Speech, words},
        tenant, tenant_of, world, world_over,
    },
};

/// A user of `tenant` at a function that logs.
async fn alice(tenant: &Tenant) -> Client {
    let api = function(&world().await, |client| client);
    Client::new(api)
        .with("x-api-key", &tenant.key)
        .with("x-user-id", "alice")
}

fn names(line: &Value) -> Vec<&str> {
    line.as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn who_is_heard_below_info_is_every_crate_of_ours() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let crates = |folder: &str| {
        let folders = std::fs::read_dir(root.join(folder)).unwrap();
        let folders = folders.map(|it| it.unwrap());
        let crates = folders.filter(|it| it.path().join("Cargo.toml").is_file());
        crates.map(|it| it.file_name().into_string().unwrap())
    };
    let mut ours: BTreeSet<_> = crates("functions").collect();
    ours.extend(crates("shared").map(|floor| format!("parlance_{floor}")));
    ours.extend(["parlance", "parlance_lambda", "parlance_local"].map(str::to_owned));
    assert_eq!(BTreeSet::from(OURS.map(str::to_owned)), ours);
}

#[tokio::test]
async fn the_line_of_a_request_does_not_name_the_chat_it_made() {
    let team = team().await;
    let log = Log::begin();
    let made = team.sk.post("/chat", &json!({ "agentId": "chat" })).await;
    let id = made.text("id");
    let lines = log.raw().concat();
    assert!(lines.contains(made.header("x-request-id").unwrap()));
    assert!(!lines.contains(id.strip_prefix("chat_").unwrap()));
}

#[tokio::test]
async fn a_request_is_one_line() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice"]).await;
    let alice = alice(&tenant).await;
    alice.get("/rooms").await;
    let log = Log::begin();

    let path = format!("/rooms/{room}/messages");
    let sent = alice.post(&path, &json!({ "content": "Hello" })).await;

    let mut line = log.one();
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    assert!(line["duration_ms"].as_f64().unwrap() > 0.0);
    for varying in ["timestamp", "duration_ms", "cold_start", "_aws"] {
        line.as_object_mut().unwrap().remove(varying);
    }
    assert_eq!(
        line,
        json!({
            "level": "INFO",
            "message": "request",
            "function": FUNCTION,
            "request_id": sent.header("x-request-id").unwrap(),
            "method": "POST",
            "route": "/rooms/{room_id}/messages",
            "surface": "chatapi",
            "tenant": tenant.id,
            "status": 200,
            "dynamodb_calls": 3,
            "read_units": 1.5,
            "write_units": 1.0,
            "server_errors": 0,
        })
    );
}

#[tokio::test]
async fn a_line_holds_nothing_that_a_user_chose() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "user-b0b"]).await;
    let alice = alice(&tenant)
        .await
        .with("cookie", "session=c00kie")
        .with("idempotency-key", "once-0nce")
        .with("x-request-id", "mine-m1ne")
        .with("traceparent", "00-trac3-00f067aa0ba902b7-01")
        .with("x-amzn-trace-id", "Root=tr4ce");
    let log = Log::begin();

    let content = json!({ "content": "c0ntent", "meta": { "m3ta": "data" } });
    let messages = format!("/rooms/{room}/messages");
    alice.post(&messages, &content).await;
    alice.get(&format!("{messages}?after_seq=0&q=qu3ry")).await;
    alice.send(Method::POST, &messages, "not j50n").await;
    alice
        .delete(&format!("/rooms/{room}/members/user-b0b"))
        .await;
    alice.get("/un-kn0wn").await;
    let made_up = Method::from_bytes(b"M3THOD").unwrap();
    alice.send(made_up, "/rooms", "").await;
    alice.clone().with("x-api-key", "two").get("/rooms").await;
    let operator = alice.with("x-master-key", MASTER_KEY);
    operator
        .post("/admin/tenants", &json!({ "name": "n4me" }))
        .await;

    let lines = log.raw();
    assert_eq!(lines.len(), 8, "{lines:#?}");
    let chosen = [
        &*tenant.key,
        MASTER_KEY,
        "alice",
        "user-b0b",
        "c00kie",
        "0nce",
        "m1ne",
        "trac3",
        "tr4ce",
        "c0ntent",
        "m3ta",
        "qu3ry",
        "j50n",
        "kn0wn",
        "M3THOD",
        "n4me",
        &room,
    ];
    for line in lines {
        for chosen in chosen {
            assert!(!line.contains(chosen), "{chosen} is in {line}");
        }
    }
}

#[tokio::test]
async fn calls_of_requests_at_the_same_time_are_counted_apart() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice"]).await;
    let alice = alice(&tenant).await;
    alice.get("/rooms").await;
    let log = Log::begin();

    let messages = format!("/rooms/{room}/messages");
    let hello = json!({ "content": "Hello" });
    let nothing = json!({});
    tokio::join!(
        alice.post(&messages, &hello),
        alice.post("/rooms", &nothing),
        alice.get(&messages),
    );

    let mut counts: Vec<_> = log
        .take()
        .iter()
        .map(|line| (line["status"].clone(), line["dynamodb_calls"].clone()))
        .collect();
    counts.sort_by_key(|(_, calls)| calls.as_u64());
    assert_eq!(
        counts,
        [
            (json!(400), json!(0)),
            (json!(200), json!(2)),
            (json!(200), json!(3)),
        ]
    );
}

/// A client whose calls are looked at.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<Mutex<BTreeSet<(String, bool)>>>);

#[derive(Debug)]
struct Looking {
    inner: SharedHttpConnector,
    seen: Seen,
}

impl Seen {
    fn look(&self, client: SharedHttpClient) -> SharedHttpClient {
        let seen = self.clone();
        http_client_fn(move |settings, components| {
            SharedHttpConnector::new(Looking {
                inner: client.http_connector(settings, components),
                seen: seen.clone(),
            })
        })
    }
}

impl HttpConnector for Looking {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap();
        let operation = target.rsplit('.').next().unwrap().to_owned();
        let body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        let asked = body["ReturnConsumedCapacity"] == "TOTAL";
        self.seen.0.lock().unwrap().insert((operation, asked));
        self.inner.call(request)
    }
}

#[tokio::test]
async fn every_operation_of_the_stores_is_asked_for_its_units() {
    let seen = Seen::default();
    let api = function(&world().await, |client| seen.look(client));
    let operator = Client::new(api.clone()).with("x-master-key", MASTER_KEY);
    let _log = Log::begin();

    let made = operator
        .post("/admin/tenants", &json!({ "name": "a" }))
        .await;
    let tenant_path = format!("/admin/tenants/{}", made.text("tenant_id"));
    operator.get("/admin/tenants").await;
    operator.patch(&tenant_path, &json!({ "name": "b" })).await;
    let alice = Client::new(api)
        .with("x-api-key", &made.text("api_key"))
        .with("x-user-id", "alice");
    let group = json!({ "type": "group", "members": ["alice"] });
    let room = alice.post("/rooms", &group).await.text("room_id");
    alice.get("/rooms").await;
    let messages = format!("/rooms/{room}/messages");
    alice.post(&messages, &json!({ "content": "Hello" })).await;
    alice.get("/health").await;

    let seen = seen.0.lock().unwrap().clone();
    let asked = |operation: &str| (operation.to_owned(), true);
    let operations = [
        "BatchGetItem",
        "GetItem",
        "PutItem",
        "Query",
        "TransactWriteItems",
        "UpdateItem",
    ];
    assert_eq!(seen, BTreeSet::from(operations.map(asked)));
}

#[tokio::test]
async fn nothing_is_asked_for_where_no_line_shows_it() {
    let seen = Seen::default();
    let api = function(&world().await, |client| seen.look(client));
    let log = Log::at(LevelFilter::WARN);

    let operator = Client::new(api).with("x-master-key", MASTER_KEY);
    assert_eq!(operator.get("/admin/tenants").await.status, 200);

    assert_eq!(log.take(), Vec::<Value>::new());
    let seen = seen.0.lock().unwrap().clone();
    assert_eq!(seen, BTreeSet::from([("Query".to_owned(), false)]));
}

#[tokio::test]
async fn a_throttle_and_its_retry_are_counted() {
    let world = world_over(|client| client).await;
    let tenant = tenant_of(&world).await;
    let api = function(&world, |client| {
        faulty(client, script("Query", [Fault::Throttle]))
    });
    let alice = Client::new(api)
        .with("x-api-key", &tenant.key)
        .with("x-user-id", "alice");
    let log = Log::begin();

    assert_eq!(alice.get("/subscriptions").await.status, 200);

    let line = log.one();
    assert_eq!(
        (&line["throttles"], &line["dynamodb_retries"]),
        (&json!(1), &json!(1))
    );
}

#[tokio::test]
async fn every_answer_names_its_request() {
    let tenant = tenant().await;
    let alice = alice(&tenant).await;
    let nobody = Client::new(function(&world().await, |client| client));
    let log = Log::begin();

    let answers = [
        alice.get("/rooms").await,
        alice.get("/nowhere").await,
        alice.delete("/rooms").await,
        alice.post("/rooms", &json!({})).await,
        nobody.get("/rooms").await,
        nobody
            .with("origin", "https://example.com")
            .with("access-control-request-method", "GET")
            .send(Method::OPTIONS, "/rooms", "")
            .await,
    ];

    let told: Vec<_> = answers
        .iter()
        .map(|answer| answer.header("x-request-id").unwrap())
        .collect();
    let lines = log.take();
    let logged: Vec<_> = lines
        .iter()
        .map(|line| line["request_id"].as_str().unwrap())
        .collect();
    assert_eq!(told, logged);
    assert_eq!(BTreeSet::from_iter(told).len(), answers.len());
}

#[tokio::test]
async fn a_line_joins_with_the_gateways_with_lambdas_and_with_the_trace() {
    let event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/health",
        "rawQueryString": "",
        "headers": { "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" },
        "requestContext": {
            "http": {
                "method": "GET", "path": "/health", "protocol": "HTTP/1.1", "sourceIp": "203.0.113.7",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "stage": "$default",
        },
        "isBase64Encoded": false,
    });
    let mut request = lambda_http::request::from_str(&event.to_string()).unwrap();
    // As `lambda_http` puts what Lambda says of the invocation into the request.
    let mut context = lambda_http::Context::default();
    context.request_id = "8476a536-e9f4-11e8-9739-2dfe598c3fcd".to_owned();
    request.extensions_mut().insert(context);
    let root = "1-5759e988-bd862e3fe1be46a994272793";
    let trace = format!("Root={root};Parent=53995c3f42cd8ad8;Sampled=1");
    let headers = request.headers_mut();
    headers.insert("x-amzn-trace-id", trace.parse().unwrap());
    let api = function(&world().await, |client| client);
    let log = Log::begin();

    let Ok(response) = api.oneshot(request).await;

    assert_eq!(response.headers()["x-request-id"], "JKJaXmPLvHcESHA=");
    let line = log.one();
    let ids = ["request_id", "invocation_id", "trace_id", "w3c_trace_id"];
    assert_eq!(
        ids.map(|id| line[id].as_str().unwrap()),
        [
            "JKJaXmPLvHcESHA=",
            "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
            root,
            "4bf92f3577b34da6a3ce929d0e0e4736",
        ]
    );
}

#[tokio::test]
async fn what_is_logged_in_the_course_of_a_request_names_it() {
    let world = world_over(|client| client).await;
    let api = function(&world, |client| {
        faulty(
            client,
            script("UpdateItem", [Fault::Throttle, Fault::Throttle]),
        )
    });
    let log = Log::begin();

    let health = Client::new(api).get("/health").await;

    assert_eq!(health.status, 503, "{}", health.raw);
    let lines = log.take();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert_eq!(lines[0]["message"], "the health probe could not write");
    assert_eq!(lines[0]["level"], "WARN");
    assert_eq!(lines[0]["request_id"], lines[1]["request_id"]);
    assert_eq!(lines[1]["level"], "ERROR");
}

#[tokio::test]
async fn only_faults_are_lines_above_the_level_of_requests() {
    let world = world_over(|client| client).await;
    let api = function(&world, |client| {
        faulty(client, script("Query", [Fault::Throttle, Fault::Throttle]))
    });
    let operator = Client::new(api).with("x-master-key", MASTER_KEY);
    let log = Log::at(LevelFilter::WARN);

    assert_eq!(operator.get("/admin/tenants").await.status, 503);
    assert_eq!(operator.get("/admin/tenants").await.status, 200);

    let line = log.one();
    assert_eq!(
        (&line["level"], &line["status"]),
        (&json!("ERROR"), &json!(503))
    );
    let counted: Vec<_> = names(&line)
        .into_iter()
        .filter(|name| name.contains("units") || name.contains("calls"))
        .collect();
    assert_eq!(counted, Vec::<&str>::new(), "nothing was counted");
}

/// A server of `team` at a function that logs and has served before.
async fn server(team: &Team, chat: &str) -> Client {
    let dynamodb = &world().await.dynamodb;
    let app = app(&metered(dynamodb, true), Targets::Any);
    let server = Client::new(functions::router(&app)).with("x-api-key", &team.secret);
    let warm = server
        .post(&format!("/chat/{chat}/message"), &hello())
        .await;
    assert_eq!(warm.status, 200, "{}", warm.raw);
    server
}

fn hello() -> Value {
    json!({ "content": "Hello", "role": "user" })
}

#[tokio::test]
async fn a_streamed_answer_is_one_line_that_counts_what_came_after_its_head() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    let server = server(&team, &chat).await;
    let path = format!("/chat/{chat}/message");
    let log = Log::begin();
    server.post(&path, &hello()).await;
    let whole = log.one();

    let stream = streaming(&server).post(&path, &hello()).await;

    let line = log.one();
    assert_eq!(
        line["request_id"].as_str(),
        stream.header("x-request-id"),
        "{line}"
    );
    assert_eq!(line["status"], 200);
    for cost in ["dynamodb_calls", "read_units", "write_units"] {
        assert_eq!(line[cost], whole[cost], "{cost}");
    }
}

#[tokio::test]
async fn a_model_that_fails_after_the_head_is_counted_in_the_line() {
    let team = team().await;
    let provider = Provider::new();
    let chat = chat_at(&team, &provider, Speech::OpenAi).await;
    provider.next(Act::Say(words("Warm.")));
    let server = server(&team, &chat).await;
    provider.next(Act::Drop(words("One two ")));
    let log = Log::begin();

    let path = format!("/chat/{chat}/message");
    let stream = streaming(&server).post(&path, &hello()).await;

    assert_eq!(stream.status, 200);
    let lines = log.take();
    let lines = lines.iter().filter(|line| line.get("route").is_some());
    let lines: Vec<_> = lines.collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    let line = lines[0];
    assert_eq!(line["status"], 200);
    assert_eq!(line["upstream_errors"], 1);
    assert_eq!(line["late_errors"], 1);
    assert_eq!(line["server_errors"], 0);
    assert_eq!(line["level"], "WARN");
}
