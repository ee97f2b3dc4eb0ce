//! The short way for reads: it is taken, and answers as dynoxide does.

use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::engine::Place;
use super::super::operation::Operation;
use super::super::{Answer, DynamoDb, Sync, Way};

struct Store {
    _folder: TempDir,
    embedded: DynamoDb,
}

impl Store {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let embedded = DynamoDb::open(&folder.path().join("d.db"), Sync::Normal).unwrap();
        let store = Self {
            _folder: folder,
            embedded,
        };
        store.create("Log", &["room", "seq"]).await;
        store.create("Keys", &["hash"]).await;
        store
    }

    async fn call(&self, operation: &str, request: &Value) -> Answer {
        let target = format!("DynamoDB_20120810.{operation}");
        self.embedded
            .handle(&target, request.to_string().into_bytes())
            .await
    }

    async fn done(&self, operation: &str, request: &Value) {
        let answer = self.call(operation, request).await;
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 200, "{said}");
    }

    async fn create(&self, table: &str, keys: &[&str]) {
        let attributes = keys
            .iter()
            .map(|key| json!({ "AttributeName": key, "AttributeType": "S" }));
        let schema = keys
            .iter()
            .zip(["HASH", "RANGE"])
            .map(|(key, kind)| json!({ "AttributeName": key, "KeyType": kind }));
        let request = json!({
            "TableName": table,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": attributes.collect::<Vec<_>>(),
            "KeySchema": schema.collect::<Vec<_>>(),
        });
        self.done("CreateTable", &request).await;
    }

    async fn put(&self, table: &str, item: &Value) {
        self.done("PutItem", &json!({ "TableName": table, "Item": item }))
            .await;
    }

    /// Ten messages of `general`, one of them odd, and one of another room.
    async fn fill(&self) {
        for number in 1..=10 {
            let seq = format!("{number:04}");
            self.put(
                "Log",
                &json!({ "room": { "S": "general" }, "seq": { "S": seq } }),
            )
            .await;
        }
        let odd = json!({
            "room": { "S": "general" },
            "seq": { "S": "0005" },
            "text": { "S": "\"quoted\"\\ \u{1f600} \u{7f} \n" },
            "number": { "N": "12345678901234567890123456789012345678" },
            "bytes": { "B": "AAEC/w==" },
            "set": { "SS": ["b", "a"] },
            "nested": { "M": { "list": { "L": [{ "NULL": true }, { "BOOL": false }] } } },
        });
        self.put("Log", &odd).await;
        self.put(
            "Log",
            &json!({ "room": { "S": "other" }, "seq": { "S": "0001" } }),
        )
        .await;
        self.put(
            "Keys",
            &json!({ "hash": { "S": "a\"b\\c é" }, "v": { "N": "1" } }),
        )
        .await;
    }

    /// The answer of the short way, if it can be taken.
    fn short(&self, operation: Operation, request: &Value) -> Option<Value> {
        let answer = self
            .embedded
            .reads
            .answer(operation, request.to_string().as_bytes())?;
        Some(serde_json::from_slice(&answer).unwrap())
    }

    /// Fails unless both ways give the same answer, which is not an error.
    async fn assert_alike(&self, operation: Operation, request: Value) {
        let short = self.short(operation, &request);
        let short = short.unwrap_or_else(|| panic!("{request} went the long way"));
        let mut long = request.clone();
        // The short way knows nothing of capacities.
        long["ReturnConsumedCapacity"] = json!("NONE");
        assert!(self.short(operation, &long).is_none());
        let long = self.call(&format!("{operation:?}"), &long).await;
        assert_eq!(long.status, 200);
        let long: Value = serde_json::from_slice(&long.body).unwrap();
        assert_eq!(short, long, "{request}");
    }
}

fn get(table: &str, key: &Value) -> Value {
    json!({ "TableName": table, "Key": key, "ConsistentRead": true })
}

fn query(condition: &str, values: &Value) -> Value {
    json!({
        "TableName": "Log",
        "KeyConditionExpression": condition,
        "ExpressionAttributeValues": values,
    })
}

#[tokio::test]
async fn an_item_is_read_alike() {
    let store = Store::new().await;
    store.fill().await;
    for key in [
        json!({ "room": { "S": "general" }, "seq": { "S": "0005" } }),
        json!({ "room": { "S": "general" }, "seq": { "S": "0099" } }),
    ] {
        store
            .assert_alike(Operation::GetItem, get("Log", &key))
            .await;
    }
    let key = json!({ "hash": { "S": "a\"b\\c é" } });
    store
        .assert_alike(Operation::GetItem, get("Keys", &key))
        .await;
}

#[tokio::test]
async fn a_partition_and_a_range_are_read_alike() {
    let store = Store::new().await;
    store.fill().await;
    let room = json!({ ":r": { "S": "general" } });
    let range = |first: &str, last: &str| {
        let values = json!({ ":r": { "S": "general" }, ":a": { "S": first }, ":z": { "S": last } });
        query("room = :r AND seq BETWEEN :a AND :z", &values)
    };
    let mut requests = vec![
        query("room = :r", &room),
        query("room = :r", &json!({ ":r": { "S": "empty" } })),
        range("0003", "0006"),
        range("0005", "0005"),
        range("0011", "0099"),
    ];
    for request in requests.clone() {
        for (forward, limit) in [(true, 1), (true, 4), (false, 3), (false, 10), (false, 50)] {
            let mut request = request.clone();
            request["ScanIndexForward"] = json!(forward);
            request["Limit"] = json!(limit);
            request["ConsistentRead"] = json!(true);
            requests.push(request);
        }
    }
    for request in requests {
        store.assert_alike(Operation::Query, request).await;
    }
}

