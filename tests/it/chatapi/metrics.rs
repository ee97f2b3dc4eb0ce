//! How things stand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parlance::{
    app::Keep,
    domain::{
        Moment, Timestamp, UserId,
        delivery::{Job, Receipt},
        live::{Connection, ConnectionId},
        secret::SecretHash,
    },
    http::moment,
    queue::{Audience, Fanout},
    store::{Backoff, Stores},
};
use serde_json::{Value, json};

use super::{partition, poison, record, send};
use crate::support::{
    Client, Response, Tenant,
    faults::{Fault, Plan, faulty, script},
    settings, tenant, tenant_of, world, world_over,
};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(25);

fn operator(tenant: &Tenant) -> Client {
    tenant.world.operator().anew()
}

/// Shows the stream's consumer all messages of a room, as if it had just read them, and has what was counted written.
async fn let_fanout_count(tenant: &Tenant, room: &str) {
    let log = partition(&tenant.world, "Messages", format!("{}#{room}", tenant.id)).await;
    let records: Vec<_> = log.iter().map(|it| record("INSERT", it)).collect();
    let event = serde_json::from_value(json!({ "Records": records })).unwrap();
    let app = &tenant.world.app;
    let response = fanout::handle(app, &poison().await.0, event).await;
    assert_eq!(response.batch_item_failures.len(), 0);
    app.keep_counts(Keep::Now).await.unwrap();
}

/// Attempts the delivery of a notification to bob `times` times, so many hours ago.
async fn attempt(tenant: &Tenant, notification: &str, times: u32, hours: i64) {
    let job = Job {
        tenant: tenant.id.parse().unwrap(),
        subject: notification.parse().unwrap(),
        user: Some(UserId::parse("user_id", "bob").unwrap()),
    };
    for number in 0..times {
        let drawn = moment(REQUEST_TIMEOUT).unwrap();
        let now = drawn
            .now
            .plus_seconds(60 * i64::from(number) - hours * 3_600);
        let moment = Moment { now, ..drawn };
        let receipt = Receipt {
            receives: number + 1,
            sent_at: Timestamp::from_micros(0),
            made_at: None,
        };
        let app = &tenant.world.app;
        app.attempt(&job, receipt, &moment).await.unwrap();
    }
    let app = &tenant.world.app;
    app.keep_counts(Keep::Now).await.unwrap();
}

async fn notify(tenant: &Tenant) -> String {
    let body = json!({ "topic": "t", "payload": {}, "targets": { "user_ids": ["bob"] } });
    let sent = tenant.user("alice").post("/notify", &body).await;
    sent.text("notification_id")
}

/// A client of the tenant's is connected; `leave` has it go.
async fn connect(tenant: &Tenant, id: &str, leave: bool) {
    let moment = moment(REQUEST_TIMEOUT).unwrap();
    let stores = Stores::new(&tenant.world.dynamodb, &settings().tables, false);
    let connection = Connection {
        id: ConnectionId::parse(&format!("{}-{id}", tenant.id)).unwrap(),
        tenant: tenant.id.parse().unwrap(),
        user: UserId::parse("user_id", "bob").unwrap(),
        connected_at: moment.now,
    };
    let mut race = Backoff::until(moment.deadline, moment.seed);
    let connected = stores
        .connections
        .connect(&connection, SecretHash::of(b"key"), 9, &mut race);
    connected.await.unwrap();
    // As `$connect` does.
    let tenant = connection.tenant;
    let mark = parlance::store::listeners::Mark::ForAConnection;
    let marked = stores.listeners.mark(tenant, mark, moment.now, &mut race);
    marked.await.unwrap();
    if leave {
        let left = stores.connections.leave(&connection, moment.now, &mut race);
        left.await.unwrap();
    }
}

/// The body without the time since the process began, which must be a small number.
#[track_caller]
fn without_uptime(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{}", response.raw);
    let mut body = response.body.clone();
    let uptime = body.as_object_mut().unwrap().remove("uptime_seconds");
    assert!(uptime.unwrap().as_u64().unwrap() < 10_000);
    body
}

