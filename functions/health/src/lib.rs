//! Whether the service can write.

mod wire;

use axum::{Router, extract::State, routing::get};
use parlance::{
    app::App,
    http::{Now, Reply, Show},
};

use self::wire::HealthOut;

/// The routes of the `health` function.
pub fn routes() -> Router<App> {
    Router::new().route("/health", get(health))
}

/// What this function adds to the API's description.
#[derive(utoipa::OpenApi)]
#[openapi(paths(health))]
pub struct Doc;

/// Check health
///
/// Public. `db_writable` is the result of a real write, at most a few seconds old.
#[utoipa::path(
    get,
    path = "/health",
    tag = "Health & Monitoring",
    security(()),
    responses(
        (status = 200, description = "The service can write", body = HealthOut),
        (status = 503, description = "It cannot", body = HealthOut),
    ),
)]
async fn health(State(app): State<App>, Now(moment): Now) -> Reply<HealthOut> {
    let health = app.health(&moment).await;
    let shown = HealthOut::from(&health);
    Ok(if health.writable {
        Show::ok(shown)
    } else {
        Show::unavailable(shown)
    })
}
