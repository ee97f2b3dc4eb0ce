//! What the operator does: tenants and their keys; and dead letters and how things stand, which a tenant may read of
//! its own.

mod metrics;
mod model_usage;
mod wire;

use axum::{
    Router,
    extract::State,
    http::HeaderMap,
    response::Response,
    routing::{delete, get, post},
};
use parlance::{
    app::{App, ROTATION_OVERLAP_SECONDS},
    domain::{Error, TenantId, TenantKeyId, page::Slice, secret::ApiKey},
    http::{
        Body, Caller, Failure, KeyRotationIn, NoBody, NoParams, Now, OptionalBody, OverlapQuery,
        Params, Path, Reply, Show,
        credentials::{MasterKey, MasterKeyOrServer, MasterKeyOrUser},
        entropy,
        wire::ErrorOut,
    },
};

use self::{
    metrics::{Format, MetricsOut},
    model_usage::{ModelUsageOut, days},
    wire::{
        DeadLetters, DiscardIn, Discarded, KeyIssued, Listed, Meant, RedriveIn, Redriven,
        TenantCreated, TenantIn, TenantKeyOut, TenantOut, TenantPatchIn,
    },
};

/// The routes of the `admin` function.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/admin/dead-letters", get(dead_letters).delete(discard))
        .route("/admin/dead-letters/redrive", post(redrive))
        .route("/admin/tenants", post(create).get(list))
        .route("/admin/tenants/{tenant_id}", get(one).patch(change))
        .route("/admin/tenants/{tenant_id}/keys", get(keys))
        .route("/admin/tenants/{tenant_id}/keys/{key_id}", delete(revoke))
        .route("/admin/tenants/{tenant_id}/keys/rotate", post(rotate))
        .route("/admin/tenants/{tenant_id}/model-usage", get(usage))
        .route("/metrics", get(stand))
}

/// What this function adds to the API's description.
#[derive(utoipa::OpenApi)]
#[openapi(paths(
    dead_letters,
    redrive,
    discard,
    create,
    list,
    one,
    change,
    rotate,
    keys,
    revoke,
    usage,
    stand
))]
pub struct Doc;

/// List dead letters
///
/// Deliveries of a tenant whose attempts are used up, newest first: all, or those to which every filter that is named
/// applies. A page may hold fewer than `limit`, or none, and still lead on. With `X-Master-Key` of any tenant; with
/// `X-API-Key` and `X-User-Id` of the key's own.
#[utoipa::path(
    get,
    path = "/admin/dead-letters",
    tag = "Admin",
    security(("master_key" = []), ("api_key" = [], "user_id" = [])),
    params(
        ("tenant_id" = String, Query, example = "tenant_0193c1a27b0c7f3e8a6d5c4b3a291807"),
        ("delivery_id" = Option<String>, Query, description = "This one; nothing else may be named then", example = "dlv_5f1c7c3e9a0b8d2f8e6d5c4b3a291807"),
        ("topic" = Option<String>, Query, description = "Notifications about this topic"),
        ("room_id" = Option<String>, Query, description = "What happened in this room"),
        ("older_than" = Option<String>, Query, description = "Last tried before this time (RFC 3339)"),
        ("newer_than" = Option<String>, Query, description = "Last tried after this time (RFC 3339)"),
        ("limit" = Option<u64>, Query, description = "1 to 1000, default 50"),
        ("cursor" = Option<String>, Query, description = "From the Link header of the page before"),
    ),
    responses(
        (status = 200, description = "The dead letters", body = DeadLetters),
        (status = 400, description = "A parameter is missing or breaks a rule", body = ErrorOut),
        (status = 403, description = "Another tenant's", body = ErrorOut),
        (status = 404, description = "No such tenant", body = ErrorOut),
    ),
)]
async fn dead_letters(
    State(app): State<App>,
    Caller(auditor): Caller<MasterKeyOrUser>,
    params: Params,
) -> Reply<DeadLetters> {
    let listed = Listed::read(&params)?;
    let page = app
        .dead_letters(&auditor, listed.tenant, &listed.selected, listed.limit)
        .await?;
    let show = Show::ok(DeadLetters::from(page.items));
    Ok(show.next("/admin/dead-letters", &listed.link, page.next.as_ref()))
}

