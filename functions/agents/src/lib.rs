//! A team's agents and their versions.

mod wire;

use axum::{
    Router,
    extract::State,
    routing::{get, post, put},
};
use parlance::{
    app::App,
    domain::{
        AgentId, Error,
        agent::{MAX_VERSIONS, Version},
        page::Slice,
    },
    http::{
        Body, Caller, NoBody, NoParams, Now, Params, Path, Reply, Show, credentials::SecretKey,
        dialects::KodeyErrorOut,
    },
};

use self::wire::{
    AgentChanged, AgentIn, AgentInFull, AgentOut, AgentRolledBack, AgentsOut, RollbackIn,
    VersionsOut,
};

/// The routes of the `agents` function.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/agent", post(create).get(list))
        .route("/agent/{agent_id}", put(change).get(one).delete(remove))
        .route("/agent/{agent_id}/rollback", put(roll_back))
        .route("/agent/{agent_id}/versions", get(versions))
}

/// What this function adds to the API's description.
#[derive(utoipa::OpenApi)]
#[openapi(paths(create, list, one, change, roll_back, versions, remove))]
pub struct Doc;

/// Create an agent
///
/// A team has at most 500 agents besides the six that every team starts with.
#[utoipa::path(
    post,
    path = "/agent",
    tag = "Agents",
    security(("secret_key" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, remembered for 24 hours")),
    request_body = AgentIn,
    responses(
        (status = 200, description = "The agent", body = AgentOut),
        (status = 400, description = "A field breaks a rule", body = KodeyErrorOut),
        (status = 403, description = "The key is a publishable one", body = KodeyErrorOut),
        (status = 409, description = "The team has 500 agents, or the Idempotency-Key was used for another request", body = KodeyErrorOut),
    ),
)]
async fn create(
    State(app): State<App>,
    Caller(holder): Caller<SecretKey>,
    _: NoParams,
    Now(moment): Now,
    Body(body, once): Body<AgentIn>,
) -> Reply<AgentOut> {
    let patch = body.parse()?;
    let made = app
        .create_agent(&holder, &patch, once.as_ref(), &moment)
        .await?;
    let shown = AgentOut::new(&made.value, holder.tenant());
    Ok(Show::ok(shown).replayed(made.replayed))
}

/// List agents
///
/// First those that every team starts with, then the team's own, oldest first.
#[utoipa::path(
    get,
    path = "/agent",
    tag = "Agents",
    security(("secret_key" = [])),
    params(
        ("limit" = Option<u64>, Query, description = "1 to 100, default 50"),
        ("cursor" = Option<String>, Query, description = "`nextCursor` of the page before"),
    ),
    responses(
        (status = 200, description = "The agents", body = AgentsOut),
        (status = 400, description = "A parameter breaks a rule", body = KodeyErrorOut),
        (status = 403, description = "The key is a publishable one", body = KodeyErrorOut),
    ),
)]
async fn list(
    State(app): State<App>,
    Caller(holder): Caller<SecretKey>,
    Now(moment): Now,
    params: Params,
) -> Reply<AgentsOut> {
    params.only(&["limit", "cursor"])?;
    let slice = slice(&params)?;
    let page = app.agents(&holder, &slice, &moment).await?;
    let limit = ("limit", slice.limit.to_string());
    let show = Show::ok(AgentsOut::new(&page, holder.tenant()));
    Ok(show.next("/agent", &[limit], page.next.as_ref()))
}

/// Get an agent
///
/// All that makes it answer as it does, now or at a version.
#[utoipa::path(
    get,
    path = "/agent/{agent_id}",
    tag = "Agents",
    security(("secret_key" = [])),
    params(
        ("agent_id" = String, Path),
        ("version" = Option<u32>, Query, description = "What it was at this version; as it is, if left out"),
    ),
    responses(
        (status = 200, description = "The agent", body = AgentInFull),
        (status = 400, description = "A parameter breaks a rule", body = KodeyErrorOut),
        (status = 403, description = "The key is a publishable one", body = KodeyErrorOut),
        (status = 404, description = "No such agent, or it has no such version", body = KodeyErrorOut),
    ),
)]
async fn one(
    State(app): State<App>,
    Caller(holder): Caller<SecretKey>,
    Path(id): Path<AgentId>,
    params: Params,
) -> Reply<AgentInFull> {
    params.only(&["version"])?;
    let version = params.number("version", 1, MAX_VERSIONS.into())?;
    let version = version.and_then(|version| u32::try_from(version).ok());
    let agent = match version {
        Some(version) => app.agent_at(&holder, id, Version(version)).await,
        None => app.agent_now(&holder, id).await,
    }?;
    Ok(Show::ok(AgentInFull::new(agent, holder.tenant())))
}

