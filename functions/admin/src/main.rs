//! The `admin` function on AWS Lambda.

use parlance::http::{dialects::ChatApi, serve::serve_operator};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    serve_operator::<ChatApi>(admin::routes()).await
}
