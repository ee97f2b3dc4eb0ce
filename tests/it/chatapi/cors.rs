//! Browsers of any origin may call.

use axum::http::Method;

use crate::support::{Client, Response, tenant, world};

fn browser(client: Client) -> Client {
    client.with("origin", "https://app.example")
}

async fn preflight(method: &str, path: &str, headers: &str) -> Response {
    browser(world().await.stranger())
        .with("access-control-request-method", method)
        .with("access-control-request-headers", headers)
        .send(Method::OPTIONS, path, "")
        .await
}

/// The words of a header that is a list, in lower case.
#[track_caller]
fn words(answer: &Response, name: &str) -> Vec<String> {
    let list = answer.header(name).unwrap_or_else(|| panic!("no {name}"));
    list.split(',')
        .map(|word| word.trim().to_lowercase())
        .collect()
}

#[tokio::test]
async fn a_preflight_is_allowed_whatever_the_route_wants() {
    let wanted = "content-type,x-api-key,x-user-id,idempotency-key";
    for (method, path) in [
        ("POST", "/rooms"),
        ("PATCH", "/rooms/room_1"),
        ("DELETE", "/rooms/room_1/members"),
        ("PUT", "/rooms/room_1/messages/msg_1"),
        ("GET", "/admin/tenants"),
        ("GET", "/nope"),
    ] {
        let answer = preflight(method, path, wanted).await;
        assert_eq!((answer.status, answer.raw.as_str()), (200, ""), "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        assert!(words(&answer, "access-control-allow-methods").contains(&method.to_lowercase()));
        let allowed = words(&answer, "access-control-allow-headers");
        for header in wanted.split(',') {
            assert!(allowed.contains(&header.to_owned()), "{header}");
        }
        assert!(answer.header("access-control-max-age").is_some());
    }
}

#[tokio::test]
async fn the_operators_key_is_not_for_browsers() {
    let answer = preflight("GET", "/admin/tenants", "x-master-key").await;
    let allowed = words(&answer, "access-control-allow-headers");
    assert!(!allowed.contains(&"x-master-key".to_owned()), "{allowed:?}");
}

#[tokio::test]
async fn errors_can_be_read_by_a_browser_too() {
    let tenant = tenant().await;
    let (alice, stranger) = (
        browser(tenant.user("alice")),
        browser(tenant.world.stranger()),
    );
    let large = "x".repeat(300 * 1024);
    let answers = [
        (200, alice.get("/rooms").await),
        (400, alice.get("/rooms?limit=0").await),
        (401, stranger.get("/rooms").await),
        (404, alice.get("/rooms/room_1").await),
        (404, stranger.get("/nope").await),
        (405, stranger.send(Method::DELETE, "/rooms", "").await),
        (413, alice.send(Method::POST, "/rooms", large).await),
        (200, stranger.get("/health").await),
    ];
    for (status, answer) in answers {
        assert_eq!(answer.status, status);
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some("*"),
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_preflight_is_answered_to_who_has_no_budget_left() {
    let stranger = browser(world().await.stranger());
    let preflight = stranger
        .clone()
        .with("access-control-request-method", "POST");
    for _ in 0..100_000 {
        if stranger.get("/nope").await.status != 429 {
            continue;
        }
        for path in ["/rooms", "/chat"] {
            for _ in 0..200 {
                let answer = preflight.send(Method::OPTIONS, path, "").await;
                assert_eq!(answer.status, 200, "{path}");
            }
        }
        return;
    }
    panic!("never limited");
}

#[tokio::test]
async fn a_limited_browser_can_read_when_to_come_back() {
    let stranger = browser(world().await.stranger());
    for _ in 0..100_000 {
        let answer = stranger.get("/nope").await;
        if answer.status == 429 {
            assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
            assert!(
                words(&answer, "access-control-expose-headers").contains(&"retry-after".to_owned())
            );
            return;
        }
    }
    panic!("never limited");
}

#[tokio::test]
async fn a_browser_may_read_the_headers_that_matter() {
    let tenant = tenant().await;
    let answer = browser(tenant.user("alice")).get("/rooms").await;
    let exposed = words(&answer, "access-control-expose-headers");
    for header in [
        "link",
        "retry-after",
        "idempotent-replayed",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "x-request-id",
    ] {
        assert!(exposed.contains(&header.to_owned()), "{header}");
    }
}
