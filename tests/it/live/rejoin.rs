//! A member who was removed and added again is not sent what was said while they were out.

use parlance::{
    app::App,
    domain::{LogId, MessageId, delivery::Subject, message::Seq},
    queue::{Audience, parse_job},
};
use serde_json::{Value, json};

use super::{
    connect, greet, log, now, process, user, waiting,
    wire::{Fate, Wire},
};
use crate::support::{Tenant, faults::calm, tenant, tenant_of, world_over};

async fn said(tenant: &Tenant, room: &str, content: &str) -> Subject {
    let path = format!("/rooms/{room}/messages");
    let body = json!({ "content": content });
    let sent = tenant.user("alice").post(&path, &body).await;
    let id: MessageId = sent.text("message_id").parse().unwrap();
    let log = room.parse().unwrap();
    Subject::MessageCreated { log, id }
}

async fn remove(tenant: &Tenant, room: &str) {
    let place = format!("/rooms/{room}/members/bob");
    let removed = tenant.user("alice").delete(&place).await;
    assert_eq!(removed.status, 204, "{}", removed.raw);
}

async fn add(tenant: &Tenant, room: &str) {
    let members = format!("/rooms/{room}/members");
    let body = json!({ "user_ids": ["bob"] });
    let added = tenant.user("alice").post(&members, &body).await;
    assert_eq!(added.status, 201, "{}", added.raw);
}

async fn tell(app: &App, log: LogId, subject: Subject, audience: &Audience) {
    let (at, subjects) = (now(), [subject]);
    let told = app.tell(log.tenant, &subjects, audience, &at);
    told.await.unwrap();
}

/// The frames that were heard; of a message only its seq.
fn heard(wire: &Wire, id: &str) -> Vec<Value> {
    let frames = wire.frames(id).into_iter();
    frames
        .map(|frame| match frame["type"].as_str().unwrap() {
            "message" => frame["seq"].clone(),
            _ => frame,
        })
        .collect()
}

fn skipped(room: &str, after: u64) -> Value {
    json!({ "type": "messages.skipped", "room_id": room, "after_seq": after })
}

#[tokio::test]
async fn a_member_added_again_is_not_pushed_what_was_said_while_they_were_out() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    let log = log(&tenant, &room);
    let bob = connect(&app, &tenant, "bob").await;
    let first = said(&tenant, &room, "one").await;
    tell(&app, log, first, &Audience::All).await;

    remove(&tenant, &room).await;
    let out = said(&tenant, &room, "while he was out").await;
    add(&tenant, &room).await;
    // It is told late.
    tell(&app, log, out, &Audience::All).await;
    assert_eq!(heard(&wire, &bob), [json!(1)]);

    let third = said(&tenant, &room, "three").await;
    tell(&app, log, third, &Audience::All).await;
    assert_eq!(heard(&wire, &bob), [json!(1), skipped(&room, 2), json!(3)]);
}

#[tokio::test]
async fn a_hello_of_a_member_added_again_does_not_bring_what_was_said_while_they_were_out() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    said(&tenant, &room, "one").await;
    remove(&tenant, &room).await;
    said(&tenant, &room, "while he was out").await;
    add(&tenant, &room).await;
    let log = log(&tenant, &room);
    for last in [2, 3] {
        if last == 3 {
            said(&tenant, &room, "three").await;
        }
        let bob = greet(&app, &tenant, "bob", &room, Seq::FIRST).await;
        let (rooms, at) = ([log.log], now());
        let job = app.catch_up(log.tenant, &bob, &rooms, 0, &at);
        assert_eq!(job.await.unwrap().logs, []);
        let expected: Vec<_> = [skipped(&room, 2), json!(3)]
            .into_iter()
            .take(last - 1)
            .collect();
        assert_eq!(heard(&wire, bob.as_str()), expected);
    }
}

