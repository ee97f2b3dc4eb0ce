//! The poller over the embedded store. The clock is paused, so windows and back-offs are instant.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lambda_events::event::dynamodb::Event;
use aws_lambda_events::event::streams::{DynamoDbBatchItemFailure, DynamoDbEventResponse};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Poison, Retention, Source, Wake, poll};
use crate::clients::{embedded_dynamodb, embedded_sqs, embedded_streams};
use crate::dynamodb::{DynamoDb, Sync};
use crate::provision::{Provisioned, provision};
use crate::sqs::{self, Sqs};
use crate::storage;
use crate::template::{Stack, StreamMapping};

const STACK: &str = "
Resources:
  Log:
    Type: AWS::DynamoDB::Table
    Properties:
      AttributeDefinitions: [{ AttributeName: pk, AttributeType: S }]
      KeySchema: [{ AttributeName: pk, KeyType: HASH }]
      StreamSpecification: { StreamViewType: NEW_IMAGE }
  Poison: { Type: AWS::SQS::Queue }
";

struct World {
    folder: TempDir,
    store: DynamoDb,
    dynamodb: aws_sdk_dynamodb::Client,
    sqs: aws_sdk_sqs::Client,
    provisioned: Provisioned,
}

struct Consumer {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    batches: mpsc::UnboundedReceiver<Vec<String>>,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = DynamoDb::open(&folder.path().join("d.db"), Sync::Normal).unwrap();
        let dynamodb = embedded_dynamodb(store.http_client());
        let sqs = Sqs::open(None, sqs::Sync::Normal).unwrap();
        let sqs = embedded_sqs(sqs.http_client());
        let stack = Stack::parse(STACK).unwrap();
        let provisioned = provision(&stack, &dynamodb, &sqs).await.unwrap();
        Self {
            folder,
            store,
            dynamodb,
            sqs,
            provisioned,
        }
    }

    async fn put(&self, keys: &[&str]) {
        for key in keys {
            let key = AttributeValue::S((*key).to_owned());
            self.dynamodb
                .put_item()
                .table_name("Log")
                .item("pk", key)
                .send()
                .await
                .unwrap();
        }
    }

    /// Consumes with `verdict`, which says what it cannot take of the keys it is shown.
    fn consume(
        &self,
        batch_size: usize,
        verdict: impl Fn(&[String]) -> DynamoDbEventResponse + Send + std::marker::Sync + 'static,
    ) -> Consumer {
        let (stop, stopping) = watch::channel(false);
        let (seen, batches) = mpsc::unbounded_channel();
        let mapping = mapping(batch_size);
        let source = Source {
            client: embedded_streams(self.store.http_client()),
            stream_arn: self.provisioned.stream_arns["Log"].clone(),
            wake: Wake::OnChange(self.store.changes()),
            poison: Poison::new(
                self.sqs.clone(),
                self.provisioned.queue_urls["Poison"].clone(),
            ),
            retention: Some(Retention::new(
                self.store.clone(),
                std::slice::from_ref(&mapping),
            )),
            stop: stopping,
        };
        let verdict = Arc::new(verdict);
        let handler = move |event: Event| {
            let (verdict, seen) = (Arc::clone(&verdict), seen.clone());
            async move {
                let keys = keys(&event);
                // The test may have seen enough.
                drop(seen.send(keys.clone()));
                named(&event, verdict(&keys))
            }
        };
        let folder: PathBuf = self.folder.path().to_owned();
        let task = tokio::spawn(async move { poll(source, mapping, &folder, handler).await });
        Consumer {
            stop,
            task,
            batches,
        }
    }

    async fn poison(&self) -> Vec<Value> {
        let url = &self.provisioned.queue_urls["Poison"];
        let messages = self
            .sqs
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(10);
        let messages = messages.send().await.unwrap().messages.unwrap_or_default();
        messages
            .iter()
            .map(|it| serde_json::from_str(it.body().unwrap()).unwrap())
            .collect()
    }
}

impl Consumer {
    /// The next batches, until they have shown `last`.
    async fn until(&mut self, last: &str) -> Vec<Vec<String>> {
        let mut batches = Vec::new();
        loop {
            let batch = self.batches.recv().await.unwrap();
            let is_last = batch.iter().any(|key| key == last);
            batches.push(batch);
            if is_last {
                return batches;
            }
        }
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
    }
}

