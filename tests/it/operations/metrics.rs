//! The metrics in the lines, by the rules of CloudWatch's embedded metric format
//! (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>).

use std::collections::BTreeSet;

use aws_lambda_events::dynamodb::Event;
use parlance::queue::PoisonQueue;
use parlance_local::{
    clients::embedded_sqs,
    sqs::{Sqs, Sync},
};
use serde_json::{Value, json};

use super::{FUNCTION, Log, MASTER_KEY, function};
use crate::support::{
    Client,
    faults::{Fault, always, faulty},
    tenant, tenant_of, world, world_over,
};

/// The units that CloudWatch knows.
const UNITS: [&str; 27] = [
    "Seconds",
    "Microseconds",
    "Milliseconds",
    "Bytes",
    "Kilobytes",
    "Megabytes",
    "Gigabytes",
    "Terabytes",
    "Bits",
    "Kilobits",
    "Megabits",
    "Gigabits",
    "Terabits",
    "Percent",
    "Count",
    "Bytes/Second",
    "Kilobytes/Second",
    "Megabytes/Second",
    "Gigabytes/Second",
    "Terabytes/Second",
    "Bits/Second",
    "Kilobits/Second",
    "Megabits/Second",
    "Gigabits/Second",
    "Terabits/Second",
    "Count/Second",
    "None",
];

/// What in `line` breaks the format's rules.
fn broken(line: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let mut rule = |holds: bool, what: String| {
        if !holds {
            broken.push(what);
        }
    };
    let is_name = |name: &Value| {
        let name = name.as_str().unwrap_or_default();
        (1..=1024).contains(&name.len()) && !name.chars().any(char::is_control)
    };
    let timestamp = &line["_aws"]["Timestamp"];
    rule(timestamp.is_u64(), format!("Timestamp {timestamp}"));
    let sets = line["_aws"]["CloudWatchMetrics"].as_array();
    rule(
        sets.is_some_and(|sets| !sets.is_empty()),
        "no metrics".to_owned(),
    );
    for set in sets.into_iter().flatten() {
        let namespace = &set["Namespace"];
        let is_ours =
            is_name(namespace) && !namespace.as_str().unwrap_or_default().starts_with("AWS/");
        rule(is_ours, format!("Namespace {namespace}"));
        let dimensions = set["Dimensions"].as_array();
        rule(
            dimensions.is_some_and(|sets| !sets.is_empty()),
            "no dimensions".to_owned(),
        );
        for dimensions in dimensions.into_iter().flatten() {
            let dimensions = dimensions.as_array().map(Vec::as_slice).unwrap_or_default();
            rule(dimensions.len() <= 30, "more than 30 dimensions".to_owned());
            for dimension in dimensions {
                let value = &line[dimension.as_str().unwrap_or_default()];
                let holds = is_name(dimension) && is_name(value);
                rule(holds, format!("dimension {dimension} is {value}"));
            }
        }
        let metrics = set["Metrics"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        rule(
            (1..=100).contains(&metrics.len()),
            format!("{} metrics", metrics.len()),
        );
        let mut seen = BTreeSet::new();
        for metric in metrics {
            let (name, unit) = (&metric["Name"], &metric["Unit"]);
            let value = &line[name.as_str().unwrap_or_default()];
            rule(
                is_name(name) && value.is_number(),
                format!("metric {name} is {value}"),
            );
            rule(seen.insert(name.as_str()), format!("metric {name} twice"));
            let is_unit = unit.is_null() || UNITS.iter().any(|known| unit == known);
            rule(is_unit, format!("unit {unit} of {name}"));
        }
    }
    broken
}

#[track_caller]
fn assert_sound(line: &Value) {
    assert_eq!(broken(line), Vec::<String>::new(), "{line:#}");
    assert!(line.to_string().len() < 1024, "a long line costs: {line}");
}

/// The metrics of a line.
fn metrics(line: &Value) -> BTreeSet<&str> {
    let metrics = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array();
    let metrics = metrics.unwrap().iter();
    metrics
        .map(|metric| metric["Name"].as_str().unwrap())
        .collect()
}

fn dimensions(line: &Value) -> &Value {
    &line["_aws"]["CloudWatchMetrics"][0]["Dimensions"]
}

/// The metrics of every request. The other members of its line are none, since a metric is billed.
const ALWAYS: [&str; 1] = ["server_errors"];

#[test]
fn a_broken_line_would_be_found() {
    let sound = json!({
        "_aws": { "Timestamp": 1, "CloudWatchMetrics": [{
            "Namespace": "Parlance",
            "Dimensions": [["function"]],
            "Metrics": [{ "Name": "records" }],
        }] },
        "function": "rooms",
        "records": 1,
    });
    assert_eq!(broken(&sound), Vec::<String>::new());
    let breaks: [fn(&mut Value); 7] = [
        |line| line["function"] = json!(""),
        |line| line["records"] = json!("1"),
        |line| line["_aws"]["Timestamp"] = json!("now"),
        |line| line["_aws"]["CloudWatchMetrics"][0]["Namespace"] = json!("AWS/Lambda"),
        |line| line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] = json!([]),
        |line| line["_aws"]["CloudWatchMetrics"][0]["Metrics"] = json!([]),
        |line| line["_aws"]["CloudWatchMetrics"][0]["Metrics"][0]["Unit"] = json!("units"),
    ];
    for spoil in breaks {
        let mut line = sound.clone();
        spoil(&mut line);
        assert_eq!(broken(&line).len(), 1, "{line:#}");
    }
}

