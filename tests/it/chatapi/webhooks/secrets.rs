//! The secrets of endpoints: sealed, rotated with an overlap, and what they sign.

use axum::http::Method;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{URL, create, path, scan};
use crate::support::{
    Response, Tenant,
    receiver::{Got, Receiver},
    tenant, tenant_of, world_over,
};

/// HMAC-SHA256 as RFC 2104 defines it, by itself.
pub(crate) fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new()
        .chain_update(block.map(|byte| byte ^ 0x36))
        .chain_update(text)
        .finalize();
    let outer = Sha256::new()
        .chain_update(block.map(|byte| byte ^ 0x5c))
        .chain_update(inner);
    outer.finalize().to_vec()
}

/// What a webhook would be signed with by `secret`.
pub(super) fn signature(got: &Got, secret: &str) -> String {
    let key = STANDARD.decode(&secret["whsec_".len()..]).unwrap();
    let (id, at) = (
        &got.headers["webhook-id"],
        &got.headers["webhook-timestamp"],
    );
    let signed = format!("{id}.{at}.{}", got.raw);
    format!("v1,{}", STANDARD.encode(hmac(&key, signed.as_bytes())))
}

/// An endpoint at `receiver`: its path and its secret.
async fn endpoint(tenant: &Tenant, receiver: &Receiver) -> (String, String) {
    let made = create(tenant, &receiver.url).await;
    (path(&made), made.text("secret"))
}

/// The signatures of a webhook that is sent to an endpoint now.
async fn signed(tenant: &Tenant, path: &str, receiver: &Receiver) -> (Got, Vec<String>) {
    let trial = tenant
        .server()
        .post(&format!("{path}/test"), &json!({}))
        .await;
    assert_eq!(trial.body["delivered"], true, "{}", trial.raw);
    let got = receiver.take().pop().unwrap();
    let signatures = got.headers["webhook-signature"].split(' ');
    let signatures = signatures.map(ToOwned::to_owned).collect();
    (got, signatures)
}

async fn rotate(tenant: &Tenant, path: &str, body: &Value) -> Response {
    let rotated = tenant
        .server()
        .post(&format!("{path}/secret/rotate"), body)
        .await;
    assert_eq!(rotated.status, 201, "{}", rotated.raw);
    rotated
}

#[tokio::test]
async fn a_webhook_is_signed_with_the_endpoints_secret() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    let (path, secret) = endpoint(&tenant, &receiver).await;

    let (got, signatures) = signed(&tenant, &path, &receiver).await;

    assert_eq!(signatures, [signature(&got, &secret)]);
    let chatapi = hex::encode(hmac(secret.as_bytes(), got.raw.as_bytes()));
    assert_eq!(
        got.headers["x-chatapi-signature"],
        format!("sha256={chatapi}")
    );
}

#[tokio::test]
async fn a_secret_that_a_tenant_brings_is_the_one_that_signs() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    for bytes in [24, 64] {
        let secret = format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        let body = json!({ "url": receiver.url, "secret": secret });
        let made = tenant.server().post("/webhooks", &body).await;
        let (got, signatures) = signed(&tenant, &path(&made), &receiver).await;
        assert_eq!(signatures, [signature(&got, &secret)]);
    }
}

#[tokio::test]
async fn both_secrets_sign_after_a_rotation() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    let (path, old) = endpoint(&tenant, &receiver).await;

    let rotated = tenant
        .server()
        .send(Method::POST, &format!("{path}/secret/rotate"), "")
        .await;

    rotated.assert(
        201,
        json!({
            "endpoint_id": path["/webhooks/".len()..],
            "secret": rotated.body["secret"],
            "previous_secret_expires_at": rotated.body["previous_secret_expires_at"],
        }),
    );
    super::assert_time(&rotated.body["previous_secret_expires_at"]);
    let new = rotated.text("secret");
    assert_ne!(new, old);
    let (got, signatures) = signed(&tenant, &path, &receiver).await;
    assert_eq!(signatures, [signature(&got, &new), signature(&got, &old)]);
    // There is room for one here: the newest.
    let chatapi = hex::encode(hmac(new.as_bytes(), got.raw.as_bytes()));
    assert_eq!(
        got.headers["x-chatapi-signature"],
        format!("sha256={chatapi}")
    );
    let read = tenant.server().get(&path).await;
    assert_eq!(
        read.body["previous_secret_expires_at"],
        rotated.body["previous_secret_expires_at"]
    );
}

