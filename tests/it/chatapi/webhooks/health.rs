//! The health of an endpoint, as its deliveries find it.

use parlance::{
    app::App,
    domain::{
        Moment, Timestamp,
        webhook::{Endpoint, EventType, Outgoing, Refused, Targets},
    },
};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::{create, events, path, scan};
use crate::support::{
    Response, Tenant, World, app,
    faults::{Fault, Meter, faulty, script},
    receiver::Receiver,
    tenant,
};

/// Sat, 13 Dec 2025 12:00:00 GMT
const BEGUN: i64 = 1_765_627_200;
const FIVE_DAYS: i64 = 5 * 24 * 3_600;
/// When an endpoint that fails from the beginning on is paused, if it failed after five days too.
const PAUSED: i64 = FIVE_DAYS + 3_600;

/// `seconds` after the beginning.
fn moment(seconds: i64) -> Moment {
    Moment::new(
        Timestamp::from_micros((BEGUN + seconds) * 1_000_000),
        Instant::now(),
        Duration::from_secs(30),
        u128::from(seconds.unsigned_abs()) << 64,
    )
}

/// A tenant with an endpoint, and a process that delivers.
struct Stage {
    tenant: Tenant,
    receiver: Receiver,
    made: Response,
    app: App,
}

impl Stage {
    async fn new() -> Self {
        let (tenant, receiver) = (tenant().await, Receiver::new());
        let made = create(&tenant, &receiver.url).await;
        let app = app(&tenant.world.dynamodb, Targets::Any);
        Self {
            tenant,
            receiver,
            made,
            app,
        }
    }

    async fn endpoint(&self) -> Endpoint {
        endpoints(&self.app, &self.tenant).await.pop().unwrap()
    }

    /// What came of an attempt `seconds` after the beginning.
    async fn post(&self, seconds: i64) -> Result<(), Refused> {
        let moment = moment(seconds);
        let what = Outgoing {
            id: "dlv_1",
            at: moment.now,
            event: EventType::MessageCreated,
            body: "{}",
        };
        let endpoint = self.endpoint().await;
        let until = moment.deadline;
        let posted = self.app.post_to(&endpoint, &what, until, &moment).await;
        posted.unwrap()
    }

    /// Fails it `seconds` after the beginning.
    async fn fail(&self, seconds: i64) {
        self.receiver.answer(500);
        assert_eq!(self.post(seconds).await.unwrap_err().reason, "HTTP 500");
    }

    async fn succeed(&self, seconds: i64) {
        self.receiver.answer(200);
        self.post(seconds).await.unwrap();
    }

    /// The endpoint as its tenant sees it.
    async fn shown(&self) -> Value {
        self.tenant.server().get(&path(&self.made)).await.body
    }
}

async fn endpoints(app: &App, tenant: &Tenant) -> Vec<Endpoint> {
    let tenant = tenant.id.parse().unwrap();
    app.endpoints_for(tenant, EventType::MessageCreated)
        .await
        .unwrap()
}

fn at(seconds: i64) -> String {
    moment(seconds).now.to_string()
}

#[tokio::test]
async fn an_endpoint_fails_since_its_first_failure_after_a_success() {
    let stage = Stage::new().await;
    stage.succeed(0).await;
    assert_eq!(stage.shown().await["failing_since"], Value::Null);
    for seconds in [10, 20, 30] {
        stage.fail(seconds).await;
        assert_eq!(stage.shown().await["failing_since"], at(10));
    }
    stage.succeed(40).await;
    assert_eq!(stage.shown().await["failing_since"], Value::Null);
    stage.fail(50).await;
    assert_eq!(stage.shown().await["failing_since"], at(50));
}

#[tokio::test]
async fn health_is_written_when_it_changes_and_not_for_each_attempt() {
    let mut stage = Stage::new().await;
    let meter = Meter::default();
    let client = stage.tenant.world.client(|client| meter.meter(client));
    stage.app = app(&client, Targets::Any);
    let written = || {
        let mut operations = meter.take().operations;
        operations.retain(|it| it != "Query");
        operations
    };
    stage.succeed(0).await;
    assert!(written().is_empty());
    stage.fail(10).await;
    assert_eq!(written(), ["UpdateItem"]);
    stage.fail(20).await;
    stage.fail(FIVE_DAYS).await;
    assert!(written().is_empty());
    stage.succeed(30).await;
    assert_eq!(written(), ["UpdateItem"]);
    stage.succeed(40).await;
    assert!(written().is_empty());
}

