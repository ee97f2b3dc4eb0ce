//! The `notify` function on AWS Lambda.

use parlance::http::{dialects::ChatApi, serve::serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    serve::<ChatApi>(notify::routes()).await
}
