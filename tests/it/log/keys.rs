//! Keys that are rotated at the same time.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::json;
use tokio::task::JoinSet;

use super::{insist, membership::table, process, quiet_tenant};
use crate::support::{Client, faults::storm};

#[tokio::test(start_paused = true)]
async fn rotations_of_four_processes_in_a_storm_leave_one_current_key() {
    let tenant = quiet_tenant().await;
    let rotate = format!("/admin/tenants/{}/keys/rotate", tenant.id);
    let mut rotating = JoinSet::new();
    for number in 0..4 {
        let process = process(storm(1_300 + number, 5)).await;
        for _ in 0..4 {
            let (operator, rotate) = (process.operator().anew(), rotate.clone());
            rotating.spawn(async move {
                let body = json!({});
                insist(|| operator.post(&rotate, &body)).await
            });
        }
    }
    let told = rotating.join_all().await;

    let mut keys = Vec::new();
    for told in &told {
        match told.status {
            200 | 201 => keys.push(told.text("api_key")),
            409 => {}
            _ => panic!("{}", told.raw),
        }
    }
    assert!(!keys.is_empty());
    let items = tenant.world.dynamodb.scan().table_name(table("KEYS_TABLE"));
    let items = items
        .filter_expression("tenant = :tenant")
        .expression_attribute_values(":tenant", AttributeValue::S(tenant.id.clone()))
        .into_paginator()
        .items()
        .send()
        .collect::<Result<Vec<_>, _>>()
        .await
        .unwrap();
    let current: Vec<_> = items
        .iter()
        .filter(|item| !item.contains_key("ttl"))
        .collect();
    assert_eq!(current.len(), 1);
    let profile = tenant
        .world
        .dynamodb
        .get_item()
        .table_name(table("TENANTS_TABLE"));
    let profile = profile
        .key("pk", AttributeValue::S("profile".to_owned()))
        .key("sk", AttributeValue::S(tenant.id.clone()))
        .send()
        .await
        .unwrap();
    assert_eq!(profile.item().unwrap()["key"], current[0]["pk"]);
    // Whoever was shown a key can use it, at least for the overlap.
    for key in keys.into_iter().chain([tenant.key.clone()]) {
        let client = Client::new(tenant.world.api.clone()).with("x-api-key", &key);
        let rooms = client.with("x-user-id", "alice").get("/rooms").await;
        assert_eq!(rooms.status, 200, "{}", rooms.raw);
    }
}
