//! Two versions of the runner: one after the other on one folder, and both at once over one store.
//!
//! `PARLANCE_PREVIOUS` is the runner of the version before this one; `infra/checks/previous.sh` builds
//! it. Without it there is nothing to upgrade from, and these tests say so.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::http::{Client, said};
use super::runner::{Runner, Start, Tenant};

/// How many messages each version sends while both are there.
const MESSAGES: usize = 60;

#[expect(clippy::print_stderr, reason = "a test that did not run says so")]
fn previous() -> Option<PathBuf> {
    let previous = std::env::var_os("PARLANCE_PREVIOUS").map(PathBuf::from);
    if previous.is_none() {
        eprintln!("skipped: PARLANCE_PREVIOUS names no previous runner");
    }
    previous
}

/// Starts the previous version in the home of `start`.
fn old(start: Start, previous: &Path) -> Runner {
    start.program(previous).run()
}

/// `shown` without what a newer version shows besides.
fn without(mut shown: Value, added: &[&str]) -> Value {
    let members = shown.as_object_mut().unwrap();
    members.retain(|name, _| !added.contains(&name.as_str()));
    shown
}

/// What a tenant can see of a room, as its server does, in either version.
fn seen(runner: &Runner, tenant: &Tenant, room: &str) -> Value {
    let alice = runner.user(tenant, "alice");
    let get = |path: &str| alice.get(path).assert(200);
    let dead_letters = format!("/admin/dead-letters?tenant_id={}", tenant.id);
    let profile = format!("/admin/tenants/{}", tenant.id);
    json!({
        "tenant": without(
            runner.operator().get(&profile).assert(200),
            &["retry", "publishable_list_scope", "monthly_token_cap"],
        ),
        "room": get(&format!("/rooms/{room}")),
        "members": get(&format!("/rooms/{room}/members")),
        "messages": get(&format!("/rooms/{room}/messages")),
        "subscriptions": get("/subscriptions"),
        "dead_letters": without(runner.operator().get(&dead_letters).assert(200), &["failed_events"]),
    })
}

fn keyed(client: &Client, key: &str) -> Client {
    let mut headers = client.headers();
    headers.push(("idempotency-key", key));
    Client {
        address: client.address.clone(),
        headers: headers
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    }
}

fn acked(client: &Client, room: &str, seq: u64) {
    let ack = json!({ "room_id": room, "seq": seq });
    let done = client.post("/acks", &ack);
    assert!(done.status < 300, "{}", done.body);
}

/// Has something of everything stored; the room.
fn furnish(runner: &Runner, tenant: &Tenant) -> String {
    let (alice, bob) = (runner.user(tenant, "alice"), runner.user(tenant, "bob"));
    let room = alice.group(&["alice", "bob", "a#b:c%"]);
    for content in ["one", "two", "three"] {
        alice.say(&room, content);
    }
    let body = json!({ "content": "with a key", "meta": { "n": 1.50, "deep": [{}] } });
    let messages = format!("/rooms/{room}/messages");
    keyed(&alice, "k1").post(&messages, &body).assert(200);
    acked(&bob, &room, 2);
    let topic = json!({ "topic": "news" });
    alice.post("/subscriptions", &topic).assert(201);
    room
}

#[test]
fn an_upgrade_in_place_keeps_everything_and_so_does_going_back() {
    let Some(previous) = previous() else { return };
    let runner = old(Start::new(), &previous);
    let tenant = runner.busy_tenant();
    let room = furnish(&runner, &tenant);
    let before = seen(&runner, &tenant, &room);
    let (_, start) = runner.stop();

    let runner = start.run();
    assert_eq!(seen(&runner, &tenant, &room), before);
    let (alice, bob) = (runner.user(&tenant, "alice"), runner.user(&tenant, "bob"));
    let body = json!({ "content": "with a key", "meta": { "n": 1.50, "deep": [{}] } });
    let again = keyed(&alice, "k1").post(&format!("/rooms/{room}/messages"), &body);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.assert(200)["seq"], 4);
    assert_eq!(bob.say(&room, "from the new one"), 5);
    acked(&bob, &room, 5);
    let after = seen(&runner, &tenant, &room);
    let (_, start) = runner.stop();

    let runner = old(start, &previous);
    assert_eq!(seen(&runner, &tenant, &room), after);
    assert_eq!(runner.user(&tenant, "alice").say(&room, "and back"), 6);
}