#[tokio::test]
async fn an_endpoint_that_fails_for_five_days_is_paused_and_an_event_tells_of_it() {
    let stage = Stage::new().await;
    stage.fail(0).await;
    stage.fail(FIVE_DAYS - 1).await;
    stage.fail(FIVE_DAYS).await;
    stage.fail(PAUSED - 1).await;
    assert_eq!(stage.shown().await["status"], "active");
    assert!(events(&stage.tenant).await.is_empty());

    stage.fail(PAUSED).await;

    let shown = stage.shown().await;
    assert_eq!(
        (
            &shown["status"],
            &shown["paused_reason"],
            &shown["paused_at"]
        ),
        (
            &json!("paused"),
            &json!("failing for 5 days"),
            &json!(at(PAUSED))
        )
    );
    assert_eq!(shown["failing_since"], at(0));
    assert!(!stage.endpoint().await.is_active());
    let told = scan(&stage.tenant.world, "Events").await;
    let told: Vec<_> = told
        .iter()
        .filter(|event| super::super::text(event, "pk").starts_with(&stage.tenant.id))
        .collect();
    assert_eq!(told.len(), 1);
    let text = |name| super::super::text(told[0], name);
    assert_eq!(text("kind"), "webhook.paused");
    assert_eq!(text("endpoint"), stage.made.text("endpoint_id"));
    assert_eq!(text("reason"), "failing for 5 days");
    assert_eq!(text("at"), at(PAUSED));
    assert!(!told[0].contains_key("room") && !told[0].contains_key("actor"));
    // Once.
    stage.fail(PAUSED + 1).await;
    assert_eq!(events(&stage.tenant).await["webhook.paused"], 1);
}

#[tokio::test]
async fn a_clock_that_steps_forward_pauses_no_endpoint_that_works_within_the_hour() {
    let stage = Stage::new().await;
    stage.fail(0).await;
    // A year passes at once.
    let year = 365 * 24 * 3_600;
    stage.fail(year).await;
    stage.fail(year + 3_599).await;
    stage.succeed(year + 3_599).await;
    stage.fail(year + 3_600).await;
    assert_eq!(stage.shown().await["status"], "active");
    assert_eq!(stage.shown().await["failing_since"], at(year + 3_600));
    // And once more: what was noted of the first time says nothing.
    stage.fail(2 * year).await;
    assert_eq!(stage.shown().await["status"], "active");
    assert!(events(&stage.tenant).await.is_empty());
}

#[tokio::test]
async fn a_clock_that_steps_back_counts_the_five_days_from_then_on() {
    let stage = Stage::new().await;
    stage.fail(0).await;
    stage.fail(-20).await;
    assert_eq!(stage.shown().await["failing_since"], at(0));
    let year = 365 * 24 * 3_600;
    stage.fail(-year).await;
    assert_eq!(stage.shown().await["failing_since"], at(-year));
    stage.fail(FIVE_DAYS - year).await;
    stage.fail(PAUSED - year).await;
    assert_eq!(stage.shown().await["status"], "paused");
}

#[tokio::test]
async fn an_endpoint_that_answers_410_is_paused_at_once_and_an_event_tells_of_it() {
    let stage = Stage::new().await;
    stage.succeed(0).await;
    stage.receiver.answer(410);

    assert_eq!(stage.post(10).await.unwrap_err().reason, "HTTP 410");

    let shown = stage.shown().await;
    let names = ["status", "paused_reason", "paused_at", "failing_since"];
    assert_eq!(
        names.map(|name| shown[name].clone()),
        [
            json!("paused"),
            json!("HTTP 410 Gone"),
            json!(at(10)),
            json!(at(10))
        ]
    );
    assert_eq!(events(&stage.tenant).await["webhook.paused"], 1);
    // Once.
    assert!(!stage.endpoint().await.is_active());
    stage.post(20).await.unwrap_err();
    assert_eq!(events(&stage.tenant).await["webhook.paused"], 1);
}

#[tokio::test]
async fn a_410_of_an_address_that_was_left_meanwhile_pauses_nothing() {
    let stage = Stage::new().await;
    stage.receiver.answer(410);
    // The process that delivers remembers the old address.
    let _read = stage.endpoint().await;
    let moved = json!({ "url": "http://127.0.0.1:1/" });
    let patched = stage
        .tenant
        .server()
        .patch(&path(&stage.made), &moved)
        .await;
    assert_eq!(patched.status, 200, "{}", patched.raw);

    stage.post(0).await.unwrap_err();

    assert_eq!(stage.shown().await["status"], "active");
    assert!(events(&stage.tenant).await.is_empty());
}

