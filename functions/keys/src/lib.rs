//! What opens a team's doors, and its providers': API keys and provider keys. The operator keeps those of any tenant, a
//! tenant's server its own.

mod providers;
mod wire;

use axum::{
    Router,
    extract::State,
    routing::{delete, post},
};
use parlance::{
    app::App,
    domain::{
        ApiKeyId, TenantId,
        api_key::{KeyText, OVERLAP_SECONDS},
    },
    http::{
        Body, Caller, KeyRotationIn, NoBody, NoParams, Now, OptionalBody, OverlapQuery, Params,
        Path, Reply, Show, credentials::MasterKeyOrServer, entropy, wire::ErrorOut,
    },
};

use self::wire::{ApiKeyIn, ApiKeyIssued, ApiKeyOut};

/// The routes of the `keys` function.
pub fn routes() -> Router<App> {
    Router::new()
        .route(
            "/admin/tenants/{tenant_id}/api-keys",
            post(create).get(list),
        )
        .route(
            "/admin/tenants/{tenant_id}/api-keys/{key_id}",
            delete(revoke),
        )
        .route(
            "/admin/tenants/{tenant_id}/api-keys/{key_id}/rotate",
            post(rotate),
        )
        .merge(providers::routes())
}

/// What this function adds to the API's description.
#[derive(utoipa::OpenApi)]
#[openapi(paths(
    create,
    list,
    revoke,
    rotate,
    providers::create,
    providers::list,
    providers::change,
    providers::remove,
    providers::create_global,
    providers::list_global,
    providers::change_global,
    providers::remove_global,
))]
pub struct Doc;

/// Create an API key
///
/// For chats with agents: a publishable one for browsers, a secret one for servers. It is shown in this answer and never
/// again: with an `Idempotency-Key`, sending again makes nothing new and is a 409. A tenant has at most 100 keys; those that
/// have expired make room.
#[utoipa::path(
    post,
    path = "/admin/tenants/{tenant_id}/api-keys",
    tag = "Admin",
    security(("master_key" = []), ("api_key" = [])),
    params(
        ("tenant_id" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, remembered for 24 hours"),
    ),
    request_body = ApiKeyIn,
    responses(
        (status = 201, description = "The key, and the one sight of its text", body = ApiKeyIssued),
        (status = 400, description = "A field breaks a rule", body = ErrorOut),
        (status = 404, description = "No such tenant, or another one than the key's", body = ErrorOut),
        (status = 409, description = "The tenant has 100 keys, or the Idempotency-Key was used", body = ErrorOut),
    ),
)]
async fn create(
    State(app): State<App>,
    Caller(keeper): Caller<MasterKeyOrServer>,
    _: NoParams,
    Path(tenant): Path<TenantId>,
    Now(moment): Now,
    Body(body, once): Body<ApiKeyIn>,
) -> Reply<ApiKeyIssued> {
    let new = body.parse(moment.now)?;
    let text = KeyText::from_entropy(new.opens.kind(), entropy()?);
    let key = app
        .create_api_key(&keeper, tenant, new, &text, once.as_ref(), &moment)
        .await?;
    Ok(Show::created(ApiKeyIssued::new(&key, &text, moment.now)))
}