/// Redrive dead letters
///
/// Has dead letters tried again, each with a fresh set of attempts: one, or those to which all filters that are named
/// apply, or with `"all": true` all of the tenant; 1,000 in one request. `"dry_run": true` counts them and changes nothing. `more` says that the same request, with `next_cursor` of the answer as its
/// `cursor`, goes on. What is not dead any more stays as it is, so it may be sent twice. Those in the SQS dead-letter queue may be moved back as well, before or
/// after: each is delivered once.
#[utoipa::path(
    post,
    path = "/admin/dead-letters/redrive",
    tag = "Admin",
    security(("master_key" = []), ("api_key" = [], "user_id" = [])),
    request_body = RedriveIn,
    responses(
        (status = 200, description = "With `dry_run`: so many would be queued", body = Redriven),
        (status = 202, description = "They are queued", body = Redriven),
        (status = 400, description = "A field breaks a rule", body = ErrorOut),
        (status = 403, description = "Another tenant's", body = ErrorOut),
        (status = 404, description = "No such tenant, or the one that is named is not there", body = ErrorOut),
    ),
)]
async fn redrive(
    State(app): State<App>,
    Caller(auditor): Caller<MasterKeyOrUser>,
    _: NoParams,
    Now(moment): Now,
    Body(body, _): Body<RedriveIn>,
) -> Reply<Redriven> {
    let Meant {
        tenant,
        selected,
        dry_run,
    } = body.parse()?;
    if dry_run {
        let counted = app.count_selected(&auditor, tenant, &selected, &moment);
        return Ok(Show::ok(Redriven::from(counted.await?)));
    }
    let swept = app.redrive(&auditor, tenant, &selected, &moment).await?;
    Ok(Show::accepted(Redriven::from(swept)))
}

/// Discard dead letters
///
/// Gives dead letters up for a reason, chosen as for a redrive. They are listed no more, and no copy of them is ever
/// delivered. Who did it, when and why is kept for 16 days.
#[utoipa::path(
    delete,
    path = "/admin/dead-letters",
    tag = "Admin",
    security(("master_key" = []), ("api_key" = [], "user_id" = [])),
    request_body = DiscardIn,
    responses(
        (status = 200, description = "They are given up", body = Discarded),
        (status = 400, description = "A field breaks a rule", body = ErrorOut),
        (status = 403, description = "Another tenant's", body = ErrorOut),
        (status = 404, description = "No such tenant, or the one that is named is not there", body = ErrorOut),
    ),
)]
async fn discard(
    State(app): State<App>,
    Caller(auditor): Caller<MasterKeyOrUser>,
    _: NoParams,
    Now(moment): Now,
    Body(body, _): Body<DiscardIn>,
) -> Reply<Discarded> {
    let (meant, reason) = body.parse()?;
    let Meant {
        tenant,
        selected,
        dry_run,
    } = meant;
    let swept = if dry_run {
        app.count_selected(&auditor, tenant, &selected, &moment)
            .await?
    } else {
        app.discard(&auditor, tenant, &selected, &reason, &moment)
            .await?
    };
    Ok(Show::ok(Discarded::from(swept)))
}

/// Create a tenant
///
/// Its API key is shown in this answer and never again: with an `Idempotency-Key`, sending again makes
/// nothing new and is a 409.
#[utoipa::path(
    post,
    path = "/admin/tenants",
    tag = "Admin",
    security(("master_key" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, remembered for 24 hours")),
    request_body = TenantIn,
    responses(
        (status = 201, description = "Created", body = TenantCreated),
        (status = 400, description = "A field breaks a rule", body = ErrorOut),
        (status = 409, description = "The Idempotency-Key was used", body = ErrorOut),
    ),
)]
async fn create(
    State(app): State<App>,
    Caller(operator): Caller<MasterKey>,
    _: NoParams,
    Now(moment): Now,
    Body(body, once): Body<TenantIn>,
) -> Reply<TenantCreated> {
    let name = body.parse()?;
    let key = ApiKey::from_entropy(entropy()?);
    let new = app
        .create_tenant(&operator, name, key, once.as_ref(), &moment)
        .await?;
    Ok(Show::created(TenantCreated::from(&new)))
}

/// List tenants
///
/// Oldest first, without their keys.
#[utoipa::path(
    get,
    path = "/admin/tenants",
    tag = "Admin",
    security(("master_key" = [])),
    params(
        ("limit" = Option<u64>, Query, description = "1 to 100, default 50"),
        ("offset" = Option<u64>, Query, description = "How many to pass over, at most 1000"),
        ("cursor" = Option<String>, Query, description = "From the Link header of the page before"),
    ),
    responses(
        (status = 200, description = "The tenants, oldest first", body = Vec<TenantOut>),
        (status = 400, description = "A parameter breaks a rule", body = ErrorOut),
    ),
)]
async fn list(
    State(app): State<App>,
    Caller(operator): Caller<MasterKey>,
    params: Params,
) -> Reply<Vec<TenantOut>> {
    params.only(Params::SLICE)?;
    let slice: Slice = params.slice()?;
    let page = app.tenants(&operator, &slice).await?;
    let limit = ("limit", slice.limit.to_string());
    let shown = page.items.iter().map(TenantOut::from).collect();
    Ok(Show::ok(shown).next("/admin/tenants", &[limit], page.next.as_ref()))
}

