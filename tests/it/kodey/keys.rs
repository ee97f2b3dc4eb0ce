//! A team's keys: made, listed, rotated and revoked by the operator or by the tenant's server.

use aws_sdk_dynamodb::types::AttributeValue;
use parlance::domain::{Error, Moment, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{client, door, key_of, keys_of, team, team_in};
use crate::{
    chatapi::{column, scan},
    support::{Client, Response, Tenant, tenant, world_over},
};

fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// Makes the key that `body` describes.
async fn make(tenant: &Tenant, body: &Value) -> Response {
    let made = tenant.server().post(&keys_of(tenant), body).await;
    assert_eq!(made.status, 201, "{}", made.raw);
    made
}

fn secret() -> Value {
    json!({ "kind": "secret", "name": "server" })
}

/// Where a key that was made is kept.
fn path(tenant: &Tenant, made: &Response) -> String {
    format!("{}/{}", keys_of(tenant), made.text("key_id"))
}

/// What a key is answered by a process that remembers nothing.
async fn status(tenant: &Tenant, key: &str) -> u16 {
    let cold = door(&tenant.world.another(|client| client));
    client(&cold, key).get("/chat").await.status
}

/// Has a key expire in the past.
async fn expire(tenant: &Tenant, made: &Response) {
    let hash = hex::encode(Sha256::digest(made.text("api_key")));
    let opened = tenant.world.dynamodb.update_item();
    opened
        .table_name("Keys")
        .key("pk", s(hash))
        .update_expression("SET #ttl = :past")
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":past", AttributeValue::N("1765627200".to_owned()))
        .send()
        .await
        .unwrap();
    let listed = tenant.world.dynamodb.update_item();
    listed
        .table_name("Tenants")
        .key("pk", s(format!("{}#api_keys", tenant.id)))
        .key("sk", s(made.text("key_id")))
        .update_expression("SET expires_at = :past")
        .expression_attribute_values(":past", s("2025-12-13T12:00:00.000000Z"))
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_publishable_key_is_made_and_shown_once() {
    let tenant = tenant().await;
    let body = json!({
        "kind": "publishable",
        "name": "Shop ☂",
        "expires_at": "2999-01-01T00:00:00Z",
        "allowed_origins": ["https://shop.example", "https://shop.example"],
        "user_id": "user1",
    });

    let made = tenant.server().post(&keys_of(&tenant), &body).await;

    let text = made.text("api_key");
    let last4 = &text[text.len() - 4..];
    let mut shown = json!({
        "key_id": made.body["key_id"],
        "kind": "publishable",
        "name": "Shop ☂",
        "masked_key": format!("pk_live_…{last4}"),
        "status": "active",
        "allowed_origins": ["https://shop.example"],
        "user_id": "user1",
        "created_at": made.body["created_at"],
        "expires_at": "2999-01-01T00:00:00.000000Z",
        "last_used_at": null,
        "previous_key_expires_at": null,
    });
    let listed = json!([shown]);
    shown["api_key"] = json!(text);
    made.assert(201, shown);
    assert!(made.text("key_id").starts_with("key_"));
    assert!(text.starts_with("pk_live_") && text.len() == 38, "{text}");
    tenant
        .server()
        .get(&keys_of(&tenant))
        .await
        .assert(200, listed);
}

#[tokio::test]
async fn a_secret_key_has_neither_origins_nor_a_user() {
    let tenant = tenant().await;
    let body = json!({ "kind": "secret", "name": "server" });
    let made = tenant.server().post(&keys_of(&tenant), &body).await;
    assert_eq!(made.status, 201, "{}", made.raw);
    assert!(made.text("api_key").starts_with("sk_live_"));
    assert_eq!(made.body["allowed_origins"], json!([]));
    assert_eq!(made.body["user_id"], json!(null));
    let server = client(&tenant.world, &made.text("api_key"));
    assert_eq!(server.get("/rooms").await.status, 401);
}

#[tokio::test]
async fn a_key_that_is_used_says_so_to_about_an_hour() {
    let team = team_in(&world_over(|client| client).await).await;
    let last_used = async |kind: &str| {
        let listed = team.tenant.server().get(&keys_of(&team.tenant)).await;
        let keys = listed.body.as_array().unwrap().clone();
        let key = keys.into_iter().find(|key| key["kind"] == kind).unwrap();
        key["last_used_at"].clone()
    };
    let here = team.at(&door(&team.tenant.world));
    assert_eq!(last_used("secret").await, json!(null));

    here.sk.get("/chat").await;

    let noted = last_used("secret").await;
    assert!(noted.is_string(), "{noted}");
    assert_eq!(last_used("publishable").await, json!(null));
    let there = team.at(&door(&team.tenant.world.another(|client| client)));
    there.sk.get("/chat").await;
    assert_eq!(last_used("secret").await, noted);
}

#[tokio::test]
async fn keys_are_listed_oldest_first_page_by_page() {
    let tenant = tenant().await;
    for number in 0..5 {
        make(
            &tenant,
            &json!({ "kind": "secret", "name": format!("key {number}") }),
        )
        .await;
    }
    let (mut names, mut pages) = (Vec::new(), 0);
    let mut next = Some(format!("{}?limit=2", keys_of(&tenant)));
    while let Some(page) = next {
        let page = tenant.server().get(&page).await;
        names.extend(column(&page, "name"));
        pages += 1;
        next = page.next();
    }
    assert_eq!(
        (names, pages),
        ((0..5).map(|n| json!(format!("key {n}"))).collect(), 3)
    );
    let page = format!("{}?limit=2&offset=3", keys_of(&tenant));
    let page = tenant.server().get(&page).await;
    assert_eq!(column(&page, "name"), [json!("key 3"), json!("key 4")]);
}

#[tokio::test]
async fn the_operator_keeps_the_keys_of_any_tenant_and_a_server_its_own() {
    let (mine, other) = (tenant().await, tenant().await);
    let operator = mine.world.operator().anew();
    let made = operator.post(&keys_of(&mine), &secret()).await;
    assert_eq!(made.status, 201, "{}", made.raw);
    let (key, none) = (path(&mine, &made), json!({}));
    let not_found = json!({
        "success": false,
        "error": { "code": "NOT_FOUND", "message": "Tenant not found" },
    });

    let stranger = other.server();
    for refused in [
        stranger.get(&keys_of(&mine)).await,
        stranger.post(&keys_of(&mine), &secret()).await,
        stranger.delete(&key).await,
        stranger.post(&format!("{key}/rotate"), &none).await,
    ] {
        refused.assert(404, not_found.clone());
    }
    let elsewhere = key.replace(&mine.id, &other.id);
    for refused in [
        stranger.delete(&elsewhere).await,
        stranger.post(&format!("{elsewhere}/rotate"), &none).await,
        operator.delete(&elsewhere).await,
    ] {
        refused.assert_error(404, "NOT_FOUND", None);
    }
    assert_eq!(status(&mine, &made.text("api_key")).await, 200);

    assert_eq!(operator.get(&keys_of(&mine)).await.status, 200);
    let rotated = operator.post(&format!("{key}/rotate"), &none).await;
    assert_eq!(rotated.status, 201, "{}", rotated.raw);
    assert_eq!(operator.delete(&key).await.status, 204);
    assert_eq!(mine.server().get(&keys_of(&mine)).await.body, json!([]));
}

#[tokio::test]
async fn a_tenant_or_key_that_is_not_there_is_not_found() {
    let tenant = tenant().await;
    let operator = tenant.world.operator().anew();
    for unknown in [
        "tenant_00000000000000000000000000000000",
        "tenant_1",
        "nope",
    ] {
        let keys = format!("/admin/tenants/{unknown}/api-keys");
        for refused in [
            operator.get(&keys).await,
            operator.post(&keys, &secret()).await,
            operator
                .delete(&format!("{keys}/key_00000000000000000000000000000000"))
                .await,
        ] {
            refused.assert_error(404, "NOT_FOUND", None);
        }
    }
    for unknown in [
        "key_00000000000000000000000000000000",
        "key_1",
        "KEY",
        "count",
        "☂",
    ] {
        let key = format!("{}/{unknown}", keys_of(&tenant));
        let key = key.replace('☂', "%E2%98%82");
        let refused = tenant.server().delete(&key).await;
        refused.assert(
            404,
            json!({
                "success": false,
                "error": { "code": "NOT_FOUND", "message": "API key not found" },
            }),
        );
        let refused = rotate(&tenant.server(), &key, json!({})).await;
        refused.assert_error(404, "NOT_FOUND", None);
    }
    // A tenant that is not there gets no count either.
    assert!(
        scan(&tenant.world, "Tenants")
            .await
            .iter()
            .all(|item| item["pk"] != s("tenant_00000000000000000000000000000000#api_keys"))
    );
}

#[tokio::test]
async fn a_revoked_key_ends_at_once_and_a_second_time_it_is_not_found() {
    let team = team().await;
    let here = team.at(&door(&team.tenant.world));
    assert_eq!(here.sk.get("/chat").await.status, 200);
    let listed = team.tenant.server().get(&keys_of(&team.tenant)).await;
    let keys = listed.body.as_array().unwrap();
    let kept = keys.iter().find(|key| key["kind"] == "secret").unwrap();
    let key = format!(
        "{}/{}",
        keys_of(&team.tenant),
        kept["key_id"].as_str().unwrap()
    );

    assert_eq!(team.tenant.server().delete(&key).await.status, 204);

    let again = team.tenant.server().delete(&key).await;
    again.assert_error(404, "NOT_FOUND", None);
    assert_eq!(status(&team.tenant, &team.secret).await, 401);
    if team.tenant.world.deployed.is_none() {
        super::assert_unknown(&here.sk.get("/chat").await);
    }
    // Its neighbour holds.
    assert_eq!(here.pk.get("/chat").await.status, 200);
    let left = team.tenant.server().get(&keys_of(&team.tenant)).await;
    assert_eq!(column(&left, "kind"), ["publishable"]);
}

async fn rotate(server: &Client, key: &str, body: Value) -> Response {
    server.post(&format!("{key}/rotate"), &body).await
}

#[tokio::test]
async fn a_rotated_key_is_the_same_key_with_two_texts_for_a_day() {
    let tenant = tenant().await;
    let body = json!({
        "kind": "publishable",
        "name": "shop",
        "allowed_origins": ["https://shop.example"],
        "user_id": "alice",
    });
    let made = make(&tenant, &body).await;

    let rotated = rotate(&tenant.server(), &path(&tenant, &made), json!({})).await;

    let text = rotated.text("api_key");
    assert_ne!(text, made.text("api_key"));
    let mut expected = made.body.clone();
    expected["api_key"] = json!(text);
    expected["masked_key"] = json!(format!("pk_live_…{}", &text[text.len() - 4..]));
    expected["previous_key_expires_at"] = rotated.body["previous_key_expires_at"].clone();
    rotated.assert(201, expected.clone());
    assert!(rotated.text("previous_key_expires_at") > made.text("created_at"));
    expected.as_object_mut().unwrap().remove("api_key");
    let listed = tenant.server().get(&keys_of(&tenant)).await;
    listed.assert(200, json!([expected]));
    let door = door(&tenant.world);
    for key in [made.text("api_key"), text] {
        let shop = client(&door, &key).with("origin", "https://shop.example");
        assert_eq!(shop.get("/chat").await.text("sees"), "only alice");
        assert_eq!(client(&door, &key).get("/chat").await.status, 403);
    }
}

#[tokio::test]
async fn a_rotation_without_overlap_ends_the_text_before_it() {
    let tenant = tenant().await;
    let made = make(&tenant, &secret()).await;
    let none = json!({ "overlap_seconds": 0 });
    let rotated = rotate(&tenant.server(), &path(&tenant, &made), none).await;
    assert_eq!(rotated.status, 201, "{}", rotated.raw);
    assert_eq!(rotated.body["previous_key_expires_at"], json!(null));
    assert_eq!(status(&tenant, &made.text("api_key")).await, 401);
    assert_eq!(status(&tenant, &rotated.text("api_key")).await, 200);
}

#[tokio::test]
async fn an_overlap_may_be_in_the_query() {
    let tenant = tenant().await;
    let made = make(&tenant, &secret()).await;
    let rotation = |query: &str| format!("{}/rotate{query}", path(&tenant, &made));
    let server = tenant.server();
    let none = server
        .post(&rotation("?overlap_seconds=0"), &json!({}))
        .await;
    assert_eq!(none.status, 201, "{}", none.raw);
    assert_eq!(none.body["previous_key_expires_at"], json!(null));
    assert_eq!(status(&tenant, &made.text("api_key")).await, 401);
    let body = json!({ "overlap_seconds": 60 });
    let both = server.post(&rotation("?overlap_seconds=60"), &body).await;
    assert_eq!(both.status, 201, "{}", both.raw);
    assert_eq!(status(&tenant, &none.text("api_key")).await, 200);
}

#[tokio::test]
async fn overlaps_that_do_not_agree_rotate_nothing() {
    let tenant = tenant().await;
    let made = make(&tenant, &secret()).await;
    let body = json!({ "overlap_seconds": 60 });
    for overlap in ["0", "86400", "-1", "86401", "soon", ""] {
        let rotation = format!("{}/rotate?overlap_seconds={overlap}", path(&tenant, &made));
        let refused = tenant.server().post(&rotation, &body).await;
        refused.assert_error(400, "VALIDATION_ERROR", Some("overlap_seconds"));
    }
    assert_eq!(status(&tenant, &made.text("api_key")).await, 200);
    let listed = tenant.server().get(&keys_of(&tenant)).await;
    assert_eq!(
        column(&listed, "masked_key"),
        [made.body["masked_key"].clone()]
    );
}

#[tokio::test]
async fn a_second_rotation_ends_the_text_before_the_last() {
    let tenant = tenant().await;
    let made = make(&tenant, &secret()).await;
    let key = path(&tenant, &made);
    let second = rotate(&tenant.server(), &key, json!({})).await;
    let third = rotate(&tenant.server(), &key, json!({ "overlap_seconds": 60 })).await;
    for (text, expected) in [(&made, 401), (&second, 200), (&third, 200)] {
        assert_eq!(status(&tenant, &text.text("api_key")).await, expected);
    }
    let fourth = rotate(&tenant.server(), &key, json!({ "overlap_seconds": 0 })).await;
    for (text, expected) in [(&second, 401), (&third, 401), (&fourth, 200)] {
        assert_eq!(status(&tenant, &text.text("api_key")).await, expected);
    }
}

#[tokio::test]
async fn a_key_that_has_expired_opens_nothing_and_is_not_rotated() {
    let tenant = tenant().await;
    let body = json!({ "kind": "secret", "name": "x", "expires_at": "2999-01-01T00:00:00Z" });
    let made = make(&tenant, &body).await;
    assert_eq!(status(&tenant, &made.text("api_key")).await, 200);

    expire(&tenant, &made).await;

    assert_eq!(status(&tenant, &made.text("api_key")).await, 401);
    let listed = tenant.server().get(&keys_of(&tenant)).await;
    assert_eq!(column(&listed, "status"), ["expired"]);
    let refused = rotate(&tenant.server(), &path(&tenant, &made), json!({})).await;
    refused.assert_error(409, "CONFLICT", None);
    let revoked = tenant.server().delete(&path(&tenant, &made)).await;
    assert_eq!(revoked.status, 204);
}

#[tokio::test]
async fn a_key_ends_on_time_though_it_is_remembered() {
    let tenant = tenant().await;
    let body = json!({ "kind": "secret", "name": "x", "expires_at": "2999-01-01T00:00:00Z" });
    let made = make(&tenant, &body).await;
    let (app, text) = (&tenant.world.app, made.text("api_key"));
    let end: Timestamp = "2999-01-01T00:00:00Z".parse().unwrap();
    let at = |now| {
        Moment::new(
            now,
            tokio::time::Instant::now(),
            std::time::Duration::from_mins(1),
            1,
        )
    };
    let before = at(end.plus_micros(-1));

    let read = app.team_session(text.as_bytes(), &before).await.unwrap();

    assert_eq!(read.tenant.to_string(), tenant.id);
    let remembered = |moment: &Moment| app.remembered_team(text.as_bytes(), moment);
    assert!(remembered(&before).unwrap().is_some());
    assert!(matches!(
        remembered(&at(end)),
        Err(Error::Unauthenticated(_))
    ));
    let anew = app.team_session(text.as_bytes(), &at(end)).await;
    assert!(matches!(anew, Err(Error::Unauthenticated(_))));
}

#[tokio::test]
async fn no_text_outlives_its_key() {
    let tenant = tenant().await;
    let soon = time::OffsetDateTime::now_utc() + time::Duration::hours(1);
    let soon = soon
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap();
    let body = json!({ "kind": "secret", "name": "x", "expires_at": soon });
    let made = make(&tenant, &body).await;
    let rotated = rotate(&tenant.server(), &path(&tenant, &made), json!({})).await;
    assert_eq!(rotated.body["expires_at"], made.body["expires_at"]);
    assert_eq!(
        rotated.body["previous_key_expires_at"],
        made.body["expires_at"]
    );
}

#[tokio::test]
async fn the_hundred_and_first_key_is_refused_until_one_has_expired() {
    let tenant = tenant().await;
    let mut first = None;
    for _ in 0..100 {
        let made = make(&tenant, &secret()).await;
        first.get_or_insert(made);
    }
    let refused = tenant.server().post(&keys_of(&tenant), &secret()).await;
    refused.assert_error(409, "CONFLICT", None);
    let first = first.unwrap();

    expire(&tenant, &first).await;

    make(&tenant, &secret()).await;
    let gone = tenant.server().delete(&path(&tenant, &first)).await;
    gone.assert_error(404, "NOT_FOUND", None);
    let refused = tenant.server().post(&keys_of(&tenant), &secret()).await;
    refused.assert_error(409, "CONFLICT", None);
    let all = format!("{}?limit=100", keys_of(&tenant));
    let listed = tenant.server().get(&all).await;
    assert_eq!(column(&listed, "name").len(), 100);
}

#[tokio::test]
async fn a_repeated_request_shows_no_secret_a_second_time() {
    let tenant = tenant().await;
    let shown = json!({
        "success": false,
        "error": {
            "code": "CONFLICT",
            "message": "This Idempotency-Key was used, and its answer held a secret that is shown only once",
        },
    });
    let used = json!({
        "success": false,
        "error": {
            "code": "CONFLICT",
            "message": "This Idempotency-Key was used for another request",
        },
    });
    for keeper in [tenant.server(), tenant.world.operator().anew()] {
        // The operator's are not parted by tenant.
        let once = format!("once-{}", tenant.id);
        let once = keeper.clone().with("idempotency-key", &once);
        let made = once.post(&keys_of(&tenant), &secret()).await;
        assert_eq!(made.status, 201, "{}", made.raw);
        once.post(&keys_of(&tenant), &secret())
            .await
            .assert(409, shown.clone());
        let other = json!({ "kind": "secret", "name": "other" });
        once.post(&keys_of(&tenant), &other)
            .await
            .assert(409, used.clone());

        let key = path(&tenant, &made);
        let rotated = rotate(&once, &key, json!({})).await;
        assert_eq!(rotated.status, 201, "{}", rotated.raw);
        rotate(&once, &key, json!({}))
            .await
            .assert(409, shown.clone());
        let other = json!({ "overlap_seconds": 0 });
        rotate(&once, &key, other).await.assert(409, used.clone());
        assert_eq!(status(&tenant, &rotated.text("api_key")).await, 200);
        assert_eq!(status(&tenant, &made.text("api_key")).await, 200);
    }
    let listed = tenant.server().get(&keys_of(&tenant)).await;
    assert_eq!(column(&listed, "name").len(), 2);
}

#[tokio::test]
async fn a_key_that_breaks_a_rule_is_refused_with_its_field() {
    let tenant = tenant().await;
    let many: Vec<_> = (0..21).map(|n| format!("https://{n}.example")).collect();
    for (body, field) in [
        (json!({}), "kind"),
        (json!({ "kind": "secret" }), "name"),
        (json!({ "kind": "public", "name": "x" }), "kind"),
        (json!({ "kind": "Secret", "name": "x" }), "kind"),
        (json!({ "kind": 1, "name": "x" }), "kind"),
        (json!({ "kind": "secret", "name": "" }), "name"),
        (json!({ "kind": "secret", "name": "\u{3000}" }), "name"),
        (json!({ "kind": "secret", "name": "a\0" }), "name"),
        (json!({ "kind": "secret", "name": "x".repeat(257) }), "name"),
        (
            json!({ "kind": "secret", "name": "x", "expires_at": "soon" }),
            "expires_at",
        ),
        (
            json!({ "kind": "secret", "name": "x", "expires_at": 5 }),
            "expires_at",
        ),
        (
            json!({ "kind": "secret", "name": "x", "expires_at": "2020-01-01T00:00:00Z" }),
            "expires_at",
        ),
        (
            json!({ "kind": "secret", "name": "x", "expires_at": "9999-12-31T23:59:59-23:59" }),
            "expires_at",
        ),
        (
            json!({ "kind": "secret", "name": "x", "allowed_origins": ["https://a.example"] }),
            "allowed_origins",
        ),
        (
            json!({ "kind": "secret", "name": "x", "user_id": "alice" }),
            "user_id",
        ),
        (
            json!({ "kind": "publishable", "name": "x", "user_id": "" }),
            "user_id",
        ),
        (
            json!({ "kind": "publishable", "name": "x", "user_id": "a b" }),
            "user_id",
        ),
        (
            json!({ "kind": "publishable", "name": "x", "user_id": "é" }),
            "user_id",
        ),
        (
            json!({ "kind": "publishable", "name": "x", "user_id": "a".repeat(129) }),
            "user_id",
        ),
        (
            json!({ "kind": "publishable", "name": "x", "allowed_origins": "https://a.example" }),
            "allowed_origins",
        ),
        (
            json!({ "kind": "publishable", "name": "x", "allowed_origins": [5] }),
            "allowed_origins[0]",
        ),
        (
            json!({ "kind": "publishable", "name": "x", "allowed_origins": many }),
            "allowed_origins",
        ),
    ] {
        let refused = tenant.server().post(&keys_of(&tenant), &body).await;
        refused.assert_error(400, "VALIDATION_ERROR", Some(field));
    }
    assert_eq!(tenant.server().get(&keys_of(&tenant)).await.body, json!([]));
    // What was refused took no place either.
    let count = scan(&tenant.world, "Tenants").await;
    assert!(
        count
            .iter()
            .all(|item| item["pk"] != s(format!("{}#api_keys", tenant.id)))
    );
}

#[tokio::test]
async fn an_overlap_that_breaks_its_rule_rotates_nothing() {
    let tenant = tenant().await;
    let made = make(&tenant, &secret()).await;
    for overlap in [
        json!(-1),
        json!(86_401),
        json!(1.5),
        json!("60"),
        json!(i64::MAX),
    ] {
        let body = json!({ "overlap_seconds": overlap });
        let refused = rotate(&tenant.server(), &path(&tenant, &made), body).await;
        refused.assert_error(400, "VALIDATION_ERROR", Some("overlap_seconds"));
    }
    let listed = tenant.server().get(&keys_of(&tenant)).await;
    assert_eq!(
        column(&listed, "masked_key"),
        [made.body["masked_key"].clone()]
    );
}

#[tokio::test]
async fn no_table_holds_a_key_in_the_clear() {
    let team = team_in(&world_over(|client| client).await).await;
    let made = make(&team.tenant, &secret()).await;
    let keyed = team.tenant.server().with("idempotency-key", "once");
    let rotated = rotate(&keyed, &path(&team.tenant, &made), json!({})).await;
    let texts = [
        &team.secret,
        &team.publishable,
        &made.text("api_key"),
        &rotated.text("api_key"),
    ];
    for table in ["Tenants", "Keys", "Guards", "Events"] {
        let items = format!("{:?}", scan(&team.tenant.world, table).await);
        for text in texts {
            assert!(!items.contains(&text[8..]), "{table}");
        }
    }
}

#[tokio::test]
async fn two_keys_of_one_name_are_two_keys() {
    let tenant = tenant().await;
    let (one, two) = (
        key_of(&tenant, secret()).await,
        key_of(&tenant, secret()).await,
    );
    assert_ne!(one, two);
    let listed = tenant.server().get(&keys_of(&tenant)).await;
    assert_eq!(column(&listed, "name"), ["server", "server"]);
}
