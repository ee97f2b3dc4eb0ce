//! Requests of up to ten entries that succeed or fail each for itself.

use super::fault::{Fault, Kind};
use serde::Serialize;

/// An entry of a batch request.
pub(super) trait Entry {
    /// The client's name for it, distinct within the batch.
    fn id(&self) -> &str;
}

/// How the entries fared.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Outcome<T> {
    successful: Vec<Success<T>>,
    failed: Vec<Failure>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Success<T> {
    id: String,
    #[serde(flatten)]
    result: T,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    id: String,
    code: &'static str,
    message: String,
    sender_fault: bool,
}

/// Serves every entry by `serve`, which must not have written anything when it refuses one.
///
/// # Errors
///
/// If the batch as a whole breaks a rule, or a fault of ours, which undoes all of it.
pub(super) fn each<E: Entry, T>(
    entries: &[E],
    mut serve: impl FnMut(&E) -> Result<T, Fault>,
) -> Result<Outcome<T>, Fault> {
    check(entries)?;
    let mut outcome = Outcome {
        successful: Vec::new(),
        failed: Vec::new(),
    };
    for entry in entries {
        let id = entry.id().to_owned();
        match serve(entry) {
            Ok(result) => outcome.successful.push(Success { id, result }),
            Err(fault) if fault.is_ours() => return Err(fault),
            Err(Fault { kind, message }) => {
                let (_, code) = kind.codes();
                outcome.failed.push(Failure {
                    id,
                    code,
                    message,
                    sender_fault: true,
                });
            }
        }
    }
    Ok(outcome)
}

fn check<E: Entry>(entries: &[E]) -> Result<(), Fault> {
    if entries.is_empty() {
        return Err(Fault::new(
            Kind::EmptyBatchRequest,
            "There should be at least one entry in the request.",
        ));
    }
    if entries.len() > 10 {
        return Err(Fault::new(
            Kind::TooManyEntriesInBatchRequest,
            format!(
                "Maximum number of entries per request are 10. You have sent {}.",
                entries.len()
            ),
        ));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    for (index, entry) in entries.iter().enumerate() {
        let id = entry.id();
        if !(1..=80).contains(&id.len()) || !id.bytes().all(plain) {
            return Err(Fault::new(
                Kind::InvalidBatchEntryId,
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.",
            ));
        }
        if entries.iter().take(index).any(|earlier| earlier.id() == id) {
            let message = format!("Id {id} repeated.");
            return Err(Fault::new(Kind::BatchEntryIdsNotDistinct, message));
        }
    }
    Ok(())
}
