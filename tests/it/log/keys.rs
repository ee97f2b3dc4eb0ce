//! Keys that are rotated at the same time.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use super::{insist, membership::table, process, quiet_tenant};
use crate::support::{
    Client, World,
    faults::{Fault, Gate, calm, script, storm},
};

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
    // The current one is known only to whoever was shown it, and it holds; of all others one at most does.
    assert!(items.len() <= 2, "{items:?}");
    let mut holding = 0;
    for key in keys.into_iter().chain([tenant.key.clone()]) {
        let is_current = current[0]["pk"] == AttributeValue::S(hash(&key));
        let status = status(&tenant.world, &key).await;
        assert!(status == 200 || !is_current, "{status}");
        holding += usize::from(status == 200);
    }
    assert!(holding <= 2, "{holding}");
}

fn hash(key: &str) -> String {
    hex::encode(Sha256::digest(key))
}

/// What a tenant's server with `key` is answered in `world`.
async fn status(world: &World, key: &str) -> u16 {
    let client = Client::new(world.api.clone()).with("x-api-key", key);
    client.with("x-user-id", "alice").get("/rooms").await.status
}

#[tokio::test(start_paused = true)]
async fn an_ended_tenant_key_ends_within_a_minute_in_processes_that_remember_it() {
    let tenant = quiet_tenant().await;
    let operator = tenant.world.operator().anew();
    let keys = format!("/admin/tenants/{}/keys", tenant.id);
    let rotated = operator.post(&format!("{keys}/rotate"), &json!({})).await;
    assert_eq!(rotated.status, 201, "{}", rotated.raw);
    let warm = process(calm()).await;
    assert_eq!(status(&warm, &tenant.key).await, 200);

    let listed = operator.get(&keys).await;
    let previous = listed.body[1]["key_id"].as_str().unwrap();
    let ended = operator.delete(&format!("{keys}/{previous}")).await;
    assert_eq!(ended.status, 204, "{}", ended.raw);

    tokio::time::advance(Duration::from_mins(1)).await;
    assert_eq!(status(&warm, &tenant.key).await, 401);
    assert_eq!(status(&warm, &tenant.key).await, 401);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_ended_while_others_rotate_is_ended() {
    let tenant = quiet_tenant().await;
    let operator = tenant.world.operator().anew();
    let keys = format!("/admin/tenants/{}/keys", tenant.id);
    let rotate = format!("{keys}/rotate");
    assert_eq!(operator.post(&rotate, &json!({})).await.status, 201);
    let previous = operator.get(&keys).await.body[1]["key_id"].clone();
    let previous = format!("{keys}/{}", previous.as_str().unwrap());
    let mut rotating = JoinSet::new();
    for number in 0..4 {
        let process = process(storm(3_100 + number, 5)).await;
        let (operator, rotate) = (process.operator().anew(), rotate.clone());
        rotating.spawn(async move {
            let body = json!({});
            insist(|| operator.post(&rotate, &body)).await
        });
    }
    let ended = insist(|| operator.delete(&previous)).await;
    assert!([204, 404].contains(&ended.status), "{}", ended.raw);
    for told in rotating.join_all().await {
        assert!([201, 409].contains(&told.status), "{}", told.raw);
    }
    assert_eq!(status(&process(calm()).await, &tenant.key).await, 401);
}

#[tokio::test(start_paused = true)]
async fn a_rotation_whose_answer_was_lost_is_done_once() {
    let tenant = quiet_tenant().await;
    let fates = [Fault::LoseAnswer, Fault::LoseAnswer];
    let losing = process(script("TransactWriteItems", fates)).await;
    let rotate = format!("/admin/tenants/{}/keys/rotate", tenant.id);
    let once = losing.operator().anew().with("idempotency-key", &tenant.id);
    let rotated = once.post(&rotate, &json!({ "overlap_seconds": 0 })).await;
    assert_eq!(rotated.status, 201, "{}", rotated.raw);
    let cold = process(calm()).await;
    assert_eq!(status(&cold, &rotated.text("api_key")).await, 200);
    assert_eq!(status(&cold, &tenant.key).await, 401);
}

#[tokio::test(start_paused = true)]
async fn a_request_does_not_fail_because_the_use_of_its_tenants_key_was_not_noted() {
    let tenant = quiet_tenant().await;
    for fate in [
        Fault::Refuse("AccessDeniedException"),
        Fault::Throttle,
        Fault::LoseAnswer,
        Fault::Hold(Gate::default()),
    ] {
        // The first is the note, the second the share of the tenant's budget.
        let process = process(script("UpdateItem", [fate])).await;
        assert_eq!(status(&process, &tenant.key).await, 200);
    }
}
