//! Rooms and their members.

mod wire;

use axum::{
    Router,
    extract::{FromRequestParts, State},
    http::request::Parts,
    routing::{get, patch, post},
};
use parlance::{
    app::App,
    domain::{Error, RoomId, UserId},
    http::{
        Body, Caller, Failure, NoBody, NoParams, Now, Params, Path, Reply, Show,
        credentials::TenantUser, wire::ErrorOut,
    },
};

use self::wire::{MemberOut, MemberPatch, MembersIn, RoomCreated, RoomIn, RoomOut, RoomPatch};

/// The routes of the `rooms` function.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/rooms", post(create).get(list))
        .route("/rooms/{room_id}", get(one).patch(rename))
        .route(
            "/rooms/{room_id}/members",
            get(members)
                .post(add)
                .patch(change_by_query)
                .delete(remove_by_query),
        )
        .route(
            "/rooms/{room_id}/members/{user_id}",
            patch(change).delete(remove),
        )
}

/// What this function adds to the API's description.
#[derive(utoipa::OpenApi)]
#[openapi(paths(
    create,
    list,
    one,
    rename,
    members,
    add,
    change_by_query,
    change,
    remove_by_query,
    remove
))]
pub struct Doc;

/// Create a room
///
/// The caller becomes a member and the room's admin. Two people have one DM: making it again is a 409
/// whose error names the room that exists.
#[utoipa::path(
    post,
    path = "/rooms",
    tag = "Rooms",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, remembered for 24 hours")),
    request_body = RoomIn,
    responses(
        (status = 201, description = "Created", body = RoomCreated),
        (status = 400, description = "A field breaks a rule", body = ErrorOut),
        (status = 409, description = "The DM exists, or the Idempotency-Key was used for another request", body = ErrorOut),
    ),
)]
async fn create(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    Now(moment): Now,
    Body(body, once): Body<RoomIn>,
) -> Reply<RoomCreated> {
    let new = body.parse(actor.user())?;
    let room = app
        .create_room(&actor, &new, once.as_ref(), &moment)
        .await?;
    Ok(Show::created(RoomCreated::from(&room.value)).replayed(room.replayed))
}

/// List my rooms
///
/// Newest activity first, among the 1,000 rooms the caller joined last. `last_seq` and `unread_count`
/// may be a second behind.
#[utoipa::path(
    get,
    path = "/rooms",
    tag = "Rooms",
    params(
        ("limit" = Option<u64>, Query, description = "1 to 100, default 50"),
        ("offset" = Option<u64>, Query, description = "How many to pass over, at most 1000"),
        ("cursor" = Option<String>, Query, description = "From the Link header of the page before"),
    ),
    responses(
        (status = 200, description = "The rooms", body = Vec<RoomOut>),
        (status = 400, description = "A parameter breaks a rule", body = ErrorOut),
    ),
)]
async fn list(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    Now(moment): Now,
    params: Params,
) -> Reply<Vec<RoomOut>> {
    params.only(Params::SLICE)?;
    let slice = params.slice()?;
    let page = app.rooms(&actor, &slice, &moment).await?;
    let rooms = page.items.iter().map(RoomOut::listed).collect();
    let limit = ("limit", slice.limit.to_string());
    Ok(Show::ok(rooms).next("/rooms", &[limit], page.next.as_ref()))
}

/// Get a room
///
/// `last_seq` is read from the log itself. Members only.
#[utoipa::path(
    get,
    path = "/rooms/{room_id}",
    tag = "Rooms",
    params(("room_id" = String, Path)),
    responses(
        (status = 200, description = "The room", body = RoomOut),
        (status = 403, description = "Not a member", body = ErrorOut),
        (status = 404, description = "No such room", body = ErrorOut),
    ),
)]
async fn one(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    Path(room): Path<RoomId>,
    Now(moment): Now,
) -> Reply<RoomOut> {
    let view = app.room(&actor, room, &moment).await?;
    Ok(Show::ok(RoomOut::from(&view)))
}

