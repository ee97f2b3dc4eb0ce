//! What the functions of connections may do: exactly what they do.

use aws_lambda_events::encodings::Body;
use parlance::{
    app::{App, Means},
    providers::sockets::Sockets,
    queue::Jobs,
};
use parlance_local::{
    clients::{embedded_sockets, embedded_sqs},
    sockets as gateway,
};
use serde_json::{Value, json};

use super::{
    guard::Guard,
    permissions::{assert_done, half_made, mounted},
};
use crate::support::{Tenant, settings, tenant, world};

#[tokio::test]
async fn ws_token_may_do_what_it_does() {
    let (world, guard) = mounted("ws-token", sockets::routes()).await;
    let alice = tenant().await.at(&world).user("alice");
    assert_done(&alice.post("/ws/token", &Value::Null).await);
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

#[tokio::test]
async fn sockets_may_do_what_it_does() {
    let (world, guard) = (world().await, Guard::of("sockets"));
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
    let app = App::with(&settings, &client, means);
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let half = half_made(&tenant).await;
    // Connections' ids are unique: those of another run must not be these.
    let (alice, bob, user7) = (
        format!("{}alice", tenant.id),
        format!("{}bob", tenant.id),
        format!("{}user7", tenant.id),
    );

    let token = tenant.user("alice").post("/ws/token", &Value::Null).await;
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