/// Get a tenant
///
/// How it is set, without its keys.
#[utoipa::path(
    get,
    path = "/admin/tenants/{tenant_id}",
    tag = "Admin",
    security(("master_key" = [])),
    params(("tenant_id" = String, Path)),
    responses(
        (status = 200, description = "The tenant", body = TenantOut),
        (status = 404, description = "No such tenant", body = ErrorOut),
    ),
)]
async fn one(
    State(app): State<App>,
    Caller(operator): Caller<MasterKey>,
    _: NoParams,
    Path(id): Path<TenantId>,
) -> Reply<TenantOut> {
    let tenant = app.tenant(&operator, id).await?;
    Ok(Show::ok(TenantOut::from(&tenant)))
}

/// Change a tenant
///
/// A new rate limit holds everywhere within a minute.
#[utoipa::path(
    patch,
    path = "/admin/tenants/{tenant_id}",
    tag = "Admin",
    security(("master_key" = [])),
    params(("tenant_id" = String, Path)),
    request_body = TenantPatchIn,
    responses(
        (status = 200, description = "The tenant as it is now", body = TenantOut),
        (status = 400, description = "A field breaks a rule", body = ErrorOut),
        (status = 404, description = "No such tenant", body = ErrorOut),
    ),
)]
async fn change(
    State(app): State<App>,
    Caller(operator): Caller<MasterKey>,
    _: NoParams,
    Path(id): Path<TenantId>,
    Now(moment): Now,
    Body(body, _): Body<TenantPatchIn>,
) -> Reply<TenantOut> {
    let patch = body.parse()?;
    let tenant = app.patch_tenant(&operator, id, &patch, &moment).await?;
    Ok(Show::ok(TenantOut::from(&tenant)))
}

/// Rotate a tenant's key
///
/// The new key is shown in this answer and never again. The one before it holds for 24 hours more, or for
/// `overlap_seconds`, in the body or in the query: `0` ends a key that leaked, within a minute everywhere. At most two keys
/// of a tenant hold: a rotation ends all that are older than the one before it, and with `0` that one too.
#[utoipa::path(
    post,
    path = "/admin/tenants/{tenant_id}/keys/rotate",
    tag = "Admin",
    security(("master_key" = [])),
    params(
        ("tenant_id" = String, Path),
        ("overlap_seconds" = Option<u64>, Query, description = "As in the body: 0 to 86400, default 86400"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, remembered for 24 hours"),
    ),
    request_body = Option<KeyRotationIn>,
    responses(
        (status = 201, description = "The new key", body = KeyIssued),
        (status = 400, description = "A field or parameter breaks a rule", body = ErrorOut),
        (status = 404, description = "No such tenant", body = ErrorOut),
        (status = 409, description = "Rotated meanwhile, or the Idempotency-Key was used", body = ErrorOut),
    ),
)]
async fn rotate(
    State(app): State<App>,
    Caller(operator): Caller<MasterKey>,
    Path(id): Path<TenantId>,
    Now(moment): Now,
    query: OverlapQuery,
    OptionalBody(body, once): OptionalBody<KeyRotationIn>,
) -> Reply<KeyIssued> {
    let overlap = body.overlap_seconds;
    let overlap = overlap.parse(&query, ROTATION_OVERLAP_SECONDS, ROTATION_OVERLAP_SECONDS)?;
    let key = ApiKey::from_entropy(entropy()?);
    let issued = app
        .rotate_key(&operator, id, key, overlap, once.as_ref(), &moment)
        .await?;
    Ok(Show::created(KeyIssued::from(&issued)))
}

/// List a tenant's keys
///
/// Those that hold, the newest first, never their texts: the current one, and the one before it until its time is over. With
/// `X-Master-Key` of any tenant; with `X-API-Key` of the key's own. Of a tenant that was last rotated by a version which did
/// not name the one before, the current key alone is shown; the next rotation ends all others.
#[utoipa::path(
    get,
    path = "/admin/tenants/{tenant_id}/keys",
    tag = "Admin",
    security(("master_key" = []), ("api_key" = [])),
    params(("tenant_id" = String, Path)),
    responses(
        (status = 200, description = "At most two keys, masked", body = Vec<TenantKeyOut>),
        (status = 404, description = "No such tenant, or another one than the key's", body = ErrorOut),
    ),
)]
async fn keys(
    State(app): State<App>,
    Caller(observer): Caller<MasterKeyOrServer>,
    _: NoParams,
    Path(id): Path<TenantId>,
    Now(moment): Now,
) -> Reply<Vec<TenantKeyOut>> {
    let keys = app.tenant_keys(&observer, id, &moment).await?;
    Ok(Show::ok(keys.iter().map(TenantKeyOut::from).collect()))
}

