//! The log of a room: send, read, edit, take back.

mod wire;

use axum::{
    Router,
    extract::State,
    routing::{get, post},
};
use parlance::{
    app::App,
    domain::{
        MessageId, RoomId,
        message::{Range, Seq, Stretch},
        page::Slice,
    },
    http::{
        Body, Caller, NoBody, NoParams, Now, Params, Path, Reply, Show,
        credentials::TenantUser,
        wire::{DeliveryOut, ErrorOut},
    },
};

use self::wire::{EditIn, MessageIn, MessageOut, MessageSent};

/// The routes of the `messages` function.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/rooms/{room_id}/messages", post(send).get(list))
        .route(
            "/rooms/{room_id}/messages/{message_id}",
            get(one).put(edit).delete(remove),
        )
        .route(
            "/rooms/{room_id}/messages/{message_id}/deliveries",
            get(deliveries),
        )
}

/// What this function adds to the API's description.
#[derive(utoipa::OpenApi)]
#[openapi(paths(send, list, one, edit, remove, deliveries))]
pub struct Doc;

/// Send a message
///
/// Appends a message to the room's log under the next seq: 1, 2, 3, … without a gap. A 200 means it is
/// stored. With an `Idempotency-Key`, sending again gives the first answer.
#[utoipa::path(
    post,
    path = "/rooms/{room_id}/messages",
    tag = "Messages",
    params(
        ("room_id" = String, Path, example = "room_0193c1a27b0c7f3e8a6d5c4b3a291807"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, remembered for 24 hours"),
    ),
    request_body = MessageIn,
    responses(
        (status = 200, description = "Stored", body = MessageSent),
        (status = 400, description = "A field breaks a rule", body = ErrorOut),
        (status = 403, description = "Not a member", body = ErrorOut),
        (status = 404, description = "No such room", body = ErrorOut),
        (status = 409, description = "The Idempotency-Key was used for another request", body = ErrorOut),
    ),
)]
async fn send(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    Path(room): Path<RoomId>,
    Now(moment): Now,
    Body(body, once): Body<MessageIn>,
) -> Reply<MessageSent> {
    let (content, meta) = body.parse()?;
    let sent = app
        .send_message(&actor, room, content, meta, once.as_ref(), &moment)
        .await?;
    Ok(Show::ok(MessageSent::from(&sent.value)).replayed(sent.replayed))
}

/// Get messages
///
/// Messages in ascending order of seq. `after_seq` reads forward, `before_seq` backward; without either,
/// from the first message. `Link: rel="next"` leads on while there may be more: a page is shorter than `limit`
/// where its messages are heavy.
#[utoipa::path(
    get,
    path = "/rooms/{room_id}/messages",
    tag = "Messages",
    params(
        ("room_id" = String, Path, example = "room_0193c1a27b0c7f3e8a6d5c4b3a291807"),
        ("after_seq" = Option<u64>, Query, description = "Only messages after this seq"),
        ("before_seq" = Option<u64>, Query, description = "Only messages before this seq"),
        ("limit" = Option<u64>, Query, description = "1 to 100, default 50"),
        ("offset" = Option<u64>, Query, description = "How many to pass over, at most 1000"),
    ),
    responses(
        (status = 200, description = "The messages", body = Vec<MessageOut>),
        (status = 400, description = "A parameter breaks a rule", body = ErrorOut),
        (status = 403, description = "Not a member", body = ErrorOut),
        (status = 404, description = "No such room", body = ErrorOut),
    ),
)]
async fn list(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    Path(room): Path<RoomId>,
    Now(moment): Now,
    params: Params,
) -> Reply<Vec<MessageOut>> {
    let seq = |name| params.number(name, 0, Seq::MAX.get());
    let (after, before) = (seq("after_seq")?, seq("before_seq")?);
    let offset = params.offset()? as u64;
    let limit = params.limit(Slice::MAX_LIMIT)?;
    // Seqs have no gaps, so passing over some is arithmetic.
    let range = match (after, before) {
        (None, Some(before)) => Range {
            after: None,
            before: Some(Seq::new(before.saturating_sub(offset))),
            limit,
        },
        (after, before) => Range {
            after: Some(Seq::new(after.unwrap_or(0).saturating_add(offset))),
            before: before.map(Seq::new),
            limit,
        },
    };
    let Stretch { messages, more } = app.messages(&actor, room, range, &moment).await?;

    let (first, last) = (messages.first(), messages.last());
    let turn = match (range.after, last, first) {
        _ if !more => None,
        (Some(_), Some(last), _) => {
            let before = before.map(|seq| ("before_seq", seq.to_string()));
            let mut link = vec![("after_seq", last.seq.get().to_string())];
            link.extend(before);
            Some(link)
        }
        // Nothing is before the first message.
        (None, _, Some(first)) if first.seq > Seq::FIRST => {
            Some(vec![("before_seq", first.seq.get().to_string())])
        }
        (None, _, Some(_)) | (_, None, _) | (_, _, None) => None,
    };
    let shown = messages
        .into_iter()
        .map(MessageOut::try_from)
        .collect::<Result<_, _>>()?;
    let show = Show::ok(shown);
    Ok(match turn {
        None => show,
        Some(mut link) => {
            link.push(("limit", limit.to_string()));
            show.link(&format!("/rooms/{room}/messages"), &link)
        }
    })
}

