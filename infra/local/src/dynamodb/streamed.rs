//! Which tables have a stream, and whether a request writes to one of them.

use std::collections::HashSet;

use dynoxide::actions::batch_write_item::BatchWriteItemRequest;
use dynoxide::actions::delete_item::DeleteItemRequest;
use dynoxide::actions::list_streams::ListStreamsRequest;
use dynoxide::actions::put_item::PutItemRequest;
use dynoxide::actions::transact_write_items::TransactWriteItemsRequest;
use dynoxide::actions::update_item::UpdateItemRequest;
use dynoxide::{Database, DynoxideError};

/// The tables that have a stream.
#[derive(Debug, Default)]
pub(super) struct StreamedTables(HashSet<String>);

impl StreamedTables {
    pub(super) fn of(database: &Database) -> Result<Self, DynoxideError> {
        let mut tables = HashSet::new();
        let mut after = None;
        loop {
            let page = database.list_streams(ListStreamsRequest {
                exclusive_start_stream_arn: after,
                ..ListStreamsRequest::default()
            })?;
            tables.extend(page.streams.into_iter().map(|stream| stream.table_name));
            after = page.last_evaluated_stream_arn;
            if after.is_none() {
                return Ok(Self(tables));
            }
        }
    }

    /// Whether `table` has a stream.
    pub(super) fn has(&self, table: &str) -> bool {
        self.0.contains(table)
    }
}

/// A request that writes to tables it names.
pub(super) trait Writes {
    /// Whether one of these tables has a stream.
    fn is_streamed(&self, streamed: &StreamedTables) -> bool;
}

macro_rules! writes_to_one_table {
    ($($request:ty),*) => {
        $(impl Writes for $request {
            fn is_streamed(&self, streamed: &StreamedTables) -> bool {
                streamed.has(&self.table_name)
            }
        })*
    };
}

writes_to_one_table!(PutItemRequest, UpdateItemRequest, DeleteItemRequest);

impl Writes for BatchWriteItemRequest {
    fn is_streamed(&self, streamed: &StreamedTables) -> bool {
        self.request_items.keys().any(|table| streamed.has(table))
    }
}

impl Writes for TransactWriteItemsRequest {
    fn is_streamed(&self, streamed: &StreamedTables) -> bool {
        self.transact_items.iter().any(|item| {
            let put = item.put.as_ref().map(|put| &put.table_name);
            let update = item.update.as_ref().map(|update| &update.table_name);
            let delete = item.delete.as_ref().map(|delete| &delete.table_name);
            [put, update, delete]
                .into_iter()
                .flatten()
                .any(|table| streamed.has(table))
        })
    }
}
