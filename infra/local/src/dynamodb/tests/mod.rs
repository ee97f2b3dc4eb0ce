//! The embedded store through the SDK.

mod arns;
mod damage;
mod reads;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use aws_sdk_dynamodbstreams::types::{Record, ShardIteratorType};
use tempfile::TempDir;

use super::{Answer, DynamoDb, Sync, Trim};
use crate::clients::{embedded_dynamodb, embedded_sqs, embedded_streams};
use crate::provision::{Provisioned, provision};
use crate::sqs::{self, Sqs};
use crate::template::Stack;

const STACK: &str = "
Resources:
  Log:
    Type: AWS::DynamoDB::Table
    Properties:
      AttributeDefinitions: [{ AttributeName: pk, AttributeType: S }]
      KeySchema: [{ AttributeName: pk, KeyType: HASH }]
      StreamSpecification: { StreamViewType: NEW_IMAGE }
      TimeToLiveSpecification: { AttributeName: ttl, Enabled: true }
";

struct Store {
    folder: TempDir,
    embedded: DynamoDb,
    client: Client,
    stream_arn: String,
}

impl Store {
    async fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap()).await
    }

    async fn open(folder: TempDir) -> Self {
        let embedded = DynamoDb::open(&folder.path().join("d.db"), Sync::Normal).unwrap();
        let client = embedded_dynamodb(embedded.http_client());
        let provisioned = set_up(&client).await;
        let stream_arn = provisioned.stream_arns["Log"].clone();
        Self {
            folder,
            embedded,
            client,
            stream_arn,
        }
    }

    async fn put(&self, key: &str) {
        let key = AttributeValue::S(key.to_owned());
        self.client
            .put_item()
            .table_name("Log")
            .item("pk", key)
            .send()
            .await
            .unwrap();
    }

    async fn records(&self) -> Vec<Record> {
        let client = embedded_streams(self.embedded.http_client());
        let stream = client
            .describe_stream()
            .stream_arn(&self.stream_arn)
            .send()
            .await
            .unwrap();
        let shard = stream.stream_description.unwrap().shards()[0]
            .shard_id
            .clone();
        let iterator = client
            .get_shard_iterator()
            .stream_arn(&self.stream_arn)
            .set_shard_id(shard)
            .shard_iterator_type(ShardIteratorType::TrimHorizon);
        let iterator = iterator.send().await.unwrap().shard_iterator;
        let page = client
            .get_records()
            .set_shard_iterator(iterator)
            .send()
            .await
            .unwrap();
        page.records.unwrap()
    }
}

async fn set_up(client: &Client) -> Provisioned {
    let sqs = Sqs::open(None, sqs::Sync::Normal).unwrap();
    let sqs = embedded_sqs(sqs.http_client());
    provision(&Stack::parse(STACK).unwrap(), client, &sqs)
        .await
        .unwrap()
}

fn keys(records: &[Record]) -> Vec<&str> {
    records
        .iter()
        .map(|record| {
            record.dynamodb().unwrap().keys().unwrap()["pk"]
                .as_s()
                .unwrap()
                .as_str()
        })
        .collect()
}

fn sequence_number(record: &Record) -> &str {
    record.dynamodb().unwrap().sequence_number().unwrap()
}

fn put(key: &str, value: &str) -> TransactWriteItem {
    let put = Put::builder()
        .table_name("Log")
        .item("pk", AttributeValue::S(key.to_owned()))
        .item("v", AttributeValue::S(value.to_owned()))
        .build()
        .unwrap();
    TransactWriteItem::builder().put(put).build()
}

#[tokio::test]
async fn a_store_reopened_after_its_end_has_the_data() {
    let Store {
        folder,
        embedded,
        client,
        ..
    } = Store::new().await;
    client
        .put_item()
        .table_name("Log")
        .item("pk", AttributeValue::S("a".to_owned()))
        .send()
        .await
        .unwrap();
    embedded.close();

    let reopened = Store::open(folder).await;
    let key = AttributeValue::S("a".to_owned());
    let found = reopened
        .client
        .get_item()
        .table_name("Log")
        .key("pk", key)
        .send()
        .await
        .unwrap();
    assert!(found.item.is_some());
    assert_eq!(keys(&reopened.records().await), ["a"]);
}

#[tokio::test]
async fn a_repeated_token_answers_alike_and_writes_nothing_again() {
    let store = Store::new().await;
    let transact = |items: [TransactWriteItem; 1]| {
        let request = store
            .client
            .transact_write_items()
            .client_request_token("token-1");
        request.set_transact_items(Some(items.to_vec())).send()
    };
    transact([put("a", "1")]).await.unwrap();
    transact([put("a", "1")]).await.unwrap();
    assert_eq!(store.records().await.len(), 1);

    let other = transact([put("a", "2")])
        .await
        .unwrap_err()
        .into_service_error();
    assert!(other.is_idempotent_parameter_mismatch_exception());
}

