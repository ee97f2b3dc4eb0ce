//! What happens behind the requests: heads advance, stream records and expired items go.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aws_sdk_dynamodb::types::AttributeValue;
use parlance_local::clients::{embedded_dynamodb, embedded_sqs};
use parlance_local::dynamodb::{DynamoDb, Sync};
use parlance_local::housekeeping::Housekeeping;
use parlance_local::provision::provision;
use parlance_local::sqs::{self, Sqs};
use parlance_local::template::Stack;
use serde_json::{Value, json};

use super::http::{Client, Connection};
use super::runner::{Runner, Start};
use super::wait::until;

/// Waits until `user` sees `room` first, with `seq` as its last.
#[track_caller]
fn wait_for_first(user: &Client, room: &str, seq: u64) {
    until("the room to come first", || {
        let rooms = user.get("/rooms").assert(200);
        let first = &rooms[0];
        (first["room_id"] == room && first["last_seq"] == seq).then_some(())
    });
}

#[test]
fn the_room_with_the_newest_message_comes_first() {
    let runner = Start::new().with(["--memory"]).run();
    let tenant = runner.busy_tenant();
    let alice = runner.user(&tenant, "alice");
    let rooms: Vec<String> = (0..3).map(|_| alice.group(&["alice"])).collect();
    for room in [&rooms[0], &rooms[1], &rooms[2], &rooms[0]] {
        let seq = alice.say(room, "look here");
        wait_for_first(&alice, room, seq);
    }
}

#[test]
fn a_message_moves_its_room_to_the_front_though_the_runner_was_killed_meanwhile() {
    let mut runner = Start::new().run();
    let tenant = runner.busy_tenant();
    let alice = runner.user(&tenant, "alice");
    let rooms: Vec<String> = (0..2).map(|_| alice.group(&["alice"])).collect();
    for room in [&rooms[0], &rooms[1], &rooms[0]] {
        let seq = runner.user(&tenant, "alice").say(room, "look here");
        runner = runner.kill().run();
        wait_for_first(&runner.user(&tenant, "alice"), room, seq);
    }
}

/// All that is in `folder`, by its path, with its mode.
fn modes(folder: &Path, found: &mut HashMap<PathBuf, u32>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        // A file may be replaced just now.
        if let Ok(metadata) = entry.metadata() {
            found.insert(entry.path(), metadata.permissions().mode() & 0o777);
        }
        if entry.path().is_dir() {
            modes(&entry.path(), found);
        }
    }
}

#[test]
fn only_its_owner_may_read_what_a_runner_makes() {
    let runner = Start::new().after("umask 022").run();
    let alice = runner.user(&runner.tenant(), "alice");
    let room = alice.group(&["alice"]);
    alice.say(&room, "Hello");
    let file = runner.data().join("streams/HeadsFunction-Messages.json");
    until("the message to be taken", || {
        let text = std::fs::read_to_string(&file).ok()?;
        text.contains("taken\":\"").then_some(())
    });
    let mut found = HashMap::new();
    modes(&runner.data(), &mut found);
    for name in ["sqs.db-wal", "dynamodb.db-shm", "sealing.check", "lock"] {
        assert!(found.contains_key(&runner.data().join(name)), "{name}");
    }
    for (path, mode) in found {
        let private = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, private, "{}", path.display());
    }
}

#[test]
fn a_damaged_checkpoint_is_read_over() {
    let runner = Start::new().run();
    let tenant = runner.busy_tenant();
    let alice = runner.user(&tenant, "alice");
    let room = alice.group(&["alice"]);
    let seq = alice.say(&room, "one");
    wait_for_first(&alice, &room, seq);
    let streams = runner.data().join("streams");
    let (_, start) = runner.stop();
    for file in std::fs::read_dir(streams).unwrap() {
        std::fs::write(file.unwrap().path(), "{").unwrap();
    }

    let runner = start.run();

    let alice = runner.user(&tenant, "alice");
    let seq = alice.say(&room, "two");
    wait_for_first(&alice, &room, seq);
    assert!(runner.logged().contains("a checkpoint is damaged"));
}

/// Calls the embedded DynamoDB.
fn call(runner: &Runner, operation: &str, request: &Value) -> Value {
    let client = Client::new(&runner.aws_url(), &[("x-amz-target", operation)]);
    client.post("/", request).assert(200)
}

fn dynamodb(runner: &Runner, operation: &str, request: &Value) -> Value {
    call(runner, &format!("DynamoDB_20120810.{operation}"), request)
}

fn streams(runner: &Runner, operation: &str, request: &Value) -> Value {
    let target = format!("DynamoDBStreams_20120810.{operation}");
    call(runner, &target, request)
}