fn mapping(batch_size: usize) -> StreamMapping {
    StreamMapping {
        function: "F".to_owned(),
        table: "Log".to_owned(),
        batch_size,
        window: Duration::from_secs(1),
    }
}

fn keys(event: &Event) -> Vec<String> {
    let key = |item: &serde_dynamo::Item| match &item["pk"] {
        serde_dynamo::AttributeValue::S(key) => key.clone(),
        other => panic!("{other:?}"),
    };
    event
        .records
        .iter()
        .map(|record| key(&record.change.new_image))
        .collect()
}

/// Puts sequence numbers where `verdict` named keys.
fn named(event: &Event, mut verdict: DynamoDbEventResponse) -> DynamoDbEventResponse {
    for failure in &mut verdict.batch_item_failures {
        let key = failure.item_identifier.take().unwrap();
        let index = keys(event).iter().position(|it| *it == key).unwrap();
        failure.item_identifier = event.records[index].change.sequence_number.clone();
    }
    verdict
}

fn all_taken() -> DynamoDbEventResponse {
    DynamoDbEventResponse::default()
}

fn failed_at(key: &str) -> DynamoDbEventResponse {
    let mut failure = DynamoDbBatchItemFailure::default();
    failure.item_identifier = Some(key.to_owned());
    let mut response = DynamoDbEventResponse::default();
    response.batch_item_failures = vec![failure];
    response
}

