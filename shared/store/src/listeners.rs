//! Which tenants anybody listens to: a mark for each, in the `deliveries` table.
//!
//! | partition key     | attributes                                     |
//! |-------------------|------------------------------------------------|
//! | `tenant#listened` | `until` (seconds since 1970), `ttl?`           |
//!
//! **Invariant:** while a tenant has a connection or a webhook endpoint, its mark holds: it is written before a
//! connection is let in or an endpoint is made, and outlives both. So who finds no mark, by a consistent read, knows
//! that nobody is to be told of messages, and what a tenant that nobody listens to costs is that one read.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::{Client, types::ReturnValuesOnConditionCheckFailure::AllOld};

use super::{
    Backoff,
    aws::settle,
    batch,
    item::{Read, n, s},
};
use crate::domain::{Error, TenantId, Timestamp, live::LIFETIME_SECONDS};

/// For how long a mark is made, in seconds: longer than a connection lives.
const MARKED_SECONDS: i64 = 2 * LIFETIME_SECONDS;
/// A mark that holds for less than this is made anew.
const RENEWED_SECONDS: i64 = LIFETIME_SECONDS + 3_600;
/// 9999: the mark of a tenant that has made a webhook endpoint.
const FOR_EVER: i64 = 253_402_300_799;

/// How long a mark holds that was made for connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// For longer than a connection lives.
    ForAConnection,
    /// For ever.
    ForEver,
}

/// The marks in the `deliveries` table.
#[derive(Debug)]
pub struct ListenerStore {
    client: Client,
    table: String,
}

impl ListenerStore {
    pub(super) const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Marks a tenant, unless its mark holds for long enough. Until when it holds at least, in seconds since 1970.
    pub async fn mark(
        &self,
        tenant: TenantId,
        mark: Mark,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Result<i64, Error> {
        let (until, enough) = match mark {
            Mark::ForAConnection => {
                let now = now.seconds();
                (now + MARKED_SECONDS, now + RENEWED_SECONDS)
            }
            Mark::ForEver => (FOR_EVER, FOR_EVER),
        };
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(partition(tenant)))
            .update_expression("SET #until = :until, v = :v")
            .condition_expression("attribute_not_exists(pk) OR #until < :enough")
            .expression_attribute_names("#until", "until")
            .expression_attribute_values(":until", n(until))
            .expression_attribute_values(":enough", n(enough))
            .expression_attribute_values(":v", n(1))
            .return_values_on_condition_check_failure(AllOld);
        match settle(race, &self.table, || update.clone().send()).await? {
            Ok(_) => Ok(until),
            Err(standing) => match standing {
                Some(item) => item.number("until"),
                None => Err(Error::Busy),
            },
        }
    }

    /// Those of `tenants` whose marks hold.
    pub async fn listened(
        &self,
        tenants: &BTreeSet<TenantId>,
        now: Timestamp,
        race: &Backoff,
    ) -> Result<BTreeSet<TenantId>, Error> {
        let keys: Vec<_> = tenants.iter().map(|tenant| partition(*tenant)).collect();
        let mut marked = BTreeSet::new();
        for item in batch::read(&self.client, &self.table, &keys, race).await? {
            if item.number::<i64>("until")? > now.seconds() {
                let pk = item.text("pk")?;
                marked.extend(tenants.iter().filter(|tenant| partition(**tenant) == pk));
            }
        }
        Ok(marked)
    }
}

fn partition(tenant: TenantId) -> String {
    format!("{tenant}#listened")
}
