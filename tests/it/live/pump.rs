//! The pump: in order, without a gap, however many pump, whatever fails.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use aws_sdk_dynamodb::types::AttributeValue;
use parlance::{
    app::App,
    domain::{ConnectionId, Log, LogId, Reach, UserId, message::Seq, text::escape},
};
use serde_json::{Value, json};

use super::{
    ago, assert_gapless, connect, log, now, process, ready, room_of, say, tenant_id, try_connect,
    user,
    wire::{Fate, Wire},
};
use crate::support::{
    Tenant,
    faults::{calm, storm},
    settings, tenant,
};

/// So often a pump that is told `Later` is tried again.
const PATIENCE: usize = 3_000;

async fn pump(app: &App, log: LogId, seq: Seq, users: &[UserId]) -> Vec<(UserId, Reach)> {
    let reached = app.pump_room(log, &[seq], users, 0, &now()).await;
    reached.unwrap().remove(0)
}

/// Pumps as a job does: again and again, until nobody is left who is to be reached later.
async fn insist(app: &App, log: LogId, seq: Seq, users: &[UserId]) {
    let mut users = users.to_vec();
    for _ in 0..PATIENCE {
        // A store that is out of reach fails the whole job, which comes back too.
        if let Ok(reached) = app.pump_room(log, &[seq], &users, 0, &now()).await {
            users = reached
                .into_iter()
                .flatten()
                .filter(|(_, reach)| *reach == Reach::Later)
                .map(|(user, _)| user)
                .collect();
        }
        if users.is_empty() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{users:?} are never reached");
}

#[tokio::test]
async fn a_message_reaches_a_connection_that_was_made_before_the_clock_was_set_back() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    let bob = try_connect(&app, &tenant, "bob", &ago(-3_600))
        .await
        .unwrap();
    let seq = say(&tenant, "alice", &room, "hi").await;

    insist(&app, log(&tenant, &room), seq, &[user("bob")]).await;

    assert_eq!(wire.seqs(&bob), [1]);
}

#[tokio::test]
async fn a_message_reaches_every_connection_of_each_user_who_is_online() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob", "carol"]).await;
    let connections = [
        connect(&app, &tenant, "alice").await,
        connect(&app, &tenant, "alice").await,
        connect(&app, &tenant, "bob").await,
    ];
    let seq = say(&tenant, "alice", &room, "hi").await;

    let users = [user("alice"), user("bob"), user("carol")];
    let reached = pump(&app, log(&tenant, &room), seq, &users).await;

    let [alice, bob, carol] = users;
    let expected = [
        (alice, Reach::Reached),
        (bob, Reach::Reached),
        (carol, Reach::Offline),
    ];
    assert_eq!(reached, expected);
    for id in connections {
        assert_eq!(wire.seqs(&id), [1]);
    }
}

#[tokio::test]
async fn a_message_is_shown_as_rest_shows_it() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    let id = connect(&app, &tenant, "bob").await;
    let body = json!({ "content": "hi", "meta": { "type": "text" } });
    let path = format!("/rooms/{room}/messages");
    tenant.user("alice").post(&path, &body).await;

    pump(&app, log(&tenant, &room), Seq::FIRST, &[user("bob")]).await;

    let mut expected = tenant.user("bob").get(&path).await.body[0].clone();
    expected["type"] = json!("message");
    expected["room_id"] = json!(room);
    assert_eq!(wire.frames(&id), [expected]);
}

#[tokio::test]
async fn a_connection_is_not_sent_what_was_said_before_it() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    for text in ["one", "two"] {
        say(&tenant, "alice", &room, text).await;
    }
    let at = now();
    let id = try_connect(&app, &tenant, "bob", &at).await.unwrap();
    ready(&app, &id).await;
    let seq = say(&tenant, "alice", &room, "three").await;

    pump(&app, log(&tenant, &room), seq, &[user("bob")]).await;

    assert_eq!(wire.seqs(&id), [3]);
}

