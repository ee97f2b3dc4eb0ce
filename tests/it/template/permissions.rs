//! Each function's code calls exactly what the template grants it.
//!
//! A function is mounted over a client of its own that refuses what is not granted, and driven through all that
//! it does, rare paths included: [`Guard::assert_exact`] then compares what was asked for with what is granted.
//! Everything around it is done by a process that nobody guards.

use std::{collections::HashMap, time::Duration};

use axum::{Router, http::Method};
use parlance::{
    app::App,
    domain::{
        Moment, Timestamp, UserId,
        delivery::{Job, Receipt, Subject},
        live::{Connection, ConnectionId},
        secret::SecretHash,
        webhook::Targets,
    },
    http::{dialects::ChatApi, edge::edge, unrouted::refusing_methods},
    queue::PoisonQueue,
    store::{Backoff, Stores},
};
use parlance_local::{
    clients::embedded_sqs,
    sqs::{self, Sqs},
};
use serde_json::{Value, json};

use super::{
    binary_of, each, functions,
    grants::{Grant, granted, limited},
    guard::Guard,
    tagged,
};
use crate::chatapi::{partition, record};
use crate::support::{
    Client, Response, Tenant, World, app_sending,
    faults::{Fault, Gate, faulty, script},
    receiver::Receiver,
    settings, tenant, tenant_of, world, world_over,
};

/// A function that is mounted alone, and the guard before it.
pub(super) async fn mounted(binary: &str, routes: Router<App>) -> (World, Guard) {
    mounted_on(&world().await, binary, routes)
}

/// The same on `world`.
fn mounted_on(world: &World, binary: &str, routes: Router<App>) -> (World, Guard) {
    let guard = Guard::of(binary);
    let client = world.client(|client| guard.guard(client));
    let sqs = world.sqs(|client| guard.guard(client));
    let app = app_sending(&client, sqs, Targets::Any);
    let api = edge::<ChatApi>(routes, &app);
    (world.behind(app, api), guard)
}

#[track_caller]
pub(super) fn assert_done(response: &Response) {
    assert!(response.status < 300, "{}", response.raw);
}

/// The delivery of `subject` to bob, attempted so many seconds after 1970.
async fn attempted(tenant: &Tenant, subject: Subject, seconds: i64) -> Job {
    let job = Job {
        tenant: tenant.id.parse().unwrap(),
        subject,
        user: Some(UserId::parse("user_id", "bob").unwrap()),
    };
    let now = Timestamp::from_micros(seconds * 1_000_000);
    let receipt = Receipt {
        receives: 1,
        sent_at: now,
        made_at: Some(now),
    };
    let moment = Moment {
        now,
        ..parlance::http::moment(Duration::from_secs(25)).unwrap()
    };
    let attempt = tenant.world.app.attempt(&job, receipt, &moment);
    attempt.await.unwrap();
    job
}

/// A message of the delivery queue, as Lambda hands it over.
fn delivery(body: &str, receives: u32) -> Value {
    json!({
        "messageId": "1",
        "receiptHandle": "none",
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": receives.to_string(),
            "SentTimestamp": "1765627200000",
        },
        "messageAttributes": {},
    })
}

/// A client whose requests are done once.
pub(super) fn once(client: Client) -> Client {
    client.with("idempotency-key", "once")
}

/// How many members a room has that takes several transactions to make, and several more to finish.
const MANY: usize = 250;

/// A room of user0 … user249, whose maker died when only user0 had a place.
pub(super) async fn half_made(tenant: &Tenant) -> String {
    let gate = Gate::default();
    let plan = script(
        "TransactWriteItems",
        [Fault::Pass, Fault::Hold(gate.clone())],
    );
    let dying = tenant.world.another(|client| faulty(client, plan));
    let maker = tenant.at(&dying).user("user0");
    let users: Vec<_> = (0..MANY).map(|number| format!("user{number}")).collect();
    let making = tokio::spawn(async move {
        let body = json!({ "type": "channel", "members": users });
        maker.post("/rooms", &body).await
    });
    gate.reached().await;
    making.abort();
    let index = tenant
        .world
        .dynamodb
        .query()
        .table_name("Rooms")
        .index_name("by_user")
        .key_condition_expression("user_key = :user")
        .expression_attribute_values(
            ":user",
            aws_sdk_dynamodb::types::AttributeValue::S(format!("{}#user0", tenant.id)),
        )
        .send()
        .await
        .unwrap();
    let (_, room) = index.items()[0]["pk"]
        .as_s()
        .unwrap()
        .split_once('#')
        .unwrap();
    room.to_owned()
}

