//! The `keys` function on AWS Lambda.

use parlance::http::{dialects::ChatApi, serve::serve_keeper};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    serve_keeper::<ChatApi>(keys::routes()).await
}