#[tokio::test]
async fn a_request_measures_whether_it_failed_and_tells_its_time_its_calls_and_its_units() {
    let tenant = tenant().await;
    let api = function(&world().await, |client| client);
    let alice = Client::new(api)
        .with("x-api-key", &tenant.key)
        .with("x-user-id", "alice");
    let log = Log::begin();

    assert_eq!(alice.get("/rooms").await.status, 200);

    let line = log.one();
    assert_sound(&line);
    assert_eq!(metrics(&line), BTreeSet::from(ALWAYS));
    for told in ["duration_ms", "dynamodb_calls", "read_units", "write_units"] {
        assert!(line[told].is_number(), "{told}");
    }
    assert_eq!(dimensions(&line), &json!([["function", "surface"]]));
    assert_eq!(
        (&line["function"], &line["surface"]),
        (&json!(FUNCTION), &json!("chatapi"))
    );
}

#[tokio::test]
async fn a_refusal_and_a_limit_are_counted() {
    let world = world_over(|client| client).await;
    let api = function(&world, |client| client);
    let stranger = Client::new(api).with("x-master-key", "wrong");
    let log = Log::begin();
    let limited = loop {
        let answer = stranger.get("/admin/tenants").await;
        let line = log.one();
        assert_sound(&line);
        if answer.status == 429 {
            break line;
        }
        assert_eq!(answer.status, 401, "{}", answer.raw);
        assert_eq!(
            (&line["client_errors"], &line["rate_limited"]),
            (&json!(1), &Value::Null)
        );
    };
    assert_eq!(
        (&limited["client_errors"], &limited["rate_limited"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(metrics(&limited), BTreeSet::from(ALWAYS));
}

#[tokio::test]
async fn a_fault_and_its_throttles_are_counted() {
    let world = world_over(|client| client).await;
    let api = function(&world, |client| {
        faulty(client, always("Query", Fault::Throttle))
    });
    let operator = Client::new(api).with("x-master-key", MASTER_KEY);
    let log = Log::begin();

    assert_eq!(operator.get("/admin/tenants").await.status, 503);

    let line = log.one();
    assert_sound(&line);
    assert!(line["throttles"].as_u64().unwrap() > 0);
    assert_eq!(line["server_errors"], 1);
    assert_eq!(metrics(&line), BTreeSet::from(ALWAYS));
}

#[tokio::test]
async fn no_line_that_is_no_request_and_no_batch_measures_anything() {
    let log = Log::begin();
    tracing::warn!(duration_ms = 1, "something else");
    let line = log.one();
    assert_eq!(line["duration_ms"], 1);
    assert_eq!(line.get("_aws"), None);
    assert_eq!(line["target"], module_path!());
}

/// A stream's record of a message of `room`; of nothing that can be read without one.
fn record(tenant: &str, room: Option<(&str, u32)>, at: f64) -> Value {
    let image = room.map(|(room, seq)| {
        json!({
            "pk": { "S": format!("{tenant}#{room}") },
            "sk": { "S": format!("{seq:020}") },
            "created_at": { "S": "2026-11-22T12:00:00.000000Z" },
        })
    });
    json!({
        "eventID": "1",
        "eventName": "INSERT",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "eu-west-1",
        "dynamodb": {
            "ApproximateCreationDateTime": at,
            "Keys": {},
            "NewImage": image.unwrap_or_else(|| json!({})),
            "SequenceNumber": "1",
            "SizeBytes": 1,
            "StreamViewType": "NEW_IMAGE",
        },
    })
}

#[tokio::test]
async fn a_batch_is_one_line_that_measures_it() {
    let world = world().await;
    let tenant = tenant_of(&world).await;
    let room = tenant.group(&["alice"]).await;
    let queues = Sqs::open(None, Sync::Normal).unwrap();
    let queues = embedded_sqs(queues.http_client());
    let made = queues.create_queue().queue_name("poison").send().await;
    let poison = PoisonQueue::new(queues, made.unwrap().queue_url.unwrap());
    let now = std::time::SystemTime::now();
    let now = now
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    let records = json!({ "Records": [
        record(&tenant.id, Some((&room, 1)), now - 9.0),
        record(&tenant.id, Some((&room, 2)), now - 5.0),
        record(&tenant.id, None, now - 9.0),
    ] });
    let event: Event = serde_json::from_value(records).unwrap();
    let dynamodb = parlance::store::usage::metered(&world.dynamodb, true);
    let app = parlance::app::App::new(&super::settings(), &dynamodb);
    let log = Log::begin();

    heads::handle(&app, &poison, event).await;

    let mut lines = log.take();
    let line = lines.pop().unwrap();
    assert_sound(&line);
    assert_eq!(dimensions(&line), &json!([["function"]]));
    let counts = [
        "records",
        "advanced",
        "put_aside",
        "dynamodb_calls",
        "write_units",
    ];
    assert_eq!(
        counts.map(|count| line[count].to_string()),
        ["3", "1", "1", "1", "1.0"]
    );
    let age = line["iterator_age_ms"].as_u64().unwrap();
    assert!((5_000..60_000).contains(&age), "{age} ms");
    assert_eq!(metrics(&line), BTreeSet::from(["put_aside"]));
    // Before it, the one that says what is poison.
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_eq!(lines[0]["message"], "a record is poison");
}

#[tokio::test]
async fn the_line_of_a_batch_of_deliveries_counts_what_became_of_them() {
    let world = world().await;
    let tenant = tenant_of(&world).await;
    let room = tenant.group(&["alice", "bob"]).await;
    let path = format!("/rooms/{room}/messages");
    let alice = tenant.user("alice");
    let said = alice.post(&path, &json!({ "content": "hi" })).await;
    let body = json!({ "topic": "t", "payload": {}, "targets": { "user_ids": ["bob"] } });
    let sent = alice.post("/notify", &body).await;
    let (client, url) = world.queue("Poison");
    let poison = PoisonQueue::new(client, url);
    let subjects = [
        // Nobody wants it: done, and counted as nothing. Bob is not there: retried. It never was: dead.
        format!("{room}/{}:created", said.text("message_id")),
        sent.text("notification_id"),
        format!("notif_{:032x}", 1),
    ];
    let jobs = subjects.iter().map(|subject| {
        json!({ "v": 1, "tenant": tenant.id, "subject": subject, "user": "bob" }).to_string()
    });
    let records = jobs.chain(["?".to_owned()]).map(|body| {
        json!({
            "messageId": body,
            "receiptHandle": "none",
            "body": body,
            "attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": "1765627200000",
            },
            "messageAttributes": {},
        })
    });
    let records = json!({ "Records": records.collect::<Vec<_>>() });
    let event = serde_json::from_value(records).unwrap();
    let log = Log::begin();

    deliver::handle(&world.app, &poison, event).await;

    let line = log.take().pop().unwrap();
    assert_sound(&line);
    let counts = [
        "records",
        "delivered",
        "retried",
        "dead",
        "put_aside",
        "failed",
    ];
    assert_eq!(
        counts.map(|count| line[count].to_string()),
        ["4", "null", "1", "1", "1", "null"]
    );
    // Since 2025-12-13.
    assert!(line["oldest_job_ms"].as_u64().unwrap() > 1_000_000_000);
    let counted = counts[2..5].iter().chain(&["oldest_job_ms"]).copied();
    assert_eq!(metrics(&line), counted.collect());
}

/// It is billed by the hour in which it gets data, and the schedule runs every minute.
#[tokio::test]
async fn a_run_of_the_schedule_that_finds_nothing_measures_what_its_cost_says() {
    const BUDGETS: &str = include_str!("../../../infra/cost/budgets.json");
    let budgets: Value = serde_json::from_str(BUDGETS).unwrap();
    let world = world_over(|client| client).await;
    let log = Log::begin();

    reconcile::handle(&world.app).await.unwrap();

    let line = log.one();
    assert_eq!(line["records"], 0);
    let sets = line["_aws"]["CloudWatchMetrics"].as_array();
    let measured = sets.map_or(0, |_| metrics(&line).len());
    assert_eq!(budgets["idle_metrics"]["reconcile"], measured);
}
