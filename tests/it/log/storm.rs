//! Many writers, several processes, and faults on one call in a few.

use std::{collections::HashSet, time::Duration};

use serde_json::json;
use tokio::{
    sync::watch,
    task::{JoinSet, yield_now},
    time::timeout,
};

use super::{
    Entry, acknowledged, after, entries_of, insist, log, path, process, quiet_tenant, say,
};
use crate::support::{
    Tenant, World,
    faults::{calm, storm},
};

/// What one writer was told.
#[derive(Default)]
struct Told {
    /// Acknowledged.
    stored: Vec<Entry>,
    /// Answered with 503: it may be stored.
    unsure: HashSet<String>,
}

/// How a writer makes sure.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Says it again in other words after a 503.
    Plain,
    /// Sends the same request with the same `Idempotency-Key`.
    Keyed,
}

async fn write(tenant: Tenant, room: String, user: String, messages: usize, way: Way) -> Told {
    let client = tenant.user(&user);
    let mut told = Told::default();
    for number in 0..messages {
        match way {
            Way::Keyed => {
                let content = format!("{user} {number}");
                let client = client
                    .clone()
                    .with("idempotency-key", &content.replace(' ', "-"));
                let sent = insist(|| say(&client, &room, &content)).await;
                told.stored.push(acknowledged(&sent, &content));
            }
            Way::Plain => {
                for attempt in 0.. {
                    let content = format!("{user} {number} {attempt}");
                    let sent = say(&client, &room, &content).await;
                    if sent.status != 503 {
                        told.stored.push(acknowledged(&sent, &content));
                        break;
                    }
                    told.unsure.insert(content);
                }
            }
        }
    }
    told
}

/// Sends that are refused for good.
async fn intrude(tenant: Tenant, room: String, user: String) {
    let body = json!({ "content": "refused", "meta": [] });
    let (client, path) = (tenant.user(&user), path(&room));
    let wrong = insist(|| client.post(&path, &body)).await;
    wrong.assert_error(400, "VALIDATION_ERROR", Some("meta"));
    let (stranger, keyed) = (
        tenant.user("mallory"),
        tenant
            .user(&user)
            .with("idempotency-key", &format!("{user}-0")),
    );
    let foreign = insist(|| say(&stranger, &room, "refused")).await;
    foreign.assert_error(403, "AUTHORIZATION_ERROR", None);
    let content = format!("{user} 0");
    let first = insist(|| say(&keyed, &room, &content)).await;
    assert_eq!(first.status, 200, "{}", first.raw);
    let other = insist(|| say(&keyed, &room, "refused")).await;
    other.assert_error(409, "CONFLICT", None);
}

/// Follows a log until `done` and nothing more comes. Fails unless each page goes on where the last ended.
async fn follow(
    tenant: Tenant,
    room: String,
    user: String,
    mut done: watch::Receiver<bool>,
) -> Vec<Entry> {
    let client = tenant.user(&user);
    let mut seen: Vec<Entry> = Vec::new();
    loop {
        // Asked before reading: what was acknowledged before it is in this page.
        let last = *done.borrow();
        let page = after(&client, &room, seen.len()).await;
        assert_eq!(page.status, 200, "{}", page.raw);
        let page = entries_of(&page.body);
        if page.is_empty() {
            if last {
                return seen;
            }
            // Lets a paused clock move: everybody else may be waiting to try again.
            let ended = done.wait_for(|done| *done);
            drop(timeout(Duration::from_millis(5), ended).await);
        }
        for entry in page {
            assert_eq!(entry.seq, seen.len() as u64 + 1);
            seen.push(entry);
        }
        yield_now().await;
    }
}

/// `writers` in each of `processes` send `messages` each to one room while two readers follow it.
async fn attack(processes: Vec<World>, writers: usize, messages: usize, way: Way) {
    let tenant = quiet_tenant().await;
    let users: Vec<String> = (0..processes.len() * writers)
        .map(|number| format!("user{number}"))
        .collect();
    let members: Vec<_> = users.iter().map(String::as_str).collect();
    let room = tenant.group(&members).await;

    let (done, watched) = watch::channel(false);
    let mut following = JoinSet::new();
    for process in [&tenant.world, &processes[0]] {
        let (tenant, done) = (tenant.at(process), watched.clone());
        following.spawn(follow(tenant, room.clone(), users[0].clone(), done));
    }
    let mut writing = JoinSet::new();
    let mut intruding = JoinSet::new();
    for (users, process) in users.chunks(writers).zip(&processes) {
        let tenant = tenant.at(process);
        for user in users {
            let (room, user) = (room.clone(), user.clone());
            writing.spawn(write(tenant.clone(), room, user, messages, way));
        }
        if way == Way::Keyed {
            intruding.spawn(intrude(tenant, room.clone(), users[0].clone()));
        }
    }
    intruding.join_all().await;
    let told = writing.join_all().await;
    done.send(true).unwrap();
    let followed = following.join_all().await;

    // Its seqs are 1 to n.
    let log = log(&tenant, &users[0], &room).await;
    for followed in followed {
        assert_eq!(followed, log);
    }
    let contents: HashSet<_> = log.iter().map(|entry| entry.content.clone()).collect();
    assert_eq!(contents.len(), log.len(), "a message is there twice");
    let mut unsure = HashSet::new();
    let mut stored = 0;
    for told in told {
        assert_eq!(told.stored.len(), messages);
        for entry in &told.stored {
            let place = usize::try_from(entry.seq).unwrap() - 1;
            assert_eq!(log.get(place), Some(entry), "acknowledged, and not there");
        }
        stored += told.stored.len();
        unsure.extend(told.unsure);
    }
    let unexpected = contents.len() - contents.intersection(&unsure).count();
    assert_eq!(
        unexpected, stored,
        "stored, and neither acknowledged nor unsure"
    );
    if way == Way::Keyed {
        assert_eq!(log.len(), users.len() * messages);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_writers_on_two_threads_make_one_gap_free_log() {
    attack(vec![process(calm()).await], 64, 4, Way::Plain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_writers_with_keys_on_two_threads_make_one_gap_free_log() {
    attack(vec![process(calm()).await], 64, 4, Way::Keyed).await;
}

#[tokio::test(start_paused = true)]
async fn sixty_four_writers_of_one_process_in_a_storm_make_one_gap_free_log() {
    attack(vec![process(storm(1, 10)).await], 64, 4, Way::Plain).await;
}

#[tokio::test(start_paused = true)]
async fn sixty_four_writers_of_one_process_in_a_storm_store_one_message_per_key() {
    attack(vec![process(storm(2, 10)).await], 64, 4, Way::Keyed).await;
}

async fn four_processes(seed: u64) -> Vec<World> {
    let mut processes = Vec::new();
    for number in 0..4 {
        processes.push(process(storm(seed + number, 8)).await);
    }
    processes
}

#[tokio::test(start_paused = true)]
async fn eight_writers_in_each_of_four_processes_make_one_gap_free_log() {
    attack(four_processes(100).await, 8, 6, Way::Plain).await;
}

#[tokio::test(start_paused = true)]
async fn eight_writers_in_each_of_four_processes_store_one_message_per_key() {
    attack(four_processes(200).await, 8, 6, Way::Keyed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_run_at_the_same_time_make_one_gap_free_log() {
    let mut processes = Vec::new();
    for _ in 0..4 {
        processes.push(process(calm()).await);
    }
    attack(processes, 8, 4, Way::Plain).await;
}
