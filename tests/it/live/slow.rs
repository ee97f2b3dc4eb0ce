//! Connections that are slow, or take nothing: they hold up nobody else.

use parlance::domain::{ConnectionId, Log, Reach, live::STUCK_TRIES, message::Seq};

use super::{
    connect, greet, log, now, process, say, user,
    wire::{Fate, Wire},
};
use crate::support::{faults::calm, tenant};

/// More messages than a slow client reads while others wait for it.
const MANY: u64 = 30;

#[tokio::test]
async fn who_is_told_of_a_message_does_not_wait_for_a_slow_client_that_catches_up() {
    let (tenant, wire) = (tenant().await, Wire::new(|_, _| Fate::Slow));
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    for number in 1..=MANY {
        say(&tenant, "alice", &room, &number.to_string()).await;
    }
    let bob = greet(&app, &tenant, "bob", &room, Seq::ZERO).await;
    let log = log(&tenant, &room);
    let (rooms, users, at) = ([log.log], [user("alice"), user("bob")], now());

    let catching_up = app.catch_up(log.tenant, &bob, &rooms, 0, &at);
    let telling = async {
        while wire.posts() == 0 {
            tokio::task::yield_now().await;
        }
        let last = [Seq::new(MANY)];
        app.pump_room(log, &last, &users, 0, &at).await.unwrap()
    };

    let reached = tokio::select! {
        _ = catching_up => panic!("they waited until it had caught up"),
        reached = telling => reached,
    };
    let expected = [(user("alice"), Reach::Offline), (user("bob"), Reach::Later)];
    assert_eq!(reached, [expected]);
}

#[tokio::test]
async fn who_is_told_of_a_message_does_not_wait_for_a_slow_client_that_is_far_behind() {
    let (tenant, wire) = (tenant().await, Wire::new(|_, _| Fate::Slow));
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    for number in 1..=MANY {
        say(&tenant, "alice", &room, &number.to_string()).await;
    }
    greet(&app, &tenant, "bob", &room, Seq::ZERO).await;

    let last = [Seq::new(MANY)];
    let (users, at) = ([user("bob")], now());
    let pumped = app.pump_room(log(&tenant, &room), &last, &users, 0, &at);

    assert_eq!(pumped.await.unwrap(), [[(user("bob"), Reach::Later)]]);
    assert!((1..MANY).contains(&wire.posts()), "{}", wire.posts());
}

#[tokio::test]
async fn a_connection_that_takes_nothing_is_ended_after_many_tries() {
    let (tenant, wire) = (tenant().await, Wire::new(|_, _| Fate::Busy));
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    let bob = ConnectionId::parse(&connect(&app, &tenant, "bob").await).unwrap();
    let seq = say(&tenant, "alice", &room, "hi").await;
    let (log, users) = (log(&tenant, &room), [user("bob")]);

    for (tries, reach) in [
        (0, Reach::Later),
        (STUCK_TRIES - 1, Reach::Later),
        (STUCK_TRIES, Reach::Offline),
    ] {
        let (at, seqs) = (now(), [seq]);
        let pumped = app.pump_room(log, &seqs, &users, tries, &at);
        assert_eq!(pumped.await.unwrap(), [[(user("bob"), reach)]], "{tries}");
    }
    assert!(app.socket(&bob, &now()).await.is_err());
}

#[tokio::test]
async fn a_new_connection_that_takes_nothing_is_not_ended() {
    let (tenant, wire) = (tenant().await, Wire::new(|_, _| Fate::Busy));
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    let bob = greet(&app, &tenant, "bob", &room, Seq::ZERO).await;
    let seq = say(&tenant, "alice", &room, "hi").await;
    let (seqs, users, at) = ([seq], [user("bob")], now());

    let pumped = app.pump_room(log(&tenant, &room), &seqs, &users, STUCK_TRIES, &at);

    assert_eq!(pumped.await.unwrap(), [[(user("bob"), Reach::Later)]]);
    app.socket(&bob, &now()).await.unwrap();
}

#[tokio::test]
async fn a_catch_up_goes_on_with_the_rooms_that_are_behind_alone() {
    let tenant = tenant().await;
    let wire = Wire::new(|_, number| if number == 0 { Fate::Take } else { Fate::Busy });
    let app = process(&tenant.world, &wire, calm());
    let mut said = std::collections::BTreeMap::new();
    for _ in 0..2 {
        let room = tenant.group(&["alice", "bob"]).await;
        say(&tenant, "alice", &room, "hi").await;
        said.insert(room.parse().unwrap(), Seq::ZERO);
    }
    let logs: Vec<_> = said.keys().copied().map(Log::Room).collect();
    let bob = ConnectionId::parse(&connect(&app, &tenant, "bob").await).unwrap();
    let socket = app.socket(&bob, &now()).await.unwrap();
    app.hello(&socket, said, &now()).await.unwrap();

    let (whose, at) = (socket.connection.tenant, now());
    let behind = app.catch_up(whose, &bob, &logs, 0, &at).await.unwrap();

    let taken = wire.frames(&bob.to_string())[0]["room_id"].clone();
    let left: Vec<_> = logs.iter().filter(|log| taken != log.to_string()).collect();
    assert_eq!(behind.logs.iter().collect::<Vec<_>>(), left);
    assert!(behind.came_on);
}
