//! The `webhooks` function on AWS Lambda.

use parlance::http::{dialects::ChatApi, serve::serve_webhooks};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    serve_webhooks::<ChatApi>(webhooks::routes()).await
}
