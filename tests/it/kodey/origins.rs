//! Where a publishable key may be used from.

use serde_json::json;

use super::{client, door, key_of, keys_of, team};
use crate::support::{Client, Response};

const SHOP: &str = "https://shop.example";

#[track_caller]
fn assert_refused(answer: &Response) {
    answer.assert(
        403,
        json!({
            "error": "Forbidden",
            "message": "This key may not be used from this origin",
        }),
    );
    // The page that asked in vain may read why.
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert!(answer.header("x-ratelimit-remaining").is_some());
}

#[tokio::test]
async fn a_key_with_origins_is_used_from_them_alone() {
    let team = team().await;
    let body = json!({
        "kind": "publishable",
        "name": "shop",
        "allowed_origins": [SHOP, "https://shop.example:8443"],
    });
    let key = key_of(&team.tenant, body).await;
    let from = |origin: &str| client(&door(&team.tenant.world), &key).with("origin", origin);

    for origin in [SHOP, "https://shop.example:8443"] {
        assert_eq!(from(origin).get("/chat").await.status, 200, "{origin}");
    }
    for origin in [
        "",
        "null",
        "*",
        "http://shop.example",
        "https://shop.example/",
        "https://shop.example:443",
        "https://SHOP.example",
        "https://evil.shop.example",
        "https://shop.example.evil",
        "https://shop.example, https://evil.example",
    ] {
        assert_refused(&from(origin).get("/chat").await);
    }
    let nowhere = client(&door(&team.tenant.world), &key);
    assert_refused(&nowhere.get("/chat").await);
    assert_refused(&from(SHOP).with("origin", SHOP).get("/chat").await);
}

#[tokio::test]
async fn pages_of_other_sites_use_nothing_of_a_keys_budget_up() {
    let team = team().await;
    let body = json!({ "kind": "publishable", "name": "shop", "allowed_origins": [SHOP] });
    let key = key_of(&team.tenant, body).await;
    let from = |origin: &str| client(&door(&team.tenant.world), &key).with("origin", origin);
    for _ in 0..20 {
        assert_refused(&from("https://evil.example").get("/chat").await);
    }

    let own = from(SHOP).get("/chat").await;

    assert_eq!(own.status, 200, "{}", own.raw);
    assert_eq!(own.header("x-ratelimit-remaining"), Some("99"));
}

#[tokio::test]
async fn a_key_without_origins_and_a_secret_one_are_used_from_anywhere() {
    let team = team().await;
    let team = team.at(&door(&team.tenant.world));
    let from = |client: &Client, origin| client.clone().with("origin", origin);
    for origin in ["null", "https://anywhere.example"] {
        assert_eq!(from(&team.pk, origin).get("/chat").await.status, 200);
        assert_eq!(from(&team.sk, origin).get("/chat").await.status, 200);
    }
    assert_eq!(team.pk.get("/chat").await.status, 200);
}

#[tokio::test]
async fn an_origin_in_another_spelling_is_refused_with_its_place() {
    let team = team().await;
    let server = team.tenant.server();
    for (bad, rule) in [
        (
            "https://shop.example/",
            "Browsers send it as https://shop.example",
        ),
        (
            "https://shop.example:443",
            "Browsers send it as https://shop.example",
        ),
        (
            "https://Shop.example",
            "Browsers send it as https://shop.example",
        ),
        (
            "https://bücher.example",
            "Browsers send it as https://xn--bcher-kva.example",
        ),
        (
            "https://user:pw@shop.example/path?x#y",
            "Browsers send it as https://shop.example",
        ),
        (
            "http://shop.example",
            "It must begin with https://, except for localhost",
        ),
        (
            "https://*.shop.example",
            "There are no wildcards: name each origin",
        ),
        ("*", "It is an origin, such as https://app.example"),
        ("null", "It is an origin, such as https://app.example"),
        ("", "It is an origin, such as https://app.example"),
        ("https://", "It is an origin, such as https://app.example"),
        (
            "javascript:alert(1)",
            "It is an origin, such as https://app.example",
        ),
    ] {
        let body = json!({
            "kind": "publishable",
            "name": "shop",
            "allowed_origins": [SHOP, bad],
        });
        let refused = server.post(&keys_of(&team.tenant), &body).await;
        refused.assert(
            400,
            json!({
                "success": false,
                "error": {
                    "code": "VALIDATION_ERROR",
                    "message": format!("Invalid allowed_origins[1]. {rule}"),
                    "field": "allowed_origins[1]",
                },
            }),
        );
    }
}
