//! The dialects: all that differs between them. A surface is chosen by type, never by a flag.

mod chatapi;
mod kodey;

use std::future::Future;

use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;

pub use self::chatapi::{ChatApi, ChatApiAuditor, ChatApiObserver, ChatApiOperator, ChatApiTenant};
pub use self::kodey::{Kodey, KodeyErrorOut, KodeySecret};
use super::request::Request;
use crate::{app::App, domain::Error};

/// One dialect, seen by one kind of caller.
pub trait Surface: Send + Sync + 'static {
    /// The proof of who calls.
    type Caller: Send;

    /// Its name in logs.
    const NAME: &'static str;

    /// `WWW-Authenticate` of its 401s: a scheme that no browser knows, so that none asks for a password.
    const CHALLENGE: &'static str;

    /// Finds and checks the credential, and charges the request to its owner.
    fn authenticate(
        app: &App,
        headers: &HeaderMap,
        request: &Request,
    ) -> impl Future<Output = Result<Self::Caller, Error>> + Send;

    /// The dialect's body for `error`.
    fn envelope(error: &Error) -> impl Serialize;

    /// The dialect's status for `error`.
    fn status(error: &Error) -> StatusCode {
        match error {
            Error::Invalid { .. } => StatusCode::BAD_REQUEST,
            Error::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Error::UnsupportedMedia(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Error::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Error::Forbidden(_) | Error::SecretKeyOnly => StatusCode::FORBIDDEN,
            Error::NotFound(_) => StatusCode::NOT_FOUND,
            Error::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Error::Conflict(_) | Error::RoomExists(_) | Error::InProgress { .. } => {
                StatusCode::CONFLICT
            }
            Error::RateLimited { .. } | Error::TokensUsedUp { .. } => StatusCode::TOO_MANY_REQUESTS,
            Error::Upstream { .. } => StatusCode::BAD_GATEWAY,
            Error::Busy | Error::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Error::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
