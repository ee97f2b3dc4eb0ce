//! What the functions of connections may do: exactly what they do.

use std::time::Duration;

use aws_lambda_events::encodings::Body;
use parlance::{
    app::{App, Means},
    domain::{
        Connection, ConnectionId, TenantId, UserId, delivery::Subject, live::Typing, message::Seq,
        secret::SecretHash,
    },
    http::moment,
    providers::sockets::Sockets,
    queue::{Audience, Fanout, Jobs, PoisonQueue},
    store::{Backoff, Stores},
};
use parlance_local::{
    clients::{embedded_sockets, embedded_sqs},
    sockets as gateway,
};
use serde_json::{Value, json};

use super::{
    grants::Grant,
    guard::Guard,
    permissions::{assert_done, half_made, mounted},
};
use crate::support::{Tenant, settings, tenant, world};

#[tokio::test]
async fn ws_token_may_do_what_it_does() {
    let (world, guard) = mounted("ws-token", sockets::routes()).await;
    let alice = tenant().await.at(&world).user("alice");
    assert_done(&alice.post("/ws/token", &json!({})).await);
    guard.assert_exact();
}

/// An event of connection `id`.
fn event(route: &str, id: &str, body: &Value) -> Value {
    json!({
        "requestContext": {
            "routeKey": route,
            "connectionId": id,
            "connectedAt": 0,
            "requestTimeEpoch": 0,
            "identity": { "sourceIp": "127.0.0.1" },
        },
        "body": body.to_string(),
    })
}

async fn take(app: &App, event: Value) {
    let answer = sockets::handle(app, serde_json::from_value(event).unwrap()).await;
    let said = match answer.body {
        Some(Body::Text(text)) => serde_json::from_str(&text).unwrap(),
        _ => Value::Null,
    };
    assert!(answer.status_code < 300, "{}", answer.status_code);
    assert_ne!(said["type"], "error", "{said}");
}

async fn connect(app: &App, tenant: &Tenant, user: &str, id: &str) {
    let mut connect = event("$connect", id, &Value::Null);
    connect["headers"] = json!({ "x-api-key": tenant.key, "x-user-id": user });
    take(app, connect).await;
}

/// The app of the function whose binary is `binary`, which may do what that may; all connections are gone.
async fn guarded(binary: &str) -> (App, Guard) {
    let (world, guard) = (world().await, Guard::of(binary));
    let connections = gateway::Sockets::default();
    let connections = embedded_sockets(guard.guard(connections.http_client()));
    let queues = embedded_sqs(guard.guard(world.queues()));
    let settings = settings();
    let means = Means {
        jobs: Jobs::new(queues, settings.queues.clone()),
        sockets: Some(Sockets::new(connections)),
        ..Means::default()
    };
    let client = world.client(|client| guard.guard(client));
    (App::with(&settings, &client, means), guard)
}

#[tokio::test]
async fn sockets_may_do_what_it_does() {
    let (app, guard) = guarded("sockets").await;
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let half = half_made(&tenant).await;
    // Connections' ids are unique: those of another run must not be these.
    let (alice, bob, user7) = (
        format!("{}alice", tenant.id),
        format!("{}bob", tenant.id),
        format!("{}user7", tenant.id),
    );

    let token = tenant.user("alice").post("/ws/token", &json!({})).await;
    let mut by_token = event("$connect", &alice, &Value::Null);
    by_token["queryStringParameters"] = json!({ "token": token.text("token") });
    take(&app, by_token).await;
    connect(&app, &tenant, "bob", &bob).await;
    connect(&app, &tenant, "user7", &user7).await;
    let say = async |id: &str, frame: Value| take(&app, event("$default", id, &frame)).await;
    let hello = json!({ "type": "hello", "data": { "after_seq": { &room: 0 } } });
    say(&alice, hello).await;
    let data = json!({ "room_id": room, "content": "hi" });
    say(&alice, json!({ "type": "send_message", "data": data })).await;
    let once = json!({ "type": "send_message", "request_id": "once", "data": data });
    say(&bob, once.clone()).await;
    let ack = json!({ "type": "ack", "data": { "room_id": room, "seq": 1 } });
    say(&alice, ack).await;
    let typing = json!({ "type": "typing.start", "data": { "room_id": room } });
    say(&alice, typing).await;
    // Whoever left is told again what they were told as a member.
    let leave = format!("/rooms/{room}/members/bob");
    assert_done(&tenant.user("alice").delete(&leave).await);
    say(&bob, once).await;
    // A room that its maker left half made is finished by who comes next.
    let subscribe = json!({ "type": "subscribe", "data": { "room_id": half } });
    say(&user7, subscribe).await;
    take(&app, event("$disconnect", &alice, &Value::Null)).await;

    guard.assert_exact();
}

