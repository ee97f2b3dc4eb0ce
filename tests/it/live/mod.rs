//! Live delivery: the pump under attack, presence, limits and tokens, and what a client sees through a socket.

mod audience;
mod client;
mod costs;
mod frames;
mod gateway;
mod hello;
mod limits;
mod pump;
mod rejoin;
mod slow;
mod typing;
pub(crate) mod wire;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parlance::{
    app::{App, Means},
    domain::{
        Actor, ConnectionId, Error, LogId, Moment, RoomId, TenantId, UserId, message::Seq,
        secret::SecretHash,
    },
    http::moment,
    providers::sockets::Sockets,
    queue::Jobs,
};
use parlance_local::clients::embedded_sockets;

use self::wire::Wire;
use crate::support::{
    Tenant, World,
    faults::{Plan, faulty},
    settings,
};

/// A process of its own over the store of `world`, whose SDK calls meet `plan`, and whose posts go to `wire`.
fn process(world: &World, wire: &Wire, plan: Plan) -> App {
    process_over(world, wire, &world.client(|client| faulty(client, plan)))
}

/// The same over a client of the store that a test has made.
fn process_over(world: &World, wire: &Wire, dynamodb: &aws_sdk_dynamodb::Client) -> App {
    let (sqs, _) = world.queue("FanoutQueue");
    let settings = settings();
    let means = Means {
        jobs: Jobs::new(sqs, settings.queues.clone()),
        sockets: Some(Sockets::new(embedded_sockets(wire.http_client()))),
        ..Means::default()
    };
    App::with(&settings, dynamodb, means)
}

/// Now, with a minute of patience.
fn now() -> Moment {
    moment(Duration::from_mins(1)).unwrap()
}

/// So many seconds ago.
fn ago(seconds: i64) -> Moment {
    let now = now();
    Moment {
        now: now.now.plus_seconds(-seconds),
        ..now
    }
}

fn user(id: &str) -> UserId {
    UserId::parse("user_id", id).unwrap()
}

fn log(tenant: &Tenant, room: &str) -> LogId {
    LogId::new(tenant_id(tenant), room.parse::<RoomId>().unwrap())
}

fn room_of(log: LogId) -> RoomId {
    log.log.room().unwrap()
}

fn tenant_id(tenant: &Tenant) -> TenantId {
    tenant.id.parse().unwrap()
}

async fn actor(app: &App, tenant: &Tenant, id: &str) -> Actor {
    let session = app.session(tenant.key.as_bytes(), &now()).await.unwrap();
    app.actor(&session, user(id))
}

/// Has `id` connect at `at`, and gives the connection's id.
async fn try_connect(app: &App, tenant: &Tenant, id: &str, at: &Moment) -> Result<String, Error> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let connection = format!("conn{number:011}=");
    let actor = actor(app, tenant, id).await;
    let key = SecretHash::of(tenant.key.as_bytes());
    let parsed = ConnectionId::parse(&connection).unwrap();
    app.connect(&actor, key, parsed, at).await?;
    Ok(connection)
}

/// The same, a minute ago.
pub(crate) async fn connect(app: &App, tenant: &Tenant, id: &str) -> String {
    try_connect(app, tenant, id, &ago(60)).await.unwrap()
}

/// As the first frame of its client makes it.
async fn ready(app: &App, id: &str) {
    let id = ConnectionId::parse(id).unwrap();
    let socket = app.socket(&id, &now()).await.unwrap();
    app.make_ready(&socket, &now()).await.unwrap();
}

/// Has `id` connect now and say that it has a room up to `after`.
async fn greet(app: &App, tenant: &Tenant, id: &str, room: &str, after: Seq) -> ConnectionId {
    let connection = try_connect(app, tenant, id, &now()).await.unwrap();
    let connection = ConnectionId::parse(&connection).unwrap();
    let socket = app.socket(&connection, &now()).await.unwrap();
    let said = [(room.parse().unwrap(), after)];
    app.hello(&socket, said.into(), &now()).await.unwrap();
    connection
}

/// What waits in a queue; it is taken out of it.
async fn waiting(tenant: &Tenant, queue: &str) -> Vec<String> {
    let (client, url) = tenant.world.queue(queue);
    let mut bodies = Vec::new();
    loop {
        let receive = client.receive_message().queue_url(&url);
        let received = receive.max_number_of_messages(10).send().await.unwrap();
        let received = received.messages.unwrap_or_default();
        if received.is_empty() {
            return bodies;
        }
        bodies.extend(received.into_iter().filter_map(|message| message.body));
    }
}

async fn say(tenant: &Tenant, author: &str, room: &str, content: &str) -> Seq {
    let body = serde_json::json!({ "content": content });
    let path = format!("/rooms/{room}/messages");
    let sent = tenant.user(author).post(&path, &body).await;
    assert_eq!(sent.status, 200, "{}", sent.raw);
    Seq::new(sent.body["seq"].as_u64().unwrap())
}

/// Fails unless what arrived is 1 to `last` in order, where one may come again, but none too early.
#[track_caller]
pub(crate) fn assert_gapless(seqs: &[u64], last: u64) {
    let mut highest = 0;
    for seq in seqs {
        assert!(*seq <= highest + 1, "{seq} after {highest} in {seqs:?}");
        highest = highest.max(*seq);
    }
    assert_eq!(highest, last, "{seqs:?}");
}
