//! Who works: the task that asks, or the thread.

use aws_smithy_types::body::SdkBody;
use tempfile::TempDir;

use super::super::{DynamoDb, Sync, Way};

const PUT: &str = "DynamoDB_20120810.PutItem";

fn open(sync: Sync) -> (TempDir, DynamoDb) {
    let folder = tempfile::tempdir().unwrap();
    let store = DynamoDb::open(&folder.path().join("d.db"), sync).unwrap();
    (folder, store)
}

/// Whether a request is answered by the task that asks.
fn at_once(store: &DynamoDb, target: &str) -> bool {
    matches!(Way::choose(store, target, SdkBody::from("{}")), Way::Now(_))
}

#[test]
fn a_small_write_is_done_at_once_where_nobody_waits() {
    let (_folder, store) = open(Sync::Normal);
    assert!(at_once(&store, PUT));
    assert!(!at_once(&store, "DynamoDB_20120810.TransactWriteItems"));
}

#[test]
fn a_write_does_not_overtake_what_waits() {
    let (_folder, store) = open(Sync::Normal);
    let _place = store.desk.place();
    assert!(!at_once(&store, PUT));
}

#[test]
fn no_task_waits_for_the_disk() {
    let (_folder, store) = open(Sync::Full);
    assert!(!at_once(&store, PUT));
}
