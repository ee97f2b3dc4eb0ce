//! Fills logs by writing the store's file while no runner uses it.

use std::path::Path;

use dynoxide::actions::list_tables::ListTablesRequest;
use dynoxide::types::AttributeValue;
use dynoxide::{Database, ImportOptions};

use crate::Outcome;
use crate::world::CONTENT;

/// One import is one transaction.
const BATCH: u64 = 50_000;

/// Writes messages 1 to `count` of the log in `partition`, as `shared/store/src/messages` shapes
/// them, and no stream records.
pub(crate) fn fill(database: &Path, partition: &str, count: u64) -> Outcome<()> {
    let path = database.to_str().ok_or("the folder's name is not UTF-8")?;
    let database = Database::new(path)?;
    database.disable_bulk_loading()?;
    let tables = database.list_tables(ListTablesRequest::default())?;
    let table = tables
        .table_names
        .iter()
        .find(|name| name.eq_ignore_ascii_case("messages"))
        .ok_or("no table of messages")?;
    for first in (1..=count).step_by(usize::try_from(BATCH)?) {
        let last = count.min(first + BATCH - 1);
        let items = (first..=last).map(|seq| {
            let text = |text: String| AttributeValue::S(text);
            [
                ("pk", text(partition.to_owned())),
                ("sk", text(format!("{seq:020}"))),
                ("v", AttributeValue::N("1".to_owned())),
                (
                    "id",
                    text(format!("msg_{seq:012x}8000{:016x}", 1_u64 << 63)),
                ),
                ("author", text("user0".to_owned())),
                ("content", text(CONTENT.to_owned())),
                ("created_at", text("2025-12-13T12:00:00.000000Z".to_owned())),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect()
        });
        database.import_items(table, items.collect(), ImportOptions::default())?;
    }
    Ok(())
}