#[tokio::test]
async fn a_connection_that_does_not_take_the_skip_is_sent_nothing_beyond_it_until_it_does() {
    let tenant = tenant().await;
    let wire = Wire::new(|_, number| if number == 1 { Fate::Busy } else { Fate::Take });
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    let log = log(&tenant, &room);
    let bob = connect(&app, &tenant, "bob").await;
    let first = said(&tenant, &room, "one").await;
    tell(&app, log, first, &Audience::All).await;
    remove(&tenant, &room).await;
    said(&tenant, &room, "while he was out").await;
    add(&tenant, &room).await;
    let third = said(&tenant, &room, "three").await;

    tell(&app, log, third, &Audience::All).await;
    assert_eq!(heard(&wire, &bob), [json!(1)]);

    let again = Audience::Only {
        users: vec![user("bob")],
        tries: 1,
    };
    tell(&app, log, third, &again).await;
    assert_eq!(heard(&wire, &bob), [json!(1), skipped(&room, 2), json!(3)]);
}

/// It could not be posted while they were a member.
#[tokio::test]
async fn a_message_that_is_tried_again_is_not_pushed_to_who_was_removed_or_added_again_since() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    let log = log(&tenant, &room);
    let bob = connect(&app, &tenant, "bob").await;
    let first = said(&tenant, &room, "one").await;
    let again = Audience::Only {
        users: vec![user("bob")],
        tries: 1,
    };
    remove(&tenant, &room).await;
    tell(&app, log, first, &again).await;
    add(&tenant, &room).await;
    tell(&app, log, first, &again).await;

    assert_eq!(heard(&wire, &bob), Vec::<Value>::new());
}

#[tokio::test]
async fn a_member_added_again_whose_connection_is_new_is_sent_what_is_said_from_then_on() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    said(&tenant, &room, "one").await;
    remove(&tenant, &room).await;
    let bob = connect(&app, &tenant, "bob").await;
    said(&tenant, &room, "while he was out").await;
    add(&tenant, &room).await;
    let third = said(&tenant, &room, "three").await;

    tell(&app, log(&tenant, &room), third, &Audience::All).await;

    assert_eq!(heard(&wire, &bob), [json!(3)]);
}

/// They read it by REST, where the whole log is shown to every member.
#[tokio::test]
async fn webhooks_do_not_hear_for_a_member_what_was_said_before_they_joined() {
    let tenant = tenant_of(&world_over(|client| client).await).await;
    let endpoint = json!({ "url": "http://127.0.0.1:1/" });
    tenant.server().post("/webhooks", &endpoint).await;
    let app = process(&tenant.world, &Wire::calm(), calm());
    let room = tenant.group(&["alice", "carol"]).await;
    let before = said(&tenant, &room, "one").await;
    add(&tenant, &room).await;
    let after = said(&tenant, &room, "two").await;
    let log = log(&tenant, &room);
    for subject in [before, after] {
        tell(&app, log, subject, &Audience::All).await;
    }

    let jobs = waiting(&tenant, "DeliveryQueue").await;
    let mut missed: Vec<_> = jobs
        .iter()
        .map(|job| {
            let job = parse_job(job).unwrap().job;
            (job.subject == before, job.user.unwrap().to_string())
        })
        .collect();
    missed.sort();
    let expected = [(false, "bob"), (false, "carol"), (true, "carol")];
    assert_eq!(missed, expected.map(|(is, user)| (is, user.to_owned())));
    let path = format!("/rooms/{room}/messages");
    let shown = tenant.user("bob").get(&path).await;
    assert_eq!(shown.body.as_array().unwrap().len(), 2);
}

/// A room that goes on is not skipped in: one that was joined at its end has nothing to skip.
#[tokio::test]
async fn a_member_who_was_never_out_is_told_of_no_skip() {
    let (tenant, wire) = (tenant().await, Wire::calm());
    let app = process(&tenant.world, &wire, calm());
    let room = tenant.group(&["alice", "bob"]).await;
    let bob = greet(&app, &tenant, "bob", &room, Seq::ZERO).await;
    for text in ["one", "two"] {
        let subject = said(&tenant, &room, text).await;
        tell(&app, log(&tenant, &room), subject, &Audience::All).await;
    }
    assert_eq!(heard(&wire, bob.as_str()), [json!(1), json!(2)]);
}