/// Get a message
///
/// As its author left it; a deleted one is without content. Members only.
#[utoipa::path(
    get,
    path = "/rooms/{room_id}/messages/{message_id}",
    tag = "Messages",
    params(("room_id" = String, Path), ("message_id" = String, Path)),
    responses(
        (status = 200, description = "The message", body = MessageOut),
        (status = 403, description = "Not a member", body = ErrorOut),
        (status = 404, description = "No such room or message", body = ErrorOut),
    ),
)]
async fn one(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    _: NoParams,
    Path((room, id)): Path<(RoomId, MessageId)>,
    Now(moment): Now,
) -> Reply<MessageOut> {
    let message = app.message(&actor, room, id, &moment).await?;
    Ok(Show::ok(MessageOut::try_from(message)?))
}

/// Edit a message
///
/// Only its author may. The message keeps its seq; without `meta`, what was attached stays.
#[utoipa::path(
    put,
    path = "/rooms/{room_id}/messages/{message_id}",
    tag = "Messages",
    params(("room_id" = String, Path), ("message_id" = String, Path)),
    request_body = EditIn,
    responses(
        (status = 200, description = "The message as it is now", body = MessageOut),
        (status = 400, description = "A field breaks a rule", body = ErrorOut),
        (status = 403, description = "Not a member, or not the author", body = ErrorOut),
        (status = 404, description = "No such room or message, or it was deleted", body = ErrorOut),
    ),
)]
async fn edit(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    _: NoParams,
    Path((room, id)): Path<(RoomId, MessageId)>,
    Now(moment): Now,
    Body(body, _): Body<EditIn>,
) -> Reply<MessageOut> {
    let (content, meta) = body.parse()?;
    let message = app
        .edit_message(&actor, room, id, content, meta, &moment)
        .await?;
    Ok(Show::ok(MessageOut::try_from(message)?))
}

/// Delete a message
///
/// Only its author may. A tombstone without content keeps its seq, so the log has no gap.
#[utoipa::path(
    delete,
    path = "/rooms/{room_id}/messages/{message_id}",
    tag = "Messages",
    params(("room_id" = String, Path), ("message_id" = String, Path)),
    responses(
        (status = 204, description = "Deleted, now or before"),
        (status = 403, description = "Not a member, or not the author", body = ErrorOut),
        (status = 404, description = "No such room or message", body = ErrorOut),
    ),
)]
async fn remove(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    _: NoParams,
    Path((room, id)): Path<(RoomId, MessageId)>,
    Now(moment): Now,
    _: NoBody,
) -> Reply<()> {
    app.delete_message(&actor, room, id, &moment).await?;
    Ok(Show::nothing())
}

/// List a message's deliveries
///
/// What became of telling the message, its edits and its deletion to webhooks, about a second behind. Who is
/// connected, or reads the room, needs no delivery and has none here; neither has anybody without an endpoint.
#[utoipa::path(
    get,
    path = "/rooms/{room_id}/messages/{message_id}/deliveries",
    tag = "Messages",
    params(
        ("room_id" = String, Path),
        ("message_id" = String, Path),
        ("limit" = Option<u64>, Query, description = "1 to 100, default 50"),
        ("offset" = Option<u64>, Query, description = "How many to pass over, at most 1000"),
        ("cursor" = Option<String>, Query, description = "From the Link header of the page before"),
    ),
    responses(
        (status = 200, description = "The deliveries", body = Vec<DeliveryOut>),
        (status = 400, description = "A parameter breaks a rule", body = ErrorOut),
        (status = 403, description = "Not a member", body = ErrorOut),
        (status = 404, description = "No such room or message", body = ErrorOut),
    ),
)]
async fn deliveries(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    Path((room, id)): Path<(RoomId, MessageId)>,
    Now(moment): Now,
    params: Params,
) -> Reply<Vec<DeliveryOut>> {
    params.only(Params::SLICE)?;
    let slice = params.slice()?;
    let page = app
        .message_deliveries(&actor, room, id, &slice, &moment)
        .await?;
    let limit = ("limit", slice.limit.to_string());
    let path = format!("/rooms/{room}/messages/{id}/deliveries");
    let shown = page.items.into_iter().map(DeliveryOut::from).collect();
    Ok(Show::ok(shown).next(&path, &[limit], page.next.as_ref()))
}
