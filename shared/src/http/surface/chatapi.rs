//! ChatAPI: `X-API-Key` and `X-User-Id`; `X-Master-Key` for the operator.

use axum::http::HeaderMap;
use serde::Serialize;

use super::Surface;
use crate::{
    app::{App, auth::Session},
    domain::{Actor, Auditor, Error, Observer, Operator, TenantKey, UserId, rate::Charge},
    http::{
        request::{Request, onward, single},
        wire::{ErrorBody, ErrorOut},
    },
};

/// A tenant's server, acting for a user.
#[derive(Debug)]
pub struct ChatApi;

/// A tenant's server, acting for the tenant itself: no user is named.
#[derive(Debug)]
pub struct ChatApiTenant;

/// The operator.
#[derive(Debug)]
pub struct ChatApiOperator;

/// The operator, or a tenant's server looking at its own failures.
#[derive(Debug)]
pub struct ChatApiAuditor;

/// The operator, or a tenant's server looking at how its own things stand: no user is named.
#[derive(Debug)]
pub struct ChatApiObserver;

const TRY_LATER: &str = "Rate limit exceeded. Try again in 60 seconds";
const TWO_KEYS: &str = "Send X-API-Key once";
const TWO_USERS: &str = "Send X-User-Id once";
const TWO_MASTER_KEYS: &str = "Send X-Master-Key once";

/// What the tenant's key opens, once the request is charged to the tenant.
async fn session(app: &App, headers: &HeaderMap, request: &Request) -> Result<Session, Error> {
    let key = single(headers, "x-api-key", TWO_KEYS)?.ok_or(Error::Unauthenticated(
        "Missing API key. Send it as X-API-Key",
    ))?;
    let moment = &request.moment;
    let session = app.open_tenant(key, request.address, moment).await;
    let session = session.map_err(|refusal| request.refused(refusal))?;
    request.belongs_to(session.tenant);
    let (quota, verdict) = app.charge(session.budget(), &onward(moment)?).await?;
    request.pays(quota);
    verdict?;
    Ok(session)
}

async fn actor(app: &App, headers: &HeaderMap, request: &Request) -> Result<Actor, Error> {
    let session = session(app, headers, request).await?;
    let user = single(headers, "x-user-id", TWO_USERS)?.ok_or(Error::Unauthenticated(
        "Missing user. Send the user's id as X-User-Id",
    ))?;
    // What is not UTF-8 is refused by the same rule as what is not ASCII.
    let user = UserId::parse("X-User-Id", std::str::from_utf8(user).unwrap_or_default())?;
    Ok(app.actor(&session, user))
}

/// The operator. The key is compared before anything is charged: whatever others send from the same address, the right one
/// opens. A wrong one is charged to the address as any request that proves invalid.
async fn operator(app: &App, headers: &HeaderMap, request: &Request) -> Result<Operator, Error> {
    let key = single(headers, "x-master-key", TWO_MASTER_KEYS)?;
    let operator = app.operator(key, &request.moment).await?;
    let (quota, verdict) = app.charge_address(Charge::Operator, request.address, &request.moment);
    request.pays(quota);
    verdict?;
    Ok(operator)
}

