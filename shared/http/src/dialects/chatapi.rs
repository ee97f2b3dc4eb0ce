//! ChatAPI, whose clients are tenants' servers and the operator.

use serde::Serialize;

use super::{Cors, Dialect};
use crate::{
    domain::Error,
    wire::{ErrorBody, ErrorOut},
};

/// The dialect.
#[derive(Debug)]
pub struct ChatApi;

const TRY_LATER: &str = "Rate limit exceeded. Try again in 60 seconds";

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

impl Dialect for ChatApi {
    const NAME: &'static str = "chatapi";
    const CHALLENGE: &'static str = "ApiKey realm=\"chatapi\"";
    const CORS: Cors = Cors {
        // Not `x-master-key`: the operator's key has no business in a browser.
        headers: &["x-api-key", "x-user-id"],
    };

    fn envelope(error: &Error) -> impl Serialize {
        envelope(error)
    }
}
