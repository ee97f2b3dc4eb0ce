//! A file that is damaged while nobody looks.

use aws_sdk_dynamodb::error::ProvideErrorMetadata as _;

use tempfile::TempDir;

use super::{AttributeValue, DynamoDb, Store, Sync, Trim, embedded_dynamodb};
use crate::storage;

/// A store whose file was damaged, in its second half, while it was closed. Nobody has met that yet.
async fn damaged() -> (TempDir, DynamoDb) {
    let Store {
        folder, embedded, ..
    } = {
        let store = Store::new().await;
        for number in 0..200 {
            let key = AttributeValue::S(format!("key-{number}"));
            let put = store.client.put_item().table_name("Log").item("pk", key);
            let text = AttributeValue::S("x".repeat(10_000));
            put.item("text", text).send().await.unwrap();
        }
        store
    };
    embedded.close();
    let file = folder.path().join("d.db");
    let mut bytes = std::fs::read(&file).unwrap();
    // Not what is read when it is opened.
    let end = bytes.len() / 2;
    bytes[end..].fill(0x5a);
    std::fs::write(&file, bytes).unwrap();
    let embedded = DynamoDb::open(&file, Sync::Normal).unwrap();
    assert!(!embedded.faults().is_failing());
    (folder, embedded)
}

#[tokio::test]
async fn a_damaged_page_is_a_fault_that_is_not_tried_again() {
    let (_folder, embedded) = damaged().await;
    let client = embedded_dynamodb(embedded.http_client());
    let error = client.scan().table_name("Log").send().await.unwrap_err();
    let status = error.raw_response().unwrap().status().as_u16();
    assert_eq!(error.code(), Some(storage::CODE));
    assert_eq!(status, storage::STATUS);
    assert!(embedded.faults().is_failing());
}

#[tokio::test]
async fn damage_that_trimming_finds_is_a_fault() {
    let (_folder, embedded) = damaged().await;
    embedded
        .trim(&Trim::made_before("Log", i64::MAX))
        .await
        .unwrap_err();
    assert!(embedded.faults().is_failing());
}

#[tokio::test]
async fn damage_that_the_removal_of_expired_items_finds_is_a_fault() {
    let (_folder, embedded) = damaged().await;
    embedded.sweep().await.unwrap_err();
    assert!(embedded.faults().is_failing());
}
