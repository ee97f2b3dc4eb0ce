//! The `keys` function on AWS Lambda.

use parlance::http::{serve::serve_keeper, surface::ChatApi};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    serve_keeper::<ChatApi>(keys::routes()).await
}