fn nothing() -> Value {
    json!({
        "active_connections": 0,
        "messages_sent": 0,
        "delivery_attempts": 0,
        "delivery_failures": 0,
        "broadcast_drops": 0,
        "deliveries_queued": 0,
        "deliveries_delivered": 0,
        "deliveries_retried": 0,
        "deliveries_held": 0,
        "deliveries_dead": 0,
        "dead_letters": 0,
        "oldest_delivery_age_seconds": null,
    })
}

/// A tenant of a store of its own in which all that is counted has happened.
async fn eventful() -> Tenant {
    let tenant = tenant_of(&world_over(|client| client).await).await;
    let room = tenant.group(&["alice", "bob"]).await;
    for content in ["one", "two", "three"] {
        send(&tenant.user("alice"), &room, content).await;
    }
    let_fanout_count(&tenant, &room).await;
    // Five attempts of one, which is then dead, and the first of another, an hour ago.
    attempt(&tenant, &notify(&tenant).await, 5, 2).await;
    attempt(&tenant, &notify(&tenant).await, 1, 1).await;
    for (id, leave) in [("a", false), ("b", false), ("c", true)] {
        connect(&tenant, id, leave).await;
    }
    tenant
}

/// What there is of [`eventful`], but for the age.
fn counted() -> Value {
    json!({
        "active_connections": 2,
        "messages_sent": 3,
        "delivery_attempts": 6,
        "delivery_failures": 6,
        "broadcast_drops": 0,
        "deliveries_queued": 0,
        "deliveries_delivered": 0,
        "deliveries_retried": 5,
        "deliveries_held": 0,
        "deliveries_dead": 1,
        "dead_letters": 1,
    })
}

#[track_caller]
fn assert_eventful(response: &Response) {
    let mut body = without_uptime(response);
    let age = body.as_object_mut().unwrap();
    let age = age.remove("oldest_delivery_age_seconds").unwrap();
    assert!((3_600..3_700).contains(&age.as_u64().unwrap()), "{age}");
    assert_eq!(body, counted());
}

#[tokio::test]
async fn where_nothing_happened_all_is_zero() {
    let tenant = tenant().await;
    for client in [tenant.server(), tenant.user("alice")] {
        assert_eq!(without_uptime(&client.get("/metrics").await), nothing());
    }
}

#[tokio::test]
async fn what_happened_is_counted_for_its_tenant_and_for_no_other() {
    let tenant = eventful().await;
    let other = tenant_of(&tenant.world).await;
    let own = format!("/metrics?tenant_id={}", tenant.id);

    assert_eventful(&tenant.server().get("/metrics").await);
    assert_eventful(&tenant.server().get(&own).await);
    assert_eventful(&operator(&tenant).get(&own).await);
    assert_eq!(
        without_uptime(&other.server().get("/metrics").await),
        nothing()
    );
    other.server().get(&own).await.assert(
        403,
        json!({
            "success": false,
            "error": { "code": "AUTHORIZATION_ERROR", "message": "This key belongs to another tenant" },
        }),
    );
}

#[tokio::test]
async fn the_operator_sees_the_sum_of_all_tenants() {
    let tenant = eventful().await;
    let other = tenant_of(&tenant.world).await;
    let room = other.group(&["alice"]).await;
    send(&other.user("alice"), &room, "four").await;
    let_fanout_count(&other, &room).await;
    connect(&other, "d", false).await;

    let sum = operator(&tenant).get("/metrics").await;

    assert_eq!(sum.body["messages_sent"], 4, "{}", sum.raw);
    assert_eq!(sum.body["active_connections"], 3);
    assert_eq!(sum.body["deliveries_dead"], 1);
    assert_eq!(sum.body["dead_letters"], 1);
    assert!(sum.body["oldest_delivery_age_seconds"].as_u64().unwrap() >= 3_600);
}