#[tokio::test]
async fn a_pending_connection_is_sent_nothing_until_its_client_speaks() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    let id = try_connect(&app, &tenant, "bob", &now()).await.unwrap();
    let seq = say(&tenant, "alice", &room, "hi").await;
    let bob = [user("bob")];

    let reached = pump(&app, log(&tenant, &room), seq, &bob).await;
    assert_eq!(reached, [(user("bob"), Reach::Later)]);
    assert_eq!(wire.posts(), 0);

    ready(&app, &id).await;
    let reached = pump(&app, log(&tenant, &room), seq, &bob).await;
    assert_eq!(reached, [(user("bob"), Reach::Reached)]);
    assert_eq!(wire.seqs(&id), [1]);
}

#[tokio::test]
async fn a_pending_connection_is_ready_by_itself_after_a_second() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    let at = super::ago(2);
    let id = try_connect(&app, &tenant, "bob", &at).await.unwrap();
    let seq = say(&tenant, "alice", &room, "hi").await;

    pump(&app, log(&tenant, &room), seq, &[user("bob")]).await;

    assert_eq!(wire.seqs(&id), [1]);
}

#[tokio::test]
async fn a_connection_that_is_gone_is_removed() {
    let (tenant, wire) = (tenant().await, Wire::new(|_, _| Fate::Gone));
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    connect(&app, &tenant, "bob").await;
    let seq = say(&tenant, "alice", &room, "hi").await;
    let bob = [user("bob")];

    for _ in 0..2 {
        let reached = pump(&app, log(&tenant, &room), seq, &bob).await;
        assert_eq!(reached, [(user("bob"), Reach::Offline)]);
    }
    assert_eq!(wire.posts(), 1);
}

#[tokio::test]
async fn a_connection_that_is_not_found_in_its_first_seconds_is_tried_again() {
    let tenant = tenant().await;
    let wire = Wire::new(|_, number| if number == 0 { Fate::Gone } else { Fate::Take });
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    let at = super::ago(2);
    let id = try_connect(&app, &tenant, "bob", &at).await.unwrap();
    let seq = say(&tenant, "alice", &room, "hi").await;
    let bob = [user("bob")];

    let reached = pump(&app, log(&tenant, &room), seq, &bob).await;
    assert_eq!(reached, [(user("bob"), Reach::Later)]);
    let reached = pump(&app, log(&tenant, &room), seq, &bob).await;
    assert_eq!(reached, [(user("bob"), Reach::Reached)]);
    assert_eq!(wire.seqs(&id), [1]);
}

#[tokio::test]
async fn a_connection_that_takes_no_more_is_come_back_to() {
    let tenant = tenant().await;
    let wire = Wire::new(|_, number| if number == 0 { Fate::Busy } else { Fate::Take });
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    let id = connect(&app, &tenant, "bob").await;
    let seq = say(&tenant, "alice", &room, "hi").await;
    let bob = [user("bob")];

    let reached = pump(&app, log(&tenant, &room), seq, &bob).await;
    assert_eq!(reached, [(user("bob"), Reach::Later)]);
    let reached = pump(&app, log(&tenant, &room), seq, &bob).await;
    assert_eq!(reached, [(user("bob"), Reach::Reached)]);
    assert_eq!(wire.seqs(&id), [1]);
}

#[tokio::test]
async fn a_connection_that_has_it_already_is_sent_nothing() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    let id = connect(&app, &tenant, "bob").await;
    for text in ["one", "two", "three"] {
        say(&tenant, "alice", &room, text).await;
    }
    let bob = [user("bob")];

    for seq in [3, 1, 2, 3] {
        let reached = pump(&app, log(&tenant, &room), Seq::new(seq), &bob).await;
        assert_eq!(reached, [(user("bob"), Reach::Reached)]);
    }
    assert_eq!(wire.seqs(&id), [1, 2, 3]);
}

#[tokio::test]
async fn who_comes_into_a_room_is_not_sent_what_was_said_before() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice"]).await;
    let id = connect(&app, &tenant, "bob").await;
    // More than is looked at first.
    for number in 1..=25 {
        say(&tenant, "alice", &room, &number.to_string()).await;
    }
    let body = json!({ "members": ["bob"] });
    let path = format!("/rooms/{room}/members");
    let joined = tenant.user("alice").post(&path, &body).await;
    assert!(joined.status < 300, "{}", joined.raw);
    let mut last = Seq::ZERO;
    for number in 26..=40 {
        last = say(&tenant, "alice", &room, &number.to_string()).await;
    }

    pump(&app, log(&tenant, &room), last, &[user("bob")]).await;

    assert_eq!(wire.seqs(&id), (26..=40).collect::<Vec<_>>());
}