/// End a tenant's replaced key
///
/// Before its time, within a minute everywhere. The current key is not ended in this way, since the tenant would have none: a
/// rotation with `overlap_seconds` 0 ends it.
#[utoipa::path(
    delete,
    path = "/admin/tenants/{tenant_id}/keys/{key_id}",
    tag = "Admin",
    security(("master_key" = [])),
    params(("tenant_id" = String, Path), ("key_id" = String, Path)),
    responses(
        (status = 204, description = "Ended"),
        (status = 404, description = "No such key holds, or no such tenant", body = ErrorOut),
        (status = 409, description = "It is the current key", body = ErrorOut),
    ),
)]
async fn revoke(
    State(app): State<App>,
    Caller(operator): Caller<MasterKey>,
    _: NoParams,
    Path((tenant, key)): Path<(TenantId, TenantKeyId)>,
    Now(moment): Now,
    _: NoBody,
) -> Reply<()> {
    app.revoke_key(&operator, tenant, key, &moment).await?;
    Ok(Show::nothing())
}

/// Get what models were used for
///
/// By day (UTC), agent and model: of the key's own tenant, with `X-Master-Key` of any. Each answer is counted once.
#[utoipa::path(
    get,
    path = "/admin/tenants/{tenant_id}/model-usage",
    tag = "Admin",
    security(("master_key" = []), ("api_key" = [])),
    params(
        ("tenant_id" = String, Path),
        ("from" = Option<String>, Query, description = "The first day, such as 2025-12-01; 29 days before the last, if left out"),
        ("to" = Option<String>, Query, description = "The last day; today, if left out"),
        ("limit" = Option<u64>, Query, description = "1 to 100, default 50"),
        ("cursor" = Option<String>, Query, description = "From the Link header of the page before"),
    ),
    responses(
        (status = 200, description = "What was used, oldest first", body = Vec<ModelUsageOut>),
        (status = 400, description = "A parameter breaks a rule", body = ErrorOut),
        (status = 404, description = "No such tenant, or not the key's own", body = ErrorOut),
    ),
)]
async fn usage(
    State(app): State<App>,
    Caller(observer): Caller<MasterKeyOrServer>,
    Path(tenant): Path<TenantId>,
    Now(moment): Now,
    params: Params,
) -> Reply<Vec<ModelUsageOut>> {
    params.only(&["from", "to", "limit", "cursor"])?;
    let (from, to) = days(&params, moment.now)?;
    let limit = params.limit(Slice::MAX_LIMIT)?;
    let after = params.cursor()?;
    let page = app
        .model_usage(&observer, tenant, (from, to), limit, after.as_ref())
        .await?;
    let link = [
        ("from", from.to_string()),
        ("to", to.to_string()),
        ("limit", limit.to_string()),
    ];
    let show = Show::ok(page.items.iter().map(ModelUsageOut::from).collect());
    let path = format!("/admin/tenants/{tenant}/model-usage");
    Ok(show.next(&path, &link, page.next.as_ref()))
}

/// Get metrics
///
/// How things stand: of the key's own tenant, with or without `X-User-Id`; with `X-Master-Key` of any tenant, or of the first
/// 1,000 tenants together (whose dead letters are asked for where any were counted). As JSON; as Prometheus text
/// (0.0.4) if `Accept` prefers `text/plain` or `application/openmetrics-text`, its names with `parlance_` before them, and
/// labelled with the tenant unless it is a sum.
///
/// Counts are of all time. They are written every few seconds, and some of the last seconds of a process that
/// ends may be missing; what was written without an answer may count twice.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Admin",
    security(("master_key" = []), ("api_key" = [])),
    params(
        ("tenant_id" = Option<String>, Query, example = "tenant_0193c1a27b0c7f3e8a6d5c4b3a291807"),
    ),
    responses(
        (status = 200, description = "How things stand", content(
            (MetricsOut = "application/json"),
            (String = "text/plain"),
        )),
        (status = 400, description = "A parameter breaks a rule", body = ErrorOut),
        (status = 403, description = "Another tenant's", body = ErrorOut),
        (status = 404, description = "No such tenant", body = ErrorOut),
    ),
)]
async fn stand(
    State(app): State<App>,
    Caller(observer): Caller<MasterKeyOrServer>,
    Now(moment): Now,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    params.only(&["tenant_id"])?;
    let tenant = params.get("tenant_id")?.map(str::parse::<TenantId>);
    let tenant = tenant
        .transpose()
        .map_err(|_| Error::invalid("tenant_id", "Invalid tenant_id"))?;
    let metrics = app.metrics(&observer, tenant, &moment).await?;
    let tenant = metrics.tenant.map(|tenant| tenant.to_string());
    Ok(MetricsOut::from(&metrics).show(Format::of(&headers), tenant.as_deref()))
}
