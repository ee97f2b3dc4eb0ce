//! The ChatAPI dialect: what each endpoint promises, what it refuses, and who may call it.

mod acks;
mod bad_input;
mod cors;
mod credentials;
mod dead_letters;
mod deliveries;
mod health;
mod idempotency;
mod large_rooms;
mod limits;
mod matrix;
mod media;
mod members;
mod messages;
mod metrics;
mod notifications;
mod overlap;
mod rate_limit;
mod redrive;
mod rooms;
mod tenant_keys;
mod tenants;
mod unknown;
mod user_ids;
mod webhooks;

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use parlance::queue::PoisonQueue;
use parlance_local::{
    clients::embedded_sqs,
    sqs::{self, Sqs},
};
use serde_json::{Value, json};

pub(crate) use self::webhooks::hmac;
use crate::support::{Client, Response, Tenant, World};

/// An item of a table.
pub type Item = HashMap<String, AttributeValue>;

fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// The string attribute `name` of an item.
#[track_caller]
pub(crate) fn text<'a>(item: &'a Item, name: &str) -> &'a str {
    item[name].as_s().unwrap()
}

/// Sends `content` to a room.
pub async fn send(client: &Client, room: &str, content: &str) -> Response {
    let path = format!("/rooms/{room}/messages");
    let sent = client.post(&path, &json!({ "content": content })).await;
    assert_eq!(sent.status, 200, "{}", sent.raw);
    sent
}

/// The names that the items of a list have at `field`.
#[track_caller]
pub fn column(response: &Response, field: &str) -> Vec<Value> {
    assert_eq!(response.status, 200, "{}", response.raw);
    let list = response.body.as_array().unwrap();
    list.iter().map(|item| item[field].clone()).collect()
}

/// The values at `field` on all pages from `path` on, and how many pages there were.
async fn walk(client: &Client, path: &str, field: &str) -> (Vec<Value>, usize) {
    let (mut all, mut pages) = (Vec::new(), 0);
    let mut next = Some(path.to_owned());
    while let Some(path) = next {
        let page = client.get(&path).await;
        all.extend(column(&page, field));
        pages += 1;
        assert!(pages < 1_000, "the pages never end");
        next = page.next();
    }
    (all, pages)
}

/// Fails unless this is a time as the dialect writes it.
#[track_caller]
fn assert_time(value: &Value) {
    let text = value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no time"));
    let shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000Z", "{text}");
}

/// All items of a table.
pub async fn scan(world: &World, table: &str) -> Vec<Item> {
    let pages = world.dynamodb.scan().table_name(table).into_paginator();
    pages
        .items()
        .send()
        .collect::<Result<Vec<_>, _>>()
        .await
        .unwrap()
}

/// One item of a table that has no sort key.
pub async fn item(world: &World, table: &str, pk: String) -> Option<Item> {
    let found = world.dynamodb.get_item().table_name(table).key("pk", s(pk));
    found.send().await.unwrap().item
}

/// The events of a tenant: their kind, and how many there are of each.
async fn events(tenant: &Tenant) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for event in scan(&tenant.world, "Events").await {
        if text(&event, "pk").starts_with(&format!("{}#", tenant.id)) {
            *kinds.entry(text(&event, "kind").to_owned()).or_default() += 1;
        }
    }
    kinds
}

/// The items of one partition.
pub async fn partition(world: &World, table: &str, pk: String) -> Vec<Item> {
    let query = world
        .dynamodb
        .query()
        .table_name(table)
        .key_condition_expression("pk = :pk")
        .expression_attribute_values(":pk", s(pk));
    let pages = query.into_paginator().items().send();
    pages.collect::<Result<Vec<_>, _>>().await.unwrap()
}

/// Shows the stream's consumer all messages of a room, as if it had just read them.
async fn let_heads_follow(tenant: &Tenant, room: &str) {
    let log = partition(&tenant.world, "Messages", format!("{}#{room}", tenant.id)).await;
    let records: Vec<_> = log
        .iter()
        .map(|message| record("INSERT", message))
        .collect();
    let event = serde_json::from_value(json!({ "Records": records })).unwrap();
    let response = heads::handle(&tenant.world.app, &poison().await.0, event).await;
    assert_eq!(response.batch_item_failures.len(), 0);
}

/// A queue for poison records, and a client of it.
pub(crate) async fn poison() -> (PoisonQueue, aws_sdk_sqs::Client, String) {
    let queues = Sqs::open(None, sqs::Sync::Normal).unwrap();
    let client = embedded_sqs(queues.http_client());
    let made = client.create_queue().queue_name("poison").send();
    let url = made.await.unwrap().queue_url.unwrap();
    (PoisonQueue::new(client.clone(), url.clone()), client, url)
}

/// A record of the stream, as Lambda hands it over.
pub fn record(kind: &str, image: &Item) -> Value {
    let image: BTreeMap<_, _> = image
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), json!({ "S": value.as_s().ok()? }))))
        .collect();
    json!({
        "eventID": "1",
        "eventName": kind,
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "us-east-1",
        "eventSourceARN": "arn:aws:dynamodb:us-east-1:000000000000:table/Messages/stream/1",
        "dynamodb": {
            "ApproximateCreationDateTime": 1_765_627_200,
            "Keys": { "pk": image["pk"], "sk": image["sk"] },
            "NewImage": image,
            "SequenceNumber": image["sk"]["S"],
            "SizeBytes": 100,
            "StreamViewType": "NEW_IMAGE",
        },
    })
}
