//! The yardstick of docs/functions.md: what a function costs that does nothing.

use axum::{Router, routing::get};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let hello = Router::new().fallback(get(|| async { "hello" }));
    lambda_http::run(hello).await
}