/// List API keys
///
/// Never their texts. Those that were revoked are gone.
#[utoipa::path(
    get,
    path = "/admin/tenants/{tenant_id}/api-keys",
    tag = "Admin",
    security(("master_key" = []), ("api_key" = [])),
    params(
        ("tenant_id" = String, Path),
        ("limit" = Option<u64>, Query, description = "1 to 100, default 50"),
        ("offset" = Option<u64>, Query, description = "How many to pass over, at most 1000"),
        ("cursor" = Option<String>, Query, description = "From the Link header of the page before"),
    ),
    responses(
        (status = 200, description = "The tenant's keys, oldest first", body = Vec<ApiKeyOut>),
        (status = 400, description = "A parameter breaks a rule", body = ErrorOut),
        (status = 404, description = "No such tenant, or another one than the key's", body = ErrorOut),
    ),
)]
async fn list(
    State(app): State<App>,
    Caller(keeper): Caller<MasterKeyOrServer>,
    Path(tenant): Path<TenantId>,
    Now(moment): Now,
    params: Params,
) -> Reply<Vec<ApiKeyOut>> {
    params.only(Params::SLICE)?;
    let slice = params.slice()?;
    let page = app.api_keys(&keeper, tenant, &slice).await?;
    let limit = ("limit", slice.limit.to_string());
    let shown = page.items.iter();
    let shown = shown.map(|key| ApiKeyOut::new(key, moment.now)).collect();
    let path = format!("/admin/tenants/{tenant}/api-keys");
    Ok(Show::ok(shown).next(&path, &[limit], page.next.as_ref()))
}

/// Revoke an API key
///
/// It ends everywhere within a minute, with the text before a rotation too.
#[utoipa::path(
    delete,
    path = "/admin/tenants/{tenant_id}/api-keys/{key_id}",
    tag = "Admin",
    security(("master_key" = []), ("api_key" = [])),
    params(("tenant_id" = String, Path), ("key_id" = String, Path)),
    responses(
        (status = 204, description = "Revoked"),
        (status = 404, description = "No such key, or no such tenant", body = ErrorOut),
    ),
)]
async fn revoke(
    State(app): State<App>,
    Caller(keeper): Caller<MasterKeyOrServer>,
    _: NoParams,
    Path((tenant, key)): Path<(TenantId, ApiKeyId)>,
    Now(moment): Now,
    _: NoBody,
) -> Reply<()> {
    app.revoke_api_key(&keeper, tenant, key, &moment).await?;
    Ok(Show::nothing())
}

/// Rotate an API key
///
/// The same key with a new text, which is shown in this answer and never again. The text before it holds for 24 hours more,
/// or for `overlap_seconds`, in the body or in the query: `0` ends a key that leaked, within a minute everywhere. At most two texts of a key hold:
/// another rotation ends the one before the last at once.
#[utoipa::path(
    post,
    path = "/admin/tenants/{tenant_id}/api-keys/{key_id}/rotate",
    tag = "Admin",
    security(("master_key" = []), ("api_key" = [])),
    params(
        ("tenant_id" = String, Path),
        ("key_id" = String, Path),
        ("overlap_seconds" = Option<u64>, Query, description = "As in the body: 0 to 86400, default 86400"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, remembered for 24 hours"),
    ),
    request_body = Option<KeyRotationIn>,
    responses(
        (status = 201, description = "The key, and the one sight of its new text", body = ApiKeyIssued),
        (status = 400, description = "A field breaks a rule", body = ErrorOut),
        (status = 404, description = "No such key, or no such tenant", body = ErrorOut),
        (status = 409, description = "Rotated or revoked meanwhile, expired, or the Idempotency-Key was used", body = ErrorOut),
    ),
)]
async fn rotate(
    State(app): State<App>,
    Caller(keeper): Caller<MasterKeyOrServer>,
    Path((tenant, id)): Path<(TenantId, ApiKeyId)>,
    Now(moment): Now,
    query: OverlapQuery,
    OptionalBody(body, once): OptionalBody<KeyRotationIn>,
) -> Reply<ApiKeyIssued> {
    let overlap = body.overlap_seconds;
    let overlap = overlap.parse(&query, OVERLAP_SECONDS, OVERLAP_SECONDS)?;
    let entropy = entropy()?;
    let (key, text) = app
        .rotate_api_key(
            &keeper,
            (tenant, id),
            entropy,
            overlap,
            once.as_ref(),
            &moment,
        )
        .await?;
    Ok(Show::created(ApiKeyIssued::new(&key, &text, moment.now)))
}
