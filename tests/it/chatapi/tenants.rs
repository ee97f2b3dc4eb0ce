//! Tenants and their keys, which the operator makes.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{assert_time, column, s, scan, walk};
use crate::support::{Client, Tenant, World, tenant, world, world_over};

/// The operator, whose address is not limited by what others did.
fn operator(world: &World) -> Client {
    world.operator().anew()
}

/// What a tenant's server with `key` sees.
async fn status(world: &World, key: &str) -> u16 {
    let client = world
        .stranger()
        .with("x-api-key", key)
        .with("x-user-id", "alice");
    client.get("/rooms").await.status
}

#[tokio::test]
async fn a_tenant_is_created_and_its_key_works() {
    let world = world().await;

    let made = operator(&world)
        .post("/admin/tenants", &json!({ "name": "Acme ☂" }))
        .await;

    made.assert(
        201,
        json!({
            "tenant_id": made.body["tenant_id"],
            "api_key": made.body["api_key"],
            "name": "Acme ☂",
            "rate_limit": 100,
            "retry": { "attempts": 5, "interval_seconds": 30, "backoff": "fixed" },
            "publishable_list_scope": "user",
            "monthly_token_cap": null,
            "created_at": made.body["created_at"],
        }),
    );
    assert!(made.text("tenant_id").starts_with("tenant_"));
    assert!(made.text("api_key").starts_with("sk_"));
    assert!(!made.text("api_key").starts_with("sk_live_"));
    assert_time(&made.body["created_at"]);
    assert_eq!(status(&world, &made.text("api_key")).await, 200);
}

#[tokio::test]
async fn a_tenant_is_read_without_its_key() {
    let world = world().await;
    let made = operator(&world)
        .post("/admin/tenants", &json!({ "name": "Acme" }))
        .await;

    let read = operator(&world)
        .get(&format!("/admin/tenants/{}", made.text("tenant_id")))
        .await;

    read.assert(
        200,
        json!({
            "tenant_id": made.body["tenant_id"],
            "name": "Acme",
            "rate_limit": 100,
            "retry": { "attempts": 5, "interval_seconds": 30, "backoff": "fixed" },
            "publishable_list_scope": "user",
            "monthly_token_cap": null,
            "created_at": made.body["created_at"],
        }),
    );
}

#[tokio::test]
async fn tenants_are_listed_oldest_first_without_their_keys() {
    let world = world_over(|client| client).await;
    let mut made = Vec::new();
    for number in 0..5 {
        let body = json!({ "name": format!("tenant {number}") });
        let answer = operator(&world).post("/admin/tenants", &body).await;
        let mut shown = answer.body;
        shown.as_object_mut().unwrap().remove("api_key");
        made.push(shown);
    }
    let by_id =
        |tenants: &mut Vec<Value>| tenants.sort_by_key(|tenant| tenant["tenant_id"].to_string());
    by_id(&mut made);

    operator(&world)
        .get("/admin/tenants")
        .await
        .assert(200, json!(made));
    let (walked, pages) = walk(&operator(&world), "/admin/tenants?limit=2", "name").await;
    assert_eq!(
        walked,
        made.iter()
            .map(|tenant| tenant["name"].clone())
            .collect::<Vec<_>>()
    );
    assert_eq!(pages, 3);
    let page = operator(&world)
        .get("/admin/tenants?limit=2&offset=3")
        .await;
    assert_eq!(
        column(&page, "name"),
        [made[3]["name"].clone(), made[4]["name"].clone()]
    );
}

#[tokio::test]
async fn a_tenant_is_renamed_and_its_limit_changed() {
    let tenant = tenant().await;
    let path = format!("/admin/tenants/{}", tenant.id);
    let operator = operator(&tenant.world);

    let patched = operator
        .patch(&path, &json!({ "name": "New", "rate_limit": 250 }))
        .await;

    patched.assert(
        200,
        json!({
            "tenant_id": tenant.id,
            "name": "New",
            "rate_limit": 250,
            "retry": { "attempts": 5, "interval_seconds": 30, "backoff": "fixed" },
            "publishable_list_scope": "user",
            "monthly_token_cap": null,
            "created_at": patched.body["created_at"],
        }),
    );
    assert_eq!(operator.get(&path).await.body, patched.body);
}

