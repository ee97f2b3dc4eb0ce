//! What `hello` promises, whatever else happens at the same time.

use futures_util::future::join3;
use parlance::{
    app::App,
    domain::{ConnectionId, Log, LogId, Moment, Reach, UserId, live::Socket, message::Seq},
    store::{Backoff, Stores},
};

use super::{ago, log, now, process, room_of, say, try_connect, user, wire::Wire};
use crate::support::{Tenant, faults::calm, settings, tenant};

/// Has bob connect, and gives the connection as a frame of his finds it.
async fn connected(app: &App, tenant: &Tenant, at: &Moment) -> Socket {
    let id = try_connect(app, tenant, "bob", at).await.unwrap();
    let id = ConnectionId::parse(&id).unwrap();
    app.socket(&id, &now()).await.unwrap()
}

async fn reached(app: &App, log: LogId, seq: Seq, users: &[UserId]) -> bool {
    let reached = app.pump_room(log, &[seq], users, 0, &now()).await.unwrap();
    reached[0].iter().all(|(_, reach)| *reach == Reach::Reached)
}

#[tokio::test]
async fn a_frame_that_is_heard_beside_a_hello_does_not_end_its_time() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    let as_the_ping_read_it = connected(&app, &tenant, &now()).await;
    let seq = say(&tenant, "alice", &room, "hi").await;
    // A hello has begun, and is not done.
    let stores = Stores::new(&tenant.world.dynamodb, &settings().tables, false);
    let id = &as_the_ping_read_it.connection.id;
    let at = now();
    let mut race = Backoff::until(at.deadline, at.seed);
    let until = at.now.plus_seconds(10);
    stores
        .connections
        .ready(id, until, &mut race)
        .await
        .unwrap();

    app.make_ready(&as_the_ping_read_it, &now()).await.unwrap();

    assert!(!reached(&app, log(&tenant, &room), seq, &[user("bob")]).await);
    assert_eq!(wire.posts(), 0);
}

/// What a client has that takes the message whose seq is the next one, and passes over all others.
fn taken(seqs: &[u64], after: u64) -> u64 {
    let next = |has: u64, seq: &u64| if *seq == has + 1 { *seq } else { has };
    seqs.iter().fold(after, next)
}

#[tokio::test]
async fn a_hello_while_others_pump_misses_nothing_for_who_takes_the_next_seq_alone() {
    const MISSED: u64 = 6;
    const ROUNDS: u64 = 12;
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let (log, bob) = (log(&tenant, &room), [user("bob")]);
    for number in 1..=MISSED {
        say(&tenant, "alice", &room, &number.to_string()).await;
    }
    for round in 1..=ROUNDS {
        let wire = Wire::calm();
        let (app, other) = (
            process(&tenant.world, &wire, calm()),
            process(&tenant.world, &wire, calm()),
        );
        // Long enough ago that nobody waits for what it says.
        let socket = connected(&app, &tenant, &ago(30)).await;
        let id = &socket.connection.id;
        let after = (MISSED + round).saturating_sub(round % 5 + 1);
        let said = [(room_of(log), Seq::new(after))];
        let last = say(&tenant, "alice", &room, "new").await;
        let news = [last];
        let (first, second) = (now(), now());
        let greeting = app.hello(&socket, said.into(), &first);
        let pumping = other.pump_room(log, &news, &bob, 0, &second);
        let third = now();
        let rooms = [log.log];
        let early = app.catch_up(log.tenant, id, &rooms, 0, &third);
        let (greeted, pumped, caught_up) = Box::pin(join3(greeting, pumping, early)).await;
        greeted.unwrap();
        pumped.unwrap();
        caught_up.unwrap();
        // The job that the hello has sent.
        let at = now();
        let job = app.catch_up(log.tenant, id, &rooms, 0, &at);
        assert_eq!(job.await.unwrap().logs, []);

        let seqs = wire.seqs(id.as_str());
        assert_eq!(taken(&seqs, after), last.get(), "{seqs:?} after {after}");
        app.disconnect(id, &now()).await.unwrap();
    }
}

#[tokio::test]
async fn who_was_removed_after_their_hello_is_sent_nothing() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let rooms = [
        tenant.group(&["alice", "bob"]).await,
        tenant.group(&["alice", "bob"]).await,
    ];
    let socket = connected(&app, &tenant, &now()).await;
    let mut said = std::collections::BTreeMap::new();
    for room in &rooms {
        say(&tenant, "alice", room, "hi").await;
        said.insert(room.parse().unwrap(), Seq::ZERO);
    }
    let logs: Vec<_> = said.keys().copied().map(Log::Room).collect();
    app.hello(&socket, said, &now()).await.unwrap();
    let place = format!("/rooms/{}/members/bob", rooms[0]);
    let removed = tenant.user("alice").delete(&place).await;
    assert!(removed.status < 300, "{}", removed.raw);

    let (connection, at) = (&socket.connection, now());
    let caught_up = app.catch_up(connection.tenant, &connection.id, &logs, 0, &at);
    assert_eq!(caught_up.await.unwrap().logs, []);

    let frames = wire.frames(connection.id.as_str());
    let of: Vec<_> = frames.iter().map(|frame| &frame["room_id"]).collect();
    assert_eq!(of, [&rooms[1]]);
}
