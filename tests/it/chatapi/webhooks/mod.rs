//! Webhook endpoints: what their requests promise.

mod bad_input;
mod faults;
mod health;
mod secrets;
mod trials;

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

pub(crate) use self::secrets::hmac;
use super::{assert_time, column, events, partition, scan, walk};
use crate::support::{Response, Tenant, tenant};

/// Makes an endpoint at `url`.
async fn create(tenant: &Tenant, url: &str) -> Response {
    let made = tenant
        .server()
        .post("/webhooks", &json!({ "url": url }))
        .await;
    assert_eq!(made.status, 201, "{}", made.raw);
    made
}

/// The path of an endpoint that was made.
fn path(made: &Response) -> String {
    format!("/webhooks/{}", made.text("endpoint_id"))
}

/// What an answer about an endpoint has beside what a test says of it.
fn endpoint(of: &Response, said: &Value) -> Value {
    let mut whole = json!({
        "endpoint_id": of.body["endpoint_id"],
        "url": "https://example.com/hooks",
        "events": [],
        "description": "",
        "status": "active",
        "paused_reason": null,
        "paused_at": null,
        "failing_since": null,
        "created_at": of.body["created_at"],
        "previous_secret_expires_at": null,
    });
    for (name, value) in said.as_object().unwrap() {
        whole[name] = value.clone();
    }
    whole
}

/// The endpoints as they are stored, and how many there are said to be.
async fn stored(tenant: &Tenant) -> (usize, Option<usize>) {
    let items = partition(&tenant.world, "Tenants", format!("{}#webhooks", tenant.id)).await;
    let count = items.iter().find(|item| super::text(item, "sk") == "count");
    let count = count.map(|item| match &item["endpoints"] {
        AttributeValue::N(number) => number.parse().unwrap(),
        other => panic!("{other:?}"),
    });
    (items.len() - usize::from(count.is_some()), count)
}

const URL: &str = "https://example.com/hooks";

#[tokio::test]
async fn an_endpoint_is_made_with_a_secret() {
    let made = create(&tenant().await, URL).await;

    made.assert(
        201,
        endpoint(&made, &json!({ "secret": made.body["secret"] })),
    );
    assert!(made.text("endpoint_id").starts_with("ep_"));
    assert_time(&made.body["created_at"]);
    let secret = made.text("secret");
    assert!(
        secret.starts_with("whsec_") && secret.len() == 50,
        "{secret}"
    );
}

#[tokio::test]
async fn an_endpoint_is_made_as_it_is_wanted() {
    let tenant = tenant().await;
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let body = json!({
        "url": URL,
        "events": ["notification", "message.created", "notification"],
        "description": "Push service",
        "secret": secret,
    });

    let made = tenant.server().post("/webhooks", &body).await;

    let said = json!({
        "events": ["message.created", "notification"],
        "description": "Push service",
        "secret": secret,
    });
    made.assert(201, endpoint(&made, &said));
}

#[tokio::test]
async fn no_user_is_named_and_none_is_in_the_way() {
    let tenant = tenant().await;
    assert_eq!(tenant.server().get("/webhooks").await.status, 200);
    let no_user = tenant.server().with("x-user-id", "not a user id");
    assert_eq!(no_user.get("/webhooks").await.status, 200);
}

#[tokio::test]
async fn an_endpoint_is_read_without_its_secret() {
    let tenant = tenant().await;
    let made = create(&tenant, URL).await;

    let read = tenant.server().get(&path(&made)).await;

    read.assert(200, endpoint(&made, &json!({})));
}

#[tokio::test]
async fn endpoints_are_listed_oldest_first_in_pages() {
    let tenant = tenant().await;
    let mut made = Vec::new();
    for number in 0..5 {
        let made_one = create(&tenant, &format!("{URL}/{number}")).await;
        made.push(made_one.body["endpoint_id"].clone());
    }

    let (all, pages) = walk(&tenant.server(), "/webhooks?limit=2", "endpoint_id").await;
    assert_eq!((all, pages), (made.clone(), 3));
    let listed = tenant.server().get("/webhooks?offset=3").await;
    assert_eq!(column(&listed, "endpoint_id"), made[3..]);
    let one = tenant.server().get("/webhooks?limit=1").await;
    let said = json!({ "url": format!("{URL}/0") });
    let first = &one.body[0];
    assert_eq!(first["url"], said["url"]);
    assert_eq!(first.as_object().unwrap().len(), 10);
    assert_eq!(tenant.server().get("/webhooks?limit=5").await.next(), None);
}

#[tokio::test]
async fn a_tenant_without_endpoints_has_an_empty_list() {
    let listed = tenant().await.server().get("/webhooks").await;
    listed.assert(200, json!([]));
}

#[tokio::test]
async fn a_patch_changes_what_it_names() {
    let tenant = tenant().await;
    let made = create(&tenant, URL).await;
    let (server, path) = (tenant.server(), path(&made));

    let change = json!({ "url": "https://example.com/other", "events": ["member.left"] });
    let said = change.clone();
    server
        .patch(&path, &change)
        .await
        .assert(200, endpoint(&made, &said));
    let change = json!({ "events": [], "description": "New" });
    let said = json!({ "url": "https://example.com/other", "description": "New" });
    server
        .patch(&path, &change)
        .await
        .assert(200, endpoint(&made, &said));
    server
        .patch(&path, &json!({}))
        .await
        .assert(200, endpoint(&made, &said));
    server.get(&path).await.assert(200, endpoint(&made, &said));
}

