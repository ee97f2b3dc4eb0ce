//! The dialects: how each words its answers. A dialect is chosen by type, never by a flag. Who may call is not its matter,
//! but that of [`super::credentials`].

mod chatapi;
mod kodey;

use axum::http::StatusCode;
use serde::Serialize;

pub use self::chatapi::ChatApi;
pub(super) use self::kodey::is_publishable;
pub use self::kodey::{Kodey, KodeyErrorOut};
use crate::domain::Error;

/// A dialect by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// [`ChatApi`].
    ChatApi,
    /// [`Kodey`].
    Kodey,
}

/// The first segments of all paths, each with its dialect.
pub const SEGMENTS: [(&str, Named); 14] = [
    ("acks", Named::ChatApi),
    ("admin", Named::ChatApi),
    ("agent", Named::Kodey),
    ("chat", Named::Kodey),
    ("docs", Named::ChatApi),
    ("health", Named::ChatApi),
    ("metrics", Named::ChatApi),
    ("notifications", Named::ChatApi),
    ("notify", Named::ChatApi),
    ("openapi.json", Named::ChatApi),
    ("rooms", Named::ChatApi),
    ("subscriptions", Named::ChatApi),
    ("webhooks", Named::ChatApi),
    ("ws", Named::ChatApi),
];

/// Which dialect words an answer to `path`: its first segment says it. What begins as no path of any is ChatAPI's.
pub fn of_path(path: &str) -> Named {
    let first = path.split('/').nth(1).unwrap_or_default();
    let known = SEGMENTS.iter().find(|(segment, _)| *segment == first);
    known.map_or(Named::ChatApi, |(_, dialect)| *dialect)
}

/// What a page in a browser may ask for. The credential is a header that no browser adds by itself, so that any page may.
#[derive(Debug, Clone, Copy)]
pub struct Cors {
    /// The headers that a page may send, besides `Accept`, `Content-Type` and `Idempotency-Key`.
    pub headers: &'static [&'static str],
}

/// One dialect.
pub trait Dialect: Send + Sync + 'static {
    /// Its name in logs.
    const NAME: &'static str;

    /// `WWW-Authenticate` of its 401s: a scheme that no browser knows, so that none asks for a password.
    const CHALLENGE: &'static str;

    /// What pages may ask for.
    const CORS: Cors;

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
