//! Keys of model providers: how they are kept, and which one answers.

use aws_sdk_dynamodb::types::AttributeValue;
use parlance::{domain::provider_key::Scopes, http::moment};
use serde_json::{Value, json};

use crate::{
    kodey::{Team, team, team_in},
    support::{
        Response, Tenant,
        faults::{Fault, Gate, faulty, script},
        provider::{Asked, Provider, Speech},
        tenant, world_over,
    },
};

const KEY: &str = "sk-proj-0123456789abcdWXYZ";

pub(super) fn path(tenant: &Tenant) -> String {
    format!("/admin/tenants/{}/provider-keys", tenant.id)
}

/// A key of `tenant` that `body` describes.
pub(super) async fn kept(tenant: &Tenant, body: Value) -> Response {
    tenant.server().post(&path(tenant), &body).await
}

pub(super) fn openai(key: &str) -> Value {
    json!({ "provider": "openai", "api_key": key })
}

#[tokio::test]
async fn a_short_key_is_never_shown_as_three_dots() {
    let tenant = tenant().await;
    let mut shown = Vec::new();
    for short in ["x", "ollama", "sk-12345678"] {
        shown.push(kept(&tenant, openai(short)).await);
    }
    for made in &shown {
        assert_eq!(made.status, 201, "{}", made.raw);
        assert_eq!(made.text("masked_key"), "(short key, hidden)");
    }
    // As the version before this one stored it.
    let update = tenant.world.dynamodb.update_item().table_name("Tenants");
    update
        .key(
            "pk",
            AttributeValue::S(format!("{}#provider_keys", tenant.id)),
        )
        .key("sk", AttributeValue::S(shown[0].text("key_id")))
        .update_expression("SET masked = :dots")
        .expression_attribute_values(":dots", AttributeValue::S("...".to_owned()))
        .send()
        .await
        .unwrap();
    let listed = tenant.server().get(&path(&tenant)).await;
    let masks = crate::chatapi::column(&listed, "masked_key");
    assert_eq!(masks, ["(short key, hidden)"; 3]);
}

#[tokio::test]
async fn a_key_is_shown_masked_and_never_as_it_is() {
    let tenant = tenant().await;
    let mut body = openai(KEY);
    body["name"] = json!("Production");
    let made = kept(&tenant, body).await;
    let expected = json!({
        "key_id": made.body["key_id"],
        "provider": "openai",
        "masked_key": "sk-...WXYZ",
        "scope_type": "tenant",
        "scope_id": null,
        "key_type": "byok",
        "base_url": null,
        "name": "Production",
        "status": "active",
        "expires_at": null,
        "last_used_at": null,
        "created_at": made.body["created_at"],
        "updated_at": made.body["created_at"],
    });
    made.assert(201, expected.clone());
    assert!(made.text("key_id").starts_with("pkey_"));
    let listed = tenant.server().get(&path(&tenant)).await;
    listed.assert(200, json!([expected]));
    let as_operator = tenant.world.operator().anew().get(&path(&tenant)).await;
    as_operator.assert(200, listed.body);
}

#[tokio::test]
async fn the_store_holds_nothing_of_a_key() {
    let tenant = tenant().await;
    assert_eq!(kept(&tenant, openai(KEY)).await.status, 201);
    let found = tenant
        .world
        .dynamodb
        .query()
        .table_name(tables().tenants)
        .key_condition_expression("pk = :pk")
        .expression_attribute_values(
            ":pk",
            aws_sdk_dynamodb::types::AttributeValue::S(format!("{}#provider_keys", tenant.id)),
        )
        .send()
        .await
        .unwrap();
    // The key, what makes it the only one, and their number.
    assert_eq!(found.count, 3);
    let items = format!("{:?}", found.items());
    assert!(!items.contains("0123456789"), "{items}");
}

fn tables() -> parlance::store::Tables {
    crate::support::settings().tables
}

