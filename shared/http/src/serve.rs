//! Running routes as a Lambda function.

use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use axum::Router;
use tokio::signal::unix::{SignalKind, signal};

use super::{dialects::Dialect, edge::edge, telemetry, unrouted::closed};
use crate::{
    app::{
        App, BadSettings, KeySettings, Means, ProviderKeys, SealingSource, Settings, VaultSource,
        WebhookSettings, Webhooks,
    },
    domain::address::Targets,
    providers::{
        aws::Aws, models::Models, outbound::Fetcher, sealing::Sealing, vault::Vault,
        webhook::Sender,
    },
    queue::{Jobs, PoisonQueue},
    store::usage::metered,
};

/// Runs the routes of one function on dialect `D` until the runtime ends the process. API Gateway leads all methods of a
/// prefix here, so unknown paths and wrong methods are answered here too.
///
/// # Errors
///
/// If the environment lacks a setting, which is said at start, or if the runtime is lost.
pub async fn serve<D: Dialect>(routes: Router<App>) -> Result<(), lambda_http::Error> {
    serve_router(|app| edge::<D>(closed(routes), app)).await
}

/// Runs what `router` makes of the service, each of whose routes has its surface around it already.
///
/// # Errors
///
/// As [`serve`].
pub async fn serve_router(router: impl FnOnce(&App) -> Router) -> Result<(), lambda_http::Error> {
    telemetry::start();
    let app = app(&Aws::from_env())?;
    until_told(lambda_http::run(router(&app))).await
}

/// Runs routes that send jobs as [`serve`] runs others.
///
/// # Errors
///
/// As [`serve`].
pub async fn serve_sending<D: Dialect>(routes: Router<App>) -> Result<(), lambda_http::Error> {
    telemetry::start();
    let app = sender()?;
    until_told(lambda_http::run(edge::<D>(closed(routes), &app))).await
}

/// Runs routes that ask models as [`serve`] runs others. `PROVIDER_KEYS_KEY` names the key of KMS that opens provider keys,
/// or else `SEALING_KEY` is one; `MODEL_TARGETS` says where providers may be, and `DEFAULT_MODEL` which model is asked if
/// nobody says.
///
/// # Errors
///
/// As [`serve`].
pub async fn serve_models<D: Dialect>(routes: Router<App>) -> Result<(), lambda_http::Error> {
    telemetry::start();
    let app = asking(&Aws::from_env())?;
    until_told(lambda_http::run(edge::<D>(closed(routes), &app))).await
}

/// Runs routes that ask models, whose answers are shown while they come, behind a URL that streams, as [`serve_models`] runs
/// others.
///
/// # Errors
///
/// As [`serve`].
pub async fn serve_streaming<D: Dialect>(routes: Router<App>) -> Result<(), lambda_http::Error> {
    telemetry::start();
    let app = asking(&Aws::from_env())?;
    let routes = edge::<D>(closed(routes), &app);
    until_told(lambda_http::run_with_streaming_response(routes)).await
}

/// Runs the operator's routes as [`serve`] runs others. The operator's key is in the secret that
/// `MASTER_API_KEY_SECRET` names, or else is `MASTER_API_KEY`. A function of its own, because no other one
/// should hold the client of Secrets Manager.
///
/// # Errors
///
/// As [`serve`].
pub async fn serve_operator<D: Dialect>(routes: Router<App>) -> Result<(), lambda_http::Error> {
    telemetry::start();
    let aws = Aws::from_env();
    let (settings, secret) = started(Settings::of_operator(variable))?;
    let dynamodb = counted(&aws);
    let means = Means {
        master: secret.map(|id| Arc::new(aws.operator_key(id)) as _),
        jobs: Jobs::new(aws.sqs(), settings.queues.clone()),
        ..Means::default()
    };
    let app = App::with(&settings, &dynamodb, means);
    until_told(lambda_http::run(edge::<D>(closed(routes), &app))).await
}

/// Runs routes that keep keys as [`serve_operator`] runs others, with what seals those of providers: `PROVIDER_KEYS_KEY` or
/// `SEALING_KEY`; `MODEL_TARGETS` says where providers may be.
///
/// # Errors
///
/// As [`serve`].
pub async fn serve_keeper<D: Dialect>(routes: Router<App>) -> Result<(), lambda_http::Error> {
    telemetry::start();
    let aws = Aws::from_env();
    let (settings, secret, keys) = started(Settings::of_keeper(variable))?;
    let means = Means {
        master: secret.map(|id| Arc::new(aws.operator_key(id)) as _),
        provider_keys: Some(keeping(&aws, keys)),
        ..Means::default()
    };
    let app = App::with(&settings, &counted(&aws), means);
    until_told(lambda_http::run(edge::<D>(closed(routes), &app))).await
}

/// What provider keys are kept with, as `settings` say.
fn keeping(aws: &Aws, settings: KeySettings) -> ProviderKeys {
    let vault = match settings.vault {
        VaultSource::Kms(key) => aws.vault(key),
        VaultSource::Given(key) => Vault::Given(key),
    };
    ProviderKeys::new(vault, settings.targets)
}

