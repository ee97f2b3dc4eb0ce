//! The `edge` function on AWS Lambda.

use parlance::http::{edge::edge, serve::serve_router, surface::ChatApi};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let routes = edge::routes().method_not_allowed_fallback(edge::unrouted);
    serve_router(|app| edge::<ChatApi>(routes, app).merge(edge::elsewhere(app))).await
}
