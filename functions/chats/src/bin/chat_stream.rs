//! The `chat-stream` function on AWS Lambda.

use parlance::http::{dialects::Kodey, serve::serve_streaming};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    serve_streaming::<Kodey>(chats::stream_routes()).await
}