/// Whether about one in `one_in` is chosen, by a hash of its number.
fn hit(number: u64, seed: u64, one_in: u64) -> Option<u64> {
    let mut hash = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed;
    hash ^= hash >> 31;
    hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^= hash >> 29;
    hash.is_multiple_of(one_in).then_some(hash >> 32)
}

fn stormy(seed: u64, one_in: u64) -> Wire {
    Wire::new(move |_, number| match hit(number, seed, one_in) {
        None => Fate::Take,
        Some(hash) => match hash % 5 {
            0 => Fate::Lose,
            1 => Fate::LoseAnswer,
            2 => Fate::Late(1),
            3 => Fate::Late(7),
            _ => Fate::Busy,
        },
    })
}

/// Messages are sent while workers, each a process of its own, pump to the same connections.
async fn attack(wire: Wire, store_faults: Option<u64>, messages: u64) {
    const WORKERS: u64 = 4;
    let tenant = tenant().await;
    let quiet = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob", "carol"]).await;
    let users = [user("alice"), user("bob"), user("carol")];
    let mut connections = Vec::new();
    for name in ["alice", "bob", "bob", "carol", "carol"] {
        connections.push(connect(&quiet, &tenant, name).await);
    }
    let (sent, seen) = tokio::sync::watch::channel(Seq::ZERO);
    let mut workers = tokio::task::JoinSet::new();
    let log = log(&tenant, &room);
    for worker in 0..WORKERS {
        let plan = store_faults.map_or_else(calm, |seed| storm(seed + worker, 9));
        let app = process(&tenant.world, &wire, plan);
        let (mut seen, users) = (seen.clone(), users.clone());
        workers.spawn(async move {
            let mut done = Seq::ZERO;
            while done.get() < messages {
                let next = *seen.wait_for(|seq| *seq > done).await.unwrap();
                insist(&app, log, next, &users).await;
                done = next;
            }
        });
    }
    for number in 1..=messages {
        let seq = say(&tenant, "alice", &room, &format!("{number}")).await;
        sent.send_replace(seq);
    }
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
    for id in &connections {
        assert_gapless(&wire.seqs(id), messages);
    }
}

#[tokio::test]
async fn many_workers_pump_the_same_connections_in_order_and_each_message_once() {
    let wire = Wire::calm();
    attack(wire.clone(), None, 40).await;
    // Nothing was lost, so nothing was posted twice.
    assert_eq!(wire.posts(), 5 * 40);
}

#[tokio::test]
async fn pumps_of_one_process_wait_for_each_other_and_need_not_come_back() {
    const MESSAGES: u64 = 30;
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    let id = connect(&app, &tenant, "bob").await;
    for number in 1..=MESSAGES {
        say(&tenant, "alice", &room, &format!("{number}")).await;
    }
    let log = log(&tenant, &room);
    let bob = [user("bob")];
    let pumping = (1..=MESSAGES).map(|seq| pump(&app, log, Seq::new(seq), &bob));
    for reached in futures_util::future::join_all(pumping).await {
        assert_eq!(reached, [(user("bob"), Reach::Reached)]);
    }
    assert_eq!(wire.seqs(&id), (1..=MESSAGES).collect::<Vec<_>>());
}

/// A follower's connections, each with what its client said it had.
#[derive(Default)]
struct Followed(Vec<(String, u64)>);

impl Followed {
    /// What the follower has: the highest seq before which it misses nothing.
    fn has(&self, wire: &Wire) -> u64 {
        let mut has = 0;
        for (id, after) in &self.0 {
            let mut highest = *after;
            for seq in wire.seqs(id) {
                assert!(seq <= highest + 1, "{seq} after {highest} at {id}");
                highest = highest.max(seq);
            }
            has = has.max(highest);
        }
        has
    }
}

