//! ARNs, streams and shards as clients of the port see them.

use serde_json::{Value, json};

use super::{Answer, Store};

/// What the port answers to `operation`, with its status.
async fn ask(store: &Store, operation: &str, body: &Value) -> (u16, Value) {
    let service = match operation {
        "DescribeStream" | "GetRecords" | "GetShardIterator" | "ListStreams" => "DynamoDBStreams",
        _ => "DynamoDB",
    };
    let target = format!("{service}_20120810.{operation}");
    let answer = store
        .embedded
        .handle(&target, body.to_string().into_bytes());
    let Answer { status, body } = answer.await;
    (status, serde_json::from_slice(&body).unwrap())
}

async fn done(store: &Store, operation: &str, body: &Value) -> Value {
    let (status, body) = ask(store, operation, body).await;
    assert_eq!(status, 200, "{operation}: {body}");
    body
}

#[track_caller]
fn assert_not_found((status, body): (u16, Value), what: &str) {
    let kind = "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException";
    let message = format!("Requested resource not found: {what} not found");
    assert_eq!(
        (status, body),
        (400, json!({ "__type": kind, "message": message }))
    );
}

/// A stream, and its shard, as the port shows them.
async fn shown(store: &Store) -> (String, String) {
    let listed = done(store, "ListStreams", &json!({ "TableName": "Log" })).await;
    let arn = listed["Streams"][0]["StreamArn"].as_str().unwrap();
    let described = done(store, "DescribeStream", &json!({ "StreamArn": arn })).await;
    let shard = &described["StreamDescription"]["Shards"][0]["ShardId"];
    (arn.to_owned(), shard.as_str().unwrap().to_owned())
}

