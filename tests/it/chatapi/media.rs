//! What surrounds a request's and an answer's body: host, media types, encodings, caches.

use axum::http::Method;
use serde_json::json;

use crate::{
    kodey::team,
    support::{Client, Response, deployed::bootstraps, tenant},
};

/// Sends `body` as a new room.
async fn room(client: &Client, body: impl Into<axum::body::Body>) -> Response {
    client.send(Method::POST, "/rooms", body).await
}

const ROOM: &str = r#"{"type":"group","members":["bob"]}"#;

#[tokio::test]
async fn a_body_that_says_it_is_no_json_is_refused() {
    let tenant = tenant().await;
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/xml",
        "application/json-seq",
        "json",
        "application/jsonp; charset=utf-8",
    ] {
        let answer = room(&tenant.user("alice").of_type(kind), ROOM).await;
        answer.assert(
            415,
            json!({
                "success": false,
                "error": {
                    "code": "UNSUPPORTED_MEDIA_TYPE",
                    "message": "Unsupported Content-Type. Send application/json",
                },
            }),
        );
    }
}

#[tokio::test]
async fn media_types_are_read_in_any_case_and_with_parameters() {
    let tenant = tenant().await;
    for kind in [
        "application/json",
        "Application/JSON",
        "APPLICATION/JSON; charset=UTF-8",
        "application/json;charset=utf-8",
        " application/json ",
    ] {
        let answer = room(&tenant.user("alice").of_type(kind), ROOM).await;
        assert_eq!(answer.status, 201, "{kind}: {}", answer.raw);
    }
}

#[tokio::test]
async fn the_type_of_a_body_that_is_not_there_does_not_matter() {
    let tenant = tenant().await;
    let form = tenant
        .user("alice")
        .of_type("application/x-www-form-urlencoded");
    let answer = form.send(Method::POST, "/ws/token", "").await;
    assert_eq!(answer.status, 200, "{}", answer.raw);
    let answer = form.get("/rooms").await;
    assert_eq!(answer.status, 200, "{}", answer.raw);
}

#[tokio::test]
async fn an_encoding_that_is_not_read_is_refused() {
    let tenant = tenant().await;
    for encoding in ["gzip", "br", "deflate, gzip", "identity, gzip"] {
        let client = tenant.user("alice").with("content-encoding", encoding);
        room(&client, ROOM).await.assert(
            415,
            json!({
                "success": false,
                "error": {
                    "code": "UNSUPPORTED_MEDIA_TYPE",
                    "message": "Unsupported Content-Encoding. Send the body uncompressed",
                },
            }),
        );
    }
    for encoding in ["identity", "Identity", ""] {
        let client = tenant.user("alice").with("content-encoding", encoding);
        assert_eq!(room(&client, ROOM).await.status, 201, "{encoding}");
    }
}

#[tokio::test]
async fn kodey_refuses_other_media_types_in_its_own_words() {
    let team = team().await;
    let answer = team.sk.clone().of_type("text/plain");
    let answer = answer.post("/chat", &json!({ "agentId": "chat" })).await;
    answer.assert(
        415,
        json!({
            "error": "Unsupported Media Type",
            "message": "Unsupported Content-Type. Send application/json",
        }),
    );
}

#[tokio::test]
async fn a_byte_order_mark_is_passed_over() {
    let tenant = tenant().await;
    let answer = room(&tenant.user("alice"), format!("\u{feff}{ROOM}")).await;
    assert_eq!(answer.status, 201, "{}", answer.raw);
}

#[tokio::test]
async fn a_request_names_its_host_once() {
    if bootstraps().is_some() {
        // API Gateway has checked it.
        return;
    }
    let tenant = tenant().await;
    let refused = json!({
        "success": false,
        "error": {
            "code": "VALIDATION_ERROR",
            "message": "Invalid Host. Send it once",
            "field": "Host",
        },
    });
    let alice = tenant.user("alice");
    let none = alice.clone().without_host().get("/rooms").await;
    none.assert(400, refused.clone());
    let two = alice.with("host", "other.test").get("/rooms").await;
    two.assert(400, refused);
}

#[tokio::test]
async fn no_answer_is_kept_by_a_cache_or_guessed_at() {
    let tenant = tenant().await;
    let (alice, stranger) = (tenant.user("alice"), tenant.world.stranger());
    for answer in [
        alice.get("/rooms").await,
        room(&alice, ROOM).await,
        alice.get("/rooms/room_1").await,
        alice.delete("/subscriptions/sub_1").await,
        stranger.get("/rooms").await,
        stranger.get("/health").await,
        stranger.get("/nope").await,
        stranger.send(Method::DELETE, "/rooms", "").await,
    ] {
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

#[tokio::test]
async fn a_401_says_which_credential_is_wanted() {
    let tenant = tenant().await;
    let refused = tenant.world.stranger().get("/rooms").await;
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.header("www-authenticate"),
        Some(r#"ApiKey realm="chatapi""#)
    );
    let refused = tenant.world.stranger().get("/chat").await;
    assert_eq!(
        refused.header("www-authenticate"),
        Some(r#"ApiKey realm="kodey""#)
    );
    let found = tenant.user("alice").get("/rooms").await;
    assert_eq!(found.header("www-authenticate"), None);
}

#[tokio::test]
async fn the_description_is_asked_for_again_and_not_sent_again() {
    let stranger = tenant().await.world.stranger();
    for path in ["/openapi.json", "/docs"] {
        let first = stranger.get(path).await;
        assert_eq!(first.status, 200);
        assert_eq!(first.header("cache-control"), Some("private, no-cache"));
        let tag = first.header("etag").unwrap();
        let again = stranger.clone().with("if-none-match", tag).get(path).await;
        assert_eq!((again.status, again.raw.as_str()), (304, ""));
        assert_eq!(again.header("etag"), Some(tag));
        let other = stranger
            .clone()
            .with("if-none-match", "\"x\"")
            .get(path)
            .await;
        assert_eq!(other.status, 200);
    }
}

#[tokio::test]
async fn the_page_runs_its_own_script_and_nothing_else() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use sha2::{Digest, Sha256};

    let page = tenant().await.world.stranger().get("/docs").await;
    let policy = page.header("content-security-policy").unwrap();
    let of = |element: &str| {
        let (_, rest) = page.raw.split_once(&format!("<{element}>")).unwrap();
        let (content, _) = rest.split_once(&format!("</{element}>")).unwrap();
        format!("'sha256-{}'", STANDARD.encode(Sha256::digest(content)))
    };
    let wanted = format!(
        "default-src 'none'; connect-src 'self'; script-src {}; style-src {}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        of("script"),
        of("style")
    );
    assert_eq!(policy, wanted);
    assert!(!page.raw.contains(" onclick="), "{}", page.raw);
}
