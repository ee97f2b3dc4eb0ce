//! The `ws-token` function on AWS Lambda.

use parlance::http::{serve::serve, surface::ChatApi};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    serve::<ChatApi>(sockets::routes()).await
}