#[tokio::test]
async fn rooms_may_do_what_it_does() {
    let (world, guard) = mounted("rooms", rooms::routes()).await;
    let plain = tenant().await;
    let tenant = plain.at(&world);
    let alice = tenant.user("alice");

    let body = json!({ "type": "group", "members": ["alice", "bob"] });
    let made = once(alice.clone()).post("/rooms", &body).await;
    assert_done(&made);
    let room = format!("/rooms/{}", made.text("room_id"));
    let dm = json!({ "type": "dm", "members": ["alice", "bob"] });
    assert_done(&alice.post("/rooms", &dm).await);
    assert_done(&alice.get("/rooms").await);
    assert_done(&alice.get(&room).await);
    assert_done(&alice.patch(&room, &json!({ "name": "Team" })).await);
    let members = format!("{room}/members");
    let body = json!({ "user_ids": ["carol"] });
    assert_done(&once(alice.clone()).post(&members, &body).await);
    assert_done(&alice.get(&members).await);
    let admin = json!({ "role": "admin" });
    assert_done(&alice.patch(&format!("{members}/carol"), &admin).await);
    assert_done(&alice.delete(&format!("{members}/carol")).await);
    // A room that its maker left half made is finished by who comes next.
    let half = half_made(&plain).await;
    assert_done(&tenant.user("user7").get(&format!("/rooms/{half}")).await);

    guard.assert_exact();
}

#[tokio::test]
async fn messages_may_do_what_it_does() {
    let (world, guard) = mounted("messages", messages::routes()).await;
    let plain = tenant().await;
    let room = plain.group(&["alice", "bob"]).await;
    let tenant = plain.at(&world);
    let (alice, path) = (tenant.user("alice"), format!("/rooms/{room}/messages"));
    let hello = json!({ "content": "Hello!" });

    let sent = alice.post(&path, &hello).await;
    assert_done(&sent);
    assert_done(&once(alice.clone()).post(&path, &hello).await);
    assert_done(&alice.get(&path).await);
    let message = format!("{path}/{}", sent.text("message_id"));
    assert_done(&alice.get(&message).await);
    assert_done(&alice.put(&message, &json!({ "content": "Bye!" })).await);
    let subject = Subject::MessageCreated {
        log: room.parse().unwrap(),
        id: sent.text("message_id").parse().unwrap(),
    };
    attempted(&plain, subject, 0).await;
    let deliveries = alice.get(&format!("{message}/deliveries")).await;
    assert_eq!(deliveries.body[0]["status"], "delivered");
    assert_done(&alice.delete(&message).await);
    // Who is no member may have been one when the same request was first sent.
    let stranger = once(tenant.user("mallory")).post(&path, &hello).await;
    assert_eq!(stranger.status, 403, "{}", stranger.raw);
    let half = half_made(&plain).await;
    let path = format!("/rooms/{half}/messages");
    assert_done(&tenant.user("user7").post(&path, &hello).await);

    guard.assert_exact();
}

#[tokio::test]
async fn acks_may_do_what_it_does() {
    let (world, guard) = mounted("acks", acks::routes()).await;
    let plain = tenant().await;
    let half = half_made(&plain).await;
    let tenant = plain.at(&world);

    let path = format!("/rooms/{half}/messages");
    let hello = json!({ "content": "Hello!" });
    assert_done(&plain.user("user0").post(&path, &hello).await);

    // It moves, which is told.
    let body = json!({ "room_id": half, "seq": 1 });
    assert_done(&tenant.user("user7").post("/acks", &body).await);

    guard.assert_exact();
}