#[tokio::test]
async fn a_key_is_once_in_a_scope() {
    let tenant = tenant().await;
    let first = kept(&tenant, openai(KEY)).await;
    assert_eq!(first.status, 201);
    let again = kept(&tenant, openai(KEY)).await;
    again.assert_error(409, "CONFLICT", None);
    let mut of_bot = openai(KEY);
    of_bot["scope_type"] = json!("bot");
    of_bot["scope_id"] = json!("support#1");
    let bots = kept(&tenant, of_bot).await;
    assert_eq!(
        (bots.status, &bots.body["scope_id"]),
        (201, &json!("support#1"))
    );
    // Once it is gone, or another one, there is room.
    let one = format!("{}/{}", path(&tenant), first.text("key_id"));
    let other = json!({ "api_key": "sk-another-one" });
    assert_eq!(tenant.server().put(&one, &other).await.status, 200);
    let second = kept(&tenant, openai(KEY)).await;
    assert_eq!(second.status, 201);
    let back = tenant.server().put(&one, &json!({ "api_key": KEY })).await;
    back.assert_error(409, "CONFLICT", None);
    assert_eq!(tenant.server().delete(&one).await.status, 204);
    assert_eq!(tenant.server().delete(&one).await.status, 404);
    assert_eq!(kept(&tenant, openai("sk-another-one")).await.status, 201);
}

#[tokio::test]
async fn one_text_may_be_a_key_of_several_providers_and_at_several_places() {
    let tenant = tenant().await;
    let at = |base: Value| json!({ "provider": "openai", "api_key": KEY, "base_url": base });
    let first = kept(&tenant, openai(KEY)).await;
    let one = format!("{}/{}", path(&tenant), first.text("key_id"));
    for body in [
        json!({ "provider": "google", "api_key": KEY }),
        at(json!("https://a.example/v1/")),
        at(json!("https://b.example/v1/")),
    ] {
        assert_eq!(kept(&tenant, body.clone()).await.status, 201, "{body}");
        let again = kept(&tenant, body).await;
        again.assert_error(409, "CONFLICT", None);
    }
    // It moves to where there is none, and leaves its place.
    let to = |base: Value| json!({ "api_key": KEY, "base_url": base });
    let server = tenant.server();
    let taken = server.put(&one, &to(json!("https://a.example/v1/"))).await;
    taken.assert_error(409, "CONFLICT", None);
    let moved = server.put(&one, &to(json!("https://c.example/v1/"))).await;
    assert_eq!(moved.status, 200, "{}", moved.raw);
    let there = kept(&tenant, at(json!("https://c.example/v1/"))).await;
    there.assert_error(409, "CONFLICT", None);
    assert_eq!(kept(&tenant, openai(KEY)).await.status, 201);
}

