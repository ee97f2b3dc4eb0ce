//! Why a request could not be served, in the domain's own words. HTTP is not known here.

use std::{borrow::Cow, error::Error as StdError, fmt};

use super::{RoomId, Timestamp};

/// The cause of a fault of ours: logged, never sent.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// Why a request could not be served.
#[derive(Debug)]
pub enum Error {
    /// The request breaks a rule; `field` names the culprit.
    Invalid {
        /// The field, parameter or header at fault.
        field: Cow<'static, str>,
        /// The whole sentence to show.
        reason: String,
    },
    /// The body is larger than `limit` bytes.
    TooLarge {
        /// The largest accepted body, in bytes.
        limit: usize,
    },
    /// The body is in a format that is not read here. The whole sentence to show.
    UnsupportedMedia(&'static str),
    /// No credential, or one that does not hold. Says which.
    Unauthenticated(&'static str),
    /// The caller is known and may not do this. Says what would be needed.
    Forbidden(&'static str),
    /// What the request names does not exist, or not for this caller.
    NotFound(&'static str),
    /// The path exists and does not take this method.
    MethodNotAllowed {
        /// The methods it takes, as in an `Allow` header.
        allowed: String,
    },
    /// It exists already, or changed meanwhile. The whole sentence to show.
    Conflict(&'static str),
    /// The two people have a DM already.
    RoomExists(RoomId),
    /// The caller's budget of requests is used up.
    RateLimited {
        /// Whole seconds until one more request will pass, at least 1.
        retry_after: u64,
    },
    /// The tenant has used up the tokens that it may use in a month.
    TokensUsedUp {
        /// How many it may use.
        cap: u64,
        /// When the next month begins.
        resets_at: Timestamp,
        /// Whole seconds until then, at least 1.
        retry_after: u64,
    },
    /// The same request is being worked on; sent again later it will be answered.
    InProgress {
        /// Whole seconds until it is worth a try, at least 1.
        retry_after: u64,
    },
    /// What the request asks for needs a secret key, and it came with a publishable one.
    SecretKeyOnly,
    /// Somebody else whose answer is needed did not give one that can be used.
    Upstream {
        /// The whole sentence to show: it holds nothing that they said.
        reason: Cow<'static, str>,
        /// Whether the same request may succeed later.
        retryable: bool,
        /// Whole seconds until it is worth a try, where they said so; at least 1.
        retry_after: Option<u64>,
    },
    /// Too much contention; the same request may be sent again.
    Busy,
    /// A dependency failed beyond our retries; the same request may be sent again.
    Unavailable(Cause),
    /// A fault of ours.
    Internal(Cause),
}

impl Error {
    /// A broken rule about `field`; `reason` is the whole sentence to show.
    pub fn invalid(field: impl Into<Cow<'static, str>>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// A fault of ours.
    pub fn internal(cause: impl Into<Cause>) -> Self {
        Self::Internal(cause.into())
    }

    /// What to log in one line: the cause of a fault, which [`fmt::Display`] does not tell the client, and
    /// what caused it.
    pub fn why(&self) -> Option<String> {
        self.cause().map(|cause| chain(cause.as_ref()))
    }

    /// The cause of a fault.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Unavailable(cause) | Self::Internal(cause) => Some(cause),
            Self::Invalid { .. }
            | Self::TooLarge { .. }
            | Self::UnsupportedMedia(_)
            | Self::Unauthenticated(_)
            | Self::Forbidden(_)
            | Self::NotFound(_)
            | Self::MethodNotAllowed { .. }
            | Self::Conflict(_)
            | Self::RoomExists(_)
            | Self::RateLimited { .. }
            | Self::TokensUsedUp { .. }
            | Self::InProgress { .. }
            | Self::SecretKeyOnly
            | Self::Upstream { .. }
            | Self::Busy => None,
        }
    }
}

/// What to log of `cause`: itself and what caused it, in one line. Unlike `Debug`, it holds no answer of
/// another service, and so no content.
fn chain(cause: &(dyn StdError + 'static)) -> String {
    let mut text = cause.to_string();
    let mut source = cause.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The sentence a client may read: it never holds a cause.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { reason, .. } => f.write_str(reason),
            Self::TooLarge { limit } => {
                write!(f, "Request body is larger than {} KB", limit / 1024)
            }
            Self::UnsupportedMedia(reason)
            | Self::Unauthenticated(reason)
            | Self::Forbidden(reason)
            | Self::Conflict(reason) => f.write_str(reason),
            Self::NotFound(what) => write!(f, "{what} not found"),
            Self::MethodNotAllowed { allowed } => {
                write!(f, "Method not allowed. This path takes: {allowed}")
            }
            Self::RoomExists(_) => f.write_str("A DM between these users already exists"),
            Self::RateLimited { retry_after } => {
                let unit = if *retry_after == 1 {
                    "second"
                } else {
                    "seconds"
                };
                write!(f, "Rate limit exceeded. Try again in {retry_after} {unit}")
            }
            Self::TokensUsedUp { cap, resets_at, .. } => write!(
                f,
                "Monthly limit of {cap} tokens reached. It begins anew at {resets_at}"
            ),
            Self::InProgress { .. } => f.write_str(
                "The first request with this Idempotency-Key is still being answered. Send it again later",
            ),
            Self::SecretKeyOnly => f.write_str("This endpoint requires a secret key"),
            Self::Upstream { reason, .. } => f.write_str(reason),
            Self::Busy => f.write_str("Too many writers at once. Send the same request again"),
            Self::Unavailable(_) => {
                f.write_str("Service temporarily unavailable. Send the same request again")
            }
            Self::Internal(_) => f.write_str("Internal error"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause().map(|cause| &**cause as _)
    }
}
