//! Batches of the queue: each job its own fate, and the queue itself does the rest.

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use deliver::handle;
use parlance::{
    domain::delivery::State,
    queue::{PoisonQueue, Sending},
};
use tokio::join;

use super::*;
use crate::support::{receiver::Receiver, tenant_of, world_over};

/// A tenant with queues of its own.
pub(super) async fn alone() -> Tenant {
    tenant_of(&world_over(|client| client).await).await
}

async fn endpoint(tenant: &Tenant, receiver: &Receiver) {
    let body = json!({ "url": receiver.url });
    let made = tenant.server().post("/webhooks", &body).await;
    assert_eq!(made.status, 201, "{}", made.raw);
}

pub(super) fn poison(tenant: &Tenant) -> PoisonQueue {
    let (client, url) = tenant.world.queue("Poison");
    PoisonQueue::new(client, url)
}

pub(super) async fn receive(tenant: &Tenant, queue: &str, most: i32) -> Vec<Message> {
    let (client, url) = tenant.world.queue(queue);
    let received = client
        .receive_message()
        .queue_url(&url)
        .max_number_of_messages(most)
        .message_system_attribute_names(MessageSystemAttributeName::All)
        .send()
        .await
        .unwrap();
    received.messages.unwrap_or_default()
}

/// Messages as Lambda hands them over.
fn event(messages: &[Message]) -> Value {
    let records = messages.iter().map(|message| {
        let attributes = message.attributes().unwrap().iter();
        let attributes = attributes.map(|(name, value)| (name.as_str().to_owned(), json!(value)));
        json!({
            "messageId": message.message_id,
            "receiptHandle": message.receipt_handle,
            "body": message.body,
            "attributes": attributes.collect::<serde_json::Map<_, _>>(),
            "messageAttributes": {},
            "eventSource": "aws:sqs",
        })
    });
    json!({ "Records": records.collect::<Vec<_>>() })
}

/// Hands one message over as Lambda does: what did not fail is deleted. How many there were, and how many failed.
async fn batch(tenant: &Tenant) -> (usize, usize) {
    let messages = receive(tenant, "DeliveryQueue", 1).await;
    let batch = serde_json::from_value(event(&messages)).unwrap();
    let response = handle(&tenant.world.app, &poison(tenant), batch).await;
    let failed = response.batch_item_failures;
    let (client, url) = tenant.world.queue("DeliveryQueue");
    for message in &messages {
        let id = message.message_id().unwrap();
        if !failed.iter().any(|failed| failed.item_identifier == id) {
            let delete = client.delete_message().queue_url(&url);
            let receipt = message.receipt_handle().unwrap();
            delete.receipt_handle(receipt).send().await.unwrap();
        }
    }
    (messages.len(), failed.len())
}

/// Until the queue hands out nothing more.
async fn drain(tenant: &Tenant) {
    for _ in 0..100 {
        if batch(tenant).await.0 == 0 {
            return;
        }
    }
    panic!("the queue is never empty");
}

async fn queued(tenant: &Tenant, job: &Job) {
    let jobs = std::slice::from_ref(job);
    let sending = Sending::first(parlance::http::moment(Duration::ZERO).unwrap().now);
    let sent = tenant.world.app.jobs().deliver(jobs, sending).await;
    sent.unwrap();
}

/// How many messages a queue has: those to be had, and those that are hidden.
async fn count(tenant: &Tenant, queue: &str) -> (String, String) {
    use aws_sdk_sqs::types::QueueAttributeName::{
        All, ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible,
    };
    let (client, url) = tenant.world.queue(queue);
    let asked = client.get_queue_attributes().queue_url(url);
    let answer = asked.attribute_names(All).send().await.unwrap();
    let attributes = answer.attributes.unwrap();
    (
        attributes[&ApproximateNumberOfMessages].clone(),
        attributes[&ApproximateNumberOfMessagesNotVisible].clone(),
    )
}

