//! The documentation, and paths that API Gateway leads to no other function, each in the words of the dialect whose path
//! it would be.

mod pages;

use std::convert::Infallible;

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, Method, Uri},
    response::Response,
    routing::get,
};
use parlance::{
    app::App,
    domain::Error,
    http::{
        Failure,
        dialects::{self, ChatApi, Kodey, Named},
        edge::edge,
        unrouted::not_found,
    },
};
use tower::ServiceExt;

use self::pages::Page;

/// The API's description, generated from the handlers' own types.
pub const OPENAPI: &str = include_str!("../openapi.json");
/// Paths of which API Gateway leads GET alone to their function, since that route has a throttle of its own.
const GET_ALONE: [&str; 1] = ["/health"];
/// A page that shows it, without loading anything from elsewhere.
const PAGE: &str = include_str!("docs.html");

/// The routes of the `edge` function.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/openapi.json", get(openapi))
        .route("/docs", get(docs))
}

async fn openapi(headers: HeaderMap) -> Response {
    static DESCRIPTION: Page = Page::json(OPENAPI);
    DESCRIPTION.show(&headers)
}

async fn docs(headers: HeaderMap) -> Response {
    static DOCS: Page = Page::html(PAGE);
    DOCS.show(&headers)
}

/// Every path that no route takes, each in the words of the dialect that its first segment names.
pub fn elsewhere(app: &App) -> Router {
    let chatapi = edge::<ChatApi>(Router::new().fallback(unrouted), app);
    let kodey = edge::<Kodey>(Router::new().fallback(unrouted), app);
    Router::new().fallback(async move |request: Request| {
        let spoken = match dialects::of_path(request.uri().path()) {
            Named::ChatApi => chatapi,
            Named::Kodey => kodey,
        };
        let answer: Result<Response, Infallible> = spoken.oneshot(request).await;
        answer
    })
}

/// Everything else: not found, unless another method would be.
pub async fn unrouted(method: Method, uri: Uri) -> Failure {
    // HEAD is for a page that GET shows, which is not here.
    if method == Method::HEAD || !GET_ALONE.contains(&uri.path()) {
        return not_found().await;
    }
    Error::MethodNotAllowed {
        allowed: Method::GET.to_string(),
    }
    .into()
}
