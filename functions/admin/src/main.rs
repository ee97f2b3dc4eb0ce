//! The `admin` function on AWS Lambda.

use parlance::http::{serve::serve, surface::ChatApiOperator};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    serve::<ChatApiOperator>(admin::routes()).await
}