/// How many messages of the delivery queue nobody may receive yet.
async fn delayed(tenant: &Tenant) -> String {
    use aws_sdk_sqs::types::QueueAttributeName::ApproximateNumberOfMessagesDelayed as Delayed;
    let (client, url) = tenant.world.queue("DeliveryQueue");
    let asked = client.get_queue_attributes().queue_url(url);
    let answer = asked.attribute_names(Delayed).send().await.unwrap();
    answer.attributes.unwrap().remove(&Delayed).unwrap()
}

fn counts(there: u32, hidden: u32) -> (String, String) {
    (there.to_string(), hidden.to_string())
}

/// Has what is in the dead-letter queue moved back, as the console does.
async fn move_back(tenant: &Tenant) {
    let (client, url) = tenant.world.queue("DeadLetterQueue");
    let asked = client.get_queue_attributes().queue_url(&url);
    let answer = asked
        .attribute_names(aws_sdk_sqs::types::QueueAttributeName::QueueArn)
        .send()
        .await
        .unwrap();
    let arn = answer.attributes.unwrap().into_values().next().unwrap();
    let task = client.start_message_move_task().source_arn(arn);
    task.send().await.unwrap();
    for _ in 0..1_000 {
        if count(tenant, "DeadLetterQueue").await == counts(0, 0) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the dead letters are never moved");
}

/// A notification whose one attempt failed, and whose job SQS has moved to the dead-letter queue.
async fn letter(tenant: &Tenant, receiver: &Receiver) -> Job {
    endpoint(tenant, receiver).await;
    retry(tenant, json!({ "attempts": 1 })).await;
    receiver.answer(500);
    let job = notify(tenant).await;
    queued(tenant, &job).await;
    drain(tenant).await;
    assert_eq!(receiver.take().len(), 1);
    assert_eq!(count(tenant, "DeadLetterQueue").await, counts(1, 0));
    job
}

#[tokio::test]
async fn a_job_that_failed_is_hidden_until_its_delivery_is_due() {
    let tenant = alone().await;
    let job = notify(&tenant).await;
    queued(&tenant, &job).await;

    assert_eq!(batch(&tenant).await, (1, 1));

    assert_eq!(count(&tenant, "DeliveryQueue").await, counts(0, 1));
    let row = row(&tenant, &job).await;
    assert!(matches!(row.state, State::Waiting { .. }));
    assert_eq!(row.error.as_deref(), Some("user offline"));
}

#[tokio::test]
async fn a_job_that_waits_for_more_than_a_minute_is_replaced_by_one_that_is_not_in_flight() {
    let tenant = alone().await;
    retry(&tenant, json!({ "interval_seconds": 62 })).await;
    let job = notify(&tenant).await;
    queued(&tenant, &job).await;

    assert_eq!(batch(&tenant).await, (1, 0));

    assert_eq!(count(&tenant, "DeliveryQueue").await, counts(0, 0));
    assert_eq!(delayed(&tenant).await, "1");
    let row = row(&tenant, &job).await;
    assert!(matches!(row.state, State::Waiting { .. }));
}

#[tokio::test]
async fn a_job_that_is_parked_is_done_with() {
    let tenant = alone().await;
    retry(&tenant, json!({ "interval_seconds": 3_600 })).await;
    let job = notify(&tenant).await;
    queued(&tenant, &job).await;

    assert_eq!(batch(&tenant).await, (1, 0));

    assert_eq!(count(&tenant, "DeliveryQueue").await, counts(0, 0));
}

#[tokio::test]
async fn what_is_no_job_is_put_aside_with_the_reason_and_holds_up_nobody() {
    let (tenant, receiver) = (alone().await, Receiver::new());
    endpoint(&tenant, &receiver).await;
    let (client, url) = tenant.world.queue("DeliveryQueue");
    for body in ["nonsense", r#"{"v":2,"to":"whom"}"#] {
        let send = client.send_message().queue_url(&url).message_body(body);
        send.send().await.unwrap();
    }
    let job = notify(&tenant).await;
    queued(&tenant, &job).await;

    drain(&tenant).await;

    assert_eq!(receiver.take().len(), 1);
    assert_eq!(count(&tenant, "DeliveryQueue").await, counts(0, 0));
    let aside = receive(&tenant, "Poison", 10).await;
    let mut aside: Vec<Value> = aside
        .iter()
        .map(|message| serde_json::from_str(message.body().unwrap()).unwrap())
        .collect();
    aside.sort_by_key(|letter| letter["record"]["body"].to_string());
    assert_eq!(aside.len(), 2);
    assert_eq!(aside[0]["record"]["body"], "nonsense");
    assert_eq!(aside[0]["function"], "deliver");
    assert_eq!(aside[1]["reason"], "version 2 is not known");
}

#[tokio::test]
async fn the_same_job_at_two_workers_is_one_attempt() {
    let (tenant, receiver) = (alone().await, Receiver::new());
    endpoint(&tenant, &receiver).await;
    let job = notify(&tenant).await;
    for _ in 0..2 {
        queued(&tenant, &job).await;
    }
    let messages = receive(&tenant, "DeliveryQueue", 10).await;
    assert_eq!(messages.len(), 2);
    let at = |index: usize| {
        let one = std::slice::from_ref(&messages[index]);
        serde_json::from_value(event(one)).unwrap()
    };
    let other = tenant.world.another(|client| client);
    let (here, there) = (poison(&tenant), poison(&tenant));

    join!(
        handle(&tenant.world.app, &here, at(0)),
        handle(&other.app, &there, at(1)),
    );

    assert_eq!(receiver.take().len(), 1);
    let row = row(&tenant, &job).await;
    assert_eq!(row.attempts, 1);
}

#[tokio::test]
async fn a_letter_that_is_redriven_twice_and_both_ways_is_delivered_once() {
    let (tenant, receiver) = (alone().await, Receiver::new());
    let job = letter(&tenant, &receiver).await;
    receiver.answer(200);
    let redrive = json!({ "tenant_id": tenant.id, "delivery_id": job.id().to_string() });
    let operator = tenant.world.operator().anew();

    let path = "/admin/dead-letters/redrive";
    let once = operator.post(path, &redrive).await;
    once.assert(202, json!({ "redriven": 1, "more": false }));
    move_back(&tenant).await;
    let twice = operator.post(path, &redrive).await;
    twice.assert(202, json!({ "redriven": 0, "more": false }));
    assert_eq!(count(&tenant, "DeliveryQueue").await, counts(2, 0));
    drain(&tenant).await;

    let got = receiver.take();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].headers["webhook-id"], job.id().to_string());
    assert_eq!(count(&tenant, "DeliveryQueue").await, counts(0, 0));
    assert_eq!(count(&tenant, "DeadLetterQueue").await, counts(0, 0));
    let row = row(&tenant, &job).await;
    assert!(matches!(row.state, State::Delivered { .. }));
    assert_eq!(row.attempts, 2);
}

