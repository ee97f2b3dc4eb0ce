//! Items of a newer shape: a deploy runs beside the version before it, which reads what the new one writes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

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

/// Sets an attribute of the item `sk` of a tenant's partition `pk` in the table of tenants, as a later version would.
async fn later(tenant: &Tenant, pk: &str, sk: &str, name: &str, value: AttributeValue) {
    let table = &Stack::compiled_in().unwrap().environment["TENANTS_TABLE"];
    let update = tenant.world.dynamodb.update_item().table_name(table);
    update
        .key("pk", AttributeValue::S(format!("{}#{pk}", tenant.id)))
        .key("sk", AttributeValue::S(sk.to_owned()))
        .condition_expression("attribute_exists(pk)")
        .update_expression("SET #name = :value")
        .expression_attribute_names("#name", name)
        .expression_attribute_values(":value", value)
        .send()
        .await
        .unwrap();
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

#[tokio::test]
async fn an_event_type_of_a_later_version_is_left_out_and_does_not_turn_into_all() {
    let tenant = tenant().await;
    let server = tenant.server();
    let body = json!({ "url": "https://a.example/", "events": ["message.created"] });
    let id = server.post("/webhooks", &body).await.text("endpoint_id");
    let both = vec![text("message.created"), text("chat.created")];
    for (stored, shown) in [
        (both, json!(["message.created"])),
        (vec![text("chat.created")], json!([])),
    ] {
        let stored = AttributeValue::L(stored);
        later(&tenant, "webhooks", &id, "events", stored).await;

        let read = server.get(&format!("/webhooks/{id}")).await;

        assert_eq!(read.status, 200, "{}", read.raw);
        assert_eq!(read.body["events"], shown);
    }
}

#[tokio::test]
async fn an_endpoint_in_a_state_of_a_later_version_is_shown_paused_and_can_be_resumed() {
    let tenant = tenant().await;
    let server = tenant.server();
    let body = json!({ "url": "https://a.example/" });
    let id = server.post("/webhooks", &body).await.text("endpoint_id");
    later(&tenant, "webhooks", &id, "status", text("draining")).await;

    let read = server.get(&format!("/webhooks/{id}")).await;

    assert_eq!(read.status, 200, "{}", read.raw);
    assert_eq!(read.body["status"], "paused");
    assert_eq!(read.body["paused_reason"], "draining");
    let resumed = json!({ "status": "active" });
    let resumed = server.patch(&format!("/webhooks/{id}"), &resumed).await;
    assert_eq!(resumed.body["status"], "active", "{}", resumed.raw);
}

#[tokio::test]
async fn a_role_of_a_later_version_is_a_members() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let table = &Stack::compiled_in().unwrap().environment["ROOMS_TABLE"];
    let update = tenant.world.dynamodb.update_item().table_name(table);
    update
        .key("pk", text(&format!("{}#{room}", tenant.id)))
        .key("sk", text("MEMBER#alice"))
        .condition_expression("attribute_exists(pk)")
        .update_expression("SET #role = :role")
        .expression_attribute_names("#role", "role")
        .expression_attribute_values(":role", text("moderator"))
        .send()
        .await
        .unwrap();
    let alice = tenant.user("alice");

    let members = alice.get(&format!("/rooms/{room}/members")).await;

    assert_eq!(members.status, 200, "{}", members.raw);
    assert!(!members.raw.contains("moderator"), "{}", members.raw);
    let renamed = alice
        .patch(&format!("/rooms/{room}"), &json!({ "name": "x" }))
        .await;
    assert_eq!(renamed.status, 403, "{}", renamed.raw);
}

#[tokio::test]
async fn settings_of_a_tenant_that_a_later_version_made_fall_back_to_the_safe_ones() {
    let tenant = tenant().await;
    let table = &Stack::compiled_in().unwrap().environment["TENANTS_TABLE"];
    let update = tenant.world.dynamodb.update_item().table_name(table);
    update
        .key("pk", text("profile"))
        .key("sk", text(&tenant.id))
        .condition_expression("attribute_exists(pk)")
        .update_expression("SET list_scope = :later, retry_backoff = :later")
        .expression_attribute_values(":later", text("later"))
        .send()
        .await
        .unwrap();

    let path = format!("/admin/tenants/{}", tenant.id);
    let read = tenant.world.operator().anew().get(&path).await;

    assert_eq!(read.status, 200, "{}", read.raw);
    assert_eq!(read.body["publishable_list_scope"], "user");
    assert_eq!(read.body["retry"]["backoff"], "exponential");
}

