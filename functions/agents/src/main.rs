//! The `agents` function on AWS Lambda.

use parlance::http::{dialects::Kodey, serve::serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    serve::<Kodey>(agents::routes()).await
}
