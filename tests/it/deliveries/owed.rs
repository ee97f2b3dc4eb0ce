//! To whom a delivery is owed when endpoints change while it waits for its next attempt.

use aws_sdk_dynamodb::types::AttributeValue;
use parlance::domain::delivery::State;

use super::{
    webhooks::{created, endpoint, job_of, message},
    *,
};
use crate::support::{receiver::Receiver, tenant};

/// A tenant with one endpoint, which failed to take a message at noon: its path, its receiver and the job.
async fn failed_once() -> (Tenant, String, Receiver, Job) {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    let path = format!("/webhooks/{}", endpoint(&tenant, &receiver).await);
    receiver.answer(500);
    let (room, message) = message(&tenant).await;
    let job = created(&tenant, &room, &message);
    let verdict = try_once(&tenant.world.app, &job, first(noon()), noon()).await;
    assert_eq!(verdict, Verdict::Again { seconds: 30 });
    receiver.answer(200);
    receiver.take();
    (tenant, path, receiver, job)
}

async fn delete(tenant: &Tenant, path: &str) {
    let deleted = tenant.server().delete(path).await;
    assert_eq!(deleted.status, 204, "{}", deleted.raw);
}

async fn patch(tenant: &Tenant, path: &str, body: Value) {
    let patched = tenant.server().patch(path, &body).await;
    assert_eq!(patched.status, 200, "{}", patched.raw);
}

async fn letters(tenant: &Tenant) -> Value {
    let path = format!("/admin/dead-letters?tenant_id={}", tenant.id);
    tenant.user("alice").get(&path).await.body
}

#[tokio::test]
async fn a_delivery_whose_endpoint_was_deleted_stays_owed_and_ends_as_a_dead_letter() {
    let (tenant, path, receiver, job) = failed_once().await;
    delete(&tenant, &path).await;

    for number in 1..5 {
        let verdict = try_once(&tenant.world.app, &job, again(noon()), at(30 * number)).await;
        let wanted = match number {
            4 => Verdict::Dead { fresh: true },
            _ => Verdict::Again { seconds: 30 },
        };
        assert_eq!(verdict, wanted);
    }

    assert!(receiver.take().is_empty());
    let Subject::MessageCreated { log: room, id } = job.subject else {
        panic!("it is a message");
    };
    assert_eq!(
        letters(&tenant).await,
        json!({
            "failed_messages": [{
                "delivery_id": job.id().to_string(),
                "message_id": id.to_string(),
                "user_id": "bob",
                "room_id": room.to_string(),
                "attempts": 5,
                "last_attempt_at": at(120).to_string(),
                "error": "no endpoint",
            }],
            "failed_notifications": [],
            "failed_events": [],
        })
    );
}

#[tokio::test]
async fn a_delivery_goes_to_the_endpoint_that_took_the_place_of_its_own() {
    let (tenant, path, old, job) = failed_once().await;
    delete(&tenant, &path).await;
    let new = Receiver::new();
    let id = endpoint(&tenant, &new).await;

    let verdict = try_once(&tenant.world.app, &job, again(noon()), at(30)).await;

    assert_eq!(verdict, Verdict::Delivered);
    assert_eq!((old.take().len(), new.take().len()), (0, 1));
    assert_eq!(row(&tenant, &job).await.done, [id].into());
}

#[tokio::test]
async fn a_delivery_whose_endpoint_wants_other_events_now_stays_owed() {
    let (tenant, path, receiver, job) = failed_once().await;
    patch(&tenant, &path, json!({ "events": ["notification"] })).await;

    let verdict = try_once(&tenant.world.app, &job, again(noon()), at(30)).await;

    assert_eq!(verdict, Verdict::Again { seconds: 30 });
    let row = row(&tenant, &job).await;
    assert_eq!(
        (row.error.as_deref(), row.error_endpoint),
        (Some("no endpoint"), None)
    );
    assert!(receiver.take().is_empty());
    // And is told if it wants them again.
    patch(&tenant, &path, json!({ "events": [] })).await;
    let verdict = try_once(&tenant.world.app, &job, again(noon()), at(60)).await;
    assert_eq!((verdict, receiver.take().len()), (Verdict::Delivered, 1));
}

#[tokio::test]
async fn a_delivery_that_one_endpoint_took_is_delivered_when_the_one_that_failed_is_deleted() {
    let (tenant, good, bad) = (tenant().await, Receiver::new(), Receiver::new());
    let taker = endpoint(&tenant, &good).await;
    let path = format!("/webhooks/{}", endpoint(&tenant, &bad).await);
    bad.answer(500);
    let (room, message) = message(&tenant).await;
    let (job, app) = (created(&tenant, &room, &message), &tenant.world.app);
    try_once(app, &job, first(noon()), noon()).await;
    delete(&tenant, &path).await;

    let verdict = try_once(app, &job, again(noon()), at(30)).await;

    assert_eq!(verdict, Verdict::Delivered);
    assert_eq!(row(&tenant, &job).await.done, [taker].into());
    assert_eq!(good.take().len(), 1);
}

#[tokio::test]
async fn an_event_whose_endpoint_was_deleted_stays_owed() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    let path = format!("/webhooks/{}", endpoint(&tenant, &receiver).await);
    receiver.answer(500);
    tenant.group(&["alice"]).await;
    let prefix = format!("{}#evt_", tenant.id);
    let events = crate::chatapi::scan(&tenant.world, "Events").await;
    let mut ids = events.iter().map(|event| event["pk"].as_s().unwrap());
    let id = ids.find_map(|pk| {
        pk.starts_with(&prefix)
            .then(|| pk.split_once('#').unwrap().1)
    });
    let (job, app) = (
        job_of(&tenant, id.unwrap().parse().unwrap(), None),
        &tenant.world.app,
    );
    try_once(app, &job, first(noon()), noon()).await;
    delete(&tenant, &path).await;

    let verdict = try_once(app, &job, again(noon()), at(30)).await;

    assert_eq!(verdict, Verdict::Again { seconds: 30 });
    assert_eq!(
        row(&tenant, &job).await.error.as_deref(),
        Some("no endpoint")
    );
}

