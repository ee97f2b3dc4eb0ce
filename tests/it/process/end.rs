//! The end: a signal stops the runner in good order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::http::{Client, Connection, Said};
use super::runner::{Start, listing};
use super::wait::until;

#[test]
fn requests_in_flight_are_answered_after_a_sigterm() {
    let runner = Start::new().run();
    let tenant = runner.busy_tenant();
    let alice = runner.user(&tenant, "alice");
    let room = alice.group(&["alice"]);
    let path = format!("/rooms/{room}/messages");
    let body = json!({ "content": "in flight" }).to_string();
    let begin = || {
        let mut connection = Connection::open(&alice.address).unwrap();
        let headers = alice.headers();
        connection.begin(&path, &headers, body.len()).unwrap();
        connection
    };
    let mut in_flight: Vec<Connection> = (0..8).map(|_| begin()).collect();

    runner.signal("TERM");
    until("a closed port", || {
        Connection::open(&alice.address).is_err().then_some(())
    });
    let mut seqs = Vec::new();
    for connection in &mut in_flight {
        connection.write(&body).unwrap();
        let sent = connection.answer().unwrap().assert(200);
        seqs.push(sent["seq"].as_u64().unwrap());
        assert!(connection.is_at_end());
    }

    let (end, start) = runner.ended();
    assert_eq!((end.status.code(), &*end.stderr), (Some(0), ""));
    let log = start.run().user(&tenant, "alice").log(&room);
    assert_eq!(log.iter().map(|it| it.seq).collect::<Vec<_>>(), seqs);
}

/// Sends until the runner does not answer; the seq of each content that was acknowledged.
fn send_to_the_end(
    client: &Client,
    room: &str,
    name: &str,
    sent: &AtomicUsize,
) -> HashMap<String, u64> {
    let path = format!("/rooms/{room}/messages");
    let mut connection = Connection::open(&client.address).unwrap();
    let mut acknowledged = HashMap::new();
    // Not for ever, lest a test that fails never ends.
    for number in 0..10_000 {
        let content = format!("{name}-{number}");
        let body = json!({ "content": content }).to_string();
        let Ok(answer) = connection.send("POST", &path, &client.headers(), &body) else {
            break;
        };
        let seq = answer.assert(200)["seq"].as_u64().unwrap();
        acknowledged.insert(content, seq);
        sent.fetch_add(1, Ordering::Relaxed);
    }
    acknowledged
}

#[test]
fn everything_acknowledged_survives_a_sigterm_under_load() {
    let runner = Start::new().run();
    let tenant = runner.busy_tenant();
    let alice = runner.user(&tenant, "alice");
    let room = alice.group(&["alice"]);
    let sent = AtomicUsize::new(0);

    let acknowledged: HashMap<String, u64> = std::thread::scope(|scope| {
        let (alice, room, sent) = (&alice, &*room, &sent);
        let senders: Vec<_> = (0..8)
            .map(|n| scope.spawn(move || send_to_the_end(alice, room, &format!("{n}"), sent)))
            .collect();
        until("load", || {
            (sent.load(Ordering::Relaxed) >= 200).then_some(())
        });
        runner.signal("TERM");
        senders
            .into_iter()
            .flat_map(|it| it.join().unwrap())
            .collect()
    });
    let (end, start) = runner.ended();
    assert_eq!((end.status.code(), &*end.stderr), (Some(0), ""));

    let log = start.run().user(&tenant, "alice").log(&room);
    let seqs: Vec<u64> = log.iter().map(|said| said.seq).collect();
    assert_eq!(seqs, (1..=log.len() as u64).collect::<Vec<_>>());
    let stored = log.into_iter().map(|Said { seq, content }| (content, seq));
    let stored: HashMap<String, u64> = stored.collect();
    for (content, seq) in acknowledged {
        assert_eq!(stored.get(&content), Some(&seq), "{content}");
    }
}

#[test]
fn connections_that_say_nothing_do_not_delay_the_end() {
    let runner = Start::new().with(["--memory"]).run();
    let mut silent = Connection::open(&runner.address()).unwrap();
    let mut idle = Connection::open(&runner.address()).unwrap();
    idle.send("GET", "/health", &[], "").unwrap().assert(200);

    let (end, _start) = runner.stop();

    // It would have said that it cut them off.
    assert_eq!((end.status.code(), &*end.stderr), (Some(0), ""));
    assert!(silent.is_at_end() && idle.is_at_end());
}

#[test]
fn control_c_ends_it_like_a_sigterm() {
    let runner = Start::new().with(["--memory"]).run();
    runner.signal("INT");
    let (end, _start) = runner.ended();
    assert_eq!((end.status.code(), &*end.stderr), (Some(0), ""));
}

#[test]
fn nothing_waits_in_a_side_file_after_a_good_end() {
    let runner = Start::new().run();
    let tenant = runner.tenant();
    runner.user(&tenant, "alice").group(&["alice"]);
    let data = runner.data();
    let (_, _start) = runner.stop();
    let mut files = listing(&data);
    files.sort();
    let whole = [
        "dynamodb.db",
        "lock",
        "master.key",
        "sealing.check",
        "sealing.key",
        "sqs.db",
        "streams",
    ];
    assert_eq!(files, whole);
}
