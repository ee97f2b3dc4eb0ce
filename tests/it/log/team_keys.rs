//! A team's keys that are made, rotated and revoked at the same time.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{insist, membership::table, process, quiet_tenant};
use crate::{
    chatapi::{Item, partition, scan},
    kodey::{client, door},
    support::{
        Response, Tenant, World,
        faults::{Fault, Gate, always, calm, script, storm},
    },
};

fn keys_of(tenant: &Tenant) -> String {
    format!("/admin/tenants/{}/api-keys", tenant.id)
}

fn secret(number: usize) -> Value {
    json!({ "kind": "secret", "name": format!("key {number}") })
}

/// What the tables hold of a tenant's keys: the listed ones, their number, and what opens a door.
async fn stored(tenant: &Tenant) -> (Vec<Item>, u64, BTreeSet<String>) {
    let pk = format!("{}#api_keys", tenant.id);
    let rows = partition(&tenant.world, &table("TENANTS_TABLE"), pk).await;
    let (count, listed): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .partition(|row| row["sk"] == AttributeValue::S("count".to_owned()));
    let count = count.first().map_or(0, |count| {
        count["keys"].as_n().unwrap().parse::<u64>().unwrap()
    });
    let own = AttributeValue::S(tenant.id.clone());
    let texts = scan(&tenant.world, &table("KEYS_TABLE")).await;
    let texts = texts
        .iter()
        .filter(|text| text["tenant"] == own && text.contains_key("key"));
    let texts = texts.map(|text| text["pk"].as_s().unwrap().clone());
    (listed, count, texts.collect())
}

/// Fails unless exactly the texts that are listed open a door, and as many keys are counted as listed.
async fn assert_whole(tenant: &Tenant) -> usize {
    let (listed, count, texts) = stored(tenant).await;
    assert_eq!(count, listed.len() as u64);
    let named: BTreeSet<String> = listed
        .iter()
        .flat_map(|key| [key.get("hash"), key.get("previous")])
        .flatten()
        .map(|hash| hash.as_s().unwrap().clone())
        .collect();
    assert_eq!(texts, named);
    listed.len()
}

/// What a key is answered by a process that remembers nothing.
async fn status(tenant: &Tenant, key: &str) -> u16 {
    let cold = door(&tenant.world.another(|client| client));
    client(&cold, key).get("/chat").await.status
}

