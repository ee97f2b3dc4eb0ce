//! The `chats` function on AWS Lambda.

use parlance::http::{dialects::Kodey, serve::serve_models};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    serve_models::<Kodey>(chats::routes()).await
}
