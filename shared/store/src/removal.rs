//! Removing the items of a partition, some at a time.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    Client,
    types::{DeleteRequest, WriteRequest},
};

use super::{
    Backoff,
    aws::{Verdict, fault, judge},
    item::s,
};
use crate::domain::Error;

/// What DynamoDB deletes at once.
const AT_ONCE: usize = 25;

/// Removes the first items of a partition that nobody reads or writes any more, at most `limit` of them. Whether more
/// are left.
///
/// # Errors
///
/// [`Error::Busy`] or [`Error::Unavailable`] at the deadline of `race`: some of them may be gone.
pub(super) async fn remove_first(
    client: &Client,
    table: &str,
    pk: String,
    limit: usize,
    race: &mut Backoff,
) -> Result<bool, Error> {
    let page = client
        .query()
        .table_name(table)
        .consistent_read(true)
        .limit(i32::try_from(limit).unwrap_or(i32::MAX))
        .key_condition_expression("pk = :pk")
        .expression_attribute_values(":pk", s(pk))
        .projection_expression("pk, sk")
        .send()
        .await
        .map_err(fault(table))?;
    let more = page.last_evaluated_key.is_some();
    let mut deletes = Vec::new();
    for key in page.items.unwrap_or_default() {
        let delete = DeleteRequest::builder().set_key(Some(key));
        let delete = delete.build().map_err(Error::internal)?;
        deletes.push(WriteRequest::builder().delete_request(delete).build());
    }
    for deletes in deletes.chunks(AT_ONCE) {
        delete_all(client, table, deletes.to_vec(), race).await?;
    }
    Ok(more)
}

async fn delete_all(
    client: &Client,
    table: &str,
    mut deletes: Vec<WriteRequest>,
    race: &mut Backoff,
) -> Result<(), Error> {
    loop {
        let sent = client
            .batch_write_item()
            .set_request_items(Some(HashMap::from([(table.to_owned(), deletes.clone())])))
            .send()
            .await;
        let why = match sent {
            Ok(done) => {
                let left = done.unprocessed_items.unwrap_or_default();
                // Throttled in part: the rest is asked for again.
                match left.into_iter().next() {
                    Some((_, left)) if !left.is_empty() => deletes = left,
                    Some(_) | None => return Ok(()),
                }
                Error::Busy
            }
            Err(error) => match judge(error, table) {
                Verdict::Again(error) => error,
                Verdict::Fault(error) => return Err(error),
            },
        };
        race.pause().await.map_err(|_| why)?;
    }
}