/// Change an agent
///
/// What is left out stays as it is. Each change is a new version, by which chats are answered at once here and within a
/// minute everywhere; a change that changes nothing is none. An agent has at most 10,000 versions.
#[utoipa::path(
    put,
    path = "/agent/{agent_id}",
    tag = "Agents",
    security(("secret_key" = [])),
    params(("agent_id" = String, Path)),
    request_body = AgentIn,
    responses(
        (status = 200, description = "It is changed", body = AgentChanged),
        (status = 400, description = "A field breaks a rule", body = KodeyErrorOut),
        (status = 403, description = "The key is a publishable one", body = KodeyErrorOut),
        (status = 404, description = "No such agent", body = KodeyErrorOut),
        (status = 409, description = "It has 10,000 versions", body = KodeyErrorOut),
    ),
)]
async fn change(
    State(app): State<App>,
    Caller(holder): Caller<SecretKey>,
    _: NoParams,
    Path(id): Path<AgentId>,
    Now(moment): Now,
    Body(body, _): Body<AgentIn>,
) -> Reply<AgentChanged> {
    let patch = body.parse()?;
    let agent = app.change_agent(&holder, id, &patch, &moment).await?;
    Ok(Show::ok(AgentChanged::new(&agent, holder.tenant())))
}

/// Roll an agent back
///
/// Makes it what it was at a version: that is its next version, so nothing is lost. One of the six that every team starts
/// with is there again, if it was deleted.
#[utoipa::path(
    put,
    path = "/agent/{agent_id}/rollback",
    tag = "Agents",
    security(("secret_key" = [])),
    params(("agent_id" = String, Path)),
    request_body = RollbackIn,
    responses(
        (status = 200, description = "It is what it was", body = AgentRolledBack),
        (status = 400, description = "The version is none", body = KodeyErrorOut),
        (status = 403, description = "The key is a publishable one", body = KodeyErrorOut),
        (status = 404, description = "No such agent, or it has no such version", body = KodeyErrorOut),
        (status = 409, description = "It has 10,000 versions", body = KodeyErrorOut),
    ),
)]
async fn roll_back(
    State(app): State<App>,
    Caller(holder): Caller<SecretKey>,
    _: NoParams,
    Path(id): Path<AgentId>,
    Now(moment): Now,
    Body(body, _): Body<RollbackIn>,
) -> Reply<AgentRolledBack> {
    let version = body.parse()?;
    let agent = app.roll_back_agent(&holder, id, version, &moment).await?;
    Ok(Show::ok(AgentRolledBack::new(&agent, holder.tenant())))
}

/// List an agent's versions
///
/// In short, oldest first. `GET /agent/{agent_id}?version=` shows one whole.
#[utoipa::path(
    get,
    path = "/agent/{agent_id}/versions",
    tag = "Agents",
    security(("secret_key" = [])),
    params(
        ("agent_id" = String, Path),
        ("limit" = Option<u64>, Query, description = "1 to 100, default 50"),
        ("cursor" = Option<String>, Query, description = "`nextCursor` of the page before"),
    ),
    responses(
        (status = 200, description = "The versions, oldest first", body = VersionsOut),
        (status = 400, description = "A parameter breaks a rule", body = KodeyErrorOut),
        (status = 403, description = "The key is a publishable one", body = KodeyErrorOut),
        (status = 404, description = "No such agent", body = KodeyErrorOut),
    ),
)]
async fn versions(
    State(app): State<App>,
    Caller(holder): Caller<SecretKey>,
    Path(id): Path<AgentId>,
    params: Params,
) -> Reply<VersionsOut> {
    params.only(&["limit", "cursor"])?;
    let slice = slice(&params)?;
    let page = app.agent_versions(&holder, id, &slice).await?;
    let limit = ("limit", slice.limit.to_string());
    let show = Show::ok(VersionsOut::new(&page, holder.tenant()));
    Ok(show.next(
        &format!("/agent/{id}/versions"),
        &[limit],
        page.next.as_ref(),
    ))
}

/// `limit` and `cursor`, as the dialect's lists take them.
fn slice(params: &Params) -> Result<Slice, Error> {
    Ok(Slice {
        limit: params.limit(Slice::MAX_LIMIT)?,
        offset: 0,
        after: params.cursor()?,
    })
}

/// Delete an agent
///
/// Its chats stay, and are answered no more: at once here, within a minute everywhere. Nobody is shown its versions any more,
/// and they are removed soon after, unless it is one of the six that every team starts with, which comes back when it is
/// rolled back.
#[utoipa::path(
    delete,
    path = "/agent/{agent_id}",
    tag = "Agents",
    security(("secret_key" = [])),
    params(("agent_id" = String, Path)),
    responses(
        (status = 204, description = "Deleted"),
        (status = 403, description = "The key is a publishable one", body = KodeyErrorOut),
        (status = 404, description = "No such agent", body = KodeyErrorOut),
    ),
)]
async fn remove(
    State(app): State<App>,
    Caller(holder): Caller<SecretKey>,
    _: NoParams,
    Path(id): Path<AgentId>,
    Now(moment): Now,
    _: NoBody,
) -> Reply<()> {
    app.delete_agent(&holder, id, &moment).await?;
    Ok(Show::nothing())
}
