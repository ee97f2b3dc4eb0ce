//! A file that is damaged while nobody looks.

use aws_sdk_dynamodb::error::ProvideErrorMetadata as _;

use super::{AttributeValue, DynamoDb, Store, Sync, embedded_dynamodb};
use crate::storage;

#[tokio::test]
async fn a_damaged_page_is_a_fault_that_is_not_tried_again() {
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
    let client = embedded_dynamodb(embedded.http_client());
    assert!(!embedded.faults().is_failing());
    let error = client.scan().table_name("Log").send().await.unwrap_err();
    let status = error.raw_response().unwrap().status().as_u16();
    assert_eq!(error.code(), Some(storage::CODE));
    assert_eq!(status, storage::STATUS);
    assert!(embedded.faults().is_failing());
}
