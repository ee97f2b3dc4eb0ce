//! Running routes as a Lambda function.

use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use axum::Router;

use super::{Failure, edge::edge, surface::Surface, telemetry};
use crate::{
    app::{App, Settings},
    domain::Error,
    providers::aws::Aws,
    queue::PoisonQueue,
    store::usage::metered,
};

/// Runs the routes of one function on surface `S` until the runtime ends the process. What API Gateway
/// should not have sent here is not found.
///
/// # Errors
///
/// As [`serve_all`].
pub async fn serve<S: Surface>(routes: Router<App>) -> Result<(), lambda_http::Error> {
    serve_all::<S>(only(routes)).await
}

fn only(routes: Router<App>) -> Router<App> {
    routes
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
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
    telemetry::start();
    let app = app(&Aws::from_env())?;
    lambda_http::run(edge::<S>(routes, &app)).await
}

/// Runs the operator's routes as [`serve`] runs others. The operator's key is in the secret that
/// `MASTER_API_KEY_SECRET` names, or else is `MASTER_API_KEY`. A function of its own, because no other one
/// should hold the client of Secrets Manager.
///
/// # Errors
///
/// As [`serve_all`].
pub async fn serve_operator<S: Surface>(routes: Router<App>) -> Result<(), lambda_http::Error> {
    telemetry::start();
    let aws = Aws::from_env();
    let secret = variable("MASTER_API_KEY_SECRET");
    let app = match secret {
        Some(id) => {
            let key = Arc::new(aws.operator_key(id));
            App::with_operator(&settings()?, &counted(&aws), Some(key))
        }
        None if variable("MASTER_API_KEY").is_some() => app(&aws)?,
        None => return Err("environment variable MASTER_API_KEY_SECRET is not set".into()),
    };
    lambda_http::run(edge::<S>(only(routes), &app)).await
}

/// The service as this function's environment describes it.
pub fn app(aws: &Aws) -> Result<App, lambda_http::Error> {
    Ok(App::new(&settings()?, &counted(aws)))
}

/// A DynamoDB client that counts calls and units for the lines.
fn counted(aws: &Aws) -> Client {
    metered(&aws.dynamodb(), true)
}

/// The queue of what this function cannot read, `POISON_QUEUE`.
pub fn poison_queue(aws: &Aws) -> Result<PoisonQueue, lambda_http::Error> {
    let url = variable("POISON_QUEUE").ok_or("environment variable POISON_QUEUE is not set")?;
    Ok(PoisonQueue::new(aws.sqs(), url))
}

fn settings() -> Result<Settings, lambda_http::Error> {
    Ok(Settings::from_env(|name| std::env::var(name).ok())?)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