#[tokio::test]
async fn what_nobody_was_to_be_told_is_not_counted_as_delivered() {
    let tenant = tenant_of(&world_over(|client| client).await).await;
    let room = tenant.group(&["alice", "bob"]).await;
    let sent = send(&tenant.user("alice"), &room, "hi").await;
    // Nobody wants it.
    let subject = format!("{room}/{}:created", sent.text("message_id"));
    attempt(&tenant, &subject, 1, 0).await;

    let metrics = tenant.server().get("/metrics").await;

    assert_eq!(metrics.body["delivery_attempts"], 0, "{}", metrics.raw);
    assert_eq!(metrics.body["deliveries_delivered"], 0);
    assert_eq!(metrics.body["delivery_failures"], 0);
}

#[tokio::test]
async fn jobs_that_are_queued_are_counted() {
    let tenant = tenant_of(&world_over(|client| client).await).await;
    let id = notify(&tenant).await;
    let job = Fanout::Tell {
        tenant: tenant.id.parse().unwrap(),
        subject: id.parse().unwrap(),
        audience: Audience::All,
    };
    let message = json!({
        "messageId": "1",
        "receiptHandle": "none",
        "body": job.to_text().unwrap(),
        "attributes": { "ApproximateReceiveCount": "1" },
        "messageAttributes": {},
    });
    let event = serde_json::from_value(json!({ "Records": [message] })).unwrap();

    let response = live::handle(&tenant.world.app, &poison().await.0, event).await;

    assert_eq!(response.batch_item_failures.len(), 0);
    let metrics = tenant.server().get("/metrics").await;
    assert_eq!(metrics.body["deliveries_queued"], 1, "{}", metrics.raw);
}

#[tokio::test]
async fn prometheus_reads_the_same_as_text() {
    let tenant = eventful().await;
    let client = tenant.server().with("accept", "text/plain;version=0.0.4");

    let told = client.get("/metrics").await;

    assert_eq!(told.status, 200, "{}", told.raw);
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(told.header("content-type"), Some(kind));
    let sample = |name: &str, help: &str, kind: &str, value: &str| {
        format!(
            "# HELP parlance_{name} {help}\n# TYPE parlance_{name} {kind}\nparlance_{name}{{tenant=\"{}\"}} {value}\n",
            tenant.id
        )
    };
    let value = |name: &str| {
        let lines = told.raw.lines();
        let line = lines.filter(|line| line.starts_with(&format!("parlance_{name}{{")));
        line.map(|line| line.rsplit(' ').next().unwrap())
            .collect::<String>()
    };
    let (uptime, age) = (
        value("uptime_seconds"),
        value("oldest_delivery_age_seconds"),
    );
    assert!((3_600..3_700).contains(&age.parse::<u64>().unwrap()));
    let expected = [
        sample(
            "active_connections",
            "Connections that clients have now.",
            "gauge",
            "2",
        ),
        sample("messages_sent_total", "Messages written.", "counter", "3"),
        sample(
            "delivery_attempts_total",
            "Attempts of deliveries.",
            "counter",
            "6",
        ),
        sample(
            "delivery_failures_total",
            "Attempts that failed.",
            "counter",
            "6",
        ),
        sample(
            "broadcast_drops_total",
            "Always 0: nothing is dropped.",
            "counter",
            "0",
        ),
        sample(
            "uptime_seconds",
            "Since when the process that answers runs.",
            "gauge",
            &uptime,
        ),
        sample(
            "deliveries_queued_total",
            "Deliveries queued.",
            "counter",
            "0",
        ),
        sample(
            "deliveries_delivered_total",
            "Deliveries made.",
            "counter",
            "0",
        ),
        sample(
            "deliveries_retried_total",
            "Attempts that failed and were not the last.",
            "counter",
            "5",
        ),
        sample(
            "deliveries_held_total",
            "Deliveries that began to wait for a paused endpoint.",
            "counter",
            "0",
        ),
        sample(
            "deliveries_dead_total",
            "Deliveries whose attempts were used up.",
            "counter",
            "1",
        ),
        sample(
            "dead_letters",
            "Dead letters that there are now.",
            "gauge",
            "1",
        ),
        sample(
            "oldest_delivery_age_seconds",
            "Age of the oldest delivery that has not ended; absent if there is none.",
            "gauge",
            &age,
        ),
    ];
    assert_eq!(told.raw, expected.concat());
}

