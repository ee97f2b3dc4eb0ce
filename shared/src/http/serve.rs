//! Running routes as a Lambda function.

use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_dynamodb::Client;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use axum::Router;

use super::{Failure, edge::edge, surface::Surface};
use crate::{
    app::{App, Settings},
    domain::Error,
    queue::PoisonQueue,
};

/// Runs the routes of one function on surface `S` until the runtime ends the process. What API Gateway
/// should not have sent here is not found.
///
/// # Errors
///
/// As [`serve_all`].
pub async fn serve<S: Surface>(routes: Router<App>) -> Result<(), lambda_http::Error> {
    serve_all::<S>(
        routes
            .fallback(not_found)
            .method_not_allowed_fallback(not_found),
    )
    .await
}

async fn not_found() -> Failure {
    Error::NotFound("Path").into()
}

/// Runs `routes`, which answer every path, on surface `S` until the runtime ends the process.
///
/// # Errors
///
/// If the environment lacks a setting, which is said at start, or if the runtime is lost.
pub async fn serve_all<S: Surface>(routes: Router<App>) -> Result<(), lambda_http::Error> {
    lambda_http::tracing::init_default_subscriber();
    let app = app().await?;
    lambda_http::run(edge::<S>(routes, &app)).await
}

/// The service as this function's environment describes it.
pub async fn app() -> Result<App, lambda_http::Error> {
    let settings = Settings::from_env(|name| std::env::var(name).ok())?;
    Ok(App::new(&settings, &Client::new(&aws().await)))
}

/// The queue of what this function cannot read, `POISON_QUEUE`.
pub async fn poison_queue() -> Result<PoisonQueue, lambda_http::Error> {
    let url = std::env::var("POISON_QUEUE")
        .map_err(|_| "environment variable POISON_QUEUE is not set")?;
    let client = aws_sdk_sqs::Client::new(&aws().await);
    Ok(PoisonQueue::new(client, url))
}

/// Few, short retries: what they do not mend within seconds is a 503.
async fn aws() -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_attempt_timeout(Duration::from_secs(2))
        .operation_timeout(Duration::from_secs(6))
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .timeout_config(timeouts)
        .load()
        .await
}