#[tokio::test]
async fn an_endpoint_is_paused_and_goes_on() {
    let tenant = tenant().await;
    let made = create(&tenant, URL).await;
    let (server, path) = (tenant.server(), path(&made));

    let paused = server.patch(&path, &json!({ "status": "paused" })).await;
    let said = json!({
        "status": "paused",
        "paused_reason": "by request",
        "paused_at": paused.body["paused_at"],
    });
    paused.assert(200, endpoint(&made, &said));
    assert_time(&paused.body["paused_at"]);
    // It stays so since then.
    server
        .patch(&path, &json!({ "status": "paused" }))
        .await
        .assert(200, paused.body.clone());
    server
        .patch(&path, &json!({ "status": "active" }))
        .await
        .assert(200, endpoint(&made, &json!({})));
    // Whoever does it knows.
    assert!(events(&tenant).await.is_empty());
}

#[tokio::test]
async fn a_deleted_endpoint_is_not_found() {
    let tenant = tenant().await;
    let (kept, made) = (create(&tenant, URL).await, create(&tenant, URL).await);
    let (server, path) = (tenant.server(), path(&made));

    let deleted = server.delete(&path).await;
    assert_eq!((deleted.status, deleted.raw.as_str()), (204, ""));

    let not_found = json!({
        "success": false,
        "error": { "code": "NOT_FOUND", "message": "Webhook endpoint not found" },
    });
    server.delete(&path).await.assert(404, not_found.clone());
    server.get(&path).await.assert(404, not_found.clone());
    server
        .patch(&path, &json!({ "status": "paused" }))
        .await
        .assert(404, not_found.clone());
    server
        .patch(&path, &json!({}))
        .await
        .assert(404, not_found.clone());
    server
        .post(&format!("{path}/secret/rotate"), &json!({}))
        .await
        .assert(404, not_found.clone());
    server
        .post(&format!("{path}/test"), &json!({}))
        .await
        .assert(404, not_found);
    let left = column(&server.get("/webhooks").await, "endpoint_id");
    assert_eq!(left, [kept.body["endpoint_id"].clone()]);
    assert_eq!(stored(&tenant).await, (1, Some(1)));
}

#[tokio::test]
async fn what_is_no_endpoint_id_is_no_endpoint() {
    let tenant = tenant().await;
    create(&tenant, URL).await;
    for id in [
        "nope",
        "count",
        "ep_",
        "ep_1",
        "ep_00000000000000000000000000000000",
    ] {
        let path = format!("/webhooks/{id}");
        tenant
            .server()
            .get(&path)
            .await
            .assert_error(404, "NOT_FOUND", None);
        tenant
            .server()
            .delete(&path)
            .await
            .assert_error(404, "NOT_FOUND", None);
    }
    assert_eq!(stored(&tenant).await, (1, Some(1)));
}

#[tokio::test]
async fn however_many_are_made_at_once_a_tenant_has_ten() {
    let tenant = tenant().await;
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let tenant = tenant.at(&tenant.world.another(|client| client));
        let body = json!({ "url": URL });
        requests.spawn(async move { tenant.server().post("/webhooks", &body).await });
    }
    let answers = requests.join_all().await;

    let made: Vec<_> = answers.iter().filter(|it| it.status == 201).collect();
    assert_eq!(made.len(), 10);
    for refused in answers.iter().filter(|it| it.status != 201) {
        refused.assert(
            409,
            json!({
                "success": false,
                "error": {
                    "code": "CONFLICT",
                    "message": "A tenant has at most 10 webhook endpoints",
                },
            }),
        );
    }
    assert_eq!(stored(&tenant).await, (10, Some(10)));
    // One that goes makes room for another.
    tenant.server().delete(&path(made[0])).await;
    create(&tenant, URL).await;
    assert_eq!(stored(&tenant).await, (10, Some(10)));
}

#[tokio::test]
async fn two_who_delete_an_endpoint_at_once_delete_one() {
    let tenant = tenant().await;
    let (_, made) = (create(&tenant, URL).await, create(&tenant, URL).await);
    let path = path(&made);
    let (one, other) = (tenant.server(), tenant.server());
    let (one, other) = tokio::join!(one.delete(&path), other.delete(&path));
    assert!([one.status, other.status].contains(&204));
    assert_eq!(stored(&tenant).await, (1, Some(1)));
}

#[tokio::test]
async fn a_request_that_was_sent_before_makes_nothing_and_shows_no_secret_again() {
    let tenant = tenant().await;
    let server = tenant.server().with("idempotency-key", "once");
    let body = json!({ "url": URL });
    let made = server.post("/webhooks", &body).await;
    assert_eq!(made.status, 201, "{}", made.raw);

    let shown = json!({
        "success": false,
        "error": {
            "code": "CONFLICT",
            "message": "This Idempotency-Key was used, and its answer held a secret that is shown only once",
        },
    });
    server
        .post("/webhooks", &body)
        .await
        .assert(409, shown.clone());
    let other = server
        .post("/webhooks", &json!({ "url": "https://example.com" }))
        .await;
    other.assert_error(409, "CONFLICT", None);
    assert_eq!(stored(&tenant).await, (1, Some(1)));

    // Another operation is another request.
    let rotate = format!("{}/secret/rotate", path(&made));
    let rotated = server.post(&rotate, &json!({})).await;
    assert_eq!(rotated.status, 201, "{}", rotated.raw);
    server.post(&rotate, &json!({})).await.assert(409, shown);
    let read = tenant.server().get(&path(&made)).await;
    assert_eq!(
        read.body["previous_secret_expires_at"],
        rotated.body["previous_secret_expires_at"]
    );
}