/// Runs routes that send webhooks as [`serve`] runs others. The key that seals their secrets is in the secret that
/// `SEALING_KEY_SECRET` names, or else is `SEALING_KEY`; `WEBHOOK_TARGETS` says where they may go.
///
/// # Errors
///
/// As [`serve`].
pub async fn serve_webhooks<D: Dialect>(routes: Router<App>) -> Result<(), lambda_http::Error> {
    telemetry::start();
    let aws = Aws::from_env();
    let (settings, webhooks) = started(Settings::of_webhooks(variable))?;
    let means = Means {
        webhooks: Some(sending(&aws, webhooks)),
        ..Means::default()
    };
    let app = App::with(&settings, &counted(&aws), means);
    until_told(lambda_http::run(edge::<D>(closed(routes), &app))).await
}

/// What webhooks are sent with, as `settings` say.
pub fn sending(aws: &Aws, settings: WebhookSettings) -> Webhooks {
    let sealing = match settings.sealing {
        SealingSource::Secret(id) => aws.sealing(id),
        SealingSource::Given(key) => Sealing::Given(key),
    };
    Webhooks::new(sealing, Sender::new(settings.targets))
}

/// What a function that consumes a stream or a queue works with: the service as its environment describes
/// it, with the queues, and the queue of what it cannot read, `POISON_QUEUE`.
///
/// # Errors
///
/// As [`serve`].
pub fn consumer() -> Result<(App, PoisonQueue), lambda_http::Error> {
    let aws = Aws::from_env();
    let (settings, poison) = started(Settings::of_consumer(variable))?;
    let means = Means {
        jobs: Jobs::new(aws.sqs(), settings.queues.clone()),
        ..Means::default()
    };
    let app = App::with(&settings, &counted(&aws), means);
    Ok((app, PoisonQueue::new(aws.sqs(), poison)))
}

/// What the function that tells who is connected works with: as [`consumer`], with connections.
///
/// # Errors
///
/// As [`serve`].
pub fn teller() -> Result<(App, PoisonQueue), lambda_http::Error> {
    let aws = Aws::from_env();
    let (settings, poison, endpoint) = started(Settings::of_teller(variable))?;
    let means = Means {
        jobs: Jobs::new(aws.sqs(), settings.queues.clone()),
        sockets: Some(aws.sockets(&endpoint)),
        ..Means::default()
    };
    let app = App::with(&settings, &counted(&aws), means);
    Ok((app, PoisonQueue::new(aws.sqs(), poison)))
}

/// What the function that makes deliveries works with: as [`consumer`], with what webhooks are sent with, and
/// connections.
///
/// # Errors
///
/// As [`serve`].
pub fn deliverer() -> Result<(App, PoisonQueue), lambda_http::Error> {
    let aws = Aws::from_env();
    let (settings, deliverer) = started(Settings::of_deliverer(variable))?;
    let means = Means {
        jobs: Jobs::new(aws.sqs(), settings.queues.clone()),
        webhooks: Some(sending(&aws, deliverer.webhooks)),
        sockets: Some(aws.sockets(&deliverer.sockets)),
        ..Means::default()
    };
    let app = App::with(&settings, &counted(&aws), means);
    Ok((app, PoisonQueue::new(aws.sqs(), deliverer.poison)))
}

/// What the function behind the WebSocket API works with: the service as its environment describes it, with the
/// queues, and connections.
///
/// # Errors
///
/// As [`serve`].
pub fn gateway() -> Result<App, lambda_http::Error> {
    let aws = Aws::from_env();
    let (settings, endpoint) = started(Settings::of_gateway(variable))?;
    let means = Means {
        jobs: Jobs::new(aws.sqs(), settings.queues.clone()),
        sockets: Some(aws.sockets(&endpoint)),
        ..Means::default()
    };
    Ok(App::with(&settings, &counted(&aws), means))
}

/// What a function that nobody calls and that reads no queue works with: the service as its environment describes
/// it, with the queues.
///
/// # Errors
///
/// As [`serve`].
pub fn sender() -> Result<App, lambda_http::Error> {
    let aws = Aws::from_env();
    let settings = started(Settings::from_env(variable))?;
    let means = Means {
        jobs: Jobs::new(aws.sqs(), settings.queues.clone()),
        ..Means::default()
    };
    Ok(App::with(&settings, &counted(&aws), means))
}

/// Runs a function until SIGTERM, which Lambda sends between two invocations: there is nothing to finish.
///
/// # Errors
///
/// If the runtime is lost.
pub async fn until_told(
    run: impl Future<Output = Result<(), lambda_http::Error>>,
) -> Result<(), lambda_http::Error> {
    let mut told = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = run => ended,
        _ = told.recv() => Ok(()),
    }
}

/// The service as this function's environment describes it.
fn app(aws: &Aws) -> Result<App, lambda_http::Error> {
    let settings = started(Settings::from_env(variable))?;
    Ok(App::new(&settings, &counted(aws)))
}

/// The same for a function that asks models.
fn asking(aws: &Aws) -> Result<App, lambda_http::Error> {
    let (settings, models) = started(Settings::of_models(variable))?;
    let means = Means {
        models: Some(Models::new(models.keys.targets, models.default)),
        provider_keys: Some(keeping(aws, models.keys)),
        // What people say makes agents read: never what only the operator's network can reach.
        fetcher: Some(Fetcher::new(Targets::Public)),
        ..Means::default()
    };
    Ok(App::with(&settings, &counted(aws), means))
}

/// A DynamoDB client that counts calls and units for the lines.
fn counted(aws: &Aws) -> Client {
    metered(&aws.dynamodb(), true)
}

/// Logs why the function cannot start.
fn started<T>(settings: Result<T, BadSettings>) -> Result<T, BadSettings> {
    settings.inspect_err(|error| tracing::error!("the function cannot start: {error}"))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
