//! A tenant's own keys: which hold after rotations, by this version and by the one before, and how they are shown and ended.

use aws_sdk_dynamodb::types::AttributeValue;
use axum::http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Item, assert_time, column, item, s, scan};
use crate::support::{Client, Response, Tenant, World, tenant};

fn operator(tenant: &Tenant) -> Client {
    tenant.world.operator().anew()
}

fn keys_of(tenant: &Tenant) -> String {
    format!("/admin/tenants/{}/keys", tenant.id)
}

fn hash(key: &str) -> String {
    hex::encode(Sha256::digest(key))
}

/// Rotates a tenant's key, and gives the new one.
async fn rotate(tenant: &Tenant, overlap: u32) -> String {
    let path = format!("{}/rotate?overlap_seconds={overlap}", keys_of(tenant));
    let rotated = operator(tenant).send(Method::POST, &path, "").await;
    assert_eq!(rotated.status, 201, "{}", rotated.raw);
    rotated.text("api_key")
}

/// Does what the version before this one does on a rotation, and gives the new key: it names the new key in the profile and
/// gives the one before an end.
async fn rotate_as_before(tenant: &Tenant, number: u8, overlap: i64) -> String {
    let new = format!("sk_{}", hash(&format!("{} {number}", tenant.id)));
    let dynamodb = &tenant.world.dynamodb;
    let current = profile(tenant).await["key"].clone();
    let now = parlance::http::moment(std::time::Duration::ZERO)
        .unwrap()
        .now;
    let key = dynamodb.put_item().table_name("Keys");
    key.item("pk", s(hash(&new)))
        .item("kind", s("tenant"))
        .item("tenant", s(&tenant.id))
        .item("created_at", s(now.to_string()))
        .item("v", AttributeValue::N("1".to_owned()))
        .send()
        .await
        .unwrap();
    let end = now.plus_seconds(overlap).seconds();
    let retired = dynamodb.update_item().table_name("Keys").key("pk", current);
    retired
        .update_expression("SET #ttl = :end")
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":end", AttributeValue::N(end.to_string()))
        .send()
        .await
        .unwrap();
    let named = dynamodb.update_item().table_name("Tenants");
    named
        .key("pk", s("profile"))
        .key("sk", s(&tenant.id))
        .update_expression("SET #key = :new")
        .expression_attribute_names("#key", "key")
        .expression_attribute_values(":new", s(hash(&new)))
        .send()
        .await
        .unwrap();
    new
}

async fn profile(tenant: &Tenant) -> Item {
    let found = tenant.world.dynamodb.get_item().table_name("Tenants");
    let found = found.key("pk", s("profile")).key("sk", s(&tenant.id));
    found.send().await.unwrap().item.unwrap()
}

async fn status_in(world: &World, key: &str) -> u16 {
    let server = world.stranger().with("x-api-key", key);
    server.with("x-user-id", "alice").get("/rooms").await.status
}

/// Fails unless a process that remembers nothing answers each key with this.
async fn assert_statuses<const N: usize>(tenant: &Tenant, keys: [&str; N], expected: [u16; N]) {
    let cold = tenant.world.another(|client| client);
    let mut statuses = [0; N];
    for (status, key) in statuses.iter_mut().zip(keys) {
        *status = status_in(&cold, key).await;
    }
    assert_eq!(statuses, expected);
}

/// The hashes of the tenant's keys in the store.
async fn stored(tenant: &Tenant) -> Vec<String> {
    let keys = scan(&tenant.world, "Keys").await;
    let own = keys.iter().filter(|key| key["tenant"] == s(&tenant.id));
    let mut hashes: Vec<_> = own.map(|key| super::text(key, "pk").to_owned()).collect();
    hashes.sort();
    hashes
}

#[tokio::test]
async fn at_most_two_keys_hold_after_a_second_rotation() {
    let tenant = tenant().await;
    let second = rotate(&tenant, 86_400).await;
    let third = rotate(&tenant, 86_400).await;

    assert_statuses(&tenant, [&tenant.key, &second, &third], [401, 200, 200]).await;
    let mut hold = [hash(&second), hash(&third)];
    hold.sort();
    assert_eq!(stored(&tenant).await, hold);
}

#[tokio::test]
async fn a_rotation_without_overlap_ends_every_older_key() {
    let tenant = tenant().await;
    let second = rotate(&tenant, 86_400).await;
    let third = rotate(&tenant, 0).await;

    assert_statuses(&tenant, [&tenant.key, &second, &third], [401, 401, 200]).await;
    assert_eq!(stored(&tenant).await, [hash(&third)]);
}

#[tokio::test]
async fn a_rotation_ends_older_keys_at_once_in_the_process_that_does_it() {
    let tenant = tenant().await;
    let second = rotate(&tenant, 86_400).await;
    for key in [&tenant.key, &second] {
        assert_eq!(status_in(&tenant.world, key).await, 200);
    }
    rotate(&tenant, 86_400).await;
    if tenant.world.deployed.is_none() {
        assert_eq!(status_in(&tenant.world, &tenant.key).await, 401);
        assert_eq!(status_in(&tenant.world, &second).await, 200);
    }
}