/// How many records the stream of the log holds.
fn records_kept(runner: &Runner) -> usize {
    let tables = dynamodb(runner, "ListTables", &json!({}));
    let tables = tables["TableNames"].as_array().unwrap();
    let log = tables
        .iter()
        .find(|name| name.as_str().unwrap().to_lowercase().ends_with("messages"));
    let log = dynamodb(
        runner,
        "DescribeTable",
        &json!({ "TableName": log.unwrap() }),
    );
    let stream = &log["Table"]["LatestStreamArn"];
    let shards = streams(runner, "DescribeStream", &json!({ "StreamArn": stream }));
    let shards = shards["StreamDescription"]["Shards"].as_array().unwrap();
    let mut count = 0;
    for shard in shards {
        let from = json!({
            "StreamArn": stream,
            "ShardId": shard["ShardId"],
            "ShardIteratorType": "TRIM_HORIZON",
        });
        let mut next = streams(runner, "GetShardIterator", &from)["ShardIterator"].clone();
        while !next.is_null() {
            let page = streams(runner, "GetRecords", &json!({ "ShardIterator": next }));
            let records = page["Records"].as_array().unwrap().len();
            count += records;
            next = if records == 0 {
                Value::Null
            } else {
                page["NextShardIterator"].clone()
            };
        }
    }
    count
}

#[test]
fn the_stream_of_the_log_is_trimmed_behind_its_consumers() {
    const MESSAGES: usize = 1_200;
    let runner = Start::new().with(["--memory", "--aws-port", "0"]).run();
    let tenant = runner.busy_tenant();
    let alice = runner.user(&tenant, "alice");
    let room = alice.group(&["alice"]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut connection = Connection::open(&alice.address).unwrap();
                let path = format!("/rooms/{room}/messages");
                for _ in 0..MESSAGES / 8 {
                    let sent =
                        connection.send("POST", &path, &alice.headers(), r#"{"content":"x"}"#);
                    sent.unwrap().assert(200);
                }
            });
        }
    });
    // They are forgotten in lots of 500; the newest always stays.
    until("a trim", || (records_kept(&runner) <= 500).then_some(()));
    assert_eq!(alice.log(&room).len(), MESSAGES);
}

#[tokio::test]
async fn expired_items_are_swept_and_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = DynamoDb::open(&folder.path().join("dynamodb.db"), Sync::Normal).unwrap();
    let client = embedded_dynamodb(store.http_client());
    let queues = embedded_sqs(Sqs::open(None, sqs::Sync::Normal).unwrap().http_client());
    let stack = Stack::compiled_in().unwrap();
    provision(&stack, &client, &queues).await.unwrap();
    let expiring = stack
        .tables
        .iter()
        .filter(|table| table.ttl.is_some() && table.key.len() == 1);
    let tables: Vec<_> = expiring.collect();
    assert!(tables.len() >= 4);
    let text = |text: &str| AttributeValue::S(text.to_owned());
    for table in &tables {
        let (key, ttl) = (&table.key[0].attribute_name, table.ttl.as_ref().unwrap());
        for (name, time) in [("expired", 1), ("fresh", 4_000_000_000_u64)] {
            let put = client.put_item().table_name(&table.name);
            let put = put
                .item(key, text(name))
                .item(ttl, AttributeValue::N(time.to_string()));
            put.send().await.unwrap();
        }
        let put = client.put_item().table_name(&table.name);
        put.item(key, text("eternal")).send().await.unwrap();
    }

    let keeping = Housekeeping::new(&stack, Some(store.clone()), None);
    keeping.sweep(SystemTime::now()).await;

    for table in tables {
        let key = &table.key[0].attribute_name;
        let left = client.scan().table_name(&table.name).send().await.unwrap();
        let name = |item: &HashMap<String, AttributeValue>| item[key].as_s().unwrap().clone();
        let mut left: Vec<String> = left.items().iter().map(name).collect();
        left.sort();
        assert_eq!(left, ["eternal", "fresh"], "{}", table.name);
    }
}

/// Copies a folder of files, as `cp -r` does.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_copy_of_the_folder_is_a_backup() {
    let runner = Start::new().run();
    let tenant = runner.busy_tenant();
    let alice = runner.user(&tenant, "alice");
    let room = alice.group(&["alice"]);
    alice.say(&room, "kept");
    let data = runner.data();
    let copied = data.with_file_name("backup");
    let (_, start) = runner.stop();
    copy(&data, &copied);
    let runner = start.run();
    runner.user(&tenant, "alice").say(&room, "too late");
    let (_, start) = runner.stop();

    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&copied, &data).unwrap();
    let runner = start.run();

    let alice = runner.user(&tenant, "alice");
    assert_eq!(alice.say(&room, "and on"), 2);
    let contents = alice.log(&room).into_iter().map(|said| said.content);
    assert_eq!(contents.collect::<Vec<_>>(), ["kept", "and on"]);
    wait_for_first(&alice, &room, 2);
}
