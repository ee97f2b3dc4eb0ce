//! A tenant's webhook endpoints.

mod wire;

use axum::{
    Router,
    extract::State,
    routing::{get, post},
};
use parlance::{
    app::App,
    domain::{EndpointId, webhook::Secret},
    http::{
        Body, Caller, NoBody, NoParams, Now, OptionalBody, OverlapQuery, Params, Path, Reply, Show,
        credentials::TenantServer, entropy, wire::ErrorOut,
    },
};

use self::wire::{
    EndpointCreated, EndpointIn, EndpointOut, EndpointPatchIn, RotationIn, SecretIssued, TrialIn,
    TrialOut,
};

/// The routes of the `webhooks` function.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/webhooks", post(create).get(list))
        .route(
            "/webhooks/{endpoint_id}",
            get(one).patch(change).delete(remove),
        )
        .route("/webhooks/{endpoint_id}/secret/rotate", post(rotate))
        .route("/webhooks/{endpoint_id}/test", post(try_out))
}

/// What this function adds to the API's description.
#[derive(utoipa::OpenApi)]
#[openapi(paths(create, list, one, change, rotate, remove, try_out))]
pub struct Doc;

/// Create a webhook endpoint
///
/// What happens from now on is sent to it. Its secret is shown in this answer and never again. A tenant has at most
/// 10 endpoints.
#[utoipa::path(
    post,
    path = "/webhooks",
    tag = "Webhooks",
    security(("api_key" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, remembered for 24 hours")),
    request_body = EndpointIn,
    responses(
        (status = 201, description = "The endpoint and its secret", body = EndpointCreated),
        (status = 400, description = "A field breaks a rule", body = ErrorOut),
        (status = 409, description = "The tenant has 10 endpoints, or the Idempotency-Key was used", body = ErrorOut),
    ),
)]
async fn create(
    State(app): State<App>,
    Caller(key): Caller<TenantServer>,
    _: NoParams,
    Now(moment): Now,
    Body(body, once): Body<EndpointIn>,
) -> Reply<EndpointCreated> {
    let secret = Secret::from_entropy(entropy()?);
    let new = body.parse(app.webhook_targets()?, secret)?;
    let (endpoint, secret) = app
        .create_endpoint(&key, new, once.as_ref(), &moment)
        .await?;
    Ok(Show::created(EndpointCreated::new(
        &endpoint, &secret, moment.now,
    )))
}

/// List webhook endpoints
///
/// Of the tenant, oldest first, without their secrets.
#[utoipa::path(
    get,
    path = "/webhooks",
    tag = "Webhooks",
    security(("api_key" = [])),
    params(
        ("limit" = Option<u64>, Query, description = "1 to 100, default 50"),
        ("offset" = Option<u64>, Query, description = "How many to pass over, at most 1000"),
        ("cursor" = Option<String>, Query, description = "From the Link header of the page before"),
    ),
    responses(
        (status = 200, description = "The tenant's endpoints, oldest first", body = Vec<EndpointOut>),
        (status = 400, description = "A parameter breaks a rule", body = ErrorOut),
    ),
)]
async fn list(
    State(app): State<App>,
    Caller(key): Caller<TenantServer>,
    Now(moment): Now,
    params: Params,
) -> Reply<Vec<EndpointOut>> {
    params.only(Params::SLICE)?;
    let slice = params.slice()?;
    let page = app.endpoints(&key, &slice).await?;
    let limit = ("limit", slice.limit.to_string());
    let shown = page.items.iter();
    let shown = shown.map(|endpoint| EndpointOut::new(endpoint, moment.now));
    Ok(Show::ok(shown.collect()).next("/webhooks", &[limit], page.next.as_ref()))
}

/// Get a webhook endpoint
///
/// How it is set, and whether it fails; without its secret.
#[utoipa::path(
    get,
    path = "/webhooks/{endpoint_id}",
    tag = "Webhooks",
    security(("api_key" = [])),
    params(("endpoint_id" = String, Path)),
    responses(
        (status = 200, description = "The endpoint", body = EndpointOut),
        (status = 404, description = "No such endpoint", body = ErrorOut),
    ),
)]
async fn one(
    State(app): State<App>,
    Caller(key): Caller<TenantServer>,
    _: NoParams,
    Path(id): Path<EndpointId>,
    Now(moment): Now,
) -> Reply<EndpointOut> {
    let endpoint = app.endpoint(&key, id).await?;
    Ok(Show::ok(EndpointOut::new(&endpoint, moment.now)))
}

