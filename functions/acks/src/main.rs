//! The `acks` function on AWS Lambda.

use parlance::http::{dialects::ChatApi, serve::serve_sending};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    serve_sending::<ChatApi>(acks::routes()).await
}