/// The follower loses its connection again and again, and comes back with `hello`, while messages are sent, posts
/// are lost and several processes pump.
#[tokio::test]
async fn a_follower_that_reconnects_misses_nothing_and_is_told_in_order() {
    const MESSAGES: u64 = 60;
    const WORKERS: u64 = 3;
    /// How many posts a connection lasts.
    const HELD: u64 = 8;
    let tenant = tenant().await;
    let posts: Arc<Mutex<HashMap<String, u64>>> = Arc::default();
    let counted = Arc::clone(&posts);
    let wire = Wire::new(move |id, number| {
        let mut counted = counted.lock().unwrap();
        let so_far = counted.entry(id.to_owned()).or_default();
        *so_far += 1;
        if *so_far > HELD {
            return Fate::Gone;
        }
        match hit(number, 5, 4) {
            None => Fate::Take,
            Some(hash) if hash % 2 == 0 => Fate::LoseAnswer,
            Some(_) => Fate::Lose,
        }
    });
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    let (log, bob) = (log(&tenant, &room), [user("bob")]);
    let (sent, seen) = tokio::sync::watch::channel(Seq::ZERO);
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        let app = process(&tenant.world, &wire, calm());
        let (mut seen, bob) = (seen.clone(), bob.clone());
        workers.spawn(async move {
            let mut done = Seq::ZERO;
            while done.get() < MESSAGES {
                let next = *seen.wait_for(|seq| *seq > done).await.unwrap();
                insist(&app, log, next, &bob).await;
                done = next;
            }
        });
    }
    let speaking = async {
        for number in 1..=MESSAGES {
            sent.send_replace(say(&tenant, "alice", &room, &format!("{number}")).await);
        }
    };
    let following = async {
        let mut followed = Followed::default();
        while followed.has(&wire) < MESSAGES {
            let after = followed.has(&wire);
            let id = try_connect(&app, &tenant, "bob", &now()).await.unwrap();
            followed.0.push((id.clone(), after));
            let connection = ConnectionId::parse(&id).unwrap();
            let socket = app.socket(&connection, &now()).await.unwrap();
            let said = [(room_of(log), Seq::new(after))];
            app.hello(&socket, said.into(), &now()).await.unwrap();
            let is_open = || {
                posts
                    .lock()
                    .unwrap()
                    .get(&id)
                    .is_none_or(|posts| *posts <= HELD)
            };
            // The job that the hello has sent.
            let rooms = [log.log];
            for _ in 0..PATIENCE {
                let at = now();
                let job = app.catch_up(log.tenant, &connection, &rooms, 0, &at);
                if job.await.unwrap().logs.is_empty() || !is_open() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let mut looked_at = None;
            while is_open() {
                // To look is work; whoever pumps needs the time.
                if looked_at.replace(wire.posts()) != Some(wire.posts())
                    && followed.has(&wire) == MESSAGES
                {
                    break;
                }
                tokio::task::yield_now().await;
            }
            app.disconnect(&connection, &now()).await.unwrap();
        }
        followed
    };
    let (followed, ()) = tokio::join!(following, speaking);
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
    assert_eq!(followed.has(&wire), MESSAGES);
    assert!(followed.0.len() > 3, "it never lost its connection");
}

#[tokio::test]
async fn posts_of_which_nobody_knows_leave_no_gap_and_overtake_nothing() {
    for seed in 1..=3 {
        attack(stormy(seed, 3), None, 25).await;
    }
}

#[tokio::test]
async fn a_store_that_fails_too_leaves_no_gap_and_overtakes_nothing() {
    attack(stormy(9, 4), Some(7), 15).await;
}

#[tokio::test]
async fn a_catch_up_brings_a_connection_to_the_end_of_each_room() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let (one, two) = (
        tenant.group(&["alice", "bob"]).await,
        tenant.group(&["alice", "bob"]).await,
    );
    for number in 0..60 {
        say(&tenant, "alice", &one, &format!("{number}")).await;
    }
    say(&tenant, "alice", &two, "hi").await;
    let id = try_connect(&app, &tenant, "bob", &now()).await.unwrap();
    let connection = ConnectionId::parse(&id).unwrap();
    let socket = app.socket(&connection, &now()).await.unwrap();
    let rooms = [one.parse().unwrap(), two.parse().unwrap()];
    let after = [(rooms[0], Seq::new(4)), (rooms[1], Seq::ZERO)];
    let greeted = app.hello(&socket, after.into(), &now()).await.unwrap();
    assert_eq!((greeted.rooms, greeted.refused.len()), (2, 0));

    let logs = rooms.map(Log::Room);
    let caught_up = app
        .catch_up(tenant_id(&tenant), &connection, &logs, 0, &now())
        .await
        .unwrap();

    assert_eq!(caught_up.logs, []);
    let of = |room: &str| -> Vec<u64> {
        let frames = wire.frames(&id);
        let of = |frame: &&Value| frame["room_id"] == room;
        let seqs = frames.iter().filter(of).map(|frame| frame["seq"].as_u64());
        seqs.map(Option::unwrap).collect()
    };
    assert_eq!(of(&one), (5..=60).collect::<Vec<_>>());
    assert_eq!(of(&two), [1]);
}

