//! The times of a log: they never decrease from one seq to the next, whatever the clocks of its writers say.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use parlance::{
    app::{App, Settings},
    domain::{
        Actor, Moment, Once, RoomId, Timestamp, UserId,
        message::{Content, Sent},
    },
    http::{moment, same},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Dice, membership::table, path, process, quiet_tenant, say};
use crate::{
    kodey::team,
    support::{
        Tenant,
        faults::{calm, storm},
        settings,
    },
};

/// How far a clock steps at most, in seconds: a day, back or forth.
const STEP_SECONDS: u64 = 86_400;

async fn actor(app: &App, tenant: &Tenant, user: &str) -> Actor {
    let at = moment(Duration::from_mins(1)).unwrap();
    let session = app.session(tenant.key.as_bytes(), &at).await.unwrap();
    app.actor(&session, UserId::parse("user_id", user).unwrap())
}

/// A moment of a clock that may have stepped.
fn stepped(dice: &mut Dice) -> Moment {
    let real = moment(Duration::from_mins(1)).unwrap();
    let off = dice.roll(2 * STEP_SECONDS).cast_signed() - STEP_SECONDS.cast_signed();
    Moment {
        now: real.now.plus_seconds(off),
        seed: real.seed,
        ..real
    }
}

/// Sends until it is stored.
async fn send(app: &App, actor: &Actor, room: RoomId, once: Option<&Once>, at: &Moment) -> Sent {
    for _ in 0..200 {
        let content = Content::parse("hi".to_owned()).unwrap();
        let sent = app.send_message(actor, room, content, None, once, at).await;
        if let Ok(sent) = sent {
            return sent.value;
        }
    }
    panic!("never stored");
}

/// The times of a room's messages in the order of their seqs, as REST shows them.
async fn times(tenant: &Tenant, room: &str) -> Vec<Timestamp> {
    let mut times = Vec::new();
    loop {
        let page = format!("{}?after_seq={}&limit=100", path(room), times.len());
        let shown = tenant.user("alice").get(&page).await.body;
        let shown = shown.as_array().unwrap().clone();
        if shown.is_empty() {
            return times;
        }
        times.extend(shown.iter().map(time));
    }
}

