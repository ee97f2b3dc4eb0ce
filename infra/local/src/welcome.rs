//! `GET /`: a page that leads to the documentation. In AWS the address of the API is not one that people open.

use axum::Router;
use axum::http::header;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, get_service};
use parlance::app::App;
use parlance::http::{dialects::ChatApi, edge::edge};

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<title>Parlance</title>
<h1>Parlance is ready</h1>
<ul>
<li><a href="/docs">The API, and a page to try it</a></li>
<li><a href="/openapi.json">The same as OpenAPI 3.1</a></li>
<li><a href="/health">Whether it can write</a></li>
</ul>
</html>
"#;

/// `api`, with the page on top, which is answered and limited as all pages without a key are.
pub(crate) fn around(api: Router, app: &App) -> Router {
    let page = edge::<ChatApi>(Router::new().route("/", get(page)), app);
    let page = get_service(page).fallback_service(api.clone());
    Router::new().route("/", page).fallback_service(api)
}

async fn page() -> Response {
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Html(PAGE)).into_response()
}