#[tokio::test]
async fn a_provider_key_that_only_a_later_version_can_use_is_left_out_and_stays() {
    let tenant = tenant().await;
    let server = tenant.server();
    let keys = format!("/admin/tenants/{}/provider-keys", tenant.id);
    for (name, value) in [
        ("provider", "mistral"),
        ("key_type", "oauth"),
        ("scope", "bot"),
    ] {
        let mut ids = Vec::new();
        for key in ["sk-first", "sk-second"] {
            let made = json!({ "provider": "openai", "api_key": format!("{key}-of-{name}") });
            ids.push(server.post(&keys, &made).await.text("key_id"));
        }
        let before = still_new(&tenant, "TENANTS_TABLE").await;
        later(&tenant, "provider_keys", &ids[1], name, text(value)).await;
        later(&tenant, "provider_keys", &ids[1], NEW, text("kept")).await;

        let listed = server.get(&format!("{keys}?limit=100")).await;

        assert_eq!(listed.status, 200, "{}", listed.raw);
        assert!(listed.raw.contains(&ids[0]) && !listed.raw.contains(&ids[1]));
        let one = format!("{keys}/{}", ids[1]);
        assert_eq!(server.put(&one, &json!({ "name": "x" })).await.status, 404);
        assert_eq!(server.delete(&one).await.status, 404);
        assert_eq!(still_new(&tenant, "TENANTS_TABLE").await, before + 1);
        let removed = server.delete(&format!("{keys}/{}", ids[0])).await;
        assert!(removed.status < 300, "{}", removed.raw);
    }
}

#[tokio::test]
async fn a_list_goes_on_after_a_page_of_what_only_a_later_version_knows() {
    let tenant = tenant().await;
    let server = tenant.server();
    let keys = format!("/admin/tenants/{}/provider-keys", tenant.id);
    let mut ids = Vec::new();
    for key in ["sk-first", "sk-second", "sk-third"] {
        let made = json!({ "provider": "openai", "api_key": format!("{key}-of-a-list") });
        ids.push(server.post(&keys, &made).await.text("key_id"));
    }
    ids.sort();
    later(
        &tenant,
        "provider_keys",
        &ids[1],
        "provider",
        text("mistral"),
    )
    .await;

    let (mut seen, mut path) = (String::new(), format!("{keys}?limit=1"));
    for _ in 0..3 {
        let page = server.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.raw);
        seen.push_str(&page.raw);
        let Some(next) = page.next() else {
            break;
        };
        path = next;
    }

    assert!(seen.contains(&ids[0]) && !seen.contains(&ids[1]) && seen.contains(&ids[2]));
}

#[tokio::test]
async fn an_agent_that_only_a_later_version_can_ask_is_left_out_and_stays() {
    let team = crate::kodey::team().await;
    let (tenant, sk) = (&team.tenant, &team.sk);
    let mut ids = Vec::new();
    for name in ["Ada", "Eve"] {
        let made = sk.post("/agent", &json!({ "name": name })).await;
        ids.push(made.text("id"));
    }
    sk.put("/agent/chat", &json!({ "name": "Own" })).await;
    for id in [&ids[1], "chat"] {
        later(tenant, "agents", id, "provider", text("mistral")).await;
        later(tenant, "agents", id, NEW, text("kept")).await;
    }

    let listed = sk.get("/agent").await;

    assert_eq!(listed.status, 200, "{}", listed.raw);
    assert!(listed.raw.contains(&ids[0]) && !listed.raw.contains(&ids[1]));
    for id in [&ids[1], "chat"] {
        let one = format!("/agent/{id}");
        assert_eq!(sk.get(&one).await.status, 404);
        assert_eq!(sk.put(&one, &json!({ "name": "x" })).await.status, 404);
        assert_eq!(sk.delete(&one).await.status, 404);
    }
    assert_eq!(still_new(tenant, "TENANTS_TABLE").await, 2);
}

/// Where an item is put over one that may be there, and what it is.
const PUT_OVER: [(&str, usize); 4] = [
    // A connection: the gateway gives an id once.
    ("connections.rs", 1),
    // A cursor that its client puts elsewhere: what it was is over.
    ("cursors.rs", 1),
    // The mark of a delivery that is held again.
    ("deliveries/held.rs", 1),
    // A token, under its own name.
    ("guards.rs", 1),
];

/// The sources of the stores, by their paths.
fn stores(folder: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            stores(&path, found);
        } else {
            let text = fs::read_to_string(&path).unwrap();
            found.insert(path, text);
        }
    }
}

/// A whole item that is put anew drops what a later version has added to it.
#[test]
fn what_is_there_is_put_anew_only_where_nothing_of_it_stays() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/store/src");
    let mut sources = BTreeMap::new();
    stores(&root, &mut sources);
    let (mut puts, mut over) = (0, Vec::new());
    for (path, text) in sources {
        let statements = [".put_item()", "Put::builder()"]
            .iter()
            .flat_map(|put| text.split(put).skip(1))
            .map(|rest| rest.split(';').next().unwrap());
        let mut count = 0;
        for statement in statements {
            puts += 1;
            let is_new = ["attribute_not_exists(pk)", "Basis::Nothing"]
                .iter()
                .any(|condition| statement.contains(condition));
            count += usize::from(!is_new);
        }
        if count > 0 {
            let path = path.strip_prefix(&root).unwrap().to_str().unwrap();
            over.push((path.to_owned(), count));
        }
    }
    assert!(puts > 15, "{puts}");
    over.sort();
    let known = PUT_OVER.map(|(path, count)| (path.to_owned(), count));
    assert_eq!(over, known);
}
