//! `kill -9` under load: what was acknowledged is there, once, in its place.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use serde_json::json;

use super::http::{Answer, Connection, Said, page_path, said};
use super::runner::{Start, Tenant};
use super::stage::{Dice, Line, Stage};
use super::wait::until;

const KILLS: usize = 20;
const SENDERS: usize = 6;
const ROOMS: usize = 3;

/// A message that somebody sent, perhaps in vain.
struct Sent {
    room: usize,
    content: String,
    /// Sent again until it was acknowledged.
    keyed: bool,
    /// The seq it was acknowledged with.
    seq: Option<u64>,
}

fn sender(stage: &Stage, tenant: &Tenant, user: &str, rooms: &[String], seed: u64) -> Vec<Sent> {
    let mut dice = Dice(seed);
    let mut line = Line::new(stage, tenant, user);
    let mut all = Vec::new();
    while !stage.senders_rest.load(Ordering::Relaxed) {
        let content = format!("{user}-{}", all.len());
        let (room, keyed) = (dice.below(rooms.len()), dice.below(2) == 0);
        let path = format!("/rooms/{}/messages", rooms[room]);
        let body = json!({ "content": content }).to_string();
        let key = keyed.then_some(&*content);
        let mut seq = None;
        if dice.below(8) == 0 {
            line.hang_up(&path, key, &body);
        } else {
            seq = acknowledged(line.send("POST", &path, key, &body));
        }
        while keyed && seq.is_none() {
            seq = acknowledged(line.send("POST", &path, key, &body));
        }
        if seq.is_some() {
            stage.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        all.push(Sent {
            room,
            content,
            keyed,
            seq,
        });
    }
    all
}

fn acknowledged(answer: Option<Answer>) -> Option<u64> {
    let answer = answer?;
    match answer.status {
        200 => answer.body["seq"].as_u64(),
        503 => None,
        status => panic!("{status} {}", answer.body),
    }
}

/// Follows a room across all deaths.
fn reader(stage: &Stage, tenant: &Tenant, room: &str) -> Vec<Said> {
    let mut line = Line::new(stage, tenant, "reader");
    let mut seen: Vec<Said> = Vec::new();
    loop {
        let is_last = stage.readers_rest.load(Ordering::Relaxed);
        let after = seen.len() as u64;
        let Some(page) = line.send("GET", &page_path(room, after), None, "") else {
            continue;
        };
        let page = said(&page.assert(200));
        if is_last && page.is_empty() {
            return seen;
        }
        seen.extend(page);
    }
}

#[test]
fn twenty_kills_under_load_lose_nothing_and_repeat_nothing() {
    let runner = Start::new().run();
    let tenant = runner.busy_tenant();
    let users: Vec<String> = (0..SENDERS).map(|n| format!("sender{n}")).collect();
    let members: Vec<&str> = users.iter().map(|user| &**user).chain(["reader"]).collect();
    let rooms: Vec<String> = (0..ROOMS)
        .map(|_| runner.user(&tenant, &users[0]).group(&members))
        .collect();
    let stage = Stage::default();
    stage.raise(&runner);

    let (runner, sent, read) = std::thread::scope(|scope| {
        // Dropped here when something fails, which ends all the clients.
        let mut runner = runner;
        let (stage, tenant, rooms) = (&stage, &tenant, &rooms);
        let senders: Vec<_> = users
            .iter()
            .zip(1..)
            .map(|(user, seed)| scope.spawn(move || sender(stage, tenant, user, rooms, seed)))
            .collect();
        let readers: Vec<_> = rooms
            .iter()
            .map(|room| scope.spawn(move || reader(stage, tenant, room)))
            .collect();

        let mut dice = Dice(0x5eed);
        for kill in 0..KILLS {
            let target = stage.acknowledged.load(Ordering::Relaxed) + 1 + dice.below(100);
            until("acknowledgements", || {
                (stage.acknowledged.load(Ordering::Relaxed) >= target).then_some(())
            });
            stage.lower();
            let start = runner.kill();
            if kill % 4 == 0 {
                // And once more, somewhere in its start.
                let mut process = start.again().launch();
                process.started_as_far_as(dice.below(24));
                process.kill();
            }
            runner = start.run();
            stage.raise(&runner);
        }
        stage.senders_rest.store(true, Ordering::Relaxed);
        let sent: Vec<Sent> = senders
            .into_iter()
            .flat_map(|sender| sender.join().unwrap())
            .collect();
        stage.readers_rest.store(true, Ordering::Relaxed);
        let read: Vec<Vec<Said>> = readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .collect();
        (runner, sent, read)
    });

    for (index, (room, read)) in rooms.iter().zip(read).enumerate() {
        let log = runner.user(&tenant, "reader").log(room);
        assert!(!log.is_empty());
        let seqs: Vec<u64> = log.iter().map(|said| said.seq).collect();
        assert_eq!(seqs, (1..=log.len() as u64).collect::<Vec<_>>());
        assert_eq!(read, log, "the reader saw something else");
        let mut places: HashMap<&str, Vec<u64>> = HashMap::new();
        for Said { seq, content } in &log {
            places.entry(content).or_default().push(*seq);
        }
        for sent in sent.iter().filter(|sent| sent.room == index) {
            let found = places.remove(&*sent.content).unwrap_or_default();
            match sent.seq {
                Some(seq) => assert_eq!(found, [seq], "{}", sent.content),
                None => assert!(!sent.keyed && found.len() <= 1, "{found:?}"),
            }
        }
        assert!(places.is_empty(), "nobody sent {places:?}");
    }
}

#[test]
fn last_seq_is_never_behind_the_log_when_senders_hang_up() {
    let runner = Start::new().with(["--memory"]).run();
    let tenant = runner.busy_tenant();
    let alice = runner.user(&tenant, "alice");
    let room = alice.group(&["alice"]);
    let path = format!("/rooms/{room}/messages");
    for n in 0..100_u64 {
        let mut connection = Connection::open(&alice.address).unwrap();
        let body = json!({ "content": format!("{n}") }).to_string();
        let request = Connection::request("POST", &path, &alice.headers(), &body);
        connection.write(&request).unwrap();
        drop(connection);

        let length = alice.log(&room).len() as u64;
        let head = alice.get(&format!("/rooms/{room}")).assert(200);
        let last = head["last_seq"].as_u64().unwrap();
        assert!(last >= length, "last_seq is {last}, the log has {length}");
    }
}
