//! The `acks` function on AWS Lambda.

use parlance::http::{serve::serve_sending, surface::ChatApi};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    serve_sending::<ChatApi>(acks::routes()).await
}
