//! Keys of model providers: a tenant's own, and the operator's, with which all tenants may be answered.

mod wire;

use axum::{
    Router,
    extract::State,
    routing::{post, put},
};
use parlance::{
    app::App,
    domain::{Observer, ProviderKeyId, TenantId, page::Slice, provider_key::Owner},
    http::{
        Body, Caller, NoBody, NoParams, Now, Params, Path, Reply, Show,
        credentials::{MasterKey, MasterKeyOrServer},
        wire::ErrorOut,
    },
};

use self::wire::{ProviderKeyIn, ProviderKeyOut, ProviderKeyPatchIn};

/// The routes of keys of model providers.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route(
            "/admin/tenants/{tenant_id}/provider-keys",
            post(create).get(list),
        )
        .route(
            "/admin/tenants/{tenant_id}/provider-keys/{key_id}",
            put(change).delete(remove),
        )
        .route("/admin/provider-keys", post(create_global).get(list_global))
        .route(
            "/admin/provider-keys/{key_id}",
            put(change_global).delete(remove_global),
        )
}

/// Create a provider key
///
/// A key of `openai`, `anthropic` or `google`, or of whoever speaks as one of them does at `base_url`. It is sealed, and no answer ever
/// shows it again. Agents are answered with the closest active key: a bot's before its group's before the tenant's before the
/// operator's, and in each of these what the tenant brought (`byok`) before what the operator pays for (`global`). A tenant has at
/// most 50. Warm functions follow within a minute.
#[utoipa::path(
    post,
    path = "/admin/tenants/{tenant_id}/provider-keys",
    tag = "Admin",
    security(("master_key" = []), ("api_key" = [])),
    params(
        ("tenant_id" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, remembered for 24 hours"),
    ),
    request_body = ProviderKeyIn,
    responses(
        (status = 201, description = "The key, masked", body = ProviderKeyOut),
        (status = 400, description = "A field breaks a rule", body = ErrorOut),
        (status = 403, description = "Only the operator writes keys of type `global`", body = ErrorOut),
        (status = 404, description = "No such tenant, or another one than the key's", body = ErrorOut),
        (status = 409, description = "The scope has this key for this provider and base_url already, or the tenant 50 keys, or the Idempotency-Key was used for another request", body = ErrorOut),
    ),
)]
pub(super) async fn create(
    State(app): State<App>,
    Caller(keeper): Caller<MasterKeyOrServer>,
    _: NoParams,
    Path(tenant): Path<TenantId>,
    Now(moment): Now,
    Body(body, once): Body<ProviderKeyIn>,
) -> Reply<ProviderKeyOut> {
    let owner = Owner::Tenant(tenant);
    let new = body.parse(owner, app.provider_targets()?, moment.now)?;
    let made = app
        .create_provider_key(&keeper, owner, new, once.as_ref(), &moment)
        .await?;
    Ok(Show::created(ProviderKeyOut::new(&made.value, moment.now)).replayed(made.replayed))
}

/// List provider keys
///
/// Never the keys themselves.
#[utoipa::path(
    get,
    path = "/admin/tenants/{tenant_id}/provider-keys",
    tag = "Admin",
    security(("master_key" = []), ("api_key" = [])),
    params(
        ("tenant_id" = String, Path),
        ("limit" = Option<u64>, Query, description = "1 to 100, default 50"),
        ("offset" = Option<u64>, Query, description = "How many to pass over, at most 1000"),
        ("cursor" = Option<String>, Query, description = "From the Link header of the page before"),
    ),
    responses(
        (status = 200, description = "The tenant's keys, masked, oldest first", body = Vec<ProviderKeyOut>),
        (status = 400, description = "A parameter breaks a rule", body = ErrorOut),
        (status = 404, description = "No such tenant, or another one than the key's", body = ErrorOut),
    ),
)]
pub(super) async fn list(
    State(app): State<App>,
    Caller(keeper): Caller<MasterKeyOrServer>,
    Path(tenant): Path<TenantId>,
    Now(moment): Now,
    params: Params,
) -> Reply<Vec<ProviderKeyOut>> {
    params.only(Params::SLICE)?;
    let slice = params.slice()?;
    let page = app
        .provider_keys(&keeper, Owner::Tenant(tenant), &slice)
        .await?;
    let shown = page.items.iter();
    let shown = shown
        .map(|key| ProviderKeyOut::new(key, moment.now))
        .collect();
    let path = format!("/admin/tenants/{tenant}/provider-keys");
    Ok(Show::ok(shown).next(&path, &[limit(&slice)], page.next.as_ref()))
}

