//! The `admin` function on AWS Lambda.

use parlance::http::{serve::serve_operator, surface::ChatApiOperator};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    serve_operator::<ChatApiOperator>(admin::routes()).await
}