fn time(message: &Value) -> Timestamp {
    message["created_at"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn times_never_decrease_with_the_seq_though_the_clocks_of_four_processes_step() {
    let tenant = quiet_tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let id: RoomId = room.parse().unwrap();
    let mut writing = JoinSet::new();
    for number in 0..4 {
        let app = process(storm(2_000 + number, 8)).await.app;
        for task in 0..2 {
            let (app, tenant) = (app.clone(), tenant.clone());
            writing.spawn(async move {
                let mut dice = Dice(100 * number + task);
                let calm = process(calm()).await.app;
                let actor = actor(&calm, &tenant, "alice").await;
                let mut told = Vec::new();
                for message in 0..12 {
                    let at = stepped(&mut dice);
                    let key = format!("{number}-{task}-{message}");
                    let once = Once::parse(&key, same::digests("send", None, b"")).unwrap();
                    let once = (message % 2 == 0).then_some(&once);
                    told.push(send(&app, &actor, id, once, &at).await);
                }
                told
            });
        }
    }
    let told: Vec<Sent> = writing.join_all().await.into_iter().flatten().collect();

    let times = times(&tenant, &room).await;
    // A plain send whose last answer was lost is stored, and sent again.
    assert!(times.len() >= 4 * 2 * 12);
    assert!(times.is_sorted(), "{times:?}");
    for sent in told {
        let seq = usize::try_from(sent.seq.get()).unwrap();
        assert_eq!(times[seq - 1], sent.created_at, "{sent:?}");
    }
}

#[tokio::test]
async fn times_never_decrease_where_the_only_writer_remembers_the_tail() {
    let tenant = quiet_tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let id: RoomId = room.parse().unwrap();
    let settings = Settings {
        single_writer: true,
        ..settings()
    };
    let app = App::new(&settings, &tenant.world.dynamodb);
    let actor = actor(&app, &tenant, "alice").await;
    let mut dice = Dice(7);
    let mut told = Vec::new();
    for _ in 0..30 {
        let at = stepped(&mut dice);
        told.push(send(&app, &actor, id, None, &at).await.created_at);
    }

    assert_eq!(times(&tenant, &room).await, told);
    assert!(told.is_sorted(), "{told:?}");
}

#[tokio::test]
async fn a_replay_tells_the_time_that_was_stored_and_not_the_clocks() {
    let tenant = quiet_tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let id: RoomId = room.parse().unwrap();
    let app = &tenant.world.app;
    let actor = actor(app, &tenant, "alice").await;
    let real = moment(Duration::from_mins(1)).unwrap();
    let at = |seconds: i64, seed: u128| Moment {
        now: real.now.plus_seconds(seconds),
        seed: real.seed.wrapping_add(seed),
        ..real
    };
    let ahead = send(app, &actor, id, None, &at(3_600, 1)).await;
    let once = Once::parse("once", same::digests("send", None, b"")).unwrap();

    let first = send(app, &actor, id, Some(&once), &at(0, 2)).await;
    let again = send(app, &actor, id, Some(&once), &at(60, 3)).await;

    assert_eq!(first.created_at, ahead.created_at);
    assert_eq!((again.id, again.created_at), (first.id, first.created_at));
}

/// Moves the message `seq` of a log a day ahead, as a writer whose clock is ahead writes it.
async fn move_ahead(tenant: &Tenant, log: &str, seq: u64) -> Timestamp {
    let at = moment(Duration::ZERO).unwrap().now.plus_seconds(86_400);
    let update = tenant.world.dynamodb.update_item();
    update
        .table_name(table("MESSAGES_TABLE"))
        .key("pk", AttributeValue::S(format!("{}#{log}", tenant.id)))
        .key("sk", AttributeValue::S(format!("{seq:020}")))
        .update_expression("SET created_at = :at")
        .expression_attribute_values(":at", AttributeValue::S(at.to_string()))
        .send()
        .await
        .unwrap();
    at
}

#[tokio::test]
async fn a_chats_question_and_answer_are_not_before_the_message_before_them() {
    let team = team().await;
    let chat = team.sk.post("/chat", &json!({ "agentId": "chat" })).await;
    let chat = chat.text("id");
    let log = format!("/chat/{chat}/message");
    let said = team.sk.post(&log, &json!({ "content": "one" })).await;
    assert_eq!(said.status, 200, "{}", said.raw);
    let ahead = move_ahead(&team.tenant, &chat, 2).await;
    // A process that did not write it.
    let team = team.at(&process(calm()).await);

    let said = team.sk.post(&log, &json!({ "content": "two" })).await;

    let shown = team.sk.get(&log).await.body;
    let (_, ours) = shown["messages"].as_array().unwrap().split_at(2);
    let times: Vec<_> = ours.iter().map(|it| it["createdAt"].clone()).collect();
    assert_eq!(times, [json!(ahead.to_string()), json!(ahead.to_string())]);
    assert_eq!(said.body["createdAt"], json!(ahead.to_string()));
}

#[tokio::test]
async fn an_edit_is_not_before_its_message_and_a_later_one_is_later() {
    let tenant = quiet_tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let alice = tenant.user("alice");
    let sent = say(&alice, &room, "one").await;
    let ahead = move_ahead(&tenant, &room, 1).await;
    let message = format!("{}/{}", path(&room), sent.text("message_id"));

    let mut times = Vec::new();
    for _ in 0..2 {
        let edited = alice.put(&message, &json!({ "content": "two" })).await;
        let at: Timestamp = edited.text("edited_at").parse().unwrap();
        times.push(at);
    }
    alice.delete(&message).await;
    let deleted = alice.get(&message).await;
    times.push(deleted.text("deleted_at").parse().unwrap());

    let expected = [1, 2, 3].map(|micros| ahead.plus_micros(micros));
    assert_eq!(times, expected);
}
