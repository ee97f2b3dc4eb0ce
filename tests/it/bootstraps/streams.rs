//! The consumer of the log's stream, under the events that DynamoDB Streams hands to Lambda.

use serde_json::{Value, json};

use super::deployment;
use crate::{
    chatapi::{column, partition, record, send},
    support::{Tenant, World, tenant_of},
};

/// What the `heads` function answers to these records.
async fn hand_over(world: &World, records: &[Value]) -> Value {
    let deployed = world.deployed.as_ref().unwrap();
    let heads = deployed.lambda.function("HeadsFunction").unwrap();
    let event = json!({ "Records": records }).to_string();
    let payload = heads.invoke(event).await.unwrap();
    serde_json::from_slice(&payload).unwrap()
}

async fn last_seq(tenant: &Tenant) -> Value {
    let listed = tenant.user("alice").get("/rooms").await;
    column(&listed, "last_seq")[0].clone()
}

#[tokio::test]
async fn the_records_of_a_log_advance_its_rooms_head() {
    let Some(world) = deployment().await else {
        return;
    };
    let tenant = tenant_of(&world).await;
    let room = tenant.group(&["alice"]).await;
    for n in 0..3 {
        send(&tenant.user("alice"), &room, &n.to_string()).await;
    }
    assert_eq!(last_seq(&tenant).await, 0);
    let log = partition(&world, "Messages", format!("{}#{room}", tenant.id)).await;
    let records: Vec<_> = log
        .iter()
        .map(|message| record("INSERT", message))
        .collect();

    let answer = hand_over(&world, &records).await;

    assert_eq!(answer, json!({ "batchItemFailures": [] }));
    assert_eq!(last_seq(&tenant).await, 3);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_put_aside_and_holds_up_no_other() {
    let Some(world) = deployment().await else {
        return;
    };
    let tenant = tenant_of(&world).await;
    let room = tenant.group(&["alice"]).await;
    send(&tenant.user("alice"), &room, "hi").await;
    let log = partition(&world, "Messages", format!("{}#{room}", tenant.id)).await;
    let good = record("INSERT", &log[0]);
    let mut poison = good.clone();
    poison["dynamodb"]["NewImage"]["sk"] = json!({ "S": "not a seq" });

    let answer = hand_over(&world, &[poison, good]).await;

    assert_eq!(answer, json!({ "batchItemFailures": [] }));
    assert_eq!(last_seq(&tenant).await, 1);
    let (queue, url) = world.queue("Poison");
    let received = queue.receive_message().queue_url(url).send().await.unwrap();
    let messages = received.messages();
    assert_eq!(messages.len(), 1);
    let body: Value = serde_json::from_str(messages[0].body().unwrap()).unwrap();
    assert_eq!(body["kind"], "poison_record");
    assert_eq!(body["function"], "heads");
    assert_eq!(
        body["record"]["dynamodb"]["NewImage"]["sk"],
        json!({ "S": "not a seq" })
    );
}
