//! Notifications and the subscriptions to their topics.

mod wire;

use axum::{
    Router,
    extract::State,
    routing::{delete, get, post},
};
use parlance::{
    app::App,
    domain::{NotificationId, SubscriptionId},
    http::{
        Body, Caller, NoBody, NoParams, Now, Params, Path, Reply, Show, credentials::TenantUser,
        wire::ErrorOut,
    },
};

use self::wire::{
    NotificationIn, NotificationStatus, Notified, SubscriptionIn, SubscriptionOut, Subscriptions,
};

/// The routes of the `notify` function.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/notify", post(notify))
        .route("/notifications/{notification_id}", get(status))
        .route("/subscriptions", post(subscribe).get(list))
        .route("/subscriptions/{subscription_id}", delete(unsubscribe))
}

/// What this function adds to the API's description.
#[derive(utoipa::OpenApi)]
#[openapi(paths(notify, status, subscribe, list, unsubscribe))]
pub struct Doc;

/// Send a notification
///
/// To the union of the named users, the members of the named room and the topic's subscribers, each
/// person once. At least one of the three must be named. A 202 means it is stored.
#[utoipa::path(
    post,
    path = "/notify",
    tag = "Notifications",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, remembered for 24 hours")),
    request_body = NotificationIn,
    responses(
        (status = 202, description = "Stored, to be delivered", body = Notified),
        (status = 400, description = "A field breaks a rule", body = ErrorOut),
        (status = 403, description = "Not a member of the named room", body = ErrorOut),
        (status = 404, description = "No such room", body = ErrorOut),
        (status = 409, description = "The Idempotency-Key was used for another request", body = ErrorOut),
    ),
)]
async fn notify(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    Now(moment): Now,
    Body(body, once): Body<NotificationIn>,
) -> Reply<Notified> {
    let (topic, payload, targets) = body.parse()?;
    let done = app
        .notify(&actor, topic, payload, targets, once.as_ref(), &moment)
        .await?;
    Ok(Show::accepted(Notified::from(&done.value)).replayed(done.replayed))
}

/// Get what became of a notification
///
/// Its deliveries, one for each person it is for, about a second behind. Only its sender may, for 35 days.
#[utoipa::path(
    get,
    path = "/notifications/{notification_id}",
    tag = "Notifications",
    params(
        ("notification_id" = String, Path),
        ("limit" = Option<u64>, Query, description = "1 to 100, default 50"),
        ("offset" = Option<u64>, Query, description = "How many to pass over, at most 1000"),
        ("cursor" = Option<String>, Query, description = "From the Link header of the page before"),
    ),
    responses(
        (status = 200, description = "The notification and a page of its deliveries", body = NotificationStatus),
        (status = 400, description = "A parameter breaks a rule", body = ErrorOut),
        (status = 404, description = "The caller has sent no such notification, or it is older", body = ErrorOut),
    ),
)]
async fn status(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    Path(id): Path<NotificationId>,
    Now(moment): Now,
    params: Params,
) -> Reply<NotificationStatus> {
    params.only(Params::SLICE)?;
    let slice = params.slice()?;
    let (notification, page) = app.notification(&actor, id, &slice, &moment).await?;
    let limit = ("limit", slice.limit.to_string());
    let path = format!("/notifications/{id}");
    let show = Show::ok(NotificationStatus::new(&notification, page.items));
    Ok(show.next(&path, &[limit], page.next.as_ref()))
}

/// Subscribe to a topic
///
/// Subscribing again gives the subscription that exists.
#[utoipa::path(
    post,
    path = "/subscriptions",
    tag = "Notifications",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, remembered for 24 hours")),
    request_body = SubscriptionIn,
    responses(
        (status = 201, description = "Subscribed", body = SubscriptionOut),
        (status = 400, description = "A field breaks a rule", body = ErrorOut),
        (status = 409, description = "The Idempotency-Key was used for another request", body = ErrorOut),
    ),
)]
async fn subscribe(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    _: NoParams,
    Now(moment): Now,
    Body(body, once): Body<SubscriptionIn>,
) -> Reply<SubscriptionOut> {
    let topic = body.parse()?;
    let done = app.subscribe(&actor, topic, once.as_ref(), &moment).await?;
    Ok(Show::created(SubscriptionOut::from(&done.value)).replayed(done.replayed))
}

/// List my subscriptions
///
/// Of the caller, in no particular order.
#[utoipa::path(
    get,
    path = "/subscriptions",
    tag = "Notifications",
    params(
        ("limit" = Option<u64>, Query, description = "1 to 100, default 50"),
        ("offset" = Option<u64>, Query, description = "How many to pass over, at most 1000"),
        ("cursor" = Option<String>, Query, description = "From the Link header of the page before"),
    ),
    responses(
        (status = 200, description = "The caller's subscriptions", body = Subscriptions),
        (status = 400, description = "A parameter breaks a rule", body = ErrorOut),
    ),
)]
async fn list(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    params: Params,
) -> Reply<Subscriptions> {
    params.only(Params::SLICE)?;
    let slice = params.slice()?;
    let page = app.subscriptions(&actor, &slice).await?;
    let limit = ("limit", slice.limit.to_string());
    let shown = Subscriptions {
        subscriptions: page.items.iter().map(SubscriptionOut::from).collect(),
    };
    Ok(Show::ok(shown).next("/subscriptions", &[limit], page.next.as_ref()))
}

/// End a subscription
///
/// The caller hears of its topic no more. Notifications that are on their way may still come.
#[utoipa::path(
    delete,
    path = "/subscriptions/{subscription_id}",
    tag = "Notifications",
    params(("subscription_id" = String, Path)),
    responses(
        (status = 204, description = "Ended"),
        (status = 404, description = "The caller has no such subscription", body = ErrorOut),
    ),
)]
async fn unsubscribe(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    _: NoParams,
    Path(id): Path<SubscriptionId>,
    Now(moment): Now,
    _: NoBody,
) -> Reply<()> {
    app.unsubscribe(&actor, id, &moment).await?;
    Ok(Show::nothing())
}