#[tokio::test]
async fn notify_may_do_what_it_does() {
    let (world, guard) = mounted("notify", notify::routes()).await;
    let plain = tenant().await;
    let half = half_made(&plain).await;
    let tenant = plain.at(&world);
    let user = tenant.user("user7");

    let body = |targets: Value| json!({ "topic": "news", "payload": {}, "targets": targets });
    let alone = body(json!({ "user_ids": ["bob"] }));
    let sent = user.post("/notify", &alone).await;
    assert_done(&sent);
    let id = sent.text("notification_id");
    attempted(&plain, id.parse().unwrap(), 0).await;
    let status = user.get(&format!("/notifications/{id}")).await;
    assert_eq!(status.body["deliveries"][0]["status"], "waiting");
    let to_room = body(json!({ "room_id": half }));
    assert_done(&once(user.clone()).post("/notify", &to_room).await);
    let topic = json!({ "topic": "news" });
    let made = once(user.clone()).post("/subscriptions", &topic).await;
    assert_done(&made);
    // The same subscription for another key: only the key is remembered.
    let other = user.clone().with("idempotency-key", "other");
    assert_done(&other.post("/subscriptions", &topic).await);
    assert_done(&user.get("/subscriptions").await);
    let subscription = format!("/subscriptions/{}", made.text("id"));
    assert_done(&user.delete(&subscription).await);

    guard.assert_exact();
}

#[tokio::test]
async fn webhooks_may_do_what_it_does() {
    let (world, guard) = mounted("webhooks", webhooks::routes()).await;
    let tenant = tenant().await.at(&world);
    let server = tenant.server();

    let body = json!({ "url": "http://127.0.0.1:1/" });
    let made = once(server.clone()).post("/webhooks", &body).await;
    assert_done(&made);
    let path = format!("/webhooks/{}", made.text("endpoint_id"));
    assert_done(&server.get("/webhooks").await);
    assert_done(&server.get(&path).await);
    assert_done(&server.patch(&path, &json!({ "status": "paused" })).await);
    let rotate = format!("{path}/secret/rotate");
    assert_done(&once(server.clone()).post(&rotate, &json!({})).await);
    let trial = server.post(&format!("{path}/test"), &json!({})).await;
    assert_eq!(trial.body["error"], "connection refused");
    assert_done(&server.delete(&path).await);

    // The key was given to this process; another client reads it.
    guard.assert_all_but(&[Grant::new("secretsmanager:GetSecretValue", "SealingKey")]);
}

#[tokio::test]
async fn admin_may_do_what_it_does() {
    let (world, guard) = mounted("admin", admin::routes()).await;
    let operator = || world.operator().anew();

    let body = json!({ "name": "test" });
    let unique = tenant().await.id;
    let made = operator().with("idempotency-key", &unique);
    let made = made.post("/admin/tenants", &body).await;
    assert_done(&made);
    assert_done(&operator().get("/admin/tenants").await);
    let path = format!("/admin/tenants/{}", made.text("tenant_id"));
    assert_done(&operator().get(&path).await);
    assert_done(&operator().patch(&path, &json!({ "name": "other" })).await);
    let rotate = format!("{path}/keys/rotate");
    for overlap in [60, 60, 0, 60] {
        let body = json!({ "overlap_seconds": overlap });
        assert_done(&operator().post(&rotate, &body).await);
    }
    let keys = format!("{path}/keys");
    let listed = operator().get(&keys).await;
    assert_done(&listed);
    let previous = listed.body[1]["key_id"].as_str().unwrap();
    let rotated = operator().post(&rotate, &json!({})).await;
    assert_done(&rotated);
    let listed = operator().get(&keys).await;
    let previous_now = listed.body[1]["key_id"].as_str().unwrap();
    assert_ne!(previous, previous_now);
    assert_done(&operator().delete(&format!("{keys}/{previous_now}")).await);
    // The operator reads any tenant's dead letters, and a tenant its own.
    let letters = format!("/admin/dead-letters?tenant_id={}", made.text("tenant_id"));
    assert_done(&operator().get(&letters).await);
    let own = Tenant {
        id: made.text("tenant_id"),
        key: rotated.text("api_key"),
        world: world.clone(),
    };
    assert_done(&own.user("alice").get(&letters).await);
    assert_done(&operator().get("/metrics").await);
    assert_done(&own.server().get("/metrics").await);
    // What is not kept cannot be delivered: it is dead at once.
    let letter = |number: u32| format!("notif_{number:032x}").parse().unwrap();
    let plain = own.at(&crate::support::world().await);
    let first = attempted(&plain, letter(1), 0).await;
    attempted(&plain, letter(2), 0).await;
    let one = json!({ "tenant_id": own.id, "delivery_id": first.id().to_string() });
    let redriven = operator().post("/admin/dead-letters/redrive", &one).await;
    assert_eq!(redriven.body["redriven"], 1, "{}", redriven.raw);
    let all = json!({ "tenant_id": own.id, "reason": "old", "all": true }).to_string();
    let given_up = operator()
        .send(Method::DELETE, "/admin/dead-letters", all)
        .await;
    assert_eq!(given_up.body["discarded"], 1, "{}", given_up.raw);

    // The secret is read when the process starts, by another client.
    guard.assert_all_but(&[Grant::new("secretsmanager:GetSecretValue", "MasterKey")]);
}

