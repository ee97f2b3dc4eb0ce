//! Browsers of any origin may call.

use axum::http::Method;

use crate::support::world;

#[tokio::test]
async fn a_preflight_allows_what_a_browser_sends_to_chat() {
    let wanted = ["accept", "content-type", "idempotency-key", "x-api-key"];
    for (method, path) in [
        ("POST", "/chat"),
        ("DELETE", "/chat/chat_1"),
        ("POST", "/chat/chat_1/message"),
        ("GET", "/chat/nope/nope/nope"),
    ] {
        let browser = world()
            .await
            .stranger()
            .with("origin", "https://app.example");
        let preflight = browser
            .with("access-control-request-method", method)
            .with("access-control-request-headers", &wanted.join(","));
        let answer = preflight.send(Method::OPTIONS, path, "").await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        let allowed = answer.header("access-control-allow-headers").unwrap();
        for header in wanted {
            assert!(allowed.contains(header), "{header} in {allowed}");
        }
    }
}

#[tokio::test]
async fn an_error_can_be_read_by_a_browser_too() {
    let browser = world()
        .await
        .stranger()
        .with("origin", "https://app.example");
    for path in ["/chat/nope/nope/nope", "/agent/nope/nope/nope"] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, 404);
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    }
}
