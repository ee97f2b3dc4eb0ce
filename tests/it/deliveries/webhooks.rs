//! What endpoints are told, and which of them once more.

use super::*;
use crate::support::{receiver::Receiver, tenant};

/// Has everything sent to `receiver` too; the endpoint's id.
pub(super) async fn endpoint(tenant: &Tenant, receiver: &Receiver) -> String {
    let body = json!({ "url": receiver.url });
    let made = tenant.server().post("/webhooks", &body).await;
    assert_eq!(made.status, 201, "{}", made.raw);
    made.text("endpoint_id")
}

/// A room of alice and bob, and a message of alice's in it.
pub(super) async fn message(tenant: &Tenant) -> (String, String) {
    let room = tenant.group(&["alice", "bob"]).await;
    let path = format!("/rooms/{room}/messages");
    let body = json!({ "content": "Hello!", "meta": { "n": 1 } });
    let sent = tenant.user("alice").post(&path, &body).await;
    assert_eq!(sent.status, 200, "{}", sent.raw);
    (room, sent.text("message_id"))
}

pub(super) fn job_of(tenant: &Tenant, subject: Subject, user: Option<&str>) -> Job {
    Job {
        tenant: tenant.id.parse().unwrap(),
        subject,
        user: user.map(|user| UserId::parse("user_id", user).unwrap()),
    }
}

pub(super) fn created(tenant: &Tenant, room: &str, message: &str) -> Job {
    let (log, id) = (room.parse().unwrap(), message.parse().unwrap());
    job_of(tenant, Subject::MessageCreated { log, id }, Some("bob"))
}

#[tokio::test]
async fn an_endpoint_is_told_of_a_message_and_who_missed_it() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    endpoint(&tenant, &receiver).await;
    let (room, message) = message(&tenant).await;
    let job = created(&tenant, &room, &message);

    let verdict = try_once(&tenant.world.app, &job, first(noon()), noon()).await;

    assert_eq!(verdict, Verdict::Delivered);
    let [got] = <[_; 1]>::try_from(receiver.take()).unwrap();
    assert_eq!(got.headers["webhook-id"], job.id().to_string());
    assert_eq!(got.headers["x-chatapi-event"], "message.created");
    let at = got.body["timestamp"].clone();
    assert_eq!(
        got.body,
        json!({
            "type": "message.created",
            "timestamp": at,
            "tenant_id": tenant.id,
            "data": {
                "room_id": room,
                "recipient_id": "bob",
                "message": {
                    "message_id": message,
                    "sender_id": "alice",
                    "seq": 1,
                    "content": "Hello!",
                    "meta": { "n": 1 },
                    "created_at": at,
                },
            },
        })
    );
}

#[tokio::test]
async fn only_who_has_not_taken_it_is_told_again() {
    let (tenant, good, bad) = (tenant().await, Receiver::new(), Receiver::new());
    let done = [
        endpoint(&tenant, &good).await,
        endpoint(&tenant, &bad).await,
    ];
    bad.answer(500);
    let (room, message) = message(&tenant).await;
    let (job, app) = (created(&tenant, &room, &message), &tenant.world.app);

    let verdict = try_once(app, &job, first(noon()), noon()).await;
    assert_eq!(verdict, Verdict::Again { seconds: 30 });
    assert_eq!(row(&tenant, &job).await.error.as_deref(), Some("HTTP 500"));
    assert_eq!((good.take().len(), bad.take().len()), (1, 1));

    bad.answer(204);
    let verdict = try_once(app, &job, again(noon()), at(30)).await;
    assert_eq!(verdict, Verdict::Delivered);
    assert_eq!((good.take().len(), bad.take().len()), (0, 1));
    let row = row(&tenant, &job).await;
    assert_eq!(row.done, done.into_iter().collect());
}

#[tokio::test]
async fn an_endpoint_is_told_of_a_notification_to_somebody_who_is_offline() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    endpoint(&tenant, &receiver).await;
    let job = notify(&tenant).await;

    let verdict = try_once(&tenant.world.app, &job, first(noon()), noon()).await;

    assert_eq!(verdict, Verdict::Delivered);
    let [got] = <[_; 1]>::try_from(receiver.take()).unwrap();
    let at = got.body["timestamp"].clone();
    assert_eq!(
        got.body,
        json!({
            "type": "notification",
            "timestamp": at,
            "tenant_id": tenant.id,
            "data": {
                "notification_id": job.subject.to_string(),
                "recipient_id": "bob",
                "sender_id": "alice",
                "topic": "order.shipped",
                "payload": { "order_id": 7.5 },
                "created_at": at,
            },
        })
    );
}

