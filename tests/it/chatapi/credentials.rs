//! No credential, a wrong one, or too many.

use serde_json::json;

use crate::support::tenant;

#[tokio::test]
async fn a_missing_or_wrong_credential_is_refused_in_the_seeds_words() {
    let tenant = tenant().await;
    let stranger = || tenant.world.stranger();
    let refused = |message: &str| {
        json!({
            "success": false,
            "error": { "code": "AUTHENTICATION_ERROR", "message": message },
        })
    };

    let wrong = stranger()
        .with("x-api-key", "sk_nope")
        .with("x-user-id", "alice");
    wrong
        .get("/rooms")
        .await
        .assert(401, refused("Invalid API key"));
    let none = stranger().get("/rooms").await;
    none.assert(401, refused("Missing API key. Send it as X-API-Key"));
    let no_key = stranger().with("x-user-id", "alice").get("/rooms").await;
    no_key.assert(401, refused("Missing API key. Send it as X-API-Key"));
    let no_user = stranger()
        .with("x-api-key", &tenant.key)
        .get("/rooms")
        .await;
    no_user.assert(
        401,
        refused("Missing user. Send the user's id as X-User-Id"),
    );
    let no_master = stranger().get("/admin/tenants").await;
    no_master.assert(401, refused("Missing master key. Send it as X-Master-Key"));
    let wrong_master = stranger()
        .with("x-master-key", "mk_nope")
        .get("/admin/tenants")
        .await;
    wrong_master.assert(401, refused("Invalid master key"));
    let bearer = stranger().with("authorization", &format!("Bearer {}", tenant.key));
    bearer
        .with("x-user-id", "alice")
        .get("/rooms")
        .await
        .assert_error(401, "AUTHENTICATION_ERROR", None);
    for key in [
        "",
        " ",
        "\u{fffd}",
        "sk_",
        &"x".repeat(10_000),
        &format!("{} ", tenant.key.to_uppercase()),
    ] {
        let client = stranger().with("x-api-key", key).with("x-user-id", "alice");
        client
            .get("/rooms")
            .await
            .assert_error(401, "AUTHENTICATION_ERROR", None);
        let client = stranger().with("x-master-key", key);
        client
            .get("/admin/tenants")
            .await
            .assert_error(401, "AUTHENTICATION_ERROR", None);
    }
}

#[tokio::test]
async fn a_credential_sent_twice_is_refused() {
    let tenant = tenant().await;
    let other = crate::support::tenant().await;
    let alice = tenant.user("alice");
    tenant.group(&["alice", "bob"]).await;

    for key in [&tenant.key, &other.key] {
        let twice = alice.clone().with("x-api-key", key).get("/rooms").await;
        twice.assert_error(401, "AUTHENTICATION_ERROR", None);
    }
    // API Gateway joins them by a comma, and an id may hold one: then nobody of either name is meant.
    let bob = alice.clone().with("x-user-id", "bob").get("/rooms").await;
    if tenant.world.deployed.is_some() {
        bob.assert(200, json!([]));
    } else {
        bob.assert_error(401, "AUTHENTICATION_ERROR", None);
    }
    let operator = tenant.world.operator().anew();
    let twice = operator
        .clone()
        .with("x-master-key", "other")
        .get("/admin/tenants")
        .await;
    twice.assert_error(401, "AUTHENTICATION_ERROR", None);
    // A wrong master key beside a right key is still wrong.
    let path = format!("/admin/dead-letters?tenant_id={}", tenant.id);
    let both = alice.with("x-master-key", "nope").get(&path).await;
    both.assert_error(401, "AUTHENTICATION_ERROR", None);
}