/// Rename a room
///
/// Admins only. `"name": null` takes the name away.
#[utoipa::path(
    patch,
    path = "/rooms/{room_id}",
    tag = "Rooms",
    params(("room_id" = String, Path)),
    request_body = RoomPatch,
    responses(
        (status = 200, description = "The room as it is now", body = RoomOut),
        (status = 400, description = "A field breaks a rule", body = ErrorOut),
        (status = 403, description = "Not an admin of the room", body = ErrorOut),
        (status = 404, description = "No such room", body = ErrorOut),
    ),
)]
async fn rename(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    _: NoParams,
    Path(room): Path<RoomId>,
    Now(moment): Now,
    Body(body, _): Body<RoomPatch>,
) -> Reply<RoomOut> {
    let name = body.parse()?;
    let view = app
        .rename_room(&actor, room, name.as_ref(), &moment)
        .await?;
    Ok(Show::ok(RoomOut::from(&view)))
}

/// List a room's members
///
/// In the order of their ids. Members only.
#[utoipa::path(
    get,
    path = "/rooms/{room_id}/members",
    tag = "Rooms",
    params(
        ("room_id" = String, Path),
        ("limit" = Option<u64>, Query, description = "1 to 100, default 50"),
        ("offset" = Option<u64>, Query, description = "How many to pass over, at most 1000"),
        ("cursor" = Option<String>, Query, description = "From the Link header of the page before"),
    ),
    responses(
        (status = 200, description = "The members, in the order of their ids", body = Vec<MemberOut>),
        (status = 400, description = "A parameter breaks a rule", body = ErrorOut),
        (status = 403, description = "Not a member", body = ErrorOut),
        (status = 404, description = "No such room", body = ErrorOut),
    ),
)]
async fn members(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    Path(room): Path<RoomId>,
    Now(moment): Now,
    params: Params,
) -> Reply<Vec<MemberOut>> {
    let slice = params.slice()?;
    let page = app.members(&actor, room, &slice, &moment).await?;
    let members = page.items.iter().map(MemberOut::from).collect();
    let limit = ("limit", slice.limit.to_string());
    let path = format!("/rooms/{room}/members");
    Ok(Show::ok(members).next(&path, &[limit], page.next.as_ref()))
}

/// Add members
///
/// Admins only. Who is a member already gets the `role` too if one is given, and stays as they are without. Answers the
/// places of all who were named.
#[utoipa::path(
    post,
    path = "/rooms/{room_id}/members",
    tag = "Rooms",
    params(
        ("room_id" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, remembered for 24 hours"),
    ),
    request_body = MembersIn,
    responses(
        (status = 201, description = "They are members", body = Vec<MemberOut>),
        (status = 400, description = "A field breaks a rule, or the room would hold more than 10,000", body = ErrorOut),
        (status = 403, description = "Not an admin of the room", body = ErrorOut),
        (status = 404, description = "No such room", body = ErrorOut),
        (status = 409, description = "It is a dm, no admin would be left, or the Idempotency-Key was used for another request", body = ErrorOut),
    ),
)]
async fn add(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    _: NoParams,
    Path(room): Path<RoomId>,
    Now(moment): Now,
    Body(body, once): Body<MembersIn>,
) -> Reply<Vec<MemberOut>> {
    let (users, role) = body.parse()?;
    let places = app
        .add_members(&actor, room, &users, role, once.as_ref(), &moment)
        .await?;
    let shown = places.value.iter().map(MemberOut::from).collect();
    Ok(Show::created(shown).replayed(places.replayed))
}