#[tokio::test]
async fn an_endpoint_is_told_of_what_happened_to_a_room() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    endpoint(&tenant, &receiver).await;
    let room = tenant.group(&["alice"]).await;
    let members = format!("/rooms/{room}/members");
    let body = json!({ "user_ids": ["bob", "carol"] });
    let added = tenant.user("alice").post(&members, &body).await;
    assert!(added.status < 300, "{}", added.raw);
    let prefix = format!("{}#evt_", tenant.id);
    let mut told = Vec::new();
    for event in crate::chatapi::scan(&tenant.world, "Events").await {
        let pk = event["pk"].as_s().unwrap();
        if pk.starts_with(&prefix) {
            let (_, id) = pk.split_once('#').unwrap();
            let job = job_of(&tenant, id.parse().unwrap(), None);
            let verdict = try_once(&tenant.world.app, &job, first(noon()), noon()).await;
            assert_eq!(verdict, Verdict::Delivered);
            told.push(event["kind"].as_s().unwrap().clone());
        }
    }
    told.sort();
    assert_eq!(told, ["member.joined", "room.created"]);

    let mut got = receiver.take();
    got.sort_by_key(|got| got.body["type"].to_string());
    let [joined, created] = <[_; 2]>::try_from(got).unwrap();
    assert_eq!(
        joined.body["data"],
        json!({ "room_id": room, "actor_id": "alice", "user_ids": ["bob", "carol"] })
    );
    assert_eq!(
        created.body["data"],
        json!({ "room_id": room, "actor_id": "alice" })
    );
}

#[tokio::test]
async fn each_edit_is_told_with_the_message_as_it_is_by_then() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    endpoint(&tenant, &receiver).await;
    let (room, message) = message(&tenant).await;
    let path = format!("/rooms/{room}/messages/{message}");
    let mut edits = Vec::new();
    for content in ["one", "two"] {
        let body = json!({ "content": content });
        let edited = tenant.user("alice").put(&path, &body).await;
        edits.push(edited.text("edited_at"));
    }
    for at in &edits {
        let subject = Subject::MessageEdited {
            log: room.parse().unwrap(),
            id: message.parse().unwrap(),
            at: at.parse().unwrap(),
        };
        let job = job_of(&tenant, subject, None);
        let verdict = try_once(&tenant.world.app, &job, first(noon()), noon()).await;
        assert_eq!(verdict, Verdict::Delivered);
    }

    let got = receiver.take();
    let times: Vec<_> = got
        .iter()
        .map(|got| got.body["timestamp"].clone())
        .collect();
    assert_eq!(times, edits);
    for got in got {
        assert_eq!(got.body["type"], "message.edited");
        assert_eq!(got.body["data"]["message"]["content"], "two");
        assert_eq!(got.body["data"]["recipient_id"], Value::Null);
    }
}

#[tokio::test]
async fn a_dead_letter_of_a_message_holds_nothing_that_its_author_could_take_back() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    endpoint(&tenant, &receiver).await;
    retry(&tenant, json!({ "attempts": 1 })).await;
    receiver.answer(500);
    let (room, message) = message(&tenant).await;
    let (job, app) = (created(&tenant, &room, &message), &tenant.world.app);

    let verdict = try_once(app, &job, first(noon()), noon()).await;

    assert_eq!(verdict, Verdict::Dead { fresh: true });
    assert_eq!(row(&tenant, &job).await.content, None);
    let path = format!("/rooms/{room}/messages/{message}");
    assert_eq!(tenant.user("alice").delete(&path).await.status, 204);
    receiver.take();
    receiver.answer(200);
    let again = try_once(app, &job, moved(at(60)), at(61)).await;
    assert_eq!(again, Verdict::Delivered);
    let [got] = <[_; 1]>::try_from(receiver.take()).unwrap();
    assert_eq!(got.body["data"]["message"]["content"], "");
    assert!(got.body["data"]["message"]["deleted_at"].is_string());
}

#[tokio::test]
async fn a_receiver_that_is_gone_for_good_ends_the_attempts() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    endpoint(&tenant, &receiver).await;
    receiver.answer(410);
    let job = notify(&tenant).await;

    let verdict = try_once(&tenant.world.app, &job, first(noon()), noon()).await;

    assert_eq!(verdict, Verdict::Dead { fresh: true });
}

#[tokio::test]
async fn an_endpoint_that_was_made_elsewhere_just_now_is_told() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    let (room, message) = message(&tenant).await;
    let other = tenant.world.another(|client| client);
    let app = &other.app;
    let kind = parlance::domain::webhook::EventType::MessageCreated;
    let id = tenant.id.parse().unwrap();
    assert!(app.endpoints_for(id, kind).await.unwrap().is_empty());
    endpoint(&tenant, &receiver).await;
    let job = created(&tenant, &room, &message);

    let verdict = try_once(app, &job, first(noon()), noon()).await;

    assert_eq!(verdict, Verdict::Delivered);
    assert_eq!(receiver.take().len(), 1);
}

#[tokio::test]
async fn a_letter_that_is_redriven_when_no_endpoint_is_left_stays_a_letter() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    retry(&tenant, json!({ "attempts": 1 })).await;
    let path = format!("/webhooks/{}", endpoint(&tenant, &receiver).await);
    receiver.answer(500);
    let (room, message) = message(&tenant).await;
    let (job, app) = (created(&tenant, &room, &message), &tenant.world.app);
    let verdict = try_once(app, &job, first(noon()), noon()).await;
    assert_eq!(verdict, Verdict::Dead { fresh: true });
    assert_eq!(tenant.server().delete(&path).await.status, 204);

    let again = try_once(app, &job, moved(at(60)), at(61)).await;

    assert_eq!(again, Verdict::Dead { fresh: true });
    let error = row(&tenant, &job).await.error;
    assert_eq!(error.as_deref(), Some("no endpoint"));
}
