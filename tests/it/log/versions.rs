//! Items of a newer shape: a deploy runs beside the version before it, which reads what the new one writes.

use aws_sdk_dynamodb::types::AttributeValue;
use parlance::domain::secret::SecretHash;
use parlance_local::template::Stack;
use serde_json::{Value, json};

use crate::support::{Tenant, tenant};

/// What a later version might add to an item.
const NEW: &str = "something_new";

/// Gives all items of a tenant in `table` the shape of a later version; how many they are.
async fn modernise(tenant: &Tenant, table: &str) -> usize {
    let name = &Stack::compiled_in().unwrap().environment[table];
    let dynamodb = &tenant.world.dynamodb;
    let all = dynamodb.scan().table_name(name).into_paginator().items();
    let all: Result<Vec<_>, _> = all.send().collect().await;
    let of_tenant = |item: &std::collections::HashMap<String, AttributeValue>| {
        item["pk"].as_s().unwrap().contains(&tenant.id)
            || item
                .get("sk")
                .is_some_and(|sk| sk.as_s().unwrap().contains(&tenant.id))
    };
    let mut count = 0;
    for item in all.unwrap().into_iter().filter(of_tenant) {
        let mut update = dynamodb.update_item().table_name(name);
        for key in ["pk", "sk"] {
            if let Some(value) = item.get(key) {
                update = update.key(key, value.clone());
            }
        }
        update
            .update_expression("SET v = :v, something_new = :new")
            .expression_attribute_values(":v", AttributeValue::N("2".to_owned()))
            .expression_attribute_values(":new", AttributeValue::S("kept".to_owned()))
            .send()
            .await
            .unwrap();
        count += 1;
    }
    count
}

/// How many items of `table` still have what the later version added.
async fn still_new(tenant: &Tenant, table: &str) -> usize {
    let name = &Stack::compiled_in().unwrap().environment[table];
    let scan = tenant.world.dynamodb.scan().table_name(name);
    let found = scan
        .filter_expression("contains(pk, :tenant) AND attribute_exists(something_new)")
        .expression_attribute_values(":tenant", AttributeValue::S(tenant.id.clone()));
    let found = found.into_paginator().items().send();
    let found: Result<Vec<_>, _> = found.collect().await;
    let found = found.unwrap();
    assert!(found.iter().all(|item| item[NEW].as_s().unwrap() == "kept"));
    found.len()
}

/// All that Alice sees of a room.
async fn seen(tenant: &Tenant, room: &str) -> Vec<Value> {
    let mut seen = Vec::new();
    for path in ["", "/members", "/messages"] {
        let path = format!("/rooms/{room}{path}");
        seen.push(tenant.user("alice").get(&path).await.body);
    }
    seen.push(tenant.user("alice").get("/rooms").await.body);
    seen
}

#[tokio::test]
async fn what_a_later_version_wrote_is_read_as_far_as_it_is_known() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let messages = format!("/rooms/{room}/messages");
    tenant
        .user("alice")
        .post(&messages, &json!({ "content": "hello" }))
        .await;
    let before = seen(&tenant, &room).await;
    assert_eq!(modernise(&tenant, "ROOMS_TABLE").await, 3);
    assert_eq!(modernise(&tenant, "MESSAGES_TABLE").await, 1);
    assert_eq!(seen(&tenant, &room).await, before);
}

#[tokio::test]
async fn what_a_later_version_added_to_an_agent_survives_a_change_by_this_one() {
    let team = crate::kodey::team().await;
    let (tenant, sk) = (&team.tenant, &team.sk);
    let body =
        json!({ "name": "Ada", "temperature": 1, "model": "gpt-4o", "tools": ["calculator"] });
    let own = format!("/agent/{}", sk.post("/agent", &body).await.text("id"));
    sk.put("/agent/chat", &json!({ "name": "Eve" })).await;
    modernise(tenant, "TENANTS_TABLE").await;
    let before = still_new(tenant, "TENANTS_TABLE").await;

    let first = json!({ "version": 1 });
    let unset = json!({ "name": "Eve", "temperature": null, "tools": [] });
    for changed in [
        sk.put(&own, &unset).await,
        sk.put(&format!("{own}/rollback"), &first).await,
        sk.put("/agent/chat", &json!({ "model": "gpt-4o" })).await,
        sk.delete("/agent/chat").await,
        sk.put("/agent/chat/rollback", &first).await,
    ] {
        assert!(changed.status < 300, "{}", changed.raw);
    }
    assert_eq!(still_new(tenant, "TENANTS_TABLE").await, before);
}