#[tokio::test]
async fn a_sum_has_no_label_and_what_is_not_there_has_no_sample() {
    let tenant = tenant_of(&world_over(|client| client).await).await;
    let client = operator(&tenant).with("accept", "application/openmetrics-text");

    let told = client.get("/metrics").await;

    let lines: Vec<_> = told.raw.lines().collect();
    assert!(
        lines.contains(&"parlance_messages_sent_total 0"),
        "{}",
        told.raw
    );
    let last = "# TYPE parlance_oldest_delivery_age_seconds gauge";
    assert_eq!(lines.last(), Some(&last));
    assert!(!told.raw.contains('{'), "{}", told.raw);
}

#[tokio::test]
async fn a_failure_is_json_whatever_was_asked_for() {
    let client = world().await.stranger().with("accept", "text/plain");
    client.get("/metrics").await.assert(
        401,
        json!({
            "success": false,
            "error": {
                "code": "AUTHENTICATION_ERROR",
                "message": "Missing API key. Send it as X-API-Key",
            },
        }),
    );
}

#[tokio::test]
async fn a_tenant_that_is_named_must_be_one() {
    let tenant = tenant().await;
    for client in [operator(&tenant), tenant.server()] {
        for bad in ["", "tenant_abc", "%00", &tenant.id.to_uppercase()] {
            let path = format!("/metrics?tenant_id={bad}");
            let answer = client.get(&path).await;
            answer.assert_error(400, "VALIDATION_ERROR", Some("tenant_id"));
        }
        let twice = format!("/metrics?tenant_id={0}&tenant_id={0}", tenant.id);
        let answer = client.get(&twice).await;
        answer.assert_error(400, "VALIDATION_ERROR", Some("tenant_id"));
    }
    let unknown = format!("/metrics?tenant_id=tenant_{:032x}", 1);
    let answer = operator(&tenant).get(&unknown).await;
    answer.assert_error(404, "NOT_FOUND", None);
}

/// An outage of the table takes nothing from a batch, and what was counted meanwhile is written after it.
#[tokio::test]
async fn counts_that_cannot_be_written_hold_nothing_up() {
    let plain = tenant_of(&world_over(|client| client).await).await;
    let room = plain.group(&["alice"]).await;
    send(&plain.user("alice"), &room, "one").await;
    let refused = script("UpdateItem", [Fault::Refuse("AccessDeniedException")]);
    let tenant = plain.at(&plain.world.another(|client| faulty(client, refused)));

    let_fanout_count(&tenant, &room).await;

    let metrics = plain.server().get("/metrics").await;
    assert_eq!(metrics.body["messages_sent"], 1, "{}", metrics.raw);
}

/// A table that takes nothing for five minutes is asked eight times, and then has all that was counted.
#[tokio::test(start_paused = true)]
async fn counts_that_cannot_be_written_are_tried_ever_less_often_and_none_is_lost() {
    let plain = tenant_of(&world_over(|client| client).await).await;
    let refusals = Arc::new(AtomicUsize::new(0));
    let is_full = Arc::new(AtomicBool::new(true));
    let (asked, full) = (Arc::clone(&refusals), Arc::clone(&is_full));
    let outage: Plan = Arc::new(move |operation, _| {
        if operation != "UpdateItem" || !full.load(Relaxed) {
            return Fault::Pass;
        }
        asked.fetch_add(1, Relaxed);
        Fault::Refuse("AccessDeniedException")
    });
    let tenant = plain.at(&plain.world.another(|client| faulty(client, outage)));
    let app = &tenant.world.app;
    let second = async || {
        app.count_messages(tenant.id.parse().unwrap(), 1);
        let kept = app.keep_counts(Keep::WhenDue).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        kept
    };

    for _ in 0..300 {
        drop(second().await);
    }
    is_full.store(false, Relaxed);
    for _ in 0..60 {
        second().await.unwrap();
    }

    assert_eq!(refusals.load(Relaxed), 8);
    app.keep_counts(Keep::Now).await.unwrap();
    let metrics = plain.server().get("/metrics").await;
    assert_eq!(metrics.body["messages_sent"], 360, "{}", metrics.raw);
}