#[tokio::test]
async fn a_patch_changes_only_what_it_names() {
    let tenant = tenant().await;
    let path = format!("/admin/tenants/{}", tenant.id);
    let operator = operator(&tenant.world);
    operator.patch(&path, &json!({ "name": "New" })).await;
    let before = operator.get(&path).await.body;

    operator
        .patch(&path, &json!({}))
        .await
        .assert(200, before.clone());
    assert_eq!(before["name"], "New");
    assert_eq!(before["rate_limit"], 1_000_000);
}

#[tokio::test]
async fn a_retry_schedule_is_changed_piece_by_piece() {
    let tenant = tenant().await;
    let path = format!("/admin/tenants/{}", tenant.id);
    let operator = operator(&tenant.world);
    let steps = [
        (json!({ "attempts": 10 }), (10, 30, "fixed")),
        (json!({ "interval_seconds": 43_200 }), (10, 43_200, "fixed")),
        (
            json!({ "backoff": "exponential" }),
            (10, 43_200, "exponential"),
        ),
        (json!({}), (10, 43_200, "exponential")),
        (
            json!({ "attempts": 1, "interval_seconds": 1, "backoff": "fixed" }),
            (1, 1, "fixed"),
        ),
    ];
    for (retry, (attempts, interval, backoff)) in steps {
        let patched = operator.patch(&path, &json!({ "retry": retry })).await;
        let wanted = json!({
            "attempts": attempts,
            "interval_seconds": interval,
            "backoff": backoff,
        });
        assert_eq!((patched.status, &patched.body["retry"]), (200, &wanted));
        assert_eq!(operator.get(&path).await.body, patched.body);
    }
}

#[tokio::test]
async fn what_a_publishable_key_shows_and_a_cap_of_tokens_are_changed_and_lifted() {
    let tenant = tenant().await;
    let path = format!("/admin/tenants/{}", tenant.id);
    let operator = operator(&tenant.world);
    let most = 1_000_000_000_000_u64;
    for (patch, scope, cap) in [
        (json!({}), "user", Value::Null),
        (json!({ "monthly_token_cap": 1 }), "user", json!(1)),
        (
            json!({ "publishable_list_scope": "team" }),
            "team",
            json!(1),
        ),
        (json!({ "monthly_token_cap": most }), "team", json!(most)),
        (json!({ "name": "New" }), "team", json!(most)),
        (json!({ "monthly_token_cap": null }), "team", Value::Null),
        (json!({ "monthly_token_cap": null }), "team", Value::Null),
        (
            json!({ "publishable_list_scope": "user", "monthly_token_cap": 5 }),
            "user",
            json!(5),
        ),
    ] {
        let patched = operator.patch(&path, &patch).await;
        assert_eq!(patched.status, 200, "{}", patched.raw);
        assert_eq!(patched.body["publishable_list_scope"], scope, "{patch}");
        assert_eq!(patched.body["monthly_token_cap"], cap, "{patch}");
        assert_eq!(operator.get(&path).await.body, patched.body);
    }
}

#[tokio::test]
async fn an_unknown_tenant_is_not_found() {
    let operator = operator(&world().await);
    for id in [
        "tenant_00000000000000000000000000000000",
        "tenant_1",
        "nope",
    ] {
        let path = format!("/admin/tenants/{id}");
        operator
            .get(&path)
            .await
            .assert_error(404, "NOT_FOUND", None);
        let patched = operator.patch(&path, &json!({ "name": "x" })).await;
        patched.assert_error(404, "NOT_FOUND", None);
        operator
            .patch(&path, &json!({}))
            .await
            .assert_error(404, "NOT_FOUND", None);
        let rotated = operator
            .post(&format!("{path}/keys/rotate"), &json!({}))
            .await;
        rotated.assert_error(404, "NOT_FOUND", None);
    }
}

async fn rotate(tenant: &Tenant) -> crate::support::Response {
    rotate_with(tenant, "").await
}

async fn rotate_with(tenant: &Tenant, query: &str) -> crate::support::Response {
    let path = format!("/admin/tenants/{}/keys/rotate{query}", tenant.id);
    operator(&tenant.world)
        .send(axum::http::Method::POST, &path, "")
        .await
}

