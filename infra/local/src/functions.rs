//! The functions: whose routes make the API, and who consumes which stream.

use std::path::PathBuf;
use std::pin::Pin;

use axum::Router;
use parlance::app::App;
use parlance::http::edge::edge;
use parlance::http::surface::ChatApi;
use parlance::queue::PoisonQueue;

use crate::streams::{Source, poll};
use crate::template::StreamMapping;

/// The API: what API Gateway does with the template's routes.
pub fn router(app: &App) -> Router {
    let routes = Router::new()
        .merge(rooms::routes())
        .merge(messages::routes())
        .merge(acks::routes())
        .merge(notify::routes())
        .merge(admin::routes())
        .merge(health::routes())
        .merge(::edge::routes())
        .fallback(::edge::unrouted)
        .method_not_allowed_fallback(::edge::unrouted);
    edge::<ChatApi>(routes, app)
}

/// The consumer of the stream that `mapping` names; `None` for a function that is not known.
pub(crate) fn consumer(
    app: &App,
    source: Source,
    poison: PoisonQueue,
    mapping: StreamMapping,
    checkpoints: PathBuf,
) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
    let app = app.clone();
    match mapping.function.as_str() {
        "HeadsFunction" => Some(Box::pin(async move {
            let handler = move |event| {
                let (app, poison) = (app.clone(), poison.clone());
                async move { heads::handle(&app, &poison, event).await }
            };
            poll(source, mapping, &checkpoints, handler).await;
        })),
        _ => None,
    }
}