#[tokio::test]
async fn an_endpoint_is_paused_once_however_many_attempts_fail_at_once() {
    let stage = Stage::new().await;
    stage.fail(0).await;
    stage.fail(FIVE_DAYS).await;
    let endpoint = stage.endpoint().await;
    let mut attempts = tokio::task::JoinSet::new();
    for number in 0..8 {
        let app = app(&stage.tenant.world.dynamodb, Targets::Any);
        let (endpoint, moment) = (endpoint.clone(), moment(PAUSED + number));
        attempts.spawn(async move {
            let what = Outgoing {
                id: "dlv_1",
                at: moment.now,
                event: EventType::MessageCreated,
                body: "{}",
            };
            let until = moment.deadline;
            let posted = app.post_to(&endpoint, &what, until, &moment).await;
            posted.unwrap()
        });
    }
    for outcome in attempts.join_all().await {
        outcome.unwrap_err();
    }
    assert_eq!(events(&stage.tenant).await["webhook.paused"], 1);
    assert_eq!(stage.shown().await["status"], "paused");
}

#[tokio::test]
async fn a_pause_whose_answer_was_lost_is_told_once() {
    let mut stage = Stage::new().await;
    stage.fail(0).await;
    stage.fail(FIVE_DAYS).await;
    let plan = script("TransactWriteItems", [Fault::LoseAnswer]);
    let client = stage.tenant.world.client(|client| faulty(client, plan));
    stage.app = app(&client, Targets::Any);
    stage.fail(PAUSED).await;
    assert_eq!(events(&stage.tenant).await["webhook.paused"], 1);
    assert_eq!(stage.shown().await["status"], "paused");
}

#[tokio::test]
async fn an_endpoint_that_goes_on_or_moves_is_not_counted_as_failing() {
    let stage = Stage::new().await;
    for patch in [
        json!({ "status": "active" }),
        json!({ "url": stage.receiver.url }),
    ] {
        stage.fail(0).await;
        assert_eq!(stage.shown().await["failing_since"], at(0));
        let patched = stage
            .tenant
            .server()
            .patch(&path(&stage.made), &patch)
            .await;
        assert_eq!(
            patched.body["failing_since"],
            Value::Null,
            "{}",
            patched.raw
        );
        // The process that delivers is another one: it has not read the change yet.
        stage.succeed(1).await;
    }
}

#[tokio::test]
async fn an_attempt_passes_although_its_health_cannot_be_written() {
    let mut stage = Stage::new().await;
    stage.fail(0).await;
    let refuse = script("UpdateItem", [Fault::Refuse("AccessDeniedException")]);
    let client = stage.tenant.world.client(|client| faulty(client, refuse));
    stage.app = app(&client, Targets::Any);
    stage.succeed(10).await;
    assert_eq!(stage.shown().await["failing_since"], at(0));
    // The next one writes it.
    stage.succeed(20).await;
    assert_eq!(stage.shown().await["failing_since"], Value::Null);
}

#[tokio::test]
async fn a_removed_endpoint_that_fails_stays_removed() {
    let stage = Stage::new().await;
    let _read = stage.endpoint().await;
    stage.tenant.server().delete(&path(&stage.made)).await;
    stage.fail(0).await;
    assert_eq!(super::stored(&stage.tenant).await, (0, Some(0)));
}

/// The use cases of the process that serves `world`, which a deployed one keeps to itself.
fn serving(world: &World) -> Option<App> {
    world.deployed.is_none().then(|| world.app.clone())
}

#[tokio::test]
async fn what_a_process_changes_it_knows_at_once() {
    let tenant = tenant().await;
    let Some(app) = serving(&tenant.world) else {
        return;
    };
    assert!(endpoints(&app, &tenant).await.is_empty());
    let made = create(&tenant, "http://127.0.0.1:1/").await;
    assert!(endpoints(&app, &tenant).await[0].is_active());
    let server = tenant.server();
    server
        .patch(&path(&made), &json!({ "status": "paused" }))
        .await;
    assert!(!endpoints(&app, &tenant).await[0].is_active());
    server
        .patch(&path(&made), &json!({ "events": ["notification"] }))
        .await;
    assert!(endpoints(&app, &tenant).await.is_empty());
    server.patch(&path(&made), &json!({ "events": [] })).await;
    assert_eq!(endpoints(&app, &tenant).await.len(), 1);
    server.delete(&path(&made)).await;
    assert!(endpoints(&app, &tenant).await.is_empty());
}

#[tokio::test]
async fn endpoints_are_read_once_for_many_deliveries() {
    let mut stage = Stage::new().await;
    let meter = Meter::default();
    let client = stage.tenant.world.client(|client| meter.meter(client));
    stage.app = app(&client, Targets::Any);
    for seconds in 0..10 {
        stage.succeed(seconds).await;
    }
    assert_eq!(meter.take().operations, ["Query"]);
}