#[tokio::test]
async fn keys_are_listed_masked_with_when_they_were_made_used_and_end() {
    let tenant = tenant().await;
    assert_statuses(&tenant, [&tenant.key], [200]).await;
    let second = rotate(&tenant, 60).await;

    let listed = operator(&tenant).get(&keys_of(&tenant)).await;

    let masked = |key: &str| format!("sk_…{}", &key[key.len() - 4..]);
    let shown = |at: usize, name: &str| listed.body[at][name].clone();
    listed.assert(
        200,
        json!([
            {
                "key_id": shown(0, "key_id"),
                "masked_key": masked(&second),
                "status": "current",
                "created_at": shown(0, "created_at"),
                "expires_at": null,
                "last_used_at": null,
            },
            {
                "key_id": shown(1, "key_id"),
                "masked_key": masked(&tenant.key),
                "status": "previous",
                "created_at": shown(1, "created_at"),
                "expires_at": shown(1, "expires_at"),
                "last_used_at": shown(1, "last_used_at"),
            },
        ]),
    );
    for at in [0, 1] {
        assert!(shown(at, "key_id").as_str().unwrap().starts_with("tkey_"));
        assert_time(&shown(at, "created_at"));
    }
    assert_time(&shown(1, "expires_at"));
    assert_time(&shown(1, "last_used_at"));
}

#[tokio::test]
async fn the_use_of_a_key_is_noted() {
    let tenant = tenant().await;
    let second = rotate(&tenant, 60).await;
    let used = async || {
        let listed = operator(&tenant).get(&keys_of(&tenant)).await;
        listed.body[0]["last_used_at"].clone()
    };
    assert_eq!(used().await, Value::Null);
    assert_statuses(&tenant, [&second], [200]).await;
    let noted = used().await;
    assert_time(&noted);
    // Once an hour, also where others note it.
    assert_statuses(&tenant, [&second], [200]).await;
    assert_eq!(used().await, noted);
}

#[tokio::test]
async fn a_key_of_the_version_before_is_listed_without_its_end() {
    let tenant = tenant().await;
    rotate_as_before(&tenant, 1, 60).await;
    let listed = operator(&tenant).get(&keys_of(&tenant)).await;
    assert_eq!(column(&listed, "masked_key"), ["sk_…"]);
}

#[tokio::test]
async fn a_key_whose_time_is_over_is_not_listed() {
    let tenant = tenant().await;
    rotate(&tenant, 60).await;
    let update = tenant.world.dynamodb.update_item().table_name("Keys");
    update
        .key("pk", s(hash(&tenant.key)))
        .update_expression("SET #ttl = :past")
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":past", AttributeValue::N("1765627200".to_owned()))
        .send()
        .await
        .unwrap();
    let listed = operator(&tenant).get(&keys_of(&tenant)).await;
    assert_eq!(column(&listed, "status"), ["current"]);
}

#[tokio::test]
async fn a_tenant_sees_its_own_keys_and_no_others() {
    let (tenant, other) = (tenant().await, tenant().await);
    let own = tenant.server().get(&keys_of(&tenant)).await;
    assert_eq!(column(&own, "status"), ["current"]);
    let foreign = other.server().get(&keys_of(&tenant)).await;
    foreign.assert(
        404,
        json!({
            "success": false,
            "error": { "code": "NOT_FOUND", "message": "Tenant not found" },
        }),
    );
}

/// The path of the key that stands at `at` in the list.
async fn listed(tenant: &Tenant, at: usize) -> String {
    let keys = operator(tenant).get(&keys_of(tenant)).await;
    let id = column(&keys, "key_id")[at].as_str().unwrap().to_owned();
    format!("{}/{id}", keys_of(tenant))
}

fn not_found() -> Value {
    json!({ "success": false, "error": { "code": "NOT_FOUND", "message": "Key not found" } })
}

async fn ended(tenant: &Tenant, path: &str) -> Response {
    operator(tenant).delete(path).await
}

#[tokio::test]
async fn a_replaced_key_is_ended_before_its_time() {
    let tenant = tenant().await;
    let second = rotate(&tenant, 86_400).await;
    assert_eq!(status_in(&tenant.world, &tenant.key).await, 200);
    let previous = listed(&tenant, 1).await;

    let done = ended(&tenant, &previous).await;

    assert_eq!((done.status, done.raw.as_str()), (204, ""));
    assert_statuses(&tenant, [&tenant.key, &second], [401, 200]).await;
    if tenant.world.deployed.is_none() {
        assert_eq!(status_in(&tenant.world, &tenant.key).await, 401);
    }
    let left = operator(&tenant).get(&keys_of(&tenant)).await;
    assert_eq!(column(&left, "status"), ["current"]);
    ended(&tenant, &previous).await.assert(404, not_found());
}

#[tokio::test]
async fn the_current_key_is_not_ended_without_another() {
    let tenant = tenant().await;
    let current = listed(&tenant, 0).await;
    ended(&tenant, &current).await.assert(
        409,
        json!({
            "success": false,
            "error": {
                "code": "CONFLICT",
                "message": "This is the tenant's current key. Rotate it with overlap_seconds 0: that ends it, and gives the next one",
            },
        }),
    );
    assert_statuses(&tenant, [&tenant.key], [200]).await;
}