#[tokio::test]
async fn both_keys_work_after_a_rotation() {
    let tenant = tenant().await;
    let room = tenant.group(&["alice"]).await;

    let rotated = rotate(&tenant).await;

    rotated.assert(
        201,
        json!({
            "tenant_id": tenant.id,
            "api_key": rotated.body["api_key"],
            "created_at": rotated.body["created_at"],
            "previous_key_expires_at": rotated.body["previous_key_expires_at"],
        }),
    );
    assert_time(&rotated.body["previous_key_expires_at"]);
    let renewed = Tenant {
        key: rotated.text("api_key"),
        ..tenant.clone()
    };
    assert_ne!(renewed.key, tenant.key);
    for tenant in [&tenant, &renewed] {
        let cold = tenant.at(&tenant.world.another(|client| client));
        for tenant in [tenant, &cold] {
            assert_eq!(
                column(&tenant.user("alice").get("/rooms").await, "room_id"),
                [room.as_str()]
            );
        }
    }
}

#[tokio::test]
async fn a_key_whose_overlap_is_over_does_not_work() {
    let tenant = tenant().await;
    let rotated = rotate(&tenant).await;
    let hash = hex::encode(Sha256::digest(&tenant.key));
    let update = tenant
        .world
        .dynamodb
        .update_item()
        .table_name("Keys")
        .key("pk", s(hash));
    update
        .update_expression("SET #ttl = :past")
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":past", AttributeValue::N("1765627200".to_owned()))
        .send()
        .await
        .unwrap();

    let cold = tenant.world.another(|client| client);
    let old = cold
        .stranger()
        .with("x-api-key", &tenant.key)
        .with("x-user-id", "alice");
    old.get("/rooms").await.assert(
        401,
        json!({
            "success": false,
            "error": { "code": "AUTHENTICATION_ERROR", "message": "Invalid API key" },
        }),
    );
    assert_eq!(status(&cold, &rotated.text("api_key")).await, 200);
}

#[tokio::test]
async fn a_key_that_leaked_ends_with_its_rotation() {
    let tenant = tenant().await;
    let rotated = rotate_with(&tenant, "?overlap_seconds=0").await;
    assert_eq!(rotated.status, 201, "{}", rotated.raw);
    assert_eq!(
        rotated.body["previous_key_expires_at"],
        rotated.body["created_at"]
    );

    let cold = tenant.world.another(|client| client);
    assert_eq!(status(&cold, &tenant.key).await, 401);
    assert_eq!(status(&cold, &rotated.text("api_key")).await, 200);
    if tenant.world.deployed.is_none() {
        assert_eq!(status(&tenant.world, &tenant.key).await, 401);
    }
}

#[tokio::test]
async fn an_overlap_that_breaks_its_rule_rotates_nothing() {
    let tenant = tenant().await;
    for overlap in ["-1", "86401", "soon", "1.5", ""] {
        let refused = rotate_with(&tenant, &format!("?overlap_seconds={overlap}")).await;
        refused.assert_error(400, "VALIDATION_ERROR", Some("overlap_seconds"));
    }
    let hash = hex::encode(Sha256::digest(&tenant.key));
    let item = super::item(&tenant.world, "Keys", hash).await.unwrap();
    assert!(!item.contains_key("ttl"));
}

#[tokio::test]
async fn eight_rotations_at_once_leave_one_key_without_an_end_and_one_with() {
    let tenant = tenant().await;
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let tenant = tenant.clone();
        requests.spawn(async move { rotate(&tenant).await });
    }
    let answers = requests.join_all().await;

    for refused in answers.iter().filter(|answer| answer.status != 201) {
        refused.assert_error(409, "CONFLICT", None);
    }
    let keys = scan(&tenant.world, "Keys").await;
    let own: Vec<_> = keys
        .iter()
        .filter(|key| key["tenant"] == s(&tenant.id))
        .collect();
    assert!(answers.iter().any(|answer| answer.status == 201));
    assert_eq!(own.len(), 2);
    assert_eq!(own.iter().filter(|key| !key.contains_key("ttl")).count(), 1);
}

#[tokio::test]
async fn no_table_holds_a_key_in_the_clear() {
    let world = world_over(|client| client).await;
    let made = operator(&world)
        .post("/admin/tenants", &json!({ "name": "Acme" }))
        .await;
    let path = format!("/admin/tenants/{}/keys/rotate", made.text("tenant_id"));
    let keyed = operator(&world).with("idempotency-key", "once");
    let rotated = keyed.post(&path, &json!({})).await;
    for key in [made.text("api_key"), rotated.text("api_key")] {
        for table in ["Tenants", "Keys", "Guards", "Events"] {
            let secret = key.trim_start_matches("sk_");
            assert!(
                !format!("{:?}", scan(&world, table).await).contains(secret),
                "{table}"
            );
        }
    }
}
