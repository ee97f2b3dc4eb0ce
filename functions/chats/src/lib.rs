//! Chats with agents: making, listing and deleting them, and what is said in them.

mod stream;
mod wire;

use std::{future::pending, time::Duration};

use axum::{
    Router,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use parlance::{
    app::{App, chats::send::Say},
    domain::{ChatId, Cursor, Error, Moment, UserId, chat::Filter, message::Stretch, page::Slice},
    http::{
        Body, Caller, Failure, Now, Params, Path, Reply, Show, credentials::TeamKey,
        dialects::KodeyErrorOut,
    },
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use self::wire::{
    Answer, ChatIn, ChatLog, ChatMade, Chats, Messages, Order, SayIn, Shown, heard_all, is_stream,
};

/// How long a send may take longer than other requests: 25 s together, well under the 30 s of API Gateway.
const LONGER: Duration = Duration::from_secs(15);

/// How many items a list holds where nobody says how many are wanted: all, as clients of this dialect expect, as far as that
/// can be. Of messages it holds fewer if they are heavy.
const ALL: usize = 1_000;

/// The routes of the `chats` function.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/chat", post(create).get(list))
        .route("/chat/{chatId}", get(one).delete(remove))
        .route("/chat/{chatId}/message", post(say).get(messages))
}

/// The route of the `chat-stream` function: the send alone.
pub fn stream_routes() -> Router<App> {
    Router::new().route("/chat/{chatId}/message", post(say))
}

/// What this function adds to the API's description.
#[derive(utoipa::OpenApi)]
#[openapi(paths(create, list, one, remove, say, messages))]
pub struct Doc;

/// Create a chat
///
/// A chat with an agent: one that every team has (`chat`, `web-search`, `image-generation`, `code`, `web-analyzer`,
/// `orchestrated`) or one of the team's own (`agent_…`). With a key that was made for one user, the chat is that user's.
#[utoipa::path(
    post,
    path = "/chat",
    tag = "Chats",
    security(("publishable_key" = []), ("secret_key" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, remembered for 24 hours. With a publishable key that visitors share, and without userId, at least 16 that nobody can guess")),
    request_body = ChatIn,
    responses(
        (status = 200, description = "The chat", body = ChatMade),
        (status = 400, description = "A field breaks a rule", body = KodeyErrorOut),
        (status = 401, description = "No key, or one that does not hold", body = KodeyErrorOut),
        (status = 403, description = "The key was made for another user, or may not be used from this origin", body = KodeyErrorOut),
        (status = 404, description = "No such agent", body = KodeyErrorOut),
        (status = 409, description = "The Idempotency-Key was used for another request", body = KodeyErrorOut),
        (status = 429, description = "The key's budget is used up", body = KodeyErrorOut),
    ),
)]
async fn create(
    State(app): State<App>,
    Caller(holder): Caller<TeamKey>,
    Now(moment): Now,
    Body(body, once): Body<ChatIn>,
) -> Reply<ChatMade> {
    let chat = app
        .create_chat(&holder, body.parse()?, once.as_ref(), &moment)
        .await?;
    let made = ChatMade::new(&chat.value, holder.tenant());
    Ok(Show::ok(made).replayed(chat.replayed))
}

/// List chats
///
/// Newest first. A publishable key lists the chats of the user it names with `userId`, unless the team lets it list all
/// (`publishable_list_scope`), or of the one user that it was made for. A page may be shorter than `limit` although
/// more follow: go on while there is a `nextCursor`.
#[utoipa::path(
    get,
    path = "/chat",
    tag = "Chats",
    security(("publishable_key" = []), ("secret_key" = [])),
    params(
        ("userId" = Option<String>, Query, description = "Only this user's chats"),
        ("agentType" = Option<String>, Query, description = "Only chats with agents that were of this type when the chat was made"),
        ("limit" = Option<u64>, Query, description = "1 to 100. Without it all are listed, at most 1,000"),
        ("cursor" = Option<String>, Query, description = "The nextCursor of the page before"),
    ),
    responses(
        (status = 200, description = "The chats", body = Chats),
        (status = 400, description = "A parameter breaks a rule, or userId is missing", body = KodeyErrorOut),
        (status = 401, description = "No key, or one that does not hold", body = KodeyErrorOut),
        (status = 403, description = "The key was made for another user, or may not be used from this origin", body = KodeyErrorOut),
        (status = 429, description = "The key's budget is used up", body = KodeyErrorOut),
    ),
)]
async fn list(
    State(app): State<App>,
    Caller(holder): Caller<TeamKey>,
    params: Params,
) -> Reply<Chats> {
    let limit = limit(&params)?;
    let filter = Filter {
        user: user(&params)?,
        kind: params.get("agentType")?.map(Filter::kind).transpose()?,
    };
    let link = link(&["limit", "userId", "agentType"], &params);
    let after = params.cursor()?;
    let page = app.chats(&holder, filter, limit, after.as_ref()).await?;
    let shown = Chats::new(&page);
    Ok(Show::ok(shown).next("/chat", &link, page.next.as_ref()))
}

