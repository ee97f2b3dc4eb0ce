//! Forgets the records of the embedded store that every consumer has taken.
//!
//! **Invariant:** a table is trimmed up to its slowest consumer's checkpoint, and not at all
//! while one of them has none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::dynamodb::{DynamoDb, Trim};
use crate::template::StreamMapping;

/// Records are forgotten so many at a time, to spare a write for each small batch.
const ENOUGH: u32 = 500;

/// Who has consumed what.
#[derive(Debug, Clone)]
pub struct Retention {
    dynamodb: DynamoDb,
    tables: Arc<Mutex<BTreeMap<String, Consumed>>>,
}

/// What was consumed of one table's stream.
#[derive(Debug)]
struct Consumed {
    /// The last record that each function took.
    by: BTreeMap<String, Option<String>>,
    /// How many were taken since the last trim, by anybody.
    since: u32,
}

impl Default for Consumed {
    fn default() -> Self {
        // An earlier run may have left some.
        Self {
            by: BTreeMap::new(),
            since: ENOUGH,
        }
    }
}

impl Retention {
    /// Waits for the consumers of `mappings`.
    pub fn new(dynamodb: DynamoDb, mappings: &[StreamMapping]) -> Self {
        let mut tables: BTreeMap<String, Consumed> = BTreeMap::new();
        for mapping in mappings {
            let consumed = tables.entry(mapping.table.clone()).or_default();
            consumed.by.insert(mapping.function.clone(), None);
        }
        Self {
            dynamodb,
            tables: Arc::new(Mutex::new(tables)),
        }
    }

    /// Notes that a consumer took `count` records, up to `sequence_number`.
    pub(super) async fn taken(&self, mapping: &StreamMapping, count: u32, sequence_number: &str) {
        let Some(limit) = self.limit_after(mapping, count, sequence_number) else {
            return;
        };
        let Some(trim) = Trim::consumed(&mapping.table, &limit) else {
            return;
        };
        if let Err(error) = self.dynamodb.trim(&trim).await {
            tracing::warn!(table = mapping.table, %error, "stream records were not trimmed");
        }
    }

    /// The slowest checkpoint in the table's stream, if a trim is worth it.
    fn limit_after(
        &self,
        mapping: &StreamMapping,
        count: u32,
        sequence_number: &str,
    ) -> Option<String> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let consumed = tables.entry(mapping.table.clone()).or_default();
        let taken = Some(sequence_number.to_owned());
        consumed.by.insert(mapping.function.clone(), taken);
        consumed.since = consumed.since.saturating_add(count);
        if consumed.since < ENOUGH {
            return None;
        }
        // `None` sorts first. All numbers of the embedded store have 21 digits, so that text sorts
        // like numbers.
        let limit = consumed.by.values().min().cloned().flatten()?;
        consumed.since = 0;
        Some(limit)
    }
}
