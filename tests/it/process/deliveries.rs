//! `kill -9` under load: what was acknowledged reaches its people, or is a dead letter.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{
    Error, Message, WebSocket, client, client::IntoClientRequest as _, http::HeaderValue,
};

use super::runner::{Runner, Start, Tenant};
use super::stage::{Dice, Line, Stage};
use super::wait::{LONG, until, within};
use crate::support::receiver::Receiver;

const KILLS: usize = 20;
const SENDERS: usize = 3;
/// An attempt that a kill cut short is repeated once its lease is over.
const SETTLES_WITHIN: Duration = Duration::from_secs(150);
/// How long a follower listens before it looks whether that is all.
const LISTENS: Duration = Duration::from_millis(200);

fn run(start: Start) -> Runner {
    start.with(["--webhook-targets", "any"]).run()
}

/// Sends messages and notifications in turn, each until it is acknowledged; the notifications' ids.
fn sender(stage: &Stage, tenant: &Tenant, room: &str, name: usize) -> Vec<String> {
    let mut line = Line::new(stage, tenant, "alice");
    let (mut notifications, mut count) = (Vec::new(), 0);
    while !stage.senders_rest.load(Ordering::Relaxed) {
        count += 1;
        let key = format!("{name}-{count}");
        let (path, body) = if count % 3 == 0 {
            let targets = json!({ "user_ids": ["carol", "dave"] });
            let body =
                json!({ "topic": "order.shipped", "payload": { "n": key }, "targets": targets });
            ("/notify".to_owned(), body)
        } else {
            let body = json!({ "content": key });
            (format!("/rooms/{room}/messages"), body)
        };
        let told = loop {
            match line.send("POST", &path, Some(&key), &body.to_string()) {
                Some(answer) if answer.status < 300 => break answer.body,
                // A follower that comes back too often uses up what this address may try of keys.
                Some(answer) => assert!([429, 503].contains(&answer.status), "{}", answer.body),
                None => {}
            }
        };
        notifications.extend(told["notification_id"].as_str().map(ToOwned::to_owned));
        stage.acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    notifications
}

/// A socket of bob's that says how far it has come.
fn connect(
    address: &str,
    tenant: &Tenant,
    room: &str,
    seen: u64,
) -> Result<WebSocket<TcpStream>, ()> {
    let stream = TcpStream::connect(address).map_err(drop)?;
    stream.set_read_timeout(Some(LONG)).map_err(drop)?;
    let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("x-api-key", HeaderValue::from_str(&tenant.key).unwrap());
    headers.insert("x-user-id", HeaderValue::from_static("bob"));
    let (mut socket, _) = client(request, stream).map_err(drop)?;
    let hello = json!({ "type": "hello", "data": { "after_seq": { room: seen } } });
    socket
        .send(Message::text(hello.to_string()))
        .map_err(drop)?;
    let stream = socket.get_mut();
    stream.set_read_timeout(Some(LISTENS)).map_err(drop)?;
    Ok(socket)
}

/// Follows the room across all deaths, and sees every message in its turn; how many there were.
fn follower(stage: &Stage, tenant: &Tenant, room: &str) -> u64 {
    let mut seen = 0;
    let mut socket = None;
    loop {
        let mut live = match socket.take() {
            Some(live) => live,
            None => match connect(&stage.address(), tenant, room, seen) {
                Ok(live) => live,
                Err(()) => continue,
            },
        };
        match live.read() {
            Ok(Message::Text(frame)) => {
                let frame: Value = serde_json::from_str(&frame).unwrap();
                if frame["type"] == "message" {
                    let seq = frame["seq"].as_u64().unwrap();
                    assert!(seq <= seen + 1, "{seq} came after {seen}");
                    seen = seen.max(seq);
                    stage.followed.store(seen, Ordering::Relaxed);
                }
                socket = Some(live);
            }
            Ok(_) => socket = Some(live),
            Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if stage.readers_rest.load(Ordering::Relaxed) {
                    return seen;
                }
                socket = Some(live);
            }
            Err(_) => {}
        }
    }
}

/// What the receiver took: who was told of what, under which ids.
#[derive(Default)]
struct Took(BTreeMap<(String, String), BTreeSet<String>>);