/// Change a webhook endpoint
///
/// A change holds everywhere within ten seconds. With another `url`, and with `active`, it is no longer counted as failing.
#[utoipa::path(
    patch,
    path = "/webhooks/{endpoint_id}",
    tag = "Webhooks",
    security(("api_key" = [])),
    params(("endpoint_id" = String, Path)),
    request_body = EndpointPatchIn,
    responses(
        (status = 200, description = "The endpoint as it is now", body = EndpointOut),
        (status = 400, description = "A field breaks a rule", body = ErrorOut),
        (status = 404, description = "No such endpoint", body = ErrorOut),
    ),
)]
async fn change(
    State(app): State<App>,
    Caller(key): Caller<TenantServer>,
    _: NoParams,
    Path(id): Path<EndpointId>,
    Now(moment): Now,
    Body(body, _): Body<EndpointPatchIn>,
) -> Reply<EndpointOut> {
    let patch = body.parse(app.webhook_targets()?)?;
    let endpoint = app.patch_endpoint(&key, id, &patch, &moment).await?;
    Ok(Show::ok(EndpointOut::new(&endpoint, moment.now)))
}

/// Rotate a webhook endpoint's secret
///
/// The new secret is shown in this answer and never again. For 24 hours more, or for `overlap_seconds`, in the body or in
/// the query, webhooks are signed with the one before it too: `0` ends a secret that leaked. At most two sign.
#[utoipa::path(
    post,
    path = "/webhooks/{endpoint_id}/secret/rotate",
    tag = "Webhooks",
    security(("api_key" = [])),
    params(
        ("endpoint_id" = String, Path),
        ("overlap_seconds" = Option<u64>, Query, description = "As in the body: 0 to 604800, default 86400"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, remembered for 24 hours"),
    ),
    request_body = Option<RotationIn>,
    responses(
        (status = 201, description = "The new secret", body = SecretIssued),
        (status = 400, description = "A field breaks a rule", body = ErrorOut),
        (status = 404, description = "No such endpoint", body = ErrorOut),
        (status = 409, description = "Rotated meanwhile, or the Idempotency-Key was used", body = ErrorOut),
    ),
)]
async fn rotate(
    State(app): State<App>,
    Caller(key): Caller<TenantServer>,
    Path(id): Path<EndpointId>,
    Now(moment): Now,
    query: OverlapQuery,
    OptionalBody(body, once): OptionalBody<RotationIn>,
) -> Reply<SecretIssued> {
    let (secret, overlap) = body.parse(Secret::from_entropy(entropy()?), &query)?;
    let issued = app
        .rotate_secret(&key, id, secret, overlap, once.as_ref(), &moment)
        .await?;
    Ok(Show::created(SecretIssued::from(&issued)))
}

/// Delete a webhook endpoint
///
/// Nothing is sent to it any more within ten seconds.
#[utoipa::path(
    delete,
    path = "/webhooks/{endpoint_id}",
    tag = "Webhooks",
    security(("api_key" = [])),
    params(("endpoint_id" = String, Path)),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "No such endpoint", body = ErrorOut),
    ),
)]
async fn remove(
    State(app): State<App>,
    Caller(key): Caller<TenantServer>,
    _: NoParams,
    Path(id): Path<EndpointId>,
    Now(moment): Now,
    _: NoBody,
) -> Reply<()> {
    app.delete_endpoint(&key, id, &moment).await?;
    Ok(Show::nothing())
}

/// Try a webhook endpoint out
///
/// Sends it a sample now, signed like any other and marked with `"test": true`, and says what came of it. Also while it
/// is paused, and whatever its `events` are. A tenant has one test at a time.
#[utoipa::path(
    post,
    path = "/webhooks/{endpoint_id}/test",
    tag = "Webhooks",
    security(("api_key" = [])),
    params(("endpoint_id" = String, Path)),
    request_body = Option<TrialIn>,
    responses(
        (status = 200, description = "What came of it", body = TrialOut),
        (status = 400, description = "A field breaks a rule", body = ErrorOut),
        (status = 404, description = "No such endpoint", body = ErrorOut),
        (status = 409, description = "Another test of this tenant is under way, or no sealing key opens the secret of the endpoint", body = ErrorOut),
    ),
)]
async fn try_out(
    State(app): State<App>,
    Caller(key): Caller<TenantServer>,
    _: NoParams,
    Path(id): Path<EndpointId>,
    Now(moment): Now,
    OptionalBody(body, _): OptionalBody<TrialIn>,
) -> Reply<TrialOut> {
    let event = body.parse()?;
    let trial = app.try_endpoint(&key, id, event, &moment).await?;
    Ok(Show::ok(TrialOut::from(trial)))
}