#[tokio::test]
async fn of_three_secrets_the_last_two_sign() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    let (path, _first) = endpoint(&tenant, &receiver).await;
    let mine = format!("whsec_{}", STANDARD.encode([9; 32]));
    let second = rotate(&tenant, &path, &json!({})).await.text("secret");
    let third = rotate(
        &tenant,
        &path,
        &json!({ "secret": mine, "overlap_seconds": 604_800 }),
    )
    .await;
    assert_eq!(third.text("secret"), mine);

    let (got, signatures) = signed(&tenant, &path, &receiver).await;

    assert_eq!(
        signatures,
        [signature(&got, &mine), signature(&got, &second)]
    );
}

#[tokio::test]
async fn a_secret_that_leaked_ends_with_its_rotation() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    let (path, _) = endpoint(&tenant, &receiver).await;
    rotate(&tenant, &path, &json!({})).await;

    let rotated = rotate(&tenant, &path, &json!({ "overlap_seconds": 0 })).await;

    let (got, signatures) = signed(&tenant, &path, &receiver).await;
    assert_eq!(signatures, [signature(&got, &rotated.text("secret"))]);
    let read = tenant.server().get(&path).await;
    assert_eq!(read.body["previous_secret_expires_at"], Value::Null);
}

#[tokio::test]
async fn an_overlap_that_breaks_its_rule_rotates_nothing() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    let (path, secret) = endpoint(&tenant, &receiver).await;
    let rotate = format!("{path}/secret/rotate");
    for overlap in [
        json!(-1),
        json!(604_801),
        json!("day"),
        json!(1.5),
        json!(1e20),
    ] {
        let body = json!({ "overlap_seconds": overlap });
        let refused = tenant.server().post(&rotate, &body).await;
        refused.assert_error(400, "VALIDATION_ERROR", Some("overlap_seconds"));
    }
    let (got, signatures) = signed(&tenant, &path, &receiver).await;
    assert_eq!(signatures, [signature(&got, &secret)]);
}

#[tokio::test]
async fn of_rotations_at_once_each_answered_secret_signs_or_was_replaced() {
    let (tenant, receiver) = (tenant().await, Receiver::new());
    let (path, _) = endpoint(&tenant, &receiver).await;
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (tenant, path) = (tenant.clone(), format!("{path}/secret/rotate"));
        requests.spawn(async move { tenant.server().post(&path, &json!({})).await });
    }
    let answers = requests.join_all().await;

    for refused in answers.iter().filter(|it| it.status != 201) {
        refused.assert(
            409,
            json!({
                "success": false,
                "error": { "code": "CONFLICT", "message": "The secret was rotated meanwhile" },
            }),
        );
    }
    let (got, signatures) = signed(&tenant, &path, &receiver).await;
    let issued = answers.iter().filter(|it| it.status == 201);
    let issued: Vec<_> = issued
        .map(|it| signature(&got, &it.text("secret")))
        .collect();
    assert_eq!(signatures.len(), 2);
    assert!(issued.contains(&signatures[0]));
}

#[tokio::test]
async fn no_table_holds_a_secret_in_the_clear() {
    let world = world_over(|client| client).await;
    let tenant = tenant_of(&world).await;
    let server = tenant.server().with("idempotency-key", "once");
    let made = server.post("/webhooks", &json!({ "url": URL })).await;
    let rotate = format!("{}/secret/rotate", path(&made));
    let rotated = server.post(&rotate, &json!({})).await;
    for secret in [made.text("secret"), rotated.text("secret")] {
        let secret = secret.trim_start_matches("whsec_");
        for table in ["Tenants", "Keys", "Guards", "Events"] {
            let held = format!("{:?}", scan(&world, table).await);
            assert!(!held.contains(secret), "{table}");
        }
    }
}