#[tokio::test]
async fn what_a_later_version_added_survives_a_change_by_this_one() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let alice = tenant.user("alice");
    let messages = format!("/rooms/{room}/messages");
    let sent = alice.post(&messages, &json!({ "content": "hello" })).await;
    modernise(&tenant, "ROOMS_TABLE").await;
    modernise(&tenant, "MESSAGES_TABLE").await;

    let message = format!("{messages}/{}", sent.text("message_id"));
    for changed in [
        alice.put(&message, &json!({ "content": "hi" })).await,
        alice
            .post("/acks", &json!({ "room_id": room, "seq": 1 }))
            .await,
        alice
            .patch(&format!("/rooms/{room}"), &json!({ "name": "new" }))
            .await,
        alice.delete(&message).await,
    ] {
        assert!(changed.status < 300, "{}", changed.raw);
    }
    assert_eq!(still_new(&tenant, "ROOMS_TABLE").await, 3);
    assert_eq!(still_new(&tenant, "MESSAGES_TABLE").await, 1);
}

#[tokio::test]
async fn what_a_later_version_added_to_a_provider_key_survives_a_change_by_this_one() {
    let tenant = tenant().await;
    let (server, keys) = (
        tenant.server(),
        format!("/admin/tenants/{}/provider-keys", tenant.id),
    );
    let made = json!({ "provider": "openai", "api_key": "sk-1", "base_url": "https://a.example/" });
    let made = server.post(&keys, &made).await;
    modernise(&tenant, "TENANTS_TABLE").await;
    let before = still_new(&tenant, "TENANTS_TABLE").await;
    let one = format!("{keys}/{}", made.text("key_id"));
    for change in [
        json!({ "name": "Other", "status": "invalid" }),
        json!({ "expires_at": "2100-01-01T00:00:00Z" }),
    ] {
        let changed = server.put(&one, &change).await;
        assert_eq!(changed.status, 200, "{}", changed.raw);
    }
    assert_eq!(still_new(&tenant, "TENANTS_TABLE").await, before);
}

#[tokio::test]
async fn what_a_later_version_added_to_a_profile_survives_rotations_by_this_one() {
    let tenant = tenant().await;
    let operator = tenant.world.operator().anew();
    modernise(&tenant, "TENANTS_TABLE").await;
    let keys = format!("/admin/tenants/{}/keys", tenant.id);
    let rotate = format!("{keys}/rotate");
    for overlap in [60, 0, 60] {
        let body = json!({ "overlap_seconds": overlap });
        let rotated = operator.post(&rotate, &body).await;
        assert_eq!(rotated.status, 201, "{}", rotated.raw);
    }
    let previous = operator.get(&keys).await.body[1]["key_id"].clone();
    let ended = format!("{keys}/{}", previous.as_str().unwrap());
    assert_eq!(operator.delete(&ended).await.status, 204);

    let table = &Stack::compiled_in().unwrap().environment["TENANTS_TABLE"];
    let profile = tenant.world.dynamodb.get_item().table_name(table);
    let profile = profile
        .key("pk", AttributeValue::S("profile".to_owned()))
        .key("sk", AttributeValue::S(tenant.id.clone()))
        .send()
        .await
        .unwrap();
    assert_eq!(profile.item().unwrap()[NEW].as_s().unwrap(), "kept");
}

#[tokio::test]
async fn a_key_of_a_kind_that_a_later_version_made_is_no_credential() {
    let team = crate::kodey::team().await;
    let table = &Stack::compiled_in().unwrap().environment["KEYS_TABLE"];
    let dynamodb = &team.tenant.world.dynamodb;
    let key = json!({ "kind": "secret", "name": "later" });
    let keys = format!("/admin/tenants/{}/api-keys", team.id);
    let made = team.tenant.server().post(&keys, &key).await.text("api_key");
    let hash = SecretHash::of(made.as_bytes()).to_hex();
    let update = dynamodb.update_item().table_name(table);
    update
        .key("pk", AttributeValue::S(hash))
        .update_expression("SET kind = :later")
        .expression_attribute_values(":later", AttributeValue::S("staff".to_owned()))
        .send()
        .await
        .unwrap();

    let client = team.tenant.world.stranger().with("x-api-key", &made);
    let refused = client.get("/chat").await;

    assert_eq!(refused.status, 401, "{}", refused.raw);
}
