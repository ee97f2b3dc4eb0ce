//! The `webhooks` function on AWS Lambda.

use parlance::http::{serve::serve_webhooks, surface::ChatApiTenant};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    serve_webhooks::<ChatApiTenant>(webhooks::routes()).await
}