#[test]
fn functions_change_what_they_need_of_tenants_and_nothing_else() {
    let update = Grant::new("dynamodb:UpdateItem", "Tenants");
    for binary in ["rooms", "messages", "acks", "notify", "sockets", "ws-token"] {
        assert_eq!(limited(binary, &update), ["tenant_*#keys"], "{binary}");
    }
    for binary in ["fanout", "live"] {
        assert_eq!(limited(binary, &update), ["tenant_*#counts"], "{binary}");
    }
    let of_deliver = ["tenant_*#counts", "tenant_*#webhooks"];
    assert_eq!(limited("deliver", &update), of_deliver);
}

#[tokio::test]
async fn health_may_do_what_it_does() {
    let (world, guard) = mounted("health", health::routes()).await;
    assert_done(&world.stranger().get("/health").await);
    guard.assert_exact();
}

#[tokio::test]
async fn edge_may_do_what_it_does() {
    let routes = refusing_methods(::edge::routes()).fallback(::edge::unrouted);
    let (world, guard) = mounted("edge", routes).await;
    let stranger = world.stranger();
    assert_done(&stranger.get("/docs").await);
    assert_done(&stranger.get("/openapi.json").await);
    assert_done(&stranger.send(Method::OPTIONS, "/rooms", "").await);
    assert_eq!(stranger.get("/nowhere").await.status, 404);
    // Even with a key, which costs nothing here.
    let user = tenant().await.at(&world).user("alice");
    for path in ["/docs", "/health"] {
        let refused = user.delete(path).await;
        assert_eq!(refused.status, 405);
        assert_eq!(refused.header("allow"), Some("GET"));
    }
    guard.assert_exact();
}

#[tokio::test]
async fn heads_may_do_what_it_does() {
    let (world, guard) = mounted("heads", Router::new()).await;
    let queues = Sqs::open(None, sqs::Sync::Normal).unwrap();
    let made = embedded_sqs(queues.http_client()).create_queue();
    let made = made.queue_name("Poison").send().await.unwrap();
    let queues = embedded_sqs(guard.guard(queues.http_client()));
    let tenant = tenant().await;
    let room = tenant.group(&["alice"]).await;
    let record = |created_at: &str| {
        let image = HashMap::from([
            ("pk", json!({ "S": format!("{}#{room}", tenant.id) })),
            ("sk", json!({ "S": format!("{:020}", 1) })),
            ("created_at", json!({ "S": created_at })),
        ]);
        json!({
            "eventID": "1",
            "eventName": "INSERT",
            "awsRegion": "us-east-1",
            "dynamodb": {
                "ApproximateCreationDateTime": 1_765_627_200,
                "NewImage": image,
                "SequenceNumber": "1",
                "SizeBytes": 100,
                "StreamViewType": "NEW_IMAGE",
            },
        })
    };
    let records = [record("2025-12-13T12:00:00.000000Z"), record("yesterday")];
    let event = |records: &[Value]| serde_json::from_value(json!({ "Records": records })).unwrap();
    let poison = PoisonQueue::new(queues, made.queue_url.unwrap());
    // The start of a process's first record is noted, if that comes alone.
    heads::handle(&world.app, &poison, event(&records[..1])).await;

    let answer = heads::handle(&world.app, &poison, event(&records)).await;

    assert_eq!(answer.batch_item_failures.len(), 0);
    guard.assert_exact();
}