#[tokio::test(start_paused = true)]
async fn keys_made_rotated_and_revoked_in_a_storm_are_whole_in_both_tables() {
    let tenant = quiet_tenant().await;
    let mut busy = JoinSet::new();
    for number in 0..4 {
        let server = tenant.at(&process(storm(4_200 + number, 5)).await).server();
        let path = keys_of(&tenant);
        busy.spawn(async move {
            let mut shown = Vec::new();
            for number in 0..4 {
                let body = secret(number);
                let made = insist(|| server.post(&path, &body)).await;
                assert_eq!(made.status, 201, "{}", made.raw);
                let key = format!("{path}/{}", made.text("key_id"));
                let (none, rotate) = (json!({}), format!("{key}/rotate"));
                let rotated = insist(|| server.post(&rotate, &none)).await;
                assert_eq!(rotated.status, 201, "{}", rotated.raw);
                let holds = number % 2 == 0;
                shown.push((holds, rotated.text("api_key")));
                if !holds {
                    let revoked = insist(|| server.delete(&key)).await;
                    assert!([204, 404].contains(&revoked.status), "{}", revoked.raw);
                    shown.push((false, made.text("api_key")));
                }
            }
            shown
        });
    }
    let told: Vec<_> = busy.join_all().await.concat();

    // A create whose answer was lost for good, and that was sent again, may have left one more.
    assert!(assert_whole(&tenant).await >= 8);
    for (holds, key) in told {
        let expected = if holds { 200 } else { 401 };
        assert_eq!(status(&tenant, &key).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn rotations_of_one_key_at_once_leave_two_texts_at_most() {
    let tenant = quiet_tenant().await;
    let made = tenant.server().post(&keys_of(&tenant), &secret(0)).await;
    let rotate = format!("{}/{}/rotate", keys_of(&tenant), made.text("key_id"));
    let mut rotating = JoinSet::new();
    for number in 0..4 {
        let server = tenant.at(&process(storm(7_100 + number, 6)).await).server();
        for _ in 0..4 {
            let (server, rotate) = (server.clone(), rotate.clone());
            rotating.spawn(async move {
                let body = json!({});
                insist(|| server.post(&rotate, &body)).await
            });
        }
    }
    let told = rotating.join_all().await;
    assert!(told.iter().any(|told| told.status == 201));
    assert!(told.iter().all(|told| [201, 409].contains(&told.status)));

    assert_eq!(assert_whole(&tenant).await, 1);
    let (listed, _, texts) = stored(&tenant).await;
    assert_eq!(texts.len(), 2);
    assert!(listed[0].contains_key("previous"));
}

#[tokio::test(start_paused = true)]
async fn a_key_revoked_while_it_is_rotated_is_gone_with_all_its_texts() {
    let tenant = quiet_tenant().await;
    for number in 0..8 {
        let made = tenant
            .server()
            .post(&keys_of(&tenant), &secret(number))
            .await;
        let key = format!("{}/{}", keys_of(&tenant), made.text("key_id"));
        let server = tenant.at(&process(calm()).await).server();
        let mut rotating = JoinSet::new();
        for _ in 0..4 {
            let (server, rotate) = (server.clone(), format!("{key}/rotate"));
            rotating.spawn(async move { server.post(&rotate, &json!({})).await });
        }
        let revoked = tenant.server().delete(&key).await;
        assert_eq!(revoked.status, 204, "{}", revoked.raw);
        for told in rotating.join_all().await {
            assert!([201, 404, 409].contains(&told.status), "{}", told.raw);
        }
        assert_eq!(assert_whole(&tenant).await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn keys_made_at_once_are_never_more_than_a_hundred() {
    let tenant = quiet_tenant().await;
    assert_eq!(
        tenant
            .server()
            .post(&keys_of(&tenant), &secret(0))
            .await
            .status,
        201
    );
    let counted = tenant.world.dynamodb.update_item();
    counted
        .table_name(table("TENANTS_TABLE"))
        .key("pk", AttributeValue::S(format!("{}#api_keys", tenant.id)))
        .key("sk", AttributeValue::S("count".to_owned()))
        .update_expression("SET #keys = :many")
        .expression_attribute_names("#keys", "keys")
        .expression_attribute_values(":many", AttributeValue::N("97".to_owned()))
        .send()
        .await
        .unwrap();
    let mut making = JoinSet::new();
    for number in 0..4 {
        let server = tenant.at(&process(calm()).await).server();
        for _ in 0..3 {
            let (server, path) = (server.clone(), keys_of(&tenant));
            making.spawn(async move { server.post(&path, &secret(number)).await });
        }
    }
    let told = making.join_all().await;
    let made = told.iter().filter(|told| told.status == 201).count();
    assert_eq!(made, 3);
    for refused in told.iter().filter(|told| told.status != 201) {
        refused.assert(
            409,
            json!({
                "success": false,
                "error": {
                    "code": "CONFLICT",
                    "message": "A tenant has at most 100 API keys. Revoke one first",
                },
            }),
        );
    }
}

/// A process whose next two transactions are done, and their answers lost.
async fn losing() -> World {
    let fates = [Fault::LoseAnswer, Fault::LoseAnswer];
    process(script("TransactWriteItems", fates)).await
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_makes_no_second_key_and_costs_none() {
    let tenant = quiet_tenant().await;
    let server = tenant.at(&losing().await).server();
    let once = server.with("idempotency-key", "once");
    let made = once.post(&keys_of(&tenant), &secret(1)).await;
    assert_eq!(made.status, 201, "{}", made.raw);
    assert_eq!(assert_whole(&tenant).await, 1);
    assert_eq!(status(&tenant, &made.text("api_key")).await, 200);

    let key = format!("{}/{}", keys_of(&tenant), made.text("key_id"));
    let server = tenant.at(&losing().await).server();
    let once = server.with("idempotency-key", "again");
    let rotated = once.post(&format!("{key}/rotate"), &json!({})).await;
    assert_eq!(rotated.status, 201, "{}", rotated.raw);
    assert_eq!(assert_whole(&tenant).await, 1);
    assert_eq!(status(&tenant, &rotated.text("api_key")).await, 200);

    let server = tenant.at(&losing().await).server();
    assert_eq!(server.delete(&key).await.status, 204);
    assert_eq!(assert_whole(&tenant).await, 0);
    assert_eq!(status(&tenant, &rotated.text("api_key")).await, 401);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_key_ends_within_a_minute_in_processes_that_remember_it() {
    let tenant = quiet_tenant().await;
    let made = tenant.server().post(&keys_of(&tenant), &secret(0)).await;
    let warm = door(&process(calm()).await);
    let holder = client(&warm, &made.text("api_key"));
    assert_eq!(holder.get("/chat").await.status, 200);

    let key = format!("{}/{}", keys_of(&tenant), made.text("key_id"));
    assert_eq!(tenant.server().delete(&key).await.status, 204);

    tokio::time::advance(Duration::from_mins(1)).await;
    let answers: [Response; 2] = [holder.get("/chat").await, holder.get("/chat").await];
    assert!(answers.iter().all(|answer| answer.status == 401));
}

#[tokio::test(start_paused = true)]
async fn a_request_does_not_fail_because_its_use_was_not_noted() {
    let tenant = quiet_tenant().await;
    for fate in [
        Fault::Refuse("AccessDeniedException"),
        Fault::Throttle,
        Fault::LoseAnswer,
        Fault::Hold(Gate::default()),
    ] {
        let made = tenant.server().post(&keys_of(&tenant), &secret(0)).await;
        // The first is the note, the second the share of the key's budget.
        let world = door(&process(script("UpdateItem", [fate])).await);
        let holder = client(&world, &made.text("api_key"));
        let answer = holder.get("/chat").await;
        assert_eq!(answer.status, 200, "{}", answer.raw);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_looked_up_is_not_called_wrong() {
    let tenant = quiet_tenant().await;
    let made = tenant.server().post(&keys_of(&tenant), &secret(0)).await;
    let outage = always("GetItem", Fault::Refuse("AccessDeniedException"));
    let world = door(&process(outage).await);
    let answer = client(&world, &made.text("api_key")).get("/chat").await;
    answer.assert(
        503,
        json!({
            "error": "Service Unavailable",
            "message": "Service temporarily unavailable. Send the same request again",
        }),
    );
    assert_eq!(answer.header("retry-after"), Some("1"));
    // A made-up one is known without a look.
    let guess = client(&world, "sk_live_000000000000000000000000000000");
    assert_eq!(guess.get("/chat").await.status, 401);
}