#[tokio::test]
async fn a_read_is_answered_at_once_unless_others_wait() {
    let store = Store::new().await;
    let request = get("Keys", &json!({ "hash": { "S": "k" } })).to_string();
    let way = || {
        let body = SdkBody::from(request.as_str());
        Way::choose(&store.embedded, "DynamoDB_20120810.GetItem", body)
    };
    assert!(matches!(way(), Way::Short(_)));

    let place = Place::take(&store.embedded.queued);
    let Way::Long(answer) = way() else {
        panic!("it overtook somebody");
    };
    assert_eq!(answer.await.unwrap().body, b"{}");
    drop(place);
    assert!(matches!(way(), Way::Short(_)));
}

#[tokio::test]
async fn what_was_written_before_is_read() {
    let store = Store::new().await;
    let key = json!({ "hash": { "S": "k" } });
    for number in 0..100 {
        let value = json!({ "N": number.to_string() });
        store
            .put("Keys", &json!({ "hash": { "S": "k" }, "v": value }))
            .await;
        let read = store.short(Operation::GetItem, &get("Keys", &key));
        assert_eq!(read.unwrap()["Item"]["v"], value);
    }
}

#[tokio::test]
async fn what_is_not_plain_goes_the_long_way() {
    let store = Store::new().await;
    store.fill().await;
    let room = json!({ ":r": { "S": "general" } });
    let with = |name: &str, value: Value| {
        let mut request = query("room = :r", &room);
        request[name] = value;
        request
    };
    let range = |first: &str, last: &str| {
        let values = json!({ ":r": { "S": "general" }, ":a": { "S": first }, ":z": { "S": last } });
        query("room = :r AND seq BETWEEN :a AND :z", &values)
    };
    let mut unused = room.clone();
    unused[":x"] = json!({ "S": "x" });
    for request in [
        with("Limit", json!(0)),
        with("Limit", json!("1")),
        with("FilterExpression", json!("room = :r")),
        with("ProjectionExpression", json!("seq")),
        with("IndexName", json!("by_seq")),
        with("TableName", json!("Nothing")),
        with("Select", json!("COUNT")),
        with("KeyConditionExpression", json!("seq = :r")),
        with("KeyConditionExpression", json!("room = :nothing")),
        query("room = :r", &unused),
        query("room = :r", &json!({ ":r": { "N": "1" } })),
        query("room = :r", &json!({ ":r": { "S": "" } })),
        query("room = :r", &json!({ ":r": { "S": "r".repeat(1025) } })),
        range("0006", "0003"),
    ] {
        assert_eq!(store.short(Operation::Query, &request), None, "{request}");
    }
    for key in [
        json!({ "room": { "S": "general" } }),
        json!({ "room": { "S": "general" }, "seq": { "N": "1" } }),
        json!({ "room": { "S": "general" }, "seq": { "S": "1" }, "more": { "S": "1" } }),
        json!({ "hash": { "S": "general" } }),
    ] {
        let request = get("Log", &key);
        assert_eq!(store.short(Operation::GetItem, &request), None, "{request}");
    }
}

#[tokio::test]
async fn a_page_that_could_reach_a_megabyte_goes_the_long_way() {
    let store = Store::new().await;
    let text = "x".repeat(350_000);
    for seq in ["1", "2", "3"] {
        let item = json!({ "room": { "S": "r" }, "seq": { "S": seq }, "text": { "S": text } });
        store.put("Log", &item).await;
    }
    let mut request = query("room = :r", &json!({ ":r": { "S": "r" } }));
    assert_eq!(store.short(Operation::Query, &request), None);
    request["Limit"] = json!(2);
    store.assert_alike(Operation::Query, request).await;
}

#[tokio::test]
async fn a_table_that_was_made_anew_is_read_by_its_new_keys() {
    let store = Store::new().await;
    store.put("Keys", &json!({ "hash": { "S": "k" } })).await;
    let old = get("Keys", &json!({ "hash": { "S": "k" } }));
    assert!(store.short(Operation::GetItem, &old).is_some());
    store
        .done("DeleteTable", &json!({ "TableName": "Keys" }))
        .await;
    assert_eq!(store.short(Operation::GetItem, &old), None);

    store.create("Keys", &["name"]).await;
    store.put("Keys", &json!({ "name": { "S": "k" } })).await;
    assert_eq!(store.short(Operation::GetItem, &old), None);
    let new = get("Keys", &json!({ "name": { "S": "k" } }));
    store.assert_alike(Operation::GetItem, new).await;
}

#[tokio::test]
async fn a_closed_store_is_not_read() {
    let store = Store::new().await;
    let request = get("Keys", &json!({ "hash": { "S": "k" } }));
    assert_eq!(store.call("GetItem", &request).await.status, 200);
    store.embedded.close();
    assert_eq!(store.call("GetItem", &request).await.status, 500);
}