#[tokio::test]
async fn fanout_may_do_what_it_does() {
    let (world, guard) = mounted("fanout", Router::new()).await;
    let tenant = tenant().await;
    // Somebody listens.
    let endpoint = json!({ "url": "http://127.0.0.1:1/" });
    assert_done(&tenant.server().post("/webhooks", &endpoint).await);
    let room = tenant.group(&["alice"]).await;
    let hello = json!({ "content": "Hello!" });
    let path = format!("/rooms/{room}/messages");
    assert_done(&tenant.user("alice").post(&path, &hello).await);
    let log = partition(&tenant.world, "Messages", format!("{}#{room}", tenant.id)).await;
    let message = record("INSERT", &log[0]);
    let mut unreadable = message.clone();
    unreadable["dynamodb"]["NewImage"]["pk"] = json!({ "S": "?" });
    let team = crate::kodey::team().await;
    let chat = team.sk.post("/chat", &json!({ "agentId": "chat" })).await;
    let chat = format!("/chat/{}", chat.text("id"));
    assert_done(&team.sk.delete(&chat).await);
    let mut records = crate::kodey::deletion::deletions(&team).await;
    records.extend([message, unreadable]);
    let event = |records: &[Value]| serde_json::from_value(json!({ "Records": records })).unwrap();
    let queues = world.sqs(|client| guard.guard(client));
    let poison = PoisonQueue::new(queues, world.queue("Poison").1);
    // As for heads.
    fanout::handle(&world.app, &poison, event(&records[..1])).await;

    let answer = fanout::handle(&world.app, &poison, event(&records)).await;

    assert_eq!(answer.batch_item_failures.len(), 0);
    guard.assert_exact();
}

#[tokio::test]
async fn deliver_may_do_what_it_does() {
    let (world, guard) = mounted("deliver", Router::new()).await;
    let (plain, receiver) = (tenant().await, Receiver::new());
    let endpoint = json!({ "url": receiver.url });
    let made = plain.server().post("/webhooks", &endpoint).await;
    assert_done(&made);
    let body = json!({ "topic": "t", "payload": {}, "targets": { "user_ids": ["bob"] } });
    let notify = async || {
        let sent = plain.user("alice").post("/notify", &body).await;
        sent.text("notification_id")
    };
    let job = |subject: String| {
        json!({ "v": 1, "tenant": plain.id, "subject": subject, "user": "bob" }).to_string()
    };
    // It has failed since 1970, and did after five days, so that the next failure pauses it.
    receiver.answer(500);
    for seconds in [0, 5 * 24 * 3_600] {
        attempted(&plain, notify().await.parse().unwrap(), seconds).await;
    }
    // Bob had a connection of which nobody was told that it ended.
    let now = parlance::http::moment(Duration::from_secs(25)).unwrap();
    let stores = Stores::new(&plain.world.dynamodb, &settings().tables, false);
    let connection = Connection {
        id: ConnectionId::parse(&plain.id).unwrap(),
        tenant: plain.id.parse().unwrap(),
        user: UserId::parse("user_id", "bob").unwrap(),
        connected_at: now.now.plus_seconds(-60),
    };
    let mut race = Backoff::until(now.deadline, 1);
    let key = SecretHash::of(b"key");
    let connected = stores.connections.connect(&connection, key, 5, &mut race);
    connected.await.unwrap();

    let room = plain.group(&["alice", "bob"]).await;
    let path = format!("/rooms/{room}/messages");
    let hello = json!({ "content": "Hello!" });
    let said = plain.user("alice").post(&path, &hello).await;
    let message = format!("{room}/{}:created", said.text("message_id"));
    let poison = PoisonQueue::new(
        world.sqs(|client| guard.guard(client)),
        world.queue("Poison").1,
    );
    let handle = async |messages: &[Value]| {
        let event = serde_json::from_value(json!({ "Records": messages })).unwrap();
        let response = deliver::handle(&world.app, &poison, event).await;
        response.batch_item_failures.len()
    };
    let failing = [delivery(&job(notify().await), 2), delivery("?", 1)];
    assert_eq!(handle(&failing).await, 1);
    receiver.answer(200);
    let active = json!({ "status": "active" });
    let path = format!("/webhooks/{}", made.text("endpoint_id"));
    assert_done(&plain.server().patch(&path, &active).await);
    assert_eq!(handle(&[delivery(&job(message), 1)]).await, 0);
    receiver.answer(500);
    // It was received so often that a copy takes its place.
    assert_eq!(handle(&[delivery(&job(notify().await), 15)]).await, 0);

    // The secret and the connections are used by other clients.
    guard.assert_all_but(&[
        Grant::new("secretsmanager:GetSecretValue", "SealingKey"),
        Grant::new("execute-api:ManageConnections", "WebSocketApi/connections"),
    ]);
}

