//! A function as all are, with routes that fail as no real one should: a test sees what becomes of the next
//! request.

use std::time::Duration;

use axum::{Router, routing::get};
use parlance::{
    app::App,
    http::{dialects::ChatApi, serve::serve},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let routes = Router::<App>::new()
        .route("/panic", get(panics))
        .route("/exit", get(exits))
        .route("/hang", get(hangs))
        .route("/well", get(|| async { "well" }));
    serve::<ChatApi>(routes).await
}

#[expect(clippy::panic, reason = "that is what it is for")]
async fn panics() {
    panic!("as it was asked to");
}

async fn exits() {
    std::process::exit(3);
}

async fn hangs() {
    tokio::time::sleep(Duration::from_hours(1)).await;
}