#[tokio::test]
async fn a_change_is_told_to_those_who_have_the_message_and_shown_to_the_others_later() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob", "carol"]).await;
    let (bob, carol) = (
        connect(&app, &tenant, "bob").await,
        connect(&app, &tenant, "carol").await,
    );
    let path = format!("/rooms/{room}/messages");
    let body = json!({ "content": "hi" });
    let sent = tenant.user("alice").post(&path, &body).await;
    let log = log(&tenant, &room);
    pump(&app, log, Seq::FIRST, &[user("bob")]).await;
    let edited = json!({ "content": "ho" });
    let one = format!("{path}/{}", sent.text("message_id"));
    tenant.user("alice").put(&one, &edited).await;

    let frame = r#"{"type":"message.edited","seq":1}"#;
    let both = [user("bob"), user("carol")];
    let at = now();
    let told = app.post_change(log, Seq::FIRST, &both, frame, 0, &at);
    let told = told.await.unwrap();
    pump(&app, log, Seq::FIRST, &both).await;

    assert_eq!(told, both.map(|user| (user, Reach::Reached)));
    let kinds = |id| -> Vec<String> {
        let frames = wire.frames(id);
        let shown = frames
            .iter()
            .map(|it| format!("{}{}", it["type"], it["content"]));
        shown.collect()
    };
    assert_eq!(kinds(&bob), [r#""message""hi""#, r#""message.edited"null"#]);
    assert_eq!(kinds(&carol), [r#""message""ho""#]);
}

#[tokio::test]
async fn a_frame_reaches_a_user_who_is_online_and_tells_who_is_not() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let id = connect(&app, &tenant, "bob").await;
    let frame = r#"{"type":"notification"}"#;
    let post = async |name| {
        let tenant = tenant_id(&tenant);
        app.post_to_user(tenant, &user(name), frame, &now()).await
    };

    assert_eq!(post("bob").await.unwrap(), Reach::Reached);
    assert_eq!(post("carol").await.unwrap(), Reach::Offline);
    assert_eq!(wire.frames(&id), [json!({ "type": "notification" })]);
}

/// Leases the cursor of a connection to somebody who died, until `seconds` from now.
async fn lease(tenant: &Tenant, connection: &str, room: &str, seconds: i64) {
    let until = now().now.plus_seconds(seconds).micros();
    let n = |number: i64| AttributeValue::N(number.to_string());
    let pk = format!("cursor#{}#{room}", escape(connection));
    tenant
        .world
        .dynamodb
        .put_item()
        .table_name(&settings().tables.deliveries)
        .item("pk", AttributeValue::S(pk))
        .item("seq", n(0))
        .item("lease", AttributeValue::S("theirs".to_owned()))
        .item("lease_until", n(until))
        .item("ttl", n(now().now.plus_seconds(7_200).seconds()))
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_lease_from_before_a_step_back_holds_nobody_up() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice"]).await;
    let log = log(&tenant, &room);
    let alice = [user("alice")];
    let connection = connect(&app, &tenant, "alice").await;
    ready(&app, &connection).await;
    let seq = say(&tenant, "alice", &room, "Hello!").await;

    lease(&tenant, &connection, &room, 10).await;
    assert_eq!(pump(&app, log, seq, &alice).await[0].1, Reach::Later);
    // A day away: no lease is that long.
    lease(&tenant, &connection, &room, 24 * 3_600).await;
    assert_eq!(pump(&app, log, seq, &alice).await[0].1, Reach::Reached);
}
