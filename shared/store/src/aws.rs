//! What an AWS error means to us.

use std::{error::Error as StdError, fmt};

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        RequestId, delete_item::DeleteItemError, put_item::PutItemError,
        update_item::UpdateItemError,
    },
    types::error::ConditionalCheckFailedException,
};

use super::{Backoff, item::Item};
use crate::domain::Error;

/// What became of a call that did not succeed and whose condition did not fail.
pub(super) enum Verdict {
    /// Try again: it was throttled, or nobody knows whether it was done.
    Again(Error),
    /// Trying again would not help.
    Fault(Error),
}

impl Verdict {
    /// The error to end with when there is no retry.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Again(error) | Self::Fault(error) => error,
        }
    }
}

/// A call that failed on a table. What AWS says of an absent one does not name it.
#[derive(Debug)]
struct Failed<E> {
    table: String,
    error: E,
}

impl<E> fmt::Display for Failed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {}", self.table)
    }
}

impl<E: StdError + 'static> StdError for Failed<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}

/// Codes after which the same call may pass: contention and throttling are not faults.
const PASSING: [&str; 11] = [
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "ThrottlingError",
    "RequestLimitExceeded",
    "TransactionConflictException",
    "TransactionInProgressException",
    "InternalServerError",
    "ServiceUnavailable",
    "RequestTimeout",
    "RequestTimeoutException",
    "LimitExceededException",
];

/// Codes of a dependency that fails for as long as nobody mends it: a table that is absent or denied, its
/// key, and credentials or a clock that AWS does not accept although they were just read anew. On one machine, a full
/// disk or a damaged file, too. It is not the request's fault, and it heals without a deploy.
const OUT_OF_REACH: [&str; 14] = [
    "StorageFailure",
    "ResourceNotFoundException",
    "AccessDeniedException",
    "KMSAccessDeniedException",
    "KMSDisabledException",
    "KMSInvalidStateException",
    "ExpiredTokenException",
    "ExpiredToken",
    "UnrecognizedClientException",
    "InvalidSignatureException",
    "IncompleteSignatureException",
    "MissingAuthenticationTokenException",
    "RequestExpired",
    "RequestTimeTooSkewed",
];

/// Judges a failed call on `table`. What the SDK says stays in the cause, for the log alone.
pub(super) fn judge<E>(error: SdkError<E>, table: &str) -> Verdict
where
    E: StdError + ProvideErrorMetadata + RequestId + Send + Sync + 'static,
{
    let failed = |error| Failed {
        table: table.to_owned(),
        error,
    };
    match &error {
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
            Verdict::Again(Error::Unavailable(Box::new(failed(error))))
        }
        SdkError::ServiceError(service) => {
            let code = service.err().code().unwrap_or_default();
            if OUT_OF_REACH.contains(&code) {
                Verdict::Fault(Error::Unavailable(Box::new(failed(error))))
            } else if PASSING.contains(&code) || service.raw().status().is_server_error() {
                // A 5xx from something in between has no code of DynamoDB's.
                Verdict::Again(Error::Unavailable(Box::new(failed(error))))
            } else {
                Verdict::Fault(Error::internal(failed(error)))
            }
        }
        _ => Verdict::Fault(Error::internal(failed(error))),
    }
}

/// Judges a failed call on `table` that is not tried again beyond the SDK's own bounded retries.
pub(super) fn fault<E>(table: &str) -> impl FnOnce(SdkError<E>) -> Error
where
    E: StdError + ProvideErrorMetadata + RequestId + Send + Sync + 'static,
{
    move |error| judge(error, table).into_error()
}

/// Sends a conditional write on `table` until it is done, or refused by the item that is given then, or until the
/// deadline of `race` while it is throttled, in another's way, or nobody knows what became of it.
///
/// The write must be one that may be done twice: after a lost answer it meets its own effect.
pub(super) async fn settle<T, E, F>(
    race: &mut Backoff,
    table: &str,
    send: impl Fn() -> F,
) -> Result<Result<T, Option<Item>>, Error>
where
    E: Conditional + StdError + ProvideErrorMetadata + RequestId + Send + Sync + 'static,
    F: Future<Output = Result<T, SdkError<E>>>,
{
    loop {
        let error = match send().await {
            Ok(done) => return Ok(Ok(done)),
            Err(error) => error,
        };
        match refusal(error, table) {
            Ok(standing) => return Ok(Err(standing)),
            Err(Verdict::Again(error)) => race.pause().await.map_err(|_| error)?,
            Err(Verdict::Fault(error)) => return Err(error),
        }
    }
}

/// A call whose condition may fail.
pub(super) trait Conditional {
    /// The failed condition, if that is what it is.
    fn condition(&self) -> Option<&ConditionalCheckFailedException>;
}

macro_rules! conditional {
    ($($error:ident),*) => {$(
        impl Conditional for $error {
            fn condition(&self) -> Option<&ConditionalCheckFailedException> {
                match self {
                    Self::ConditionalCheckFailedException(failed) => Some(failed),
                    _ => None,
                }
            }
        }
    )*};
}
conditional!(PutItemError, UpdateItemError, DeleteItemError);

/// The item that made a condition fail, `None` if there is no item; or what else became of the call.
/// The call must have asked for the old item.
pub(super) fn refusal<E>(error: SdkError<E>, table: &str) -> Result<Option<Item>, Verdict>
where
    E: Conditional + StdError + ProvideErrorMetadata + RequestId + Send + Sync + 'static,
{
    if let Some(failed) = error.as_service_error().and_then(Conditional::condition) {
        return Ok(failed.item().cloned());
    }
    Err(judge(error, table))
}
