//! Several runners over one store.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;

use serde_json::json;

use super::http::{Client, Connection, Said};
use super::runner::{Runner, Start, Tenant};

const WRITERS: usize = 8;
const MESSAGES: usize = 10;

/// A runner that serves its store, and the first tenant in it.
fn owner() -> (Runner, Tenant) {
    let owner = Start::new().sharing().run();
    let tenant = owner.busy_tenant();
    (owner, tenant)
}

/// A runner without a store of its own.
fn guest(owner: &Runner) -> Runner {
    Start::new().guest_of(owner).run()
}

/// Sends through one connection; the seq of each content that was acknowledged.
fn write(client: &Client, room: &str, name: &str) -> HashMap<String, u64> {
    let mut connection = Connection::open(&client.address).unwrap();
    let path = format!("/rooms/{room}/messages");
    let mut acknowledged = HashMap::new();
    let mut number = 0;
    while acknowledged.len() < MESSAGES {
        number += 1;
        let content = format!("{name}-{number}");
        let body = json!({ "content": content }).to_string();
        let answer = connection
            .send("POST", &path, &client.headers(), &body)
            .unwrap();
        match answer.status {
            200 => drop(acknowledged.insert(content, answer.body["seq"].as_u64().unwrap())),
            // Too much contention: not stored, says the service.
            503 => {}
            status => panic!("{status} {}", answer.body),
        }
    }
    acknowledged
}

#[test]
fn eight_writers_in_each_of_four_processes_fill_one_log_without_a_gap() {
    let (owner, tenant) = owner();
    let guests: Vec<Runner> = (0..4).map(|_| guest(&owner)).collect();
    let room = owner.user(&tenant, "alice").group(&["alice"]);
    let clients: Vec<Client> = guests
        .iter()
        .map(|guest| guest.user(&tenant, "alice"))
        .collect();
    let rest = AtomicBool::new(false);

    let (acknowledged, read) = std::thread::scope(|scope| {
        let (room, rest) = (&*room, &rest);
        let reader = &clients[0];
        let reading = scope.spawn(move || {
            let mut seen: Vec<Said> = Vec::new();
            loop {
                let is_last = rest.load(Ordering::Relaxed);
                let page = reader.page(room, seen.len() as u64);
                if is_last && page.is_empty() {
                    return seen;
                }
                seen.extend(page);
            }
        });
        let mut writing = Vec::new();
        for (process, client) in clients.iter().enumerate() {
            for writer in 0..WRITERS {
                let name = format!("{process}-{writer}");
                writing.push(scope.spawn(move || write(client, room, &name)));
            }
        }
        let written: Vec<_> = writing.into_iter().map(ScopedJoinHandle::join).collect();
        // Before anything may fail, or the reader never ends.
        rest.store(true, Ordering::Relaxed);
        let written = written.into_iter().flat_map(Result::unwrap);
        let acknowledged: HashMap<String, u64> = written.collect();
        (acknowledged, reading.join().unwrap())
    });

    let log = owner.user(&tenant, "alice").log(&room);
    let seqs: Vec<u64> = log.iter().map(|said| said.seq).collect();
    assert_eq!(seqs, (1..=log.len() as u64).collect::<Vec<_>>());
    assert_eq!(read, log, "the reader saw something else");
    assert_eq!(acknowledged.len(), clients.len() * WRITERS * MESSAGES);
    let stored = log.into_iter().map(|Said { seq, content }| (content, seq));
    // A refused message must not be there, so the two are equal.
    assert_eq!(stored.collect::<HashMap<_, _>>(), acknowledged);
}

#[test]
fn a_runner_on_anothers_store_sees_at_once_what_others_wrote() {
    let (owner, tenant) = owner();
    let (one, two) = (guest(&owner), guest(&owner));
    the_second_sees_what_the_first_writes(&two, &one, &tenant);
}

#[test]
fn a_runner_that_serves_its_store_sees_at_once_what_others_wrote() {
    let (owner, tenant) = owner();
    the_second_sees_what_the_first_writes(&guest(&owner), &owner, &tenant);
}

#[track_caller]
fn the_second_sees_what_the_first_writes(first: &Runner, second: &Runner, tenant: &Tenant) {
    let (first, second) = (first.user(tenant, "alice"), second.user(tenant, "alice"));
    let room = second.group(&["alice"]);
    // Now the second knows a tail.
    assert_eq!(second.say(&room, "one"), 1);
    assert_eq!(first.say(&room, "two"), 2);
    let head = second.get(&format!("/rooms/{room}")).assert(200);
    assert_eq!(head["last_seq"], 2);
    assert_eq!(second.say(&room, "three"), 3);
}