#[tokio::test]
async fn a_token_whose_transaction_failed_may_be_used_again() {
    let store = Store::new().await;
    store.put("a").await;
    let mut guarded = put("a", "1");
    guarded.put.as_mut().unwrap().condition_expression =
        Some("attribute_not_exists(pk)".to_owned());
    let transact = || {
        let request = store
            .client
            .transact_write_items()
            .client_request_token("token-1");
        request.transact_items(guarded.clone()).send()
    };
    let error = transact().await.unwrap_err().into_service_error();
    assert!(error.is_transaction_canceled_exception());
    let key = AttributeValue::S("a".to_owned());
    store
        .client
        .delete_item()
        .table_name("Log")
        .key("pk", key)
        .send()
        .await
        .unwrap();
    transact().await.unwrap();
}

#[tokio::test]
async fn a_write_to_a_stream_is_signalled_and_a_read_is_not() {
    let store = Store::new().await;
    let mut changes = store.embedded.changes();
    let key = || AttributeValue::S("a".to_owned());
    store
        .client
        .get_item()
        .table_name("Log")
        .key("pk", key())
        .send()
        .await
        .unwrap();
    assert!(!changes.has_changed().unwrap());
    store.put("a").await;
    changes.changed().await.unwrap();
}

#[tokio::test]
async fn trimming_passes_neither_the_checkpoint_nor_the_newest_record() {
    let store = Store::new().await;
    for key in ["a", "b", "c", "d"] {
        store.put(key).await;
    }
    let records = store.records().await;

    let consumed = Trim::consumed("Log", sequence_number(&records[1])).unwrap();
    store.embedded.trim(&consumed).await.unwrap();
    assert_eq!(keys(&store.records().await), ["c", "d"]);

    let consumed = Trim::consumed("Log", sequence_number(&records[3])).unwrap();
    store.embedded.trim(&consumed).await.unwrap();
    assert_eq!(keys(&store.records().await), ["d"]);

    store.put("e").await;
    let after = store.records().await;
    assert!(sequence_number(&after[1]) > sequence_number(&records[3]));
}

#[tokio::test]
async fn trimming_by_age_spares_what_is_younger() {
    let store = Store::new().await;
    store.put("a").await;
    store.put("b").await;
    store
        .embedded
        .trim(&Trim::made_before("Log", 1_000_000_000))
        .await
        .unwrap();
    assert_eq!(store.records().await.len(), 2);
    store
        .embedded
        .trim(&Trim::made_before("Log", i64::MAX))
        .await
        .unwrap();
    assert_eq!(keys(&store.records().await), ["b"]);
}

#[tokio::test]
async fn more_records_than_a_batch_are_trimmed_to_the_newest() {
    let store = Store::new().await;
    for number in 0..1001 {
        store.put(&number.to_string()).await;
    }
    store
        .embedded
        .trim(&Trim::made_before("Log", i64::MAX))
        .await
        .unwrap();
    assert_eq!(keys(&store.records().await), ["1000"]);
}

#[tokio::test]
async fn an_expired_item_is_swept_and_shows_in_the_stream() {
    let store = Store::new().await;
    store
        .client
        .put_item()
        .table_name("Log")
        .item("pk", AttributeValue::S("old".to_owned()))
        .item("ttl", AttributeValue::N("1".to_owned()))
        .send()
        .await
        .unwrap();
    store.put("young").await;
    assert_eq!(store.embedded.sweep().await.unwrap(), 1);
    let names: Vec<_> = store
        .records()
        .await
        .iter()
        .map(|it| it.event_name().unwrap().to_string())
        .collect();
    assert_eq!(names, ["INSERT", "INSERT", "REMOVE"]);
}

#[tokio::test]
async fn provisioning_twice_is_a_no_op() {
    let store = Store::new().await;
    let describe = || store.client.describe_table().table_name("Log").send();
    let before = describe().await.unwrap();
    set_up(&store.client).await;
    assert_eq!(describe().await.unwrap().table, before.table);
}

#[test]
fn a_damaged_file_is_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.db");
    std::fs::write(&path, "not a database, whatever its name says".repeat(200)).unwrap();
    let error = DynamoDb::open(&path, Sync::Normal).unwrap_err().to_string();
    let path = path.display();
    assert_eq!(
        error,
        format!("cannot open the database {path}: it is damaged, or not a database")
    );
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_that_says_what_to_look_at() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent/d.db");
    let error = DynamoDb::open(&path, Sync::Normal).unwrap_err().to_string();
    assert!(
        error.ends_with("A start writes to it: is the disk full, or read-only?"),
        "{error}"
    );
}

#[tokio::test]
async fn a_closed_store_answers_with_an_error() {
    let store = Store::new().await;
    store.embedded.close();
    let answer = store
        .embedded
        .handle("DynamoDB_20120810.ListTables", b"{}".to_vec())
        .await;
    assert_eq!(answer.status, 500);
    let answer = store
        .embedded
        .handle("DynamoDB_20120810.Nonsense", b"{}".to_vec())
        .await;
    assert_eq!(answer.status, 400);
}