/// Change a provider key
///
/// What is left out stays, and what it was made for: `provider`, `scope_type`, `scope_id` and `key_type` are refused. Another
/// `api_key` makes it active again. `base_url` changes only together with `api_key`: a stored key
/// never goes where it was not stored to go.
#[utoipa::path(
    put,
    path = "/admin/tenants/{tenant_id}/provider-keys/{key_id}",
    tag = "Admin",
    security(("master_key" = []), ("api_key" = [])),
    params(("tenant_id" = String, Path), ("key_id" = String, Path)),
    request_body = ProviderKeyPatchIn,
    responses(
        (status = 200, description = "The key as it is now, masked", body = ProviderKeyOut),
        (status = 400, description = "A field breaks a rule", body = ErrorOut),
        (status = 403, description = "Only the operator writes keys of type `global`", body = ErrorOut),
        (status = 404, description = "No such key, or no such tenant", body = ErrorOut),
        (status = 409, description = "The scope has the new key for this provider and base_url already", body = ErrorOut),
    ),
)]
pub(super) async fn change(
    State(app): State<App>,
    Caller(keeper): Caller<MasterKeyOrServer>,
    _: NoParams,
    Path((tenant, id)): Path<(TenantId, ProviderKeyId)>,
    Now(moment): Now,
    Body(body, _): Body<ProviderKeyPatchIn>,
) -> Reply<ProviderKeyOut> {
    let patch = body.parse(app.provider_targets()?, moment.now)?;
    let place = (Owner::Tenant(tenant), id);
    let key = app
        .change_provider_key(&keeper, place, patch, &moment)
        .await?;
    Ok(Show::ok(ProviderKeyOut::new(&key, moment.now)))
}

/// Delete a provider key
///
/// It is used nowhere any more within a minute.
#[utoipa::path(
    delete,
    path = "/admin/tenants/{tenant_id}/provider-keys/{key_id}",
    tag = "Admin",
    security(("master_key" = []), ("api_key" = [])),
    params(("tenant_id" = String, Path), ("key_id" = String, Path)),
    responses(
        (status = 204, description = "Deleted"),
        (status = 403, description = "Only the operator writes keys of type `global`", body = ErrorOut),
        (status = 404, description = "No such key, or no such tenant", body = ErrorOut),
    ),
)]
pub(super) async fn remove(
    State(app): State<App>,
    Caller(keeper): Caller<MasterKeyOrServer>,
    _: NoParams,
    Path((tenant, id)): Path<(TenantId, ProviderKeyId)>,
    Now(moment): Now,
    _: NoBody,
) -> Reply<()> {
    let place = (Owner::Tenant(tenant), id);
    app.delete_provider_key(&keeper, place, &moment).await?;
    Ok(Show::nothing())
}

/// Create a provider key for all tenants
///
/// It is tried after the tenants' own. At most 50.
#[utoipa::path(
    post,
    path = "/admin/provider-keys",
    tag = "Admin",
    security(("master_key" = [])),
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, remembered for 24 hours"),
    ),
    request_body = ProviderKeyIn,
    responses(
        (status = 201, description = "The key, masked", body = ProviderKeyOut),
        (status = 400, description = "A field breaks a rule", body = ErrorOut),
        (status = 409, description = "This key is there already, or 50 are, or the Idempotency-Key was used for another request", body = ErrorOut),
    ),
)]
pub(super) async fn create_global(
    State(app): State<App>,
    Caller(operator): Caller<MasterKey>,
    _: NoParams,
    Now(moment): Now,
    Body(body, once): Body<ProviderKeyIn>,
) -> Reply<ProviderKeyOut> {
    let keeper = Observer::Operator(operator);
    let new = body.parse(Owner::Operator, app.provider_targets()?, moment.now)?;
    let made = app
        .create_provider_key(&keeper, Owner::Operator, new, once.as_ref(), &moment)
        .await?;
    Ok(Show::created(ProviderKeyOut::new(&made.value, moment.now)).replayed(made.replayed))
}

