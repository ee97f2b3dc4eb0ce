//! The `deliver` function on AWS Lambda.

use lambda_runtime::Error;
use parlance::{http::serve, runtime::consume};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    consume::run(serve::deliverer, deliver::handle).await
}
