//! How far each member has received a room.

mod wire;

use axum::{Router, extract::State, routing::post};
use parlance::{
    app::App,
    http::{Body, Caller, Now, Reply, Show, credentials::TenantUser, wire::ErrorOut},
};

use self::wire::{AckIn, Acked};

/// The routes of the `acks` function.
pub fn routes() -> Router<App> {
    Router::new().route("/acks", post(ack))
}

/// What this function adds to the API's description.
#[derive(utoipa::OpenApi)]
#[openapi(paths(ack))]
pub struct Doc;

/// Acknowledge messages
///
/// Marks all messages up to `seq` as received by the caller. It only moves forward: an older seq
/// succeeds and changes nothing. The caller's connections, and the other members of a small room, hear `ack.received`.
#[utoipa::path(
    post,
    path = "/acks",
    tag = "Delivery & Acknowledgments",
    request_body = AckIn,
    responses(
        (status = 200, description = "Acknowledged", body = Acked),
        (status = 400, description = "A field breaks a rule, or the seq does not exist", body = ErrorOut),
        (status = 403, description = "Not a member", body = ErrorOut),
        (status = 404, description = "No such room", body = ErrorOut),
    ),
)]
async fn ack(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    Now(moment): Now,
    Body(body, _): Body<AckIn>,
) -> Reply<Acked> {
    let (room, seq) = body.parse()?;
    app.ack(&actor, room, seq, None, &moment).await?;
    Ok(Show::ok(Acked { success: true }))
}