/// List the provider keys for all tenants
///
/// Never the keys themselves.
#[utoipa::path(
    get,
    path = "/admin/provider-keys",
    tag = "Admin",
    security(("master_key" = [])),
    params(
        ("limit" = Option<u64>, Query, description = "1 to 100, default 50"),
        ("offset" = Option<u64>, Query, description = "How many to pass over, at most 1000"),
        ("cursor" = Option<String>, Query, description = "From the Link header of the page before"),
    ),
    responses(
        (status = 200, description = "The keys, masked, oldest first", body = Vec<ProviderKeyOut>),
        (status = 400, description = "A parameter breaks a rule", body = ErrorOut),
    ),
)]
pub(super) async fn list_global(
    State(app): State<App>,
    Caller(operator): Caller<MasterKey>,
    Now(moment): Now,
    params: Params,
) -> Reply<Vec<ProviderKeyOut>> {
    let keeper = Observer::Operator(operator);
    params.only(Params::SLICE)?;
    let slice = params.slice()?;
    let page = app.provider_keys(&keeper, Owner::Operator, &slice).await?;
    let shown = page.items.iter();
    let shown = shown
        .map(|key| ProviderKeyOut::new(key, moment.now))
        .collect();
    let path = "/admin/provider-keys";
    Ok(Show::ok(shown).next(path, &[limit(&slice)], page.next.as_ref()))
}

/// Change a provider key for all tenants
///
/// As a tenant's.
#[utoipa::path(
    put,
    path = "/admin/provider-keys/{key_id}",
    tag = "Admin",
    security(("master_key" = [])),
    params(("key_id" = String, Path)),
    request_body = ProviderKeyPatchIn,
    responses(
        (status = 200, description = "The key as it is now, masked", body = ProviderKeyOut),
        (status = 400, description = "A field breaks a rule", body = ErrorOut),
        (status = 404, description = "No such key", body = ErrorOut),
        (status = 409, description = "The new key is there already", body = ErrorOut),
    ),
)]
pub(super) async fn change_global(
    State(app): State<App>,
    Caller(operator): Caller<MasterKey>,
    _: NoParams,
    Path(id): Path<ProviderKeyId>,
    Now(moment): Now,
    Body(body, _): Body<ProviderKeyPatchIn>,
) -> Reply<ProviderKeyOut> {
    let keeper = Observer::Operator(operator);
    let patch = body.parse(app.provider_targets()?, moment.now)?;
    let place = (Owner::Operator, id);
    let key = app
        .change_provider_key(&keeper, place, patch, &moment)
        .await?;
    Ok(Show::ok(ProviderKeyOut::new(&key, moment.now)))
}

/// Delete a provider key for all tenants
///
/// It is used nowhere any more within a minute.
#[utoipa::path(
    delete,
    path = "/admin/provider-keys/{key_id}",
    tag = "Admin",
    security(("master_key" = [])),
    params(("key_id" = String, Path)),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "No such key", body = ErrorOut),
    ),
)]
pub(super) async fn remove_global(
    State(app): State<App>,
    Caller(operator): Caller<MasterKey>,
    _: NoParams,
    Path(id): Path<ProviderKeyId>,
    Now(moment): Now,
    _: NoBody,
) -> Reply<()> {
    let keeper = Observer::Operator(operator);
    let place = (Owner::Operator, id);
    app.delete_provider_key(&keeper, place, &moment).await?;
    Ok(Show::nothing())
}

fn limit(slice: &Slice) -> (&'static str, String) {
    ("limit", slice.limit.to_string())
}