#[tokio::test]
async fn an_owner_has_fifty_keys_however_many_are_made_at_once() {
    let tenant = tenant().await;
    let making = (0..52).map(|n| kept(&tenant, openai(&format!("sk-{n}"))));
    let made = futures_util::future::join_all(making).await;
    let count = |status| made.iter().filter(|made| made.status == status).count();
    assert_eq!((count(201), count(409)), (50, 2));
    let first = made.iter().find(|made| made.status == 201).unwrap();
    let one = format!("{}/{}", path(&tenant), first.text("key_id"));
    assert_eq!(tenant.server().delete(&one).await.status, 204);
    assert_eq!(kept(&tenant, openai("sk-more")).await.status, 201);
    let page = tenant.server().get(&(path(&tenant) + "?limit=30")).await;
    assert_eq!(page.body.as_array().unwrap().len(), 30);
    let rest = tenant.server().get(&page.next().unwrap()).await;
    assert_eq!(
        (rest.body.as_array().unwrap().len(), rest.next()),
        (20, None)
    );
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_by_its_field() {
    let tenant = tenant().await;
    let long = "x".repeat(513);
    for (field, value) in [
        ("provider", json!("echo")),
        ("provider", json!("mistral")),
        ("api_key", json!("")),
        ("api_key", json!("a b")),
        ("api_key", json!(long)),
        ("base_url", json!("ftp://example.com")),
        ("base_url", json!("https://user:pass@example.com/")),
        ("base_url", json!("https://example.com/v1?a=b")),
        ("base_url", json!("https://example.com/v1#a")),
        ("base_url", json!("no")),
        ("scope_type", json!("global")),
        ("scope_id", json!("a")),
        ("key_type", json!("own")),
        ("name", json!("x".repeat(257))),
        ("expires_at", json!("2020-01-01T00:00:00Z")),
        ("expires_at", json!("soon")),
    ] {
        let mut body = openai(KEY);
        body[field] = value;
        let refused = kept(&tenant, body.clone()).await;
        refused.assert_error(400, "VALIDATION_ERROR", Some(field));
    }
    let mut nameless = openai(KEY);
    nameless["scope_type"] = json!("bot");
    let refused = kept(&tenant, nameless).await;
    refused.assert_error(400, "VALIDATION_ERROR", Some("scope_id"));
    tenant
        .server()
        .get(&path(&tenant))
        .await
        .assert(200, json!([]));
}

#[tokio::test]
async fn providers_are_public_unless_the_operator_allows_others() {
    let tenant = tenant().await;
    let public = tenant
        .world
        .sending_to(parlance::domain::address::Targets::Public);
    let tenant = tenant.at(&public);
    for base in [
        "http://example.com",
        "https://127.0.0.1/",
        "https://10.0.0.1/v1",
    ] {
        let mut body = openai(KEY);
        body["base_url"] = json!(base);
        let refused = kept(&tenant, body).await;
        refused.assert_error(400, "VALIDATION_ERROR", Some("base_url"));
    }
}

#[tokio::test]
async fn what_is_left_out_of_a_change_stays() {
    let tenant = tenant().await;
    let mut body = openai(KEY);
    body["base_url"] = json!("https://models.example/v1");
    body["expires_at"] = json!("2100-01-01T00:00:00Z");
    let made = kept(&tenant, body).await;
    let one = format!("{}/{}", path(&tenant), made.text("key_id"));
    let put = async |change: Value| tenant.server().put(&one, &change).await;

    let mut expected = made.body.clone();
    let named = put(json!({ "name": "Other" })).await;
    expected["name"] = json!("Other");
    expected["updated_at"] = named.body["updated_at"].clone();
    named.assert(200, expected.clone());
    assert_ne!(named.body["updated_at"], made.body["updated_at"]);

    let off = put(json!({ "status": "invalid", "expires_at": null })).await;
    expected["status"] = json!("invalid");
    expected["expires_at"] = json!(null);
    expected["updated_at"] = off.body["updated_at"].clone();
    off.assert(200, expected.clone());

    // Another key counts as valid, and is where the one before it was.
    let other = put(json!({ "api_key": "sk-0123456789-other" })).await;
    expected["status"] = json!("active");
    expected["masked_key"] = json!("sk-...ther");
    expected["updated_at"] = other.body["updated_at"].clone();
    other.assert(200, expected.clone());

    let usual = put(json!({ "api_key": KEY, "base_url": null })).await;
    expected["base_url"] = json!(null);
    expected["masked_key"] = json!("sk-...WXYZ");
    expected["updated_at"] = usual.body["updated_at"].clone();
    usual.assert(200, expected);
}

#[tokio::test]
async fn what_a_key_was_made_for_cannot_be_changed() {
    let tenant = tenant().await;
    let made = kept(&tenant, openai(KEY)).await;
    let one = format!("{}/{}", path(&tenant), made.text("key_id"));
    for (field, value) in [
        ("provider", json!("google")),
        ("provider", json!("openai")),
        ("scope_type", json!("bot")),
        ("scope_id", json!("b")),
        ("scope_id", json!(null)),
        ("key_type", json!("global")),
    ] {
        let change = json!({ "name": "Other", field: value });
        let refused = tenant.server().put(&one, &change).await;
        refused.assert_error(400, "VALIDATION_ERROR", Some(field));
    }
    let listed = tenant.server().get(&path(&tenant)).await;
    listed.assert(200, json!([made.body]));
}

#[tokio::test]
async fn a_use_that_is_noted_during_a_change_stays() {
    let tenant = tenant().await;
    let made = kept(&tenant, openai(KEY)).await;
    let one = format!("{}/{}", path(&tenant), made.text("key_id"));
    let gate = Gate::default();
    let plan = script("TransactWriteItems", [Fault::Hold(gate.clone())]);
    let slow = tenant.at(&tenant.world.another(|client| faulty(client, plan)));
    let noting = async {
        gate.reached().await;
        let id = made.text("key_id");
        set(&tenant, &id, "last_used_at", "2026-01-01T00:00:00.000000Z").await;
        gate.open();
    };
    let name = json!({ "name": "Other" });
    let server = slow.server();
    let (changed, ()) = tokio::join!(server.put(&one, &name), noting);
    assert_eq!(changed.status, 200, "{}", changed.raw);
    let listed = tenant.server().get(&path(&tenant)).await;
    assert_eq!(
        (&listed.body[0]["name"], &listed.body[0]["last_used_at"]),
        (&json!("Other"), &json!("2026-01-01T00:00:00.000000Z"))
    );
}

/// The text is the same: what is deleted is the key at the place where it is now.
#[tokio::test]
async fn a_key_that_is_moved_during_its_deletion_can_be_made_anew() {
    let tenant = tenant().await;
    let made = kept(&tenant, openai(KEY)).await;
    let one = format!("{}/{}", path(&tenant), made.text("key_id"));
    let gate = Gate::default();
    let plan = script("TransactWriteItems", [Fault::Hold(gate.clone())]);
    let slow = tenant.at(&tenant.world.another(|client| faulty(client, plan)));
    let elsewhere = json!({
        "provider": "openai", "api_key": KEY, "base_url": "https://models.example/v1/",
    });
    let moving = async {
        gate.reached().await;
        let mut change = elsewhere.clone();
        change.as_object_mut().unwrap().remove("provider");
        let moved = tenant.server().put(&one, &change).await;
        assert_eq!(moved.status, 200, "{}", moved.raw);
        gate.open();
    };
    let server = slow.server();
    let (deleted, ()) = tokio::join!(server.delete(&one), moving);
    assert_eq!(deleted.status, 204, "{}", deleted.raw);
    for body in [openai(KEY), elsewhere.clone()] {
        let anew = kept(&tenant, body).await;
        assert_eq!(anew.status, 201, "{}", anew.raw);
    }
}

#[tokio::test]
async fn a_stored_key_is_never_sent_where_it_was_not_stored_to_go() {
    let tenant = tenant().await;
    let made = kept(&tenant, openai(KEY)).await;
    let one = format!("{}/{}", path(&tenant), made.text("key_id"));
    for base in [json!("https://thief.example/"), json!(null)] {
        let refused = tenant
            .server()
            .put(&one, &json!({ "base_url": base }))
            .await;
        refused.assert_error(400, "VALIDATION_ERROR", Some("base_url"));
    }
}

#[tokio::test]
async fn what_the_operator_pays_for_the_operator_alone_writes() {
    let tenant = tenant().await;
    let mut body = openai(KEY);
    body["key_type"] = json!("global");
    let refused = kept(&tenant, body.clone()).await;
    refused.assert_error(403, "AUTHORIZATION_ERROR", None);
    let operator = tenant.world.operator().anew();
    let made = operator.post(&path(&tenant), &body).await;
    assert_eq!(
        (made.status, &made.body["key_type"]),
        (201, &json!("global"))
    );
    let one = format!("{}/{}", path(&tenant), made.text("key_id"));
    let change = json!({ "api_key": "sk-mine", "base_url": "https://thief.example/" });
    let changed = tenant.server().put(&one, &change).await;
    changed.assert_error(403, "AUTHORIZATION_ERROR", None);
    let deleted = tenant.server().delete(&one).await;
    deleted.assert_error(403, "AUTHORIZATION_ERROR", None);
    assert_eq!(operator.delete(&one).await.status, 204);
}

#[tokio::test]
async fn another_tenants_keys_are_not_found() {
    let (mine, other) = (tenant().await, tenant().await);
    let made = kept(&mine, openai(KEY)).await;
    let one = format!("{}/{}", path(&mine), made.text("key_id"));
    let server = other.server();
    let name = json!({ "name": "x" });
    for answer in [
        server.get(&path(&mine)).await,
        server.post(&path(&mine), &openai("sk-theirs")).await,
        server.put(&one, &name).await,
        server.delete(&one).await,
        // Nor is it under their own tenant.
        server
            .put(&format!("{}/{}", path(&other), made.text("key_id")), &name)
            .await,
        server.put(&format!("{}/pkey_1", path(&other)), &name).await,
    ] {
        answer.assert_error(404, "NOT_FOUND", None);
    }
    let nobody = "/admin/tenants/tenant_00000000000000000000000000000000/provider-keys";
    let operator = mine.world.operator().anew();
    let answer = operator.post(nobody, &openai(KEY)).await;
    answer.assert_error(404, "NOT_FOUND", None);
    operator
        .get(nobody)
        .await
        .assert_error(404, "NOT_FOUND", None);
}

#[tokio::test]
async fn the_operators_keys_are_nobody_elses_business() {
    let tenant = tenant().await;
    for client in [tenant.server(), tenant.world.stranger()] {
        for answer in [
            client.get("/admin/provider-keys").await,
            client.post("/admin/provider-keys", &openai(KEY)).await,
        ] {
            assert!([401, 403].contains(&answer.status), "{}", answer.raw);
        }
    }
}

#[tokio::test]
async fn a_repeated_request_keeps_one_key() {
    let tenant = tenant().await;
    let server = tenant.server().with("idempotency-key", "once");
    let first = server.post(&path(&tenant), &openai(KEY)).await;
    let again = server.post(&path(&tenant), &openai(KEY)).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    again.assert(201, first.body);
    let other = server.post(&path(&tenant), &openai("sk-other")).await;
    other.assert_error(409, "CONFLICT", None);
}

#[tokio::test]
async fn a_repeated_request_is_told_what_it_made_though_that_is_gone() {
    let tenant = tenant().await;
    let server = tenant.server().with("idempotency-key", "once");
    let first = server.post(&path(&tenant), &openai(KEY)).await;
    let one = format!("{}/{}", path(&tenant), first.text("key_id"));
    let named = tenant.server().put(&one, &json!({ "name": "Other" })).await;
    assert_eq!(named.status, 200, "{}", named.raw);
    let again = server.post(&path(&tenant), &openai(KEY)).await;
    again.assert(201, first.body.clone());
    assert_eq!(tenant.server().delete(&one).await.status, 204);
    let again = server.post(&path(&tenant), &openai(KEY)).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    again.assert(201, first.body);
    let none = tenant.server().get(&path(&tenant)).await;
    none.assert(200, json!([]));
}

/// A team, and an agent of its that `openai` answers for.
pub(super) async fn answered(team: &Team) -> String {
    let body = json!({ "name": "Agent", "provider": "openai", "model": "some-model" });
    let made = team.sk.post("/agent", &body).await;
    assert_eq!(made.status, 200, "{}", made.raw);
    made.text("id")
}

/// What `agent` answers to `text` in a fresh chat.
pub(super) async fn ask(team: &Team, agent: &str, text: &str) -> Response {
    let chat = team.sk.post("/chat", &json!({ "agentId": agent })).await;
    let path = format!("/chat/{}/message", chat.text("id"));
    team.sk.post(&path, &json!({ "content": text })).await
}

pub(super) async fn with_base(tenant: &Tenant, provider: &Provider, key: &str) -> Response {
    let mut body = openai(key);
    body["base_url"] = json!(provider.base(Speech::OpenAi));
    let made = kept(tenant, body).await;
    assert_eq!(made.status, 201, "{}", made.raw);
    made
}

#[tokio::test]
async fn an_agent_answers_with_its_teams_key() {
    let (team, provider) = (team().await, Provider::new());
    let agent = answered(&team).await;
    let silent = ask(&team, &agent, "hello").await;
    assert_eq!(
        (silent.status, &silent.body["retryable"]),
        (502, &json!(false))
    );
    with_base(&team.tenant, &provider, KEY).await;
    let answer = ask(&team, &agent, "hello").await;
    assert_eq!(
        (answer.status, answer.text("content").as_str()),
        (200, "You asked: hello")
    );
    assert_eq!(provider.asked()[0].key(), KEY);
    let keys = team.tenant.server().get(&path(&team.tenant)).await;
    assert!(keys.body[0]["last_used_at"].is_string(), "{}", keys.raw);
}

#[tokio::test]
async fn a_key_that_the_provider_does_not_take_turns_invalid_and_the_next_answers() {
    let (team, provider) = (team().await, Provider::new());
    provider.reject("sk-first");
    with_base(&team.tenant, &provider, "sk-first").await;
    with_base(&team.tenant, &provider, "sk-second").await;
    let agent = answered(&team).await;
    for _ in 0..2 {
        let answer = ask(&team, &agent, "hello").await;
        assert_eq!(answer.status, 200, "{}", answer.raw);
    }
    let keys: Vec<_> = provider.asked().iter().map(Asked::key).collect();
    assert_eq!(keys, ["sk-first", "sk-second", "sk-second"]);
    let kept = team.tenant.server().get(&path(&team.tenant)).await;
    let statuses: Vec<_> = kept
        .body
        .as_array()
        .unwrap()
        .iter()
        .map(|key| &key["status"])
        .collect();
    assert_eq!(statuses, ["invalid", "active"]);
}

#[tokio::test]
async fn who_has_more_keys_than_are_tried_at_once_is_told_to_try_again() {
    let (team, provider) = (team().await, Provider::new());
    for revoked in ["sk-1", "sk-2", "sk-3", "sk-4"] {
        provider.reject(revoked);
        with_base(&team.tenant, &provider, revoked).await;
    }
    with_base(&team.tenant, &provider, "sk-good").await;
    let agent = answered(&team).await;
    let refused = ask(&team, &agent, "hello").await;
    assert_eq!(
        (refused.status, &refused.body["retryable"]),
        (502, &json!(true)),
        "{}",
        refused.raw
    );
    assert_eq!(ask(&team, &agent, "hello").await.status, 200);
}

#[tokio::test]
async fn who_has_no_key_that_is_taken_is_not_told_to_try_again() {
    let (team, provider) = (team().await, Provider::new());
    let revoked = ["sk-1", "sk-2", "sk-3", "sk-4"];
    for revoked in revoked {
        provider.reject(revoked);
        with_base(&team.tenant, &provider, revoked).await;
    }
    let agent = answered(&team).await;
    let refused = ask(&team, &agent, "hello").await;
    assert_eq!(
        (refused.status, &refused.body["retryable"]),
        (502, &json!(false)),
        "{}",
        refused.raw
    );
}

#[tokio::test]
async fn keys_that_do_not_open_are_in_nobodys_way() {
    let (team, provider) = (team().await, Provider::new());
    for n in 0..5 {
        let made = with_base(&team.tenant, &provider, &format!("sk-{n}")).await;
        if n < 4 {
            // As one that another key has sealed.
            set(&team.tenant, &made.text("key_id"), "sealed", "k1.AAAA").await;
        }
    }
    // Another process: this one remembers them as they were.
    let team = team.at(&team.tenant.world.another(|client| client));
    let agent = answered(&team).await;
    for _ in 0..2 {
        let answer = ask(&team, &agent, "hello").await;
        assert_eq!(answer.status, 200, "{}", answer.raw);
    }
    let keys: Vec<_> = provider.asked().iter().map(Asked::key).collect();
    assert_eq!(keys, ["sk-4", "sk-4"]);
}

/// Gives a stored key another `attribute`, as nobody can who asks.
async fn set(tenant: &Tenant, id: &str, attribute: &str, value: &str) {
    let text = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned());
    tenant
        .world
        .dynamodb
        .update_item()
        .table_name(tables().tenants)
        .key("pk", text(&format!("{}#provider_keys", tenant.id)))
        .key("sk", text(id))
        .update_expression("SET #attribute = :value")
        .expression_attribute_names("#attribute", attribute)
        .expression_attribute_values(":value", text(value))
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_key_that_is_gone_answers_no_more() {
    let (team, provider) = (team().await, Provider::new());
    let made = with_base(&team.tenant, &provider, KEY).await;
    let agent = answered(&team).await;
    assert_eq!(ask(&team, &agent, "hello").await.status, 200);
    let one = format!("{}/{}", path(&team.tenant), made.text("key_id"));
    assert_eq!(team.tenant.server().delete(&one).await.status, 204);
    assert_eq!(ask(&team, &agent, "hello").await.status, 502);
    assert_eq!(provider.asked().len(), 1);
}

#[tokio::test]
async fn the_operators_key_answers_for_who_has_none() {
    let world = world_over(|http| http).await;
    let (team, provider) = (team_in(&world).await, Provider::new());
    let operator = world.operator().anew();
    let mut body = openai("sk-operator");
    body["base_url"] = json!(provider.base(Speech::OpenAi));
    let made = operator.post("/admin/provider-keys", &body).await;
    assert_eq!(
        (
            made.status,
            &made.body["scope_type"],
            &made.body["key_type"]
        ),
        (201, &json!("global"), &json!("global"))
    );
    let agent = answered(&team).await;
    assert_eq!(ask(&team, &agent, "one").await.status, 200);
    with_base(&team.tenant, &provider, "sk-own").await;
    assert_eq!(ask(&team, &agent, "two").await.status, 200);
    let keys: Vec<_> = provider.asked().iter().map(Asked::key).collect();
    assert_eq!(keys, ["sk-operator", "sk-own"]);

    let one = format!("/admin/provider-keys/{}", made.text("key_id"));
    let named = operator.put(&one, &json!({ "name": "All" })).await;
    operator
        .get("/admin/provider-keys")
        .await
        .assert(200, json!([named.body]));
    assert_eq!(operator.delete(&one).await.status, 204);
    operator
        .get("/admin/provider-keys")
        .await
        .assert(200, json!([]));
}

#[tokio::test]
async fn a_bots_key_comes_before_its_groups_and_that_before_the_tenants() {
    let tenant = tenant().await;
    for (kind, id, key) in [
        ("tenant", None, "sk-tenant"),
        ("bot_group", Some("g"), "sk-group"),
        ("bot", Some("b"), "sk-bot"),
        ("bot", Some("c"), "sk-other-bot"),
    ] {
        let mut body = openai(key);
        body["scope_type"] = json!(kind);
        if let Some(id) = id {
            body["scope_id"] = json!(id);
        }
        assert_eq!(kept(&tenant, body).await.status, 201);
    }
    let scopes = Scopes {
        bot: Some("b"),
        bot_group: Some("g"),
    };
    let now = moment(std::time::Duration::from_secs(10)).unwrap();
    let app = &tenant.world.app;
    let provider = "openai".parse().unwrap();
    let keys = app
        .model_keys(tenant.id.parse().unwrap(), provider, &scopes, &now)
        .await
        .unwrap();
    let expected = ["sk-bot", "sk-group", "sk-tenant"].map(super::key);
    assert_eq!(
        keys.opened
            .into_iter()
            .map(|key| key.key)
            .collect::<Vec<_>>(),
        expected
    );
}

#[tokio::test]
async fn keys_in_order_cost_two_reads_a_minute_and_no_more() {
    let tenant = tenant().await;
    assert_eq!(kept(&tenant, openai(KEY)).await.status, 201);
    let usage = std::sync::Arc::new(parlance::store::usage::Usage::default());
    let metered = parlance::store::usage::metered(&tenant.world.dynamodb, false);
    let app = crate::support::app(&metered, parlance::domain::address::Targets::Any);
    let now = moment(std::time::Duration::from_secs(10)).unwrap();
    let (id, provider) = (tenant.id.parse().unwrap(), "openai".parse().unwrap());
    for calls in [2, 2, 2] {
        let scopes = Scopes::default();
        let keys = app.model_keys(id, provider, &scopes, &now);
        assert_eq!(usage.of(keys).await.unwrap().opened.len(), 1);
        assert_eq!(usage.calls(), calls);
    }
}
