//! The `edge` function on AWS Lambda.

use parlance::http::{serve::serve_all, surface::ChatApi};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let routes = edge::routes()
        .fallback(edge::unrouted)
        .method_not_allowed_fallback(edge::unrouted);
    serve_all::<ChatApi>(routes).await
}
