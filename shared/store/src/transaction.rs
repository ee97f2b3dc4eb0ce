//! All or nothing, over several tables.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::{
    Client,
    error::SdkError,
    operation::transact_write_items::TransactWriteItemsError,
    types::{CancellationReason, ConditionCheck, Delete, Put, TransactWriteItem, Update},
};

use super::{
    Backoff,
    aws::{Verdict, judge},
    item::Item,
};
use crate::domain::Error;

/// What became of a transaction.
pub(super) enum Outcome {
    /// All was written.
    Committed,
    /// Nothing was written: for each write whose condition failed, the item that stands in its place.
    /// In the order of the writes; `None` where the condition held.
    Refused(Vec<Option<Refusal>>),
}

/// Why one write of a transaction was refused.
pub(super) struct Refusal {
    /// The item that is there, if there is one.
    pub(super) item: Option<Item>,
}

/// A put as a write of a transaction.
pub(super) fn put(put: Put) -> TransactWriteItem {
    TransactWriteItem::builder().put(put).build()
}

/// An update as a write of a transaction.
pub(super) fn update(update: Update) -> TransactWriteItem {
    TransactWriteItem::builder().update(update).build()
}

/// A delete as a write of a transaction.
pub(super) fn delete(delete: Delete) -> TransactWriteItem {
    TransactWriteItem::builder().delete(delete).build()
}

/// Something that must hold for a transaction to be committed.
#[derive(Debug)]
pub struct Check(TransactWriteItem);

impl Check {
    /// That `check` holds.
    pub(super) fn new(check: ConditionCheck) -> Self {
        Self(TransactWriteItem::builder().condition_check(check).build())
    }

    /// This as a write of a transaction.
    pub(super) fn write(self) -> TransactWriteItem {
        self.0
    }
}

/// Commits `writes`, repeating while others are in the way or the answer is lost.
///
/// After a lost answer the repetition finds its own writes. So the condition of at least one write must
/// fail on what that write makes, and the caller must recognise its own item among the refusals.
///
/// # Errors
///
/// [`Error::Busy`] or [`Error::Unavailable`] at the deadline of `race`.
pub(super) async fn commit(
    client: &Client,
    writes: &[TransactWriteItem],
    race: &mut Backoff,
) -> Result<Outcome, Error> {
    loop {
        let result = client
            .transact_write_items()
            .set_transact_items(Some(writes.to_vec()))
            .send()
            .await;
        let Err(error) = result else {
            return Ok(Outcome::Committed);
        };
        let in_the_way = match cancellation(&error) {
            // While another transaction holds one of the items, what the others say may not last.
            Some(reasons) if reasons.iter().any(is_passing) => Error::Busy,
            Some(reasons) => match refusals(reasons) {
                Some(refusals) => return Ok(Outcome::Refused(refusals)),
                None => return Err(Error::internal(error)),
            },
            None => match judge(error, &tables(writes)) {
                Verdict::Again(error) => error,
                Verdict::Fault(error) => return Err(error),
            },
        };
        if race.pause().await.is_err() {
            return Err(in_the_way);
        }
    }
}

/// The tables of `writes`, each once, for the log.
fn tables(writes: &[TransactWriteItem]) -> String {
    let names: BTreeSet<&str> = writes.iter().filter_map(table).collect();
    Vec::from_iter(names).join(", ")
}

fn table(write: &TransactWriteItem) -> Option<&str> {
    let put = write.put().map(Put::table_name);
    let update = || write.update().map(Update::table_name);
    let delete = || write.delete().map(Delete::table_name);
    let check = || write.condition_check().map(ConditionCheck::table_name);
    put.or_else(update).or_else(delete).or_else(check)
}

fn cancellation<R>(error: &SdkError<TransactWriteItemsError, R>) -> Option<&[CancellationReason]> {
    match error.as_service_error()? {
        TransactWriteItemsError::TransactionCanceledException(canceled) => {
            Some(canceled.cancellation_reasons())
        }
        _ => None,
    }
}

/// The refused conditions, if any was.
fn refusals(reasons: &[CancellationReason]) -> Option<Vec<Option<Refusal>>> {
    let refusals: Vec<_> = reasons
        .iter()
        .map(|reason| {
            (reason.code() == Some("ConditionalCheckFailed")).then(|| Refusal {
                item: reason.item().cloned(),
            })
        })
        .collect();
    refusals.iter().any(Option::is_some).then_some(refusals)
}

/// Whether a write was kept out by contention or throttling.
fn is_passing(reason: &CancellationReason) -> bool {
    matches!(
        reason.code(),
        Some("TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded")
    )
}