/// Change a member's role
///
/// Admins only. A room keeps at least one admin, and a dm's members never change.
#[utoipa::path(
    patch,
    path = "/rooms/{room_id}/members/{user_id}",
    tag = "Rooms",
    params(("room_id" = String, Path), ("user_id" = String, Path)),
    request_body = MemberPatch,
    responses(
        (status = 200, description = "The place as it is now", body = MemberOut),
        (status = 400, description = "A field breaks a rule", body = ErrorOut),
        (status = 403, description = "Not a member, or not an admin", body = ErrorOut),
        (status = 404, description = "No such room or member", body = ErrorOut),
        (status = 409, description = "It is a dm, or no admin would be left", body = ErrorOut),
    ),
)]
async fn change(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    _: NoParams,
    Path((room, user)): Path<(RoomId, UserId)>,
    Now(moment): Now,
    Body(body, _): Body<MemberPatch>,
) -> Reply<MemberOut> {
    let role = body.parse()?;
    let place = app.change_role(&actor, room, &user, role, &moment).await?;
    Ok(Show::ok(MemberOut::from(&place)))
}

/// Change a member's role, named in the query
///
/// For user ids with `/`, `?`, `#` or `%`, which some gateways do not carry in a path.
#[utoipa::path(
    patch,
    path = "/rooms/{room_id}/members",
    tag = "Rooms",
    params(("room_id" = String, Path), ("user_id" = String, Query, example = "user1")),
    request_body = MemberPatch,
    responses(
        (status = 200, description = "The place as it is now", body = MemberOut),
        (status = 400, description = "A field breaks a rule, or the user id is missing", body = ErrorOut),
        (status = 403, description = "Not a member, or not an admin", body = ErrorOut),
        (status = 404, description = "No such room or member", body = ErrorOut),
        (status = 409, description = "It is a dm, or no admin would be left", body = ErrorOut),
    ),
)]
async fn change_by_query(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    Path(room): Path<RoomId>,
    Now(moment): Now,
    Named(user): Named,
    Body(body, _): Body<MemberPatch>,
) -> Reply<MemberOut> {
    let role = body.parse()?;
    let place = app.change_role(&actor, room, &user, role, &moment).await?;
    Ok(Show::ok(MemberOut::from(&place)))
}

/// Remove a member
///
/// Members may remove themselves, admins anyone. A dm's members never change, and the last admin of a
/// room stays while others do.
#[utoipa::path(
    delete,
    path = "/rooms/{room_id}/members/{user_id}",
    tag = "Rooms",
    params(("room_id" = String, Path), ("user_id" = String, Path)),
    responses(
        (status = 204, description = "Removed"),
        (status = 403, description = "Not a member, or not an admin", body = ErrorOut),
        (status = 404, description = "No such room or member", body = ErrorOut),
        (status = 409, description = "It is a dm, or the last admin", body = ErrorOut),
    ),
)]
async fn remove(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    _: NoParams,
    Path((room, user)): Path<(RoomId, UserId)>,
    Now(moment): Now,
    _: NoBody,
) -> Reply<()> {
    app.remove_member(&actor, room, &user, &moment).await?;
    Ok(Show::nothing())
}

/// Remove a member, named in the query
///
/// For user ids with `/`, `?`, `#` or `%`, which some gateways do not carry in a path.
#[utoipa::path(
    delete,
    path = "/rooms/{room_id}/members",
    tag = "Rooms",
    params(("room_id" = String, Path), ("user_id" = String, Query, example = "user1")),
    responses(
        (status = 204, description = "Removed"),
        (status = 400, description = "The user id is missing or breaks a rule", body = ErrorOut),
        (status = 403, description = "Not a member, or not an admin", body = ErrorOut),
        (status = 404, description = "No such room or member", body = ErrorOut),
        (status = 409, description = "It is a dm, or the last admin", body = ErrorOut),
    ),
)]
async fn remove_by_query(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    Path(room): Path<RoomId>,
    Now(moment): Now,
    Named(user): Named,
    _: NoBody,
) -> Reply<()> {
    app.remove_member(&actor, room, &user, &moment).await?;
    Ok(Show::nothing())
}

/// The member that a query names, for ids that a path cannot hold.
struct Named(UserId);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let params = Params::from_request_parts(parts, state).await?;
        params.only(&["user_id"])?;
        let user = params
            .get("user_id")?
            .ok_or(Error::invalid("user_id", "Missing user_id"))?;
        Ok(Self(UserId::parse("user_id", user)?))
    }
}