#[tokio::test]
async fn an_unknown_key_of_a_tenant_is_not_found() {
    let (tenant, other) = (tenant().await, tenant().await);
    rotate(&other, 60).await;
    let foreign = listed(&other, 1).await.replace(&other.id, &tenant.id);
    let none = format!("{}/tkey_00000000000000000000000000000000", keys_of(&tenant));
    for path in [foreign, none, format!("{}/nope", keys_of(&tenant))] {
        ended(&tenant, &path).await.assert(404, not_found());
    }
    for unknown in ["tenant_00000000000000000000000000000000", "nope"] {
        let keys = format!("/admin/tenants/{unknown}/keys");
        let listed = operator(&tenant).get(&keys).await;
        listed.assert_error(404, "NOT_FOUND", None);
        let path = format!("{keys}/tkey_00000000000000000000000000000000");
        ended(&tenant, &path)
            .await
            .assert_error(404, "NOT_FOUND", None);
    }
}

#[tokio::test]
async fn a_tenants_key_ends_no_key() {
    let tenant = tenant().await;
    rotate(&tenant, 60).await;
    let previous = listed(&tenant, 1).await;
    let refused = tenant.server().delete(&previous).await;
    refused.assert_error(401, "AUTHENTICATION_ERROR", None);
    assert_statuses(&tenant, [&tenant.key], [200]).await;
}

#[tokio::test]
async fn what_the_version_before_left_works_until_the_next_rotation() {
    let tenant = tenant().await;
    let second = rotate_as_before(&tenant, 1, 86_400).await;
    let third = rotate_as_before(&tenant, 2, 86_400).await;
    assert_statuses(&tenant, [&tenant.key, &second, &third], [200; 3]).await;

    let fourth = rotate(&tenant, 86_400).await;

    let keys = [&tenant.key, &second, &third, &fourth].map(String::as_str);
    assert_statuses(&tenant, keys, [401, 401, 200, 200]).await;
}

#[tokio::test]
async fn a_rotation_without_overlap_ends_what_the_version_before_left() {
    let tenant = tenant().await;
    let second = rotate_as_before(&tenant, 1, 86_400).await;
    let third = rotate(&tenant, 0).await;
    assert_statuses(&tenant, [&tenant.key, &second, &third], [401, 401, 200]).await;
}

#[tokio::test]
async fn a_rotation_by_the_version_before_leaves_its_two_keys_and_ends_the_one_before_them() {
    let tenant = tenant().await;
    let second = rotate(&tenant, 86_400).await;

    let third = rotate_as_before(&tenant, 1, 86_400).await;

    assert_statuses(&tenant, [&tenant.key, &second, &third], [401, 200, 200]).await;
    let shown = operator(&tenant).get(&keys_of(&tenant)).await;
    assert_eq!(column(&shown, "status"), ["current", "previous"]);
    let previous = listed(&tenant, 1).await;
    assert_eq!(ended(&tenant, &previous).await.status, 204);
    assert_statuses(&tenant, [&tenant.key, &second, &third], [401, 401, 200]).await;
}

#[tokio::test]
async fn an_ended_key_does_not_come_back_with_a_rotation_by_the_version_before() {
    let tenant = tenant().await;
    let second = rotate_as_before(&tenant, 1, 86_400).await;
    let third = rotate(&tenant, 0).await;
    let fourth = rotate_as_before(&tenant, 2, 86_400).await;
    let fifth = rotate_as_before(&tenant, 3, 86_400).await;
    let keys = [&tenant.key, &second, &third, &fourth, &fifth].map(String::as_str);
    assert_statuses(&tenant, keys, [401, 401, 200, 200, 200]).await;

    let sixth = rotate(&tenant, 86_400).await;

    let keys = [&third, &fourth, &fifth, &sixth].map(String::as_str);
    assert_statuses(&tenant, keys, [401, 401, 200, 200]).await;
}

#[tokio::test]
async fn what_is_noted_of_an_ended_keys_use_is_removed() {
    let tenant = tenant().await;
    assert_statuses(&tenant, [&tenant.key], [200]).await;
    rotate(&tenant, 0).await;
    let noted = super::partition(&tenant.world, "Tenants", format!("{}#keys", tenant.id)).await;
    assert_eq!(noted, Vec::<Item>::new());
}

#[tokio::test]
async fn a_profile_names_the_hashes_of_two_keys_at_most() {
    let tenant = tenant().await;
    let second = rotate(&tenant, 60).await;
    let third = rotate(&tenant, 60).await;
    let profile = profile(&tenant).await;
    assert_eq!(profile["key"], s(hash(&third)));
    assert_eq!(profile["rotated_key"], s(hash(&third)));
    assert_eq!(profile["previous_key"], s(hash(&second)));
    let key = item(&tenant.world, "Keys", hash(&third)).await.unwrap();
    assert_eq!(key["last4"], s(&third[third.len() - 4..]));
}