#[tokio::test]
async fn live_may_do_what_it_does() {
    let (app, guard) = guarded("live").await;
    let world = world().await;
    let plain = tenant().await;
    let tenant: TenantId = plain.id.parse().unwrap();
    let endpoint = json!({ "url": "http://127.0.0.1:1/" });
    assert_done(&plain.server().post("/webhooks", &endpoint).await);
    // A room that its maker left half made.
    let half = half_made(&plain).await;
    let path = format!("/rooms/{half}/messages");
    let said = plain
        .user("user0")
        .post(&path, &json!({ "content": "hi" }))
        .await;
    let (log, id) = (
        half.parse().unwrap(),
        said.text("message_id").parse().unwrap(),
    );
    let body = json!({ "topic": "t", "payload": {}, "targets": { "user_ids": ["user0"] } });
    let notified = plain.user("user0").post("/notify", &body).await;
    let notified = notified.text("notification_id").parse().unwrap();
    // Connections of which nobody was told that they ended.
    let now = moment(Duration::from_secs(25)).unwrap();
    let stores = Stores::new(&world.dynamodb, &settings().tables, false);
    let mut connections = Vec::new();
    for user in ["user0", "user1"] {
        let connection = Connection {
            id: ConnectionId::parse(&format!("{tenant}{user}")).unwrap(),
            tenant,
            user: UserId::parse("user_id", user).unwrap(),
            connected_at: now.now.plus_seconds(-60),
        };
        let mut race = Backoff::until(now.deadline, 1);
        let key = SecretHash::of(b"key");
        let connected = stores.connections.connect(&connection, key, 5, &mut race);
        connected.await.unwrap();
        connections.push(connection);
    }
    let tell = |subject| Fanout::Tell {
        tenant,
        subject,
        audience: Audience::All,
    };
    let (user, connection) = (connections[0].user.clone(), connections[1].id.clone());
    let jobs = [
        Fanout::PresenceCame { tenant, user },
        tell(Subject::MessageCreated { log, id }),
        tell(Subject::MessageEdited {
            log,
            id,
            at: now.now,
        }),
        tell(Subject::Notification(notified)),
        Fanout::CatchUp {
            tenant,
            connection,
            logs: vec![log],
            tries: 0,
        },
        Fanout::Acked {
            tenant,
            log,
            user: connections[0].user.clone(),
            seq: Seq::FIRST,
            said_by: None,
        },
        Fanout::TypingEnds {
            tenant,
            typing: Typing {
                user: connections[0].user.clone(),
                connection: connections[0].id.clone(),
                log,
                at: now.now,
            },
        },
    ];
    let mut bodies: Vec<_> = jobs.iter().map(|job| job.to_text().unwrap()).collect();
    bodies.push("?".to_owned());
    let poison = world.queue("Poison").1;
    let poison = PoisonQueue::new(embedded_sqs(guard.guard(world.queues())), poison);
    for body in bodies {
        let message = json!({ "messageId": "1", "receiptHandle": "1", "body": body });
        let event = serde_json::from_value(json!({ "Records": [message] })).unwrap();
        let answer = live::handle(&app, &poison, event).await;
        assert_eq!(answer.batch_item_failures.len(), 0, "{body}");
    }

    // A job that fails comes back sooner; none of these does.
    guard.assert_all_but(&[Grant::new("sqs:ChangeMessageVisibility", "FanoutQueue")]);
}