/// Get a chat
///
/// With its messages, in the order in which they were said: at most the first 1,000, and about 4 MB of them. Where there are
/// more, `nextCursor` is the `cursor` with which `GET /chat/{chatId}/message` goes on.
#[utoipa::path(
    get,
    path = "/chat/{chatId}",
    tag = "Chats",
    security(("publishable_key" = []), ("secret_key" = [])),
    params(
        ("chatId" = String, Path, example = "chat_0193c1a27b0c7f3e8a6d5c4b3a291807"),
        ("userId" = Option<String>, Query, description = "Whose chat it must be"),
        ("include" = Option<String>, Query, description = "meta, with a secret key: also whose it is, its metadata, what each message answers, and how it came about"),
    ),
    responses(
        (status = 200, description = "The chat", body = ChatLog),
        (status = 400, description = "A parameter breaks a rule", body = KodeyErrorOut),
        (status = 401, description = "No key, or one that does not hold", body = KodeyErrorOut),
        (status = 403, description = "include=meta with a publishable key, or one that may not be used from this origin", body = KodeyErrorOut),
        (status = 404, description = "No such chat, or none of that user", body = KodeyErrorOut),
        (status = 429, description = "The key's budget is used up", body = KodeyErrorOut),
    ),
)]
async fn one(
    State(app): State<App>,
    Caller(holder): Caller<TeamKey>,
    Path(chat): Path<ChatId>,
    params: Params,
) -> Reply<ChatLog> {
    let (user, shown) = (user(&params)?, Shown::read(&params, &holder)?);
    let (user, range) = (user.as_ref(), Order::Ascending.range(None, ALL));
    let (chat, metadata, log) = match shown {
        Shown::Content => {
            let (chat, log) = app.chat_log(&holder, chat, user, range).await?;
            (chat, None, log)
        }
        Shown::Meta => app.whole_chat_log(&holder, chat, user, range).await?,
    };
    let next = next(&log);
    let path = format!("/chat/{}/message", chat.id);
    let link = link(&["userId", "include"], &params);
    let shown = ChatLog::new(&chat, metadata, holder.tenant(), log, next.as_ref(), shown)?;
    Ok(Show::ok(shown).next(&path, &link, next.as_ref()))
}

/// Delete a chat
///
/// It is gone at once, with all that was said in it.
#[utoipa::path(
    delete,
    path = "/chat/{chatId}",
    tag = "Chats",
    security(("publishable_key" = []), ("secret_key" = [])),
    params(
        ("chatId" = String, Path),
        ("userId" = Option<String>, Query, description = "Whose chat it must be"),
    ),
    responses(
        (status = 204, description = "Deleted"),
        (status = 400, description = "A parameter breaks a rule", body = KodeyErrorOut),
        (status = 401, description = "No key, or one that does not hold", body = KodeyErrorOut),
        (status = 403, description = "This key may not be used from this origin", body = KodeyErrorOut),
        (status = 404, description = "No such chat, or no longer, or none of that user", body = KodeyErrorOut),
        (status = 429, description = "The key's budget is used up", body = KodeyErrorOut),
    ),
)]
async fn remove(
    State(app): State<App>,
    Caller(holder): Caller<TeamKey>,
    Path(chat): Path<ChatId>,
    Now(moment): Now,
    params: Params,
) -> Reply<()> {
    let user = user(&params)?;
    app.delete_chat(&holder, chat, user.as_ref(), &moment)
        .await?;
    Ok(Show::nothing())
}

