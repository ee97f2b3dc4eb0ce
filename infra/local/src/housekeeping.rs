//! What AWS does by itself: expired items, old messages and old stream records go.
//!
//! **Invariant:** the records of a consumed stream go after its consumers took them (see
//! [`crate::streams::Retention`]); those of a stream without a consumer after a day, as in AWS.

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::dynamodb::{DynamoDb, Trim};
use crate::sqs::Sqs;
use crate::template::Stack;

/// A sweep reads every table whose items expire, so it should be rare.
const PERIOD: Duration = Duration::from_mins(10);
/// A runner that is started often should sweep too, but not while it starts.
const FIRST: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

/// What there is to keep in order.
#[derive(Debug, Clone)]
pub struct Housekeeping {
    dynamodb: Option<DynamoDb>,
    sqs: Option<Sqs>,
    /// The tables whose streams nobody consumes.
    unconsumed: Vec<String>,
}

impl Housekeeping {
    /// For the stores that are embedded.
    pub fn new(stack: &Stack, dynamodb: Option<DynamoDb>, sqs: Option<Sqs>) -> Self {
        let is_consumed = |table: &str| stack.streams.iter().any(|it| it.table == table);
        let streamed = stack.tables.iter().filter(|table| table.stream.is_some());
        let names = streamed.map(|table| table.name.clone());
        Self {
            dynamodb,
            sqs,
            unconsumed: names.filter(|name| !is_consumed(name)).collect(),
        }
    }

    /// Keeps order for ever.
    pub async fn run(self) {
        let mut ticks = interval_at(Instant::now() + FIRST, PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sweep(SystemTime::now()).await;
        }
    }

    /// Does all of it once.
    pub async fn sweep(&self, now: SystemTime) {
        if let Some(sqs) = &self.sqs {
            sqs.sweep();
        }
        let Some(dynamodb) = &self.dynamodb else {
            return;
        };
        match dynamodb.sweep().await {
            Ok(0) => {}
            Ok(gone) => tracing::debug!(gone, "expired items are deleted"),
            Err(error) => tracing::warn!(%error, "expired items were not deleted"),
        }
        let since_epoch = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let limit = since_epoch.saturating_sub(DAY).as_secs();
        for table in &self.unconsumed {
            let trim = Trim::made_before(table, i64::try_from(limit).unwrap_or(i64::MAX));
            if let Err(error) = dynamodb.trim(&trim).await {
                tracing::warn!(table, %error, "stream records were not trimmed");
            }
        }
    }
}
