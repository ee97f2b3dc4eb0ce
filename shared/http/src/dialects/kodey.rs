//! Kodey, whose clients are browsers and teams' servers.

use axum::http::{Method, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Cors, Dialect};
use crate::domain::Error;

/// The dialect.
#[derive(Debug)]
pub struct Kodey;

/// All that a publishable key may do, in the words of the dialect's documentation. Its list of errors names
/// four of them; its chats' page, which decides, lets such a key list and delete chats too.
const PUBLISHABLE: [(Method, &str); 6] = [
    (Method::POST, "/chat"),
    (Method::GET, "/chat"),
    (Method::GET, "/chat/:chatId"),
    (Method::DELETE, "/chat/:chatId"),
    (Method::POST, "/chat/:chatId/message"),
    (Method::GET, "/chat/:chatId/message"),
];

const UPGRADE: &str = "Send this request from your server with a secret key (sk_live_*). \
     Never use a secret key in a browser";

/// Whether a publishable key may ask for `method` of the route `route`, as `axum` spells it.
pub(crate) fn is_publishable(method: &Method, route: &str) -> bool {
    // What is shown to GET is shown to HEAD without its body.
    let method = if *method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    PUBLISHABLE
        .iter()
        .any(|(allowed, path)| allowed == method && is_same(route, path))
}

/// Whether `route` is the documentation's `path`, whatever each calls its parameters.
fn is_same(route: &str, path: &str) -> bool {
    let is_parameter = |segment: &str| segment.starts_with('{') && !segment.starts_with("{*");
    let mut segments = route.split('/').zip(path.split('/'));
    route.split('/').count() == path.split('/').count()
        && segments.all(|(given, named)| match named.strip_prefix(':') {
            Some(_) => is_parameter(given),
            None => given == named,
        })
}

/// An error of the Kodey surface.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "error": "Bad Request",
    "message": "Missing agentId",
    "field": "agentId"
}))]
pub struct KodeyErrorOut {
    /// `Bad Request` (400), `Forbidden` (403), `Not Found` (404), `Method Not Allowed` (405), `Conflict` (409), `Payload Too
    /// Large` (413), `Too Many Requests` (429), `Internal Server Error` (500), `Bad Gateway` (502) or `Service
    /// Unavailable` (503). A 401 has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
    /// A sentence for people.
    pub message: String,
    /// The field, parameter or header at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Of a 429: in how many seconds one more request will pass. The header `Retry-After` says the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// Of a 502: whether the same request may succeed later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// Of a 403 that needs a secret key: what a publishable one may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_endpoints: Option<Vec<String>>,
    /// Of a 403 that needs a secret key: how to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade_instructions: Option<&'static str>,
}

/// `{"error": "Not Found", "message": "Chat not found"}`, and what some errors say besides.
fn envelope(error: &Error) -> KodeyErrorOut {
    let plain = KodeyErrorOut {
        error: status(error).canonical_reason(),
        message: error.to_string(),
        field: None,
        retry_after: None,
        retryable: None,
        allowed_endpoints: None,
        upgrade_instructions: None,
    };
    match error {
        // The documentation's sentence, or as it is built where a key's shape says what is wrong with it; and nothing else.
        Error::Unauthenticated(reason) => KodeyErrorOut {
            error: None,
            message: format!("Unauthorized: {reason}."),
            ..plain
        },
        Error::Invalid { field, .. } => KodeyErrorOut {
            field: Some(field.to_string()),
            ..plain
        },
        Error::TooLarge { .. } => KodeyErrorOut {
            field: Some("body".to_owned()),
            ..plain
        },
        Error::SecretKeyOnly => KodeyErrorOut {
            allowed_endpoints: Some(
                PUBLISHABLE
                    .iter()
                    .map(|(method, path)| format!("{method} {path}"))
                    .collect(),
            ),
            upgrade_instructions: Some(UPGRADE),
            ..plain
        },
        // The documentation's sentence with the true time: a client that reads either number waits no longer than
        // it must.
        Error::RateLimited { retry_after } => KodeyErrorOut {
            message: format!(
                "Rate limit exceeded. Please retry after {retry_after} {}.",
                if *retry_after == 1 {
                    "second"
                } else {
                    "seconds"
                }
            ),
            retry_after: Some(*retry_after),
            ..plain
        },
        Error::TokensUsedUp { retry_after, .. } => KodeyErrorOut {
            retry_after: Some(*retry_after),
            ..plain
        },
        Error::Upstream { retryable, .. } => KodeyErrorOut {
            retryable: Some(*retryable),
            ..plain
        },
        Error::UnsupportedMedia(_)
        | Error::Forbidden(_)
        | Error::NotFound(_)
        | Error::MethodNotAllowed { .. }
        | Error::Conflict(_)
        | Error::RoomExists(_)
        | Error::InProgress { .. }
        | Error::Busy
        | Error::Unavailable(_)
        | Error::Internal(_) => plain,
    }
}

fn status(error: &Error) -> StatusCode {
    <Kodey as Dialect>::status(error)
}

impl Kodey {
    /// What a client is told of `error`, for an answer whose status is sent before it fails.
    pub fn wording(error: &Error) -> KodeyErrorOut {
        envelope(error)
    }
}

impl Dialect for Kodey {
    const NAME: &'static str = "kodey";
    const CHALLENGE: &'static str = "ApiKey realm=\"kodey\"";
    // Which pages a publishable key may be used from, it says itself.
    const CORS: Cors = Cors {
        headers: &["x-api-key", "x-user-id"],
    };