/// Create a message
///
/// Says something, and waits for the agent's answer, which is what is shown: 25 seconds at most. The agent is told the
/// last 20 messages up to this one, at most about 8,000 tokens of them.
///
/// If the agent gives no answer (502), what was said stays in the chat; after a 500 or 503 it may be there or not; whatever
/// else is refused says nothing, a 429 too. With an `Idempotency-Key` the same request may be sent again until it is answered,
/// and says it once. While the first one is being answered it gets a 409 with `Retry-After`.
///
/// With `Accept: text/event-stream` the answer is shown while it comes, as server-sent events: any number of `delta`, whose
/// data is `{"content": "…"}`, and then `done`, whose data is the whole message, or `error`, whose data is an error's body
/// and which means that no answer is stored. What fails before the answer begins has its usual status. Where the client
/// leaves, the answer ends, and what was handed to its connection is stored.
#[utoipa::path(
    post,
    path = "/chat/{chatId}/message",
    tag = "Chats",
    security(("publishable_key" = []), ("secret_key" = [])),
    params(
        ("chatId" = String, Path),
        ("userId" = Option<String>, Query, description = "Whose chat it must be"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, remembered for 24 hours"),
    ),
    request_body = SayIn,
    responses(
        (status = 200, description = "The agent's answer", content(
            (Answer = "application/json"),
            (String = "text/event-stream"),
        )),
        (status = 400, description = "A field breaks a rule", body = KodeyErrorOut),
        (status = 401, description = "No key, or one that does not hold", body = KodeyErrorOut),
        (status = 403, description = "This key may not be used from this origin", body = KodeyErrorOut),
        (status = 404, description = "No such chat, or none of that user, or its agent is gone", body = KodeyErrorOut),
        (status = 409, description = "The Idempotency-Key was used for another request, or its first request is still being answered", body = KodeyErrorOut),
        (status = 429, description = "The key's budget or the team's tokens are used up: nothing was said", body = KodeyErrorOut),
        (status = 502, description = "The agent's model gave no answer: what was said stays", body = KodeyErrorOut),
        (status = 503, description = "The store was too busy or cannot be reached: what was said may be there or not", body = KodeyErrorOut),
    ),
)]
async fn say(
    State(app): State<App>,
    Caller(holder): Caller<TeamKey>,
    Path(chat): Path<ChatId>,
    Now(moment): Now,
    params: Params,
    headers: HeaderMap,
    Body(body, once): Body<SayIn>,
) -> Result<Response, Failure> {
    let say = Say {
        chat,
        user: user(&params)?,
        content: body.parse()?,
        once,
    };
    let moment = Moment {
        deadline: moment.deadline + LONGER,
        ..moment
    };
    if is_stream(&headers) {
        return stream::answer(app, holder, say, moment).await;
    }
    // A client that leaves ends the request, and with it this.
    let answer = app
        .say(&holder, say, &mut heard_all, pending(), &moment)
        .await?;
    let shown = Answer::new(chat, answer.value);
    Ok(Show::ok(shown).replayed(answer.replayed).into_response())
}

/// List messages
///
/// In the order in which they were said, or with `order=desc` the newest first. A cursor is a place in the log: what is listed
/// comes after it, or with `order=desc` before it. A page may be shorter than `limit` although more follow, if the messages are
/// long: go on while there is a `nextCursor`.
#[utoipa::path(
    get,
    path = "/chat/{chatId}/message",
    tag = "Chats",
    security(("publishable_key" = []), ("secret_key" = [])),
    params(
        ("chatId" = String, Path),
        ("userId" = Option<String>, Query, description = "Whose chat it must be"),
        ("limit" = Option<u64>, Query, description = "1 to 100. Without it all are listed, at most 1,000 and about 4 MB of them"),
        ("cursor" = Option<String>, Query, description = "The nextCursor of the page before"),
        ("order" = Option<String>, Query, description = "asc, the default, or desc: the newest first"),
        ("include" = Option<String>, Query, description = "meta, with a secret key: also what each message answers, and how it came about"),
    ),
    responses(
        (status = 200, description = "The messages", body = Messages),
        (status = 400, description = "A parameter breaks a rule", body = KodeyErrorOut),
        (status = 401, description = "No key, or one that does not hold", body = KodeyErrorOut),
        (status = 403, description = "include=meta with a publishable key, or one that may not be used from this origin", body = KodeyErrorOut),
        (status = 404, description = "No such chat, or none of that user", body = KodeyErrorOut),
        (status = 429, description = "The key's budget is used up", body = KodeyErrorOut),
    ),
)]
async fn messages(
    State(app): State<App>,
    Caller(holder): Caller<TeamKey>,
    Path(chat): Path<ChatId>,
    params: Params,
) -> Reply<Messages> {
    let (user, shown) = (user(&params)?, Shown::read(&params, &holder)?);
    let (limit, order) = (limit(&params)?, Order::read(&params)?);
    let at = params.cursor()?;
    let at = at.as_ref().map(Cursor::parse::<u64>).transpose()?;
    let range = order.range(at, limit);
    let found = app.chat_log(&holder, chat, user.as_ref(), range);
    let (_, log) = found.await?;
    let log = order.of(log);
    let next = next(&log);
    let path = format!("/chat/{chat}/message");
    let link = link(&["limit", "userId", "include", "order"], &params);
    let shown = Messages::new(log, next.as_ref(), shown)?;
    Ok(Show::ok(shown).next(&path, &link, next.as_ref()))
}

/// Whose chat the caller says that it is, or whose are wanted.
fn user(params: &Params) -> Result<Option<UserId>, Error> {
    let user = params.get("userId")?;
    user.map(|user| UserId::parse("userId", user)).transpose()
}

/// Where the next page of a log starts: after the last message of this one.
fn next(log: &Stretch) -> Option<Cursor> {
    let last = log.messages.last().filter(|_| log.more);
    last.map(|last| Cursor(last.seq.get().to_string()))
}

/// How many items are wanted.
fn limit(params: &Params) -> Result<usize, Error> {
    Ok(params.limit_given(Slice::MAX_LIMIT)?.unwrap_or(ALL))
}

/// The parameters of the next page: those among `names` that this one was asked for with.
fn link(names: &[&'static str], params: &Params) -> Vec<(&'static str, String)> {
    let given = names.iter().filter_map(|name| {
        // One that was given twice was refused when it was read.
        let value = params.get(name).ok().flatten()?;
        let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
        Some((*name, value.to_string()))
    });
    given.collect()
}
