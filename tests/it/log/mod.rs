//! What is promised of logs, members, keys and budgets, attacked: by faults below the SDK, by other writers
//! in the same process and by other processes over the same store.
//!
//! Most of these run on a paused clock, so that back-offs take no time and deadlines come when all wait.

mod acks;
mod edges;
mod keys;
mod membership;
mod once;
mod quota;
mod races;
mod storm;
mod team_keys;
mod times;
mod versions;

use serde_json::{Value, json};

use crate::support::{
    Client, Response, Tenant, World,
    faults::{Plan, calm, faulty},
    tenant_of, world,
};

/// A process of its own over the store of all tests, whose calls meet `plan`.
async fn process(plan: Plan) -> World {
    world().await.another(|client| faulty(client, plan))
}

/// A fresh tenant, served by a process without faults.
async fn quiet_tenant() -> Tenant {
    tenant_of(&process(calm()).await).await
}

/// A request's answer once it is not a 503: the client sends it again, as it is told to.
async fn insist<F: Future<Output = Response>>(mut request: impl FnMut() -> F) -> Response {
    for _ in 0..200 {
        let response = request().await;
        if response.status != 503 {
            return response;
        }
        assert_eq!(response.header("retry-after"), Some("1"));
    }
    panic!("never anything but 503");
}

fn path(room: &str) -> String {
    format!("/rooms/{room}/messages")
}

async fn say(client: &Client, room: &str, content: &str) -> Response {
    let body = json!({ "content": content });
    client.post(&path(room), &body).await
}

/// What a log holds, read without faults: seqs and contents. Fails unless the seqs are exactly 1 to n.
async fn log(tenant: &Tenant, user: &str, room: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let more = after(&tenant.user(user), room, entries.len()).await.body;
        let more = entries_of(&more);
        if more.is_empty() {
            return entries;
        }
        for entry in more {
            assert_eq!(entry.seq, entries.len() as u64 + 1);
            entries.push(entry);
        }
    }
}

async fn after(client: &Client, room: &str, seq: usize) -> Response {
    let page = format!("{}?after_seq={seq}&limit=100", path(room));
    insist(|| client.get(&page)).await
}

/// A message, as far as these tests look.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    seq: u64,
    id: String,
    content: String,
}

fn entries_of(page: &Value) -> Vec<Entry> {
    let entry = |message: &Value| Entry {
        seq: message["seq"].as_u64().unwrap(),
        id: message["message_id"].as_str().unwrap().to_owned(),
        content: message["content"].as_str().unwrap().to_owned(),
    };
    page.as_array().unwrap().iter().map(entry).collect()
}

/// What its sender was told of `content`.
#[track_caller]
fn acknowledged(response: &Response, content: &str) -> Entry {
    assert_eq!(response.status, 200, "{}", response.raw);
    Entry {
        seq: response.body["seq"].as_u64().unwrap(),
        id: response.text("message_id"),
        content: content.to_owned(),
    }
}

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}