#[tokio::test]
async fn a_notification_whose_endpoint_was_deleted_waits_for_its_user() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    let path = format!("/webhooks/{}", endpoint(&tenant, &receiver).await);
    receiver.answer(500);
    let (job, app) = (notify(&tenant).await, &tenant.world.app);
    try_once(app, &job, first(noon()), noon()).await;
    delete(&tenant, &path).await;

    let verdict = try_once(app, &job, again(noon()), at(30)).await;

    assert_eq!(verdict, Verdict::Again { seconds: 30 });
    assert_eq!(
        row(&tenant, &job).await.error.as_deref(),
        Some("user offline")
    );
}

#[tokio::test]
async fn a_row_of_the_version_before_that_was_tried_is_owed() {
    let (tenant, path, _, job) = failed_once().await;
    let pk = format!("{}#{}", tenant.id, job.id());
    let update = tenant.world.dynamodb.update_item().table_name("Deliveries");
    update
        .key("pk", AttributeValue::S(pk))
        .update_expression("REMOVE owed, error_endpoint")
        .send()
        .await
        .unwrap();
    delete(&tenant, &path).await;

    let verdict = try_once(&tenant.world.app, &job, again(noon()), at(30)).await;

    assert_eq!(verdict, Verdict::Again { seconds: 30 });
    let row = row(&tenant, &job).await;
    assert_eq!(row.state, State::Waiting { until: at(60) });
}

#[tokio::test]
async fn an_endpoint_that_refused_is_not_asked_again_because_another_failed() {
    let (tenant, gone, bad) = (tenant().await, Receiver::new(), Receiver::new());
    let id = endpoint(&tenant, &gone).await;
    endpoint(&tenant, &bad).await;
    gone.answer(410);
    bad.answer(500);
    let (room, message) = message(&tenant).await;
    let (job, app) = (created(&tenant, &room, &message), &tenant.world.app);
    let verdict = try_once(app, &job, first(noon()), noon()).await;
    assert_eq!(verdict, Verdict::Again { seconds: 30 });
    bad.answer(200);
    // Its tenant has it go on: what it has refused is not its any more.
    patch(
        &tenant,
        &format!("/webhooks/{id}"),
        json!({ "status": "active" }),
    )
    .await;

    let verdict = try_once(app, &job, again(noon()), at(30)).await;

    assert_eq!((gone.asked(), bad.asked()), (1, 2));
    assert_eq!(verdict, Verdict::Dead { fresh: true });
    let row = row(&tenant, &job).await;
    assert_eq!(row.error.as_deref(), Some("HTTP 410"));
    assert_eq!(row.error_endpoint, Some(id));
}

#[tokio::test]
async fn a_dead_letter_names_the_endpoint_that_failed() {
    let (tenant, good, bad) = (tenant().await, Receiver::new(), Receiver::new());
    endpoint(&tenant, &good).await;
    let id = endpoint(&tenant, &bad).await;
    retry(&tenant, json!({ "attempts": 1 })).await;
    bad.answer(500);
    let (room, message) = message(&tenant).await;
    let (job, app) = (created(&tenant, &room, &message), &tenant.world.app);

    let verdict = try_once(app, &job, first(noon()), noon()).await;

    assert_eq!(verdict, Verdict::Dead { fresh: true });
    assert_eq!(
        letters(&tenant).await["failed_messages"],
        json!([{
            "delivery_id": job.id().to_string(),
            "message_id": message,
            "user_id": "bob",
            "room_id": room,
            "attempts": 1,
            "last_attempt_at": noon().to_string(),
            "error": "HTTP 500",
            "endpoint_id": id,
        }])
    );
    let path = format!("/rooms/{room}/messages/{message}/deliveries");
    let shown = tenant.user("alice").get(&path).await;
    assert_eq!(shown.body[0]["endpoint_id"], id);
}

#[tokio::test]
async fn the_other_endpoints_are_told_that_one_is_gone_and_itself_is_not() {
    let (tenant, gone, good) = (tenant().await, Receiver::new(), Receiver::new());
    let id = endpoint(&tenant, &gone).await;
    endpoint(&tenant, &good).await;
    gone.answer(410);
    let (room, message) = message(&tenant).await;
    let app = &tenant.world.app;
    try_once(
        app,
        &created(&tenant, &room, &message),
        first(noon()),
        noon(),
    )
    .await;
    good.take();
    let events = crate::chatapi::scan(&tenant.world, "Events").await;
    let mut ours = events.iter().filter(|event| {
        let pk = event["pk"].as_s().unwrap();
        pk.starts_with(&tenant.id)
            && event
                .get("kind")
                .is_some_and(|kind| kind.as_s().unwrap() == "webhook.paused")
    });
    let pk = ours.next().unwrap()["pk"].as_s().unwrap();
    let subject = pk.split_once('#').unwrap().1.parse().unwrap();

    let verdict = try_once(app, &job_of(&tenant, subject, None), first(noon()), noon()).await;

    assert_eq!(verdict, Verdict::Delivered);
    assert_eq!(gone.asked(), 1);
    let [got] = <[_; 1]>::try_from(good.take()).unwrap();
    assert_eq!(
        got.body["data"],
        json!({ "endpoint_id": id, "reason": "HTTP 410 Gone" })
    );
}