    fn envelope(error: &Error) -> impl Serialize {
        envelope(error)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::{RoomId, Timestamp};

    #[test]
    #[expect(clippy::too_many_lines, reason = "it is a table")]
    fn each_error_is_worded_in_the_dialect() {
        let plain = |error: &str, message: &str| json!({ "error": error, "message": message });
        let with = |mut body: Value, name: &str, value: Value| {
            body[name] = value;
            body
        };
        let room: RoomId = format!("room_{:032x}", 7).parse().unwrap();
        let allowed: Vec<_> = PUBLISHABLE
            .iter()
            .map(|(method, path)| format!("{method} {path}"))
            .collect();
        for (error, expected_status, body) in [
            (
                Error::invalid("content", "Missing content"),
                400,
                with(
                    plain("Bad Request", "Missing content"),
                    "field",
                    json!("content"),
                ),
            ),
            (
                Error::Unauthenticated("Invalid API key"),
                401,
                json!({ "message": "Unauthorized: Invalid API key." }),
            ),
            (
                Error::Unauthenticated("This key is of another door"),
                401,
                json!({ "message": "Unauthorized: This key is of another door." }),
            ),
            (
                Error::Forbidden("Not from here"),
                403,
                plain("Forbidden", "Not from here"),
            ),
            (
                Error::SecretKeyOnly,
                403,
                with(
                    with(
                        plain("Forbidden", "This endpoint requires a secret key"),
                        "allowedEndpoints",
                        json!(allowed),
                    ),
                    "upgradeInstructions",
                    json!(UPGRADE),
                ),
            ),
            (
                Error::NotFound("Chat"),
                404,
                plain("Not Found", "Chat not found"),
            ),
            (
                Error::MethodNotAllowed {
                    allowed: "GET, POST".to_owned(),
                },
                405,
                plain(
                    "Method Not Allowed",
                    "Method not allowed. This path takes: GET, POST",
                ),
            ),
            (
                Error::Conflict("Changed meanwhile"),
                409,
                plain("Conflict", "Changed meanwhile"),
            ),
            (
                Error::RoomExists(room),
                409,
                plain("Conflict", "A DM between these users already exists"),
            ),
            (
                Error::InProgress { retry_after: 3 },
                409,
                plain(
                    "Conflict",
                    "The first request with this Idempotency-Key is still being answered. Send it again later",
                ),
            ),
            (
                Error::TooLarge { limit: 256 * 1024 },
                413,
                with(
                    plain("Payload Too Large", "Request body is larger than 256 KB"),
                    "field",
                    json!("body"),
                ),
            ),
            (
                Error::RateLimited { retry_after: 1 },
                429,
                with(
                    plain(
                        "Too Many Requests",
                        "Rate limit exceeded. Please retry after 1 second.",
                    ),
                    "retryAfter",
                    json!(1),
                ),
            ),
            (
                Error::RateLimited { retry_after: 60 },
                429,
                with(
                    plain(
                        "Too Many Requests",
                        "Rate limit exceeded. Please retry after 60 seconds.",
                    ),
                    "retryAfter",
                    json!(60),
                ),
            ),
            (
                Error::TokensUsedUp {
                    cap: 5,
                    resets_at: Timestamp::from_micros(0),
                    retry_after: 86_400,
                },
                429,
                with(
                    plain(
                        "Too Many Requests",
                        "Monthly limit of 5 tokens reached. It begins anew at 1970-01-01T00:00:00.000000Z",
                    ),
                    "retryAfter",
                    json!(86_400),
                ),
            ),
            (
                Error::internal("a secret cause"),
                500,
                plain("Internal Server Error", "Internal error"),
            ),
            (
                Error::Upstream {
                    reason: "The model did not answer".into(),
                    retryable: true,
                    retry_after: None,
                },
                502,
                with(
                    plain("Bad Gateway", "The model did not answer"),
                    "retryable",
                    json!(true),
                ),
            ),
            (
                Error::Busy,
                503,
                plain(
                    "Service Unavailable",
                    "Too many writers at once. Send the same request again",
                ),
            ),
            (
                Error::Unavailable("a secret cause".into()),
                503,
                plain(
                    "Service Unavailable",
                    "Service temporarily unavailable. Send the same request again",
                ),
            ),
        ] {
            assert_eq!(status(&error), expected_status, "{error:?}");
            assert_eq!(json!(envelope(&error)), body, "{error:?}");
        }
    }

    #[test]
    fn a_publishable_key_may_do_what_the_table_says_and_nothing_else() {
        for (method, route) in [
            (Method::POST, "/chat"),
            (Method::GET, "/chat"),
            (Method::GET, "/chat/{chatId}"),
            (Method::HEAD, "/chat/{id}"),
            (Method::DELETE, "/chat/{chatId}"),
            (Method::POST, "/chat/{chatId}/message"),
            (Method::GET, "/chat/{chatId}/message"),
        ] {
            assert!(is_publishable(&method, route), "{method} {route}");
        }
        for (method, route) in [
            (Method::PUT, "/chat"),
            (Method::DELETE, "/chat"),
            (Method::PUT, "/chat/{chatId}"),
            (Method::PATCH, "/chat/{chatId}"),
            (Method::DELETE, "/chat/{chatId}/message"),
            (Method::GET, "/chat/{chatId}/message/{message_id}"),
            (Method::GET, "/chat/{chatId}/other"),
            (Method::GET, "/chat/all"),
            (Method::GET, "/chat/{*rest}"),
            (Method::GET, "/agent"),
            (Method::POST, "/agent"),
            (Method::GET, "/agent/{agent_id}"),
            (Method::GET, "/"),
            (Method::GET, ""),
            (Method::GET, "/chat/"),
        ] {
            assert!(!is_publishable(&method, route), "{method} {route}");
        }
    }
}