impl Took {
    fn note(&mut self, receiver: &Receiver) {
        for got in receiver.take() {
            let data = &got.body["data"];
            let what = match got.body["type"].as_str() {
                Some("message.created") => &data["message"]["message_id"],
                Some("notification") => &data["notification_id"],
                other => panic!("nobody asked for {other:?}"),
            };
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let told = (text(what), text(&data["recipient_id"]));
            let ids = self.0.entry(told).or_default();
            if got.status == 200 {
                ids.insert(got.headers["webhook-id"].clone());
            }
        }
    }

    fn has(&self, what: &str, user: &str) -> bool {
        let ids = self.0.get(&(what.to_owned(), user.to_owned()));
        ids.is_some_and(|ids| !ids.is_empty())
    }
}

/// Who is a dead letter: of a message with its user, of a notification for anybody.
fn dead(runner: &Runner, tenant: &Tenant) -> BTreeSet<String> {
    let path = format!("/admin/dead-letters?tenant_id={}&limit=1000", tenant.id);
    // Not the operator, whose address may ask 100 times a second.
    let letters = runner.user(tenant, "alice").get(&path).assert(200);
    let messages = letters["failed_messages"].as_array().unwrap().iter();
    let notifications = letters["failed_notifications"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    messages
        .map(|it| text(&it["message_id"]) + "#" + &text(&it["user_id"]))
        .chain(notifications.map(|it| text(&it["notification_id"])))
        .collect()
}

#[test]
fn twenty_kills_under_load_lose_no_delivery_and_double_none() {
    let runner = run(Start::new());
    let tenant = runner.busy_tenant();
    let path = format!("/admin/tenants/{}", tenant.id);
    let retry = json!({ "retry": { "attempts": 10, "interval_seconds": 1 } });
    runner.operator().patch(&path, &retry).assert(200);
    let receiver = Receiver::new();
    receiver.fail_each(9);
    let alice = runner.user(&tenant, "alice");
    let endpoint = json!({ "url": receiver.url, "events": ["message.created", "notification"] });
    alice.post("/webhooks", &endpoint).assert(201);
    let room = alice.group(&["alice", "bob", "carol"]);
    let stage = Stage::default();
    stage.raise(&runner);

    std::thread::scope(|scope| {
        // Dropped here when something fails, which ends all the clients.
        let mut runner = runner;
        let (stage, tenant, room) = (&stage, &tenant, &room);
        let follower = scope.spawn(move || follower(stage, tenant, room));
        let senders: Vec<_> = (0..SENDERS)
            .map(|name| scope.spawn(move || sender(stage, tenant, room, name)))
            .collect();
        let mut dice = Dice(0xde11);
        for _ in 0..KILLS {
            let target = stage.acknowledged.load(Ordering::Relaxed) + 1 + dice.below(30);
            until("acknowledgements", || {
                (stage.acknowledged.load(Ordering::Relaxed) >= target).then_some(())
            });
            stage.lower();
            runner = run(runner.kill());
            stage.raise(&runner);
        }
        stage.senders_rest.store(true, Ordering::Relaxed);
        let notifications: Vec<String> = senders
            .into_iter()
            .flat_map(|sender| sender.join().unwrap())
            .collect();

        let log = runner.user(tenant, "bob").log(room).len() as u64;
        within(SETTLES_WITHIN, "the follower", || {
            (stage.followed.load(Ordering::Relaxed) >= log).then_some(())
        });
        stage.readers_rest.store(true, Ordering::Relaxed);
        assert_eq!(follower.join().unwrap(), log);

        let messages: Vec<String> = runner.user(tenant, "bob").ids(room);
        let mut took = Took::default();
        within(SETTLES_WITHIN, "the deliveries", || {
            took.note(&receiver);
            let dead = dead(&runner, tenant);
            let is_told = |what: &str, user: &str| {
                took.has(what, user)
                    || dead.contains(&format!("{what}#{user}"))
                    || dead.contains(what)
            };
            let all = messages.iter().all(|message| is_told(message, "carol"))
                && notifications
                    .iter()
                    .all(|it| is_told(it, "carol") && is_told(it, "dave"));
            all.then_some(())
        });
        for (told, ids) in &took.0 {
            assert!(ids.len() <= 1, "{told:?} came under {ids:?}");
        }
    });
}