#[tokio::test]
async fn reconcile_may_do_what_it_does() {
    // Of its own: it looks at all tenants.
    let plain = tenant_of(&world_over(|client| client).await).await;
    let (world, guard) = mounted_on(&plain.world, "reconcile", Router::new());
    let body = json!({ "topic": "t", "payload": {}, "targets": { "user_ids": ["bob"] } });
    let sent = plain.user("alice").post("/notify", &body).await;
    let id = sent.text("notification_id");
    attempted(&plain, id.parse().unwrap(), 0).await;
    // An endpoint that was paused goes on, and something is held for it.
    let endpoint = json!({ "url": "http://127.0.0.1:1/" });
    let made = plain.server().post("/webhooks", &endpoint).await;
    let path = format!("/webhooks/{}", made.text("endpoint_id"));
    let turn = async |status: &str| {
        let body = json!({ "status": status });
        assert_done(&plain.server().patch(&path, &body).await);
    };
    turn("paused").await;
    let room = plain.group(&["alice", "bob"]).await;
    let hello = json!({ "content": "Hello!" });
    let said = plain
        .user("alice")
        .post(&format!("/rooms/{room}/messages"), &hello)
        .await;
    let subject = format!("{room}/{}:created", said.text("message_id"));
    attempted(&plain, subject.parse().unwrap(), 0).await;
    turn("active").await;

    reconcile::handle(&world.app).await.unwrap();

    // A run that fails is put there by Lambda.
    guard.assert_all_but(&[Grant::new("sqs:SendMessage", "FailedRunsQueue")]);
}

#[tokio::test]
async fn what_is_not_granted_is_refused_and_noted() {
    // Who may only mount health may not make rooms.
    let (world, guard) = mounted("health", rooms::routes()).await;
    let tenant = tenant().await;
    let refused = tenant.at(&world).user("alice").get("/rooms").await;
    assert_eq!(refused.status, 503, "{}", refused.raw);
    let noted = std::panic::catch_unwind(|| guard.assert_exact()).unwrap_err();
    let noted = noted.downcast_ref::<String>().unwrap();
    assert_eq!(noted, "not granted: [dynamodb:GetItem on Keys]");
}

#[test]
fn a_function_may_read_the_secrets_that_it_is_told_of_and_no_others() {
    let read = |binary: &str| {
        let grants = granted(binary).into_iter();
        let secrets = grants.filter(|grant| grant.action.starts_with("secretsmanager:"));
        secrets.collect::<Vec<_>>()
    };
    for (name, function) in functions() {
        let variables = &function["Properties"]["Environment"]["Variables"];
        let told: Vec<_> = ["MASTER_API_KEY_SECRET", "SEALING_KEY_SECRET"]
            .into_iter()
            .filter_map(|variable| match &variables[variable] {
                yaml_serde::Value::Tagged(choice) => Some(each(&choice.value)),
                _ => None,
            })
            .map(|choice| tagged(&choice[1], "Ref").unwrap().to_owned())
            .map(|secret| Grant::new("secretsmanager:GetSecretValue", secret))
            .collect();
        assert_eq!(read(binary_of(&function)), told, "{name}");
        let own = match name.as_str() {
            "AdminFunction" | "KeysFunction" => vec!["MasterKey"],
            "WebhooksFunction" | "DeliverFunction" => vec!["SealingKey"],
            _ => vec![],
        };
        assert!(told.iter().map(|grant| grant.on.as_str()).eq(own), "{name}");
    }
}