#[test]
fn two_versions_share_a_log_without_a_gap_or_a_duplicate() {
    let Some(previous) = previous() else { return };
    for is_owner_old in [true, false] {
        let start = |is_old: bool| {
            let start = Start::new();
            if is_old {
                start.program(&previous)
            } else {
                start
            }
        };
        let owner = start(is_owner_old).sharing().run();
        let tenant = owner.busy_tenant();
        let guest = start(!is_owner_old).guest_of(&owner).run();
        let both = [owner.user(&tenant, "alice"), guest.user(&tenant, "alice")];
        let room = both[0].group(&["alice"]);
        let messages = format!("/rooms/{room}/messages");

        std::thread::scope(|scope| {
            for (number, client) in both.iter().enumerate() {
                let (room, messages) = (&room, &messages);
                scope.spawn(move || {
                    for turn in 0..MESSAGES {
                        client.say(room, &format!("{number}-{turn}"));
                        // The same request at both, at about the same time.
                        let body = json!({ "content": format!("once-{turn}") });
                        let key = format!("key-{turn}");
                        keyed(client, &key).post(messages, &body).assert(200);
                    }
                });
            }
        });

        let [first, second] = both.map(|client| client.log(&room));
        assert_eq!(first, second);
        let seqs: Vec<u64> = first.iter().map(|said| said.seq).collect();
        assert_eq!(seqs, (1..=3 * MESSAGES as u64).collect::<Vec<_>>());
        let mut contents: Vec<String> = first.into_iter().map(|said| said.content).collect();
        contents.sort();
        contents.dedup();
        assert_eq!(contents.len(), 3 * MESSAGES);
    }
}

#[test]
fn what_one_version_changes_the_other_shows() {
    let Some(previous) = previous() else { return };
    let owner = Start::new().program(&previous).sharing().run();
    let tenant = owner.busy_tenant();
    let guest = Start::new().guest_of(&owner).run();
    let room = furnish(&guest, &tenant);
    assert_eq!(seen(&owner, &tenant, &room), seen(&guest, &tenant, &room));

    let (there, here) = (owner.user(&tenant, "alice"), guest.user(&tenant, "alice"));
    let added = json!({ "members": ["dora"] });
    there
        .post(&format!("/rooms/{room}/members"), &added)
        .assert(201);
    owner.user(&tenant, "dora").say(&room, "here I am");
    let page = here
        .get(&format!("/rooms/{room}/messages?after_seq=4"))
        .assert(200);
    assert_eq!(said(&page)[0].content, "here I am");
    assert_eq!(seen(&owner, &tenant, &room), seen(&guest, &tenant, &room));
}

/// What the tenant's server with `key` is answered.
fn opens(runner: &Runner, tenant: &Tenant, key: &str) -> bool {
    let tenant = Tenant {
        id: tenant.id.clone(),
        key: key.to_owned(),
    };
    match runner.user(&tenant, "alice").get("/rooms").status {
        200 => true,
        401 => false,
        status => panic!("{status}"),
    }
}

/// Rotates a tenant's key, and gives the new one.
fn rotated(runner: &Runner, tenant: &Tenant) -> String {
    let path = format!("/admin/tenants/{}/keys/rotate", tenant.id);
    let rotated = runner.operator().post(&path, &json!({})).assert(201);
    rotated["api_key"].as_str().unwrap().to_owned()
}

#[test]
fn keys_that_either_version_rotates_hold_and_end_in_both() {
    let Some(previous) = previous() else { return };
    let runner = old(Start::new(), &previous);
    let tenant = runner.busy_tenant();
    let second = rotated(&runner, &tenant);
    let (_, start) = runner.stop();

    let runner = start.run();
    for key in [&tenant.key, &second] {
        assert!(opens(&runner, &tenant, key));
    }
    let third = rotated(&runner, &tenant);
    assert!(!opens(&runner, &tenant, &tenant.key));
    let fourth = rotated(&runner, &tenant);
    let (_, start) = runner.stop();

    let runner = old(start, &previous);
    for (key, holds) in [(&second, false), (&third, true), (&fourth, true)] {
        assert_eq!(opens(&runner, &tenant, key), holds);
    }
    let fifth = rotated(&runner, &tenant);
    let (_, start) = runner.stop();

    let runner = start.run();
    for (key, holds) in [(&third, false), (&fourth, true), (&fifth, true)] {
        assert_eq!(opens(&runner, &tenant, key), holds);
    }
}
