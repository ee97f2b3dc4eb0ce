//! The gateway: who is let in, what is refused, and how connections end.

use std::time::{Duration, Instant};

use parlance_local::{Options, start};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::client::{Service, Tenant, service};
use crate::process::wait::LONG;

fn token(tenant: &Tenant, user: &str) -> String {
    let made = tenant
        .ask(user, "POST", "/ws/token", &json!({}))
        .assert(200);
    assert_eq!(made["expires_in"], 60);
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("wst_"), "{token}");
    token.to_owned()
}

#[tokio::test]
async fn a_token_opens_one_connection() {
    let tenant = service().tenant();
    let token = token(&tenant, "alice");
    let query = format!("?token={token}");
    let mut alice = tenant.service.open(&query, &[]).await.unwrap();
    alice.hear_nothing().await;
    assert_eq!(tenant.service.open(&query, &[]).await.unwrap_err(), 401);
}

#[tokio::test]
async fn a_servers_user_may_be_named_in_the_query() {
    let tenant = service().tenant();
    let headers = [("x-api-key", tenant.key.as_str())];
    let open = |query| tenant.service.open(query, &headers);
    let mut alice = open("?user_id=alice").await.unwrap();
    alice.hear_nothing().await;
    assert_eq!(open("").await.unwrap_err(), 401);
    assert_eq!(open("?user_id=a%20b").await.unwrap_err(), 400);
}

#[tokio::test]
async fn nobody_is_let_in_without_a_valid_credential() {
    let tenant = service().tenant();
    let open = |query: String, headers: Vec<(&'static str, String)>| {
        let service = tenant.service.clone();
        async move {
            let headers: Vec<_> = headers.iter().map(|(a, b)| (*a, b.as_str())).collect();
            service.open(&query, &headers).await.unwrap_err()
        }
    };
    let alice = || ("x-user-id", "alice".to_owned());
    assert_eq!(open(String::new(), vec![]).await, 401);
    assert_eq!(open("?token=wst_nope".to_owned(), vec![]).await, 401);
    let bad = ("x-api-key", "sk_nope".to_owned());
    assert_eq!(open(String::new(), vec![bad, alice()]).await, 401);
    // A key in a URL would be in every log on the way.
    let in_query = format!("?api_key={}&user_id=alice", tenant.key);
    assert_eq!(open(in_query, vec![]).await, 401);
}

#[tokio::test]
async fn a_user_has_five_connections_at_most() {
    let tenant = service().tenant();
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(tenant.open("alice").await);
    }
    assert_eq!(tenant.try_open("alice").await.unwrap_err(), 429);
    // Others are not hindered, and who leaves makes room.
    tenant.open("bob").await;
    open.pop().unwrap().leave().await;
    let deadline = Instant::now() + LONG;
    while let Err(status) = tenant.try_open("alice").await {
        assert_eq!(status, 429);
        assert!(Instant::now() < deadline, "the place is never free again");
    }
}

#[tokio::test]
async fn what_is_no_text_is_refused() {
    let tenant = service().tenant();
    let mut alice = tenant.open("alice").await;
    alice.send(Message::binary(vec![1, 2, 3])).await;
    assert_eq!(u16::from(alice.closed().await.code), 1003);
}

#[tokio::test]
async fn a_frame_of_more_than_32_kb_is_refused() {
    let tenant = service().tenant();
    let mut alice = tenant.open("alice").await;
    alice.send(Message::text("x".repeat(33 * 1024))).await;
    assert_eq!(u16::from(alice.closed().await.code), 1009);
}

#[tokio::test]
async fn a_ping_of_the_protocol_is_answered() {
    let tenant = service().tenant();
    let mut alice = tenant.open("alice").await;
    alice.send(Message::Ping("x".into())).await;
    assert_eq!(alice.next().await, Message::Pong("x".into()));
}

#[tokio::test]
async fn a_key_that_was_ended_ends_its_connections_when_they_speak() {
    let tenant = service().tenant();
    let mut alice = tenant.open("alice").await;
    let path = format!("/admin/tenants/{}/keys/rotate?overlap_seconds=0", tenant.id);
    tenant.service.admin("POST", &path, &json!({}));
    let error = alice.ask(json!({ "type": "ping" }), "error").await;
    let expected = json!({
        "type": "error", "code": "AUTHENTICATION_ERROR", "message": "Invalid API key",
    });
    assert_eq!(error, expected);
    assert_eq!(u16::from(alice.closed().await.code), 1000);
}

#[tokio::test]
async fn frames_are_handled_in_the_order_they_were_said() {
    let tenant = service().tenant();
    let mut alice = tenant.open("alice").await;
    for number in 0..200 {
        let ping = json!({ "type": "ping", "request_id": number.to_string() });
        alice.say(&ping).await;
    }
    for number in 0..200 {
        assert_eq!(alice.hear("pong").await["request_id"], number.to_string());
    }
}

/// More than what the sockets of both sides and the outbox hold.
const MUCH: usize = 400;

#[tokio::test]
async fn a_socket_that_never_reads_does_not_delay_another() {
    let tenant = service().tenant();
    let room = tenant.group(&["alice", "deaf", "bob"]);
    let _deaf = tenant.open("deaf").await;
    let mut bob = tenant.open("bob").await;
    let content = "x".repeat(30 * 1024);
    let mut slowest = Duration::ZERO;
    for number in 1..=MUCH {
        let said = Instant::now();
        tenant.say("alice", &room, &content);
        let heard = bob.hear("message").await;
        assert_eq!(heard["seq"], number);
        slowest = slowest.max(said.elapsed());
    }
    // Whoever waits for the deaf one waits two seconds.
    assert!(slowest < Duration::from_millis(1_500), "{slowest:?}");
}

#[tokio::test]
async fn clients_are_told_to_come_back_when_the_runner_ends() {
    let running = start(Options::ephemeral()).await.unwrap();
    let service = Service::of(&running.base_url, &running.master_key.secret);
    // The runner is in this very runtime, which the client must not block.
    let tenant = tokio::task::spawn_blocking(move || service.tenant());
    let tenant = tenant.await.unwrap();
    let mut alice = tenant.open("alice").await;
    let stopping = tokio::spawn(running.stop());

    let goodbye = alice.hear("server.shutdown").await;
    let wait = goodbye["reconnect_after_ms"].as_u64().unwrap();
    assert!((1_000..5_000).contains(&wait), "{wait}");
    assert_eq!(u16::from(alice.closed().await.code), 1001);
    stopping.await.unwrap();
}

#[tokio::test]
async fn nothing_is_left_of_those_who_came_and_went() {
    let running = start(Options::ephemeral()).await.unwrap();
    let service = Service::of(&running.base_url, &running.master_key.secret);
    let tenant = tokio::task::spawn_blocking(move || service.tenant());
    let tenant = tenant.await.unwrap();
    for round in 0..20 {
        let socket = tenant.open("alice").await;
        if round % 2 == 0 {
            socket.leave().await;
        }
        // The others vanish without a word.
    }
    let deadline = Instant::now() + LONG;
    let left = async || {
        let rows = running.dynamodb.scan().table_name("Deliveries").send();
        let rows = rows.await.unwrap();
        let names = |item: &std::collections::HashMap<String, _>| item.contains_key("connections");
        let connection = |item: &std::collections::HashMap<String, _>| {
            item.contains_key("ready_at") || names(item)
        };
        rows.items().iter().filter(|item| connection(item)).count()
    };
    while left().await > 0 || !running.sockets.is_empty() {
        assert!(Instant::now() < deadline, "some connection is left");
        tokio::task::yield_now().await;
    }
    running.stop().await;
}