#[tokio::test]
async fn a_letter_that_is_moved_back_alone_is_delivered() {
    let (tenant, receiver) = (alone().await, Receiver::new());
    let job = letter(&tenant, &receiver).await;
    receiver.answer(200);

    move_back(&tenant).await;
    drain(&tenant).await;

    assert_eq!(receiver.take().len(), 1);
    let row = row(&tenant, &job).await;
    assert!(matches!(row.state, State::Delivered { .. }));
}

#[tokio::test]
async fn a_copy_of_a_letter_that_was_given_up_is_dropped() {
    let (tenant, receiver) = (alone().await, Receiver::new());
    let job = letter(&tenant, &receiver).await;
    receiver.answer(200);
    let body = json!({ "tenant_id": tenant.id, "reason": "nobody waits for it", "all": true });
    let given_up = tenant
        .user("alice")
        .send(
            axum::http::Method::DELETE,
            "/admin/dead-letters",
            body.to_string(),
        )
        .await;
    given_up.assert(200, json!({ "discarded": 1, "more": false }));

    move_back(&tenant).await;
    drain(&tenant).await;

    assert_eq!(receiver.take().len(), 0);
    assert_eq!(count(&tenant, "DeliveryQueue").await, counts(0, 0));
    assert_eq!(count(&tenant, "DeadLetterQueue").await, counts(0, 0));
    let State::Discarded { by, reason, .. } = row(&tenant, &job).await.state else {
        panic!("it is not given up");
    };
    assert_eq!(
        (by.as_str(), reason.as_str()),
        ("alice", "nobody waits for it")
    );
}
