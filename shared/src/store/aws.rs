//! What an AWS error means to us.

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

/// Judges a failed call. What the SDK says stays in the cause, for the log alone.
pub(super) fn judge<E>(error: SdkError<E>) -> Verdict
where
    E: std::error::Error + ProvideErrorMetadata + RequestId + Send + Sync + 'static,
{
    match &error {
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
            Verdict::Again(Error::Unavailable(Box::new(error)))
        }
        SdkError::ServiceError(service) => {
            let code = service.err().code().unwrap_or_default();
            // A 5xx from something in between has no code of DynamoDB's.
            if PASSING.contains(&code) || service.raw().status().is_server_error() {
                Verdict::Again(Error::Unavailable(Box::new(error)))
            } else if code == "ResourceNotFoundException" || code == "AccessDeniedException" {
                // A table that is absent or denied is a dependency that fails: 503, and it heals.
                Verdict::Fault(Error::Unavailable(Box::new(error)))
            } else {
                Verdict::Fault(Error::internal(error))
            }
        }
        _ => Verdict::Fault(Error::internal(error)),
    }
}

/// Judges a failed call that is not tried again beyond the SDK's own bounded retries.
pub(super) fn fault<E>(error: SdkError<E>) -> Error
where
    E: std::error::Error + ProvideErrorMetadata + RequestId + Send + Sync + 'static,
{
    judge(error).into_error()
}

/// Sends a conditional write until it is done, or refused by the item that is given then, or until the
/// deadline of `race` while it is throttled, in another's way, or nobody knows what became of it.
///
/// The write must be one that may be done twice: after a lost answer it meets its own effect.
pub(super) async fn settle<T, E, F>(
    race: &mut Backoff,
    send: impl Fn() -> F,
) -> Result<Result<T, Option<Item>>, Error>
where
    E: Conditional + std::error::Error + ProvideErrorMetadata + RequestId + Send + Sync + 'static,
    F: Future<Output = Result<T, SdkError<E>>>,
{
    loop {
        let error = match send().await {
            Ok(done) => return Ok(Ok(done)),
            Err(error) => error,
        };
        match refusal(error) {
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
pub(super) fn refusal<E>(error: SdkError<E>) -> Result<Option<Item>, Verdict>
where
    E: Conditional + std::error::Error + ProvideErrorMetadata + RequestId + Send + Sync + 'static,
{
    if let Some(failed) = error.as_service_error().and_then(Conditional::condition) {
        return Ok(failed.item().cloned());
    }
    Err(judge(error))
}