#[tokio::test(start_paused = true)]
async fn every_record_is_handed_over_once_and_in_order() {
    let world = World::new().await;
    world.put(&["a", "b", "c"]).await;
    let mut consumer = world.consume(2, |_| all_taken());
    assert_eq!(consumer.until("c").await, [vec!["a", "b"], vec!["c"]]);
    world.put(&["d"]).await;
    assert_eq!(consumer.until("d").await, [["d"]]);
    consumer.stop().await;

    world.put(&["e"]).await;
    let mut consumer = world.consume(2, |_| all_taken());
    assert_eq!(consumer.until("e").await, [["e"]]);
    consumer.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_retried_from_the_record_that_failed() {
    let world = World::new().await;
    world.put(&["a", "b", "c", "d"]).await;
    let failures = Mutex::new(2);
    let mut consumer = world.consume(10, move |keys| {
        let mut left = failures.lock().unwrap();
        if *left > 0 && keys.iter().any(|key| key == "b") {
            *left -= 1;
            return failed_at("b");
        }
        all_taken()
    });
    let mut batches = consumer.until("d").await;
    batches.extend(consumer.until("d").await);
    // The whole, then the culprit alone until it is taken, then the rest.
    let expected: [&[&str]; 4] = [&["a", "b", "c", "d"], &["b"], &["b"], &["c", "d"]];
    assert_eq!(batches, expected);
    consumer.stop().await;
    assert!(world.poison().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_record_that_the_function_names_is_tried_until_it_is_taken() {
    let world = World::new().await;
    world.put(&["a", "b", "c"]).await;
    let failures = Mutex::new(20);
    let mut consumer = world.consume(10, move |keys| {
        let mut left = failures.lock().unwrap();
        if *left > 0 && keys.iter().any(|key| key == "b") {
            *left -= 1;
            return failed_at("b");
        }
        all_taken()
    });
    consumer.until("c").await;
    let batches = consumer.until("c").await;
    assert_eq!(batches.len(), 21, "{batches:?}");
    consumer.stop().await;
    assert!(world.poison().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_function_that_dies_on_one_record_loses_only_that_one() {
    let world = World::new().await;
    world.put(&["a", "b", "c", "d", "e"]).await;
    let taken = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = Arc::clone(&taken);
    let mut consumer = world.consume(10, move |keys| {
        assert!(!keys.iter().any(|key| key == "b"), "cannot read b");
        seen.lock().unwrap().extend(keys.to_vec());
        all_taken()
    });
    while !taken.lock().unwrap().contains("e") {
        consumer.batches.recv().await.unwrap();
    }
    consumer.stop().await;

    assert_eq!(
        *taken.lock().unwrap(),
        BTreeSet::from(["a", "c", "d", "e"].map(str::to_owned))
    );
    let poison = world.poison().await;
    assert_eq!(poison.len(), 1);
    assert_eq!(poison[0]["record"]["dynamodb"]["Keys"]["pk"]["S"], "b");
    assert_eq!(poison[0]["requestContext"]["approximateInvokeCount"], 5);
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_is_forgotten_but_for_the_newest() {
    let world = World::new().await;
    world.put(&["a", "b", "c"]).await;
    let mut consumer = world.consume(10, |_| all_taken());
    consumer.until("c").await;
    consumer.stop().await;

    // A consumer that starts at the beginning sees what is left.
    std::fs::remove_file(world.folder.path().join("F-Log.json")).unwrap();
    let mut consumer = world.consume(10, |_| all_taken());
    assert_eq!(consumer.until("c").await, [["c"]]);
    consumer.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_forgotten_while_another_consumer_is_behind() {
    let world = World::new().await;
    world.put(&["a", "b"]).await;
    let behind = StreamMapping {
        function: "G".to_owned(),
        ..mapping(10)
    };
    let retention = Retention::new(world.store.clone(), &[mapping(10), behind]);
    let stream = embedded_streams(world.store.http_client());
    let stream = stream
        .describe_stream()
        .stream_arn(&world.provisioned.stream_arns["Log"]);
    let stream = stream.send().await.unwrap().stream_description.unwrap();
    let range = stream.shards()[0].sequence_number_range().unwrap();
    let newest = range.ending_sequence_number().unwrap();
    retention.taken(&mapping(10), 1000, newest).await;

    let mut consumer = world.consume(10, |_| all_taken());
    assert_eq!(consumer.until("b").await, [["a", "b"]]);
    consumer.stop().await;
}

/// A store that fails at one operation for ever, and notes when it was asked.
#[derive(Debug)]
struct Failing {
    operation: &'static str,
    asked: mpsc::UnboundedSender<Instant>,
}

impl HttpConnector for Failing {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap();
        let (status, body) = if target.ends_with(self.operation) {
            // The test may have seen enough.
            let _ = self.asked.send(Instant::now());
            (storage::STATUS, json!({ "__type": storage::CODE }))
        } else {
            let stream = json!({ "Shards": [{ "ShardId": "shard" }] });
            (
                200,
                json!({ "StreamDescription": stream, "ShardIterator": "next" }),
            )
        };
        let body = SdkBody::from(body.to_string());
        let answer = HttpResponse::new(status.try_into().unwrap(), body);
        HttpConnectorFuture::ready(Ok(answer))
    }
}

/// Seconds between the first calls of `operation`, each of which fails.
async fn pauses_before(operation: &'static str) -> Vec<u64> {
    let (asked, mut asking) = mpsc::unbounded_channel();
    let connector = SharedHttpConnector::new(Failing { operation, asked });
    let client = embedded_streams(http_client_fn(move |_, _| connector.clone()));
    let sqs = embedded_sqs(Sqs::open(None, sqs::Sync::Normal).unwrap().http_client());
    let folder = tempfile::tempdir().unwrap();
    let (stop, stopping) = watch::channel(false);
    let source = Source {
        client,
        stream_arn: "arn".to_owned(),
        wake: Wake::Polling,
        poison: Poison::new(sqs, String::new()),
        retention: None,
        stop: stopping,
    };
    let path = folder.path().to_owned();
    let taking = async |_: Event| all_taken();
    let task = tokio::spawn(async move { poll(source, mapping(1), &path, taking).await });
    let mut last = asking.recv().await.unwrap();
    let mut pauses = Vec::new();
    while pauses.len() < 7 {
        let next = asking.recv().await.unwrap();
        pauses.push((next - last).as_secs());
        last = next;
    }
    stop.send_replace(true);
    task.await.unwrap();
    pauses
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_cannot_be_seen_or_read_is_asked_ever_less_often() {
    for operation in ["DescribeStream", "GetShardIterator", "GetRecords"] {
        let pauses = pauses_before(operation).await;
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30], "{operation}");
    }
}