#[tokio::test]
async fn every_arn_and_record_is_of_the_region_that_the_queues_are_in() {
    let store = Store::new().await;
    store.put("a").await;
    let other = json!({
        "TableName": "Other",
        "AttributeDefinitions": [
            { "AttributeName": "pk", "AttributeType": "S" },
            { "AttributeName": "sk", "AttributeType": "S" },
        ],
        "KeySchema": [
            { "AttributeName": "pk", "KeyType": "HASH" },
            { "AttributeName": "sk", "KeyType": "RANGE" },
        ],
        "BillingMode": "PAY_PER_REQUEST",
        "StreamSpecification": { "StreamEnabled": true, "StreamViewType": "NEW_IMAGE" },
        "GlobalSecondaryIndexes": [{
            "IndexName": "by_sk",
            "KeySchema": [{ "AttributeName": "sk", "KeyType": "HASH" }],
            "Projection": { "ProjectionType": "ALL" },
        }],
        "SSESpecification": { "Enabled": true, "SSEType": "KMS", "KMSMasterKeyId": "some-key" },
    });
    let named = json!({ "TableName": "Other" });
    let created = done(&store, "CreateTable", &other).await;
    let described = done(&store, "DescribeTable", &named).await;
    let updated = json!({ "TableName": "Other", "DeletionProtectionEnabled": false });
    let updated = done(&store, "UpdateTable", &updated).await;
    let listed = done(&store, "ListStreams", &json!({ "Limit": 1 })).await;
    let (stream, shard) = shown(&store).await;
    let of_stream = json!({ "StreamArn": stream });
    let of_stream = done(&store, "DescribeStream", &of_stream).await;
    let iterator =
        json!({ "StreamArn": stream, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON" });
    let iterator = done(&store, "GetShardIterator", &iterator).await;
    let records = done(&store, "GetRecords", &iterator).await;
    let deleted = done(&store, "DeleteTable", &named).await;

    let table = "arn:aws:dynamodb:us-east-1:000000000000:table/Other";
    assert_eq!(described["Table"]["TableArn"], table);
    let index = &described["Table"]["GlobalSecondaryIndexes"][0]["IndexArn"];
    assert_eq!(*index, format!("{table}/index/by_sk"));
    assert!(listed["LastEvaluatedStreamArn"].is_string(), "{listed}");
    assert_eq!(records["Records"][0]["awsRegion"], "us-east-1");
    for answer in [
        created, described, updated, listed, of_stream, records, deleted,
    ] {
        let text = answer.to_string();
        assert!(text.contains("us-east-1"), "{text}");
        assert!(!text.contains("dynoxide"), "{text}");
    }
}

#[tokio::test]
async fn what_an_item_says_of_an_arn_is_left_as_it_is() {
    let store = Store::new().await;
    let words = "arn:aws:dynamodb:dynoxide:000000000000:table/Log";
    store.put(words).await;
    let (stream, shard) = shown(&store).await;
    let iterator =
        json!({ "StreamArn": stream, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON" });
    let iterator = done(&store, "GetShardIterator", &iterator).await;
    let records = done(&store, "GetRecords", &iterator).await;
    assert_eq!(records["Records"][0]["dynamodb"]["Keys"]["pk"]["S"], words);
    let scanned = done(&store, "Scan", &json!({ "TableName": "Log" })).await;
    assert_eq!(scanned["Items"][0]["pk"]["S"], words);
}

#[tokio::test]
async fn an_arn_that_an_earlier_version_has_shown_names_the_same_stream() {
    let store = Store::new().await;
    store.put("a").await;
    let (stream, shard) = shown(&store).await;
    let earlier = &store.stream_arn;
    assert!(earlier.contains(":dynoxide:"), "{earlier}");
    let described = json!({ "StreamArn": earlier });
    let described = done(&store, "DescribeStream", &described).await;
    assert_eq!(described["StreamDescription"]["StreamArn"], *stream);
    let iterator = json!({ "StreamArn": earlier, "ShardId": shard, "ShardIteratorType": "LATEST" });
    done(&store, "GetShardIterator", &iterator).await;
    let after = json!({ "ExclusiveStartStreamArn": earlier });
    assert_eq!(
        done(&store, "ListStreams", &after).await["Streams"],
        json!([])
    );
}

#[tokio::test]
async fn a_stream_that_does_not_exist_is_not_found() {
    let store = Store::new().await;
    let (stream, shard) = shown(&store).await;
    let region = "arn:aws:dynamodb:us-east-1:";
    for absent in [
        format!("{stream}1"),
        stream.replace("/Log/", "/Gone/"),
        stream.replace(":000000000000:", ":123456789012:"),
        stream.replace(":us-east-1:", ":eu-west-1:"),
        format!("{region}000000000000:table/Log"),
        "not an ARN, but long enough to be one".to_owned(),
    ] {
        let what = format!("Stream: {absent}");
        let described = ask(&store, "DescribeStream", &json!({ "StreamArn": absent })).await;
        assert_not_found(described, &what);
        let iterator =
            json!({ "StreamArn": absent, "ShardId": shard, "ShardIteratorType": "LATEST" });
        assert_not_found(ask(&store, "GetShardIterator", &iterator).await, &what);
        let listed = json!({ "ExclusiveStartStreamArn": absent });
        assert_not_found(ask(&store, "ListStreams", &listed).await, &what);
    }
}

#[tokio::test]
async fn a_shard_that_does_not_exist_is_not_found() {
    let store = Store::new().await;
    let (stream, shard) = shown(&store).await;
    let absent = format!("{}ffffffff", &shard[..shard.len() - 8]);
    let what = format!("Shard: {absent} in Stream: {stream}");
    let described = json!({ "StreamArn": stream, "ExclusiveStartShardId": absent });
    assert_not_found(ask(&store, "DescribeStream", &described).await, &what);
    let iterator = json!({ "StreamArn": stream, "ShardId": absent, "ShardIteratorType": "LATEST" });
    assert_not_found(ask(&store, "GetShardIterator", &iterator).await, &what);
    let described = json!({ "StreamArn": stream, "ExclusiveStartShardId": shard });
    let described = done(&store, "DescribeStream", &described).await;
    assert_eq!(described["StreamDescription"]["Shards"], json!([]));
}

/// An iterator of the oldest record, as the port gives it.
async fn oldest(store: &Store, stream: &str, shard: &str) -> Value {
    let iterator =
        json!({ "StreamArn": stream, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON" });
    done(store, "GetShardIterator", &iterator).await
}

fn keys(records: &Value) -> Vec<&str> {
    let records = records["Records"].as_array().unwrap().iter();
    let keys = records.map(|it| it["dynamodb"]["Keys"]["pk"]["S"].as_str().unwrap());
    keys.collect()
}

#[tokio::test]
async fn an_iterator_is_of_its_stream_and_leads_on() {
    let store = Store::new().await;
    store.put("a").await;
    let (stream, shard) = shown(&store).await;
    let iterator = oldest(&store, &stream, &shard).await;
    assert!(
        iterator["ShardIterator"]
            .as_str()
            .unwrap()
            .starts_with(&stream)
    );
    let first = done(&store, "GetRecords", &iterator).await;
    assert_eq!(keys(&first), ["a"]);
    store.put("b").await;
    let next = json!({ "ShardIterator": first["NextShardIterator"] });
    assert_eq!(keys(&done(&store, "GetRecords", &next).await), ["b"]);
}

#[tokio::test]
async fn an_iterator_that_nobody_was_given_is_refused() {
    let store = Store::new().await;
    let made_up = json!({ "ShardIterator": "eyJ0YWJsZV9uYW1lIjoiTG9nIn0=" });
    let (status, body) = ask(&store, "GetRecords", &made_up).await;
    assert_eq!(
        (status, body["message"].as_str()),
        (400, Some("Invalid ShardIterator."))
    );
}

#[tokio::test]
async fn a_table_that_is_made_again_has_a_stream_of_its_own() {
    let store = Store::new().await;
    store.put("a").await;
    let (before, shard) = shown(&store).await;
    let old = oldest(&store, &before, &shard).await;
    let named = json!({ "TableName": "Log" });
    let described = done(&store, "DescribeTable", &named).await;
    done(&store, "DeleteTable", &named).await;
    let table = &described["Table"];
    let again = json!({
        "TableName": "Log",
        "AttributeDefinitions": table["AttributeDefinitions"],
        "KeySchema": table["KeySchema"],
        "BillingMode": "PAY_PER_REQUEST",
        "StreamSpecification": table["StreamSpecification"],
    });
    done(&store, "CreateTable", &again).await;
    store.put("b").await;

    let (stream, shard) = shown(&store).await;
    let new = oldest(&store, &stream, &shard).await;
    assert_eq!(keys(&done(&store, "GetRecords", &new).await), ["b"]);
    let what = format!("Stream: {before}");
    assert_not_found(ask(&store, "GetRecords", &old).await, &what);
}