/// `{"success": false, "error": {"code": "NOT_FOUND", "message": "Room not found"}}`, and `field` where a
/// field is at fault, `room_id` where a room is in the way.
fn envelope(error: &Error) -> ErrorOut {
    let code = match error {
        Error::Invalid { .. } => "VALIDATION_ERROR",
        Error::TooLarge { .. } => "PAYLOAD_TOO_LARGE",
        Error::UnsupportedMedia(_) => "UNSUPPORTED_MEDIA_TYPE",
        Error::Unauthenticated(_) => "AUTHENTICATION_ERROR",
        Error::Forbidden(_) | Error::SecretKeyOnly => "AUTHORIZATION_ERROR",
        Error::NotFound(_) => "NOT_FOUND",
        Error::MethodNotAllowed { .. } => "METHOD_NOT_ALLOWED",
        Error::Conflict(_) | Error::RoomExists(_) | Error::InProgress { .. } => "CONFLICT",
        Error::RateLimited { .. } | Error::TokensUsedUp { .. } => "RATE_LIMIT_EXCEEDED",
        Error::Upstream { .. } => "UPSTREAM_ERROR",
        Error::Busy | Error::Unavailable(_) => "SERVICE_UNAVAILABLE",
        Error::Internal(_) => "INTERNAL_ERROR",
    };
    let (field, room_id) = match error {
        Error::Invalid { field, .. } => (Some(field.to_string()), None),
        Error::TooLarge { .. } => (Some("body".to_owned()), None),
        Error::RoomExists(room) => (None, Some(room.to_string())),
        Error::UnsupportedMedia(_)
        | Error::Unauthenticated(_)
        | Error::Forbidden(_)
        | Error::NotFound(_)
        | Error::MethodNotAllowed { .. }
        | Error::Conflict(_)
        | Error::RateLimited { .. }
        | Error::TokensUsedUp { .. }
        | Error::InProgress { .. }
        | Error::SecretKeyOnly
        | Error::Upstream { .. }
        | Error::Busy
        | Error::Unavailable(_)
        | Error::Internal(_) => (None, None),
    };
    ErrorOut {
        success: false,
        error: ErrorBody {
            code,
            message: match error {
                // The seed's sentence, to the letter; `Retry-After` says the true time.
                Error::RateLimited { .. } => TRY_LATER.to_owned(),
                Error::Invalid { .. }
                | Error::TooLarge { .. }
                | Error::UnsupportedMedia(_)
                | Error::Unauthenticated(_)
                | Error::Forbidden(_)
                | Error::NotFound(_)
                | Error::MethodNotAllowed { .. }
                | Error::Conflict(_)
                | Error::RoomExists(_)
                | Error::TokensUsedUp { .. }
                | Error::InProgress { .. }
                | Error::SecretKeyOnly
                | Error::Upstream { .. }
                | Error::Busy
                | Error::Unavailable(_)
                | Error::Internal(_) => error.to_string(),
            },
            field,
            room_id,
        },
    }
}

impl ChatApi {
    /// What a client is told of `error`: the part of the envelope that says something.
    pub fn wording(error: &Error) -> ErrorBody {
        envelope(error).error
    }
}

impl Surface for ChatApi {
    type Caller = Actor;
    const NAME: &'static str = "chatapi";
    const CHALLENGE: &'static str = "ApiKey realm=\"chatapi\"";

    async fn authenticate(
        app: &App,
        headers: &HeaderMap,
        request: &Request,
    ) -> Result<Actor, Error> {
        actor(app, headers, request).await
    }

    fn envelope(error: &Error) -> impl Serialize {
        envelope(error)
    }
}

impl Surface for ChatApiTenant {
    type Caller = TenantKey;
    const NAME: &'static str = ChatApi::NAME;
    const CHALLENGE: &'static str = ChatApi::CHALLENGE;

    async fn authenticate(
        app: &App,
        headers: &HeaderMap,
        request: &Request,
    ) -> Result<TenantKey, Error> {
        let session = session(app, headers, request).await?;
        Ok(app.tenant_key(&session))
    }

    fn envelope(error: &Error) -> impl Serialize {
        envelope(error)
    }
}

impl Surface for ChatApiOperator {
    type Caller = Operator;
    const NAME: &'static str = ChatApi::NAME;
    const CHALLENGE: &'static str = ChatApi::CHALLENGE;

    async fn authenticate(
        app: &App,
        headers: &HeaderMap,
        request: &Request,
    ) -> Result<Operator, Error> {
        operator(app, headers, request).await
    }

    fn envelope(error: &Error) -> impl Serialize {
        envelope(error)
    }
}

impl Surface for ChatApiAuditor {
    type Caller = Auditor;
    const NAME: &'static str = ChatApi::NAME;
    const CHALLENGE: &'static str = ChatApi::CHALLENGE;

    async fn authenticate(
        app: &App,
        headers: &HeaderMap,
        request: &Request,
    ) -> Result<Auditor, Error> {
        if headers.contains_key("x-master-key") {
            operator(app, headers, request).await.map(Auditor::Operator)
        } else {
            actor(app, headers, request).await.map(Auditor::Tenant)
        }
    }

    fn envelope(error: &Error) -> impl Serialize {
        envelope(error)
    }
}

impl Surface for ChatApiObserver {
    type Caller = Observer;
    const NAME: &'static str = ChatApi::NAME;
    const CHALLENGE: &'static str = ChatApi::CHALLENGE;

    async fn authenticate(
        app: &App,
        headers: &HeaderMap,
        request: &Request,
    ) -> Result<Observer, Error> {
        if headers.contains_key("x-master-key") {
            operator(app, headers, request)
                .await
                .map(Observer::Operator)
        } else {
            let session = session(app, headers, request).await?;
            Ok(Observer::Tenant(app.tenant_key(&session)))
        }
    }

    fn envelope(error: &Error) -> impl Serialize {
        envelope(error)
    }
}
