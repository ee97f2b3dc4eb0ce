//! The functions: whose routes make the API, and who consumes which stream and which queue.

use std::path::PathBuf;
use std::pin::Pin;

use axum::Router;
use parlance::app::App;
use parlance::http::dialects::{ChatApi, Kodey};
use parlance::http::edge::edge;
use parlance::http::unrouted::refusing_methods;
use parlance::queue::PoisonQueue;
use tokio::sync::watch;

use crate::clock::every;
use crate::queues::{self, Queue};
use crate::sockets::Handler;
use crate::streams::{Source, poll};
use crate::template::{QueueMapping, Schedule, StreamMapping};

/// The API: what API Gateway does with the template's routes.
pub fn router(app: &App) -> Router {
    let chatapi = Router::new()
        .merge(rooms::routes())
        .merge(messages::routes())
        .merge(acks::routes())
        .merge(notify::routes())
        .merge(admin::routes())
        .merge(::sockets::routes())
        .merge(webhooks::routes())
        .merge(health::routes())
        .merge(keys::routes())
        .merge(::edge::routes());
    let kodey = Router::new().merge(chats::routes()).merge(agents::routes());
    edge::<ChatApi>(refusing_methods(chatapi), app)
        .merge(edge::<Kodey>(refusing_methods(kodey), app))
        .merge(::edge::elsewhere(app))
}

/// Whoever takes the events of connections.
pub fn socket_handler(app: &App) -> Handler {
    let app = app.clone();
    Handler::new(move |event| {
        let app = app.clone();
        Box::pin(async move { ::sockets::handle(&app, event).await })
    })
}

/// A task of the runner.
type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The consumer of the stream that `mapping` names; `None` for a function that is not known.
pub(crate) fn consumer(
    app: &App,
    source: Source,
    poison: PoisonQueue,
    mapping: StreamMapping,
    checkpoints: PathBuf,
) -> Option<Task> {
    let app = app.clone();
    match mapping.function.as_str() {
        "HeadsFunction" => Some(Box::pin(async move {
            let handler = move |event| {
                let (app, poison) = (app.clone(), poison.clone());
                async move { heads::handle(&app, &poison, event).await }
            };
            poll(source, mapping, &checkpoints, handler).await;
        })),
        "FanoutFunction" => Some(Box::pin(async move {
            let handler = move |event| {
                let (app, poison) = (app.clone(), poison.clone());
                async move { fanout::handle(&app, &poison, event).await }
            };
            poll(source, mapping, &checkpoints, handler).await;
        })),
        _ => None,
    }
}

/// The consumer of the queue that `mapping` names; `None` for a function that is not known.
pub(crate) fn queue_consumer(
    app: &App,
    queue: Queue,
    poison: PoisonQueue,
    mapping: QueueMapping,
) -> Option<Task> {
    let app = app.clone();
    match mapping.function.as_str() {
        "LiveFunction" => Some(Box::pin(async move {
            let handler = move |event| {
                let (app, poison) = (app.clone(), poison.clone());
                async move { live::handle(&app, &poison, event).await }
            };
            queues::poll(queue, mapping, handler).await;
        })),
        "SweepFunction" => Some(Box::pin(async move {
            let handler = move |event| {
                let (app, poison) = (app.clone(), poison.clone());
                async move { sweep::handle(&app, &poison, event).await }
            };
            queues::poll(queue, mapping, handler).await;
        })),
        "DeliverFunction" => Some(Box::pin(async move {
            let handler = move |event| {
                let (app, poison) = (app.clone(), poison.clone());
                async move { deliver::handle(&app, &poison, event).await }
            };
            queues::poll(queue, mapping, handler).await;
        })),
        _ => None,
    }
}

/// The function that runs as `schedule` says; `None` for one that is not known.
pub(crate) fn scheduled(
    app: &App,
    schedule: &Schedule,
    stop: watch::Receiver<bool>,
) -> Option<Task> {
    let (app, period) = (app.clone(), schedule.every);
    match schedule.function.as_str() {
        "ReconcileFunction" => Some(Box::pin(every(period, stop, move || {
            let app = app.clone();
            async move {
                // It has said in its own line what failed, and is run again.
                drop(reconcile::handle(&app).await);
            }
        }))),
        _ => None,
    }
}
