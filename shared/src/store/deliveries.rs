//! Deliveries, one row each.
//!
//! | partition key   | attributes                                                                                                        |
//! |-----------------|-------------------------------------------------------------------------------------------------------------------|
//! | `tenant#dlv_…`  | `kind` (`message`, `notification`), `message` + `user` + `room` or `notification` + `topic`, `attempts`, `last_attempt_at`, `error?`, `dead_shard?`, `dead_at?`, `ttl?` |
//!
//! The sparse index `dead` lists the dead of a tenant: `dead_shard` is `tenant#0` … `tenant#3`, by the
//! delivery's id, so that a tenant whose endpoint is down does not heat one partition; `dead_at` is
//! `last_attempt_at#dlv_…`, so that it is unique.

use aws_sdk_dynamodb::Client;
use futures_util::future::try_join_all;

use super::{
    aws::fault,
    item::{Item, Read, malformed, s},
};
use crate::domain::{
    Cursor, Error, Page, TenantId, Timestamp, UserId,
    delivery::{DeadLetter, Letter},
    subscription::Topic,
};

/// How many partitions the dead of a tenant are spread over.
const SHARDS: u8 = 4;
/// Sorts after every time.
const NEWEST: &str = "9";

/// The `deliveries` table.
#[derive(Debug)]
pub struct DeliveryStore {
    client: Client,
    table: String,
}

impl DeliveryStore {
    pub(super) const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// A tenant's dead letters, newest first, after `after`.
    pub async fn dead(
        &self,
        tenant: TenantId,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page<DeadLetter>, Error> {
        let before = after.map_or(Ok(NEWEST), position)?;
        let shards = (0..SHARDS).map(|shard| self.shard(tenant, shard, limit, before));
        let mut items = Vec::new();
        for item in try_join_all(shards).await?.into_iter().flatten() {
            items.push((item.text("dead_at")?.to_owned(), item));
        }
        items.sort_by(|(a, _), (b, _)| b.cmp(a));
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items
            .last()
            .filter(|_| more)
            .map(|(at, _)| Cursor(at.clone()));
        let items = items
            .iter()
            .map(|(_, item)| from_item(item))
            .collect::<Result<_, _>>()?;
        Ok(Page { items, next })
    }

    /// One more than `limit`, to know whether more follow.
    async fn shard(
        &self,
        tenant: TenantId,
        shard: u8,
        limit: usize,
        before: &str,
    ) -> Result<Vec<Item>, Error> {
        let mut items = Vec::new();
        let mut start = None;
        loop {
            let left = limit + 1 - items.len();
            let page = self
                .client
                .query()
                .table_name(&self.table)
                .index_name("dead")
                .scan_index_forward(false)
                .limit(i32::try_from(left).unwrap_or(i32::MAX))
                .key_condition_expression("dead_shard = :shard AND dead_at < :before")
                .expression_attribute_values(":shard", s(format!("{tenant}#{shard}")))
                .expression_attribute_values(":before", s(before))
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(fault(&self.table))?;
            start = page.last_evaluated_key;
            items.extend(page.items.unwrap_or_default());
            if start.is_none() || items.len() > limit {
                return Ok(items);
            }
        }
    }
}

/// The `dead_at` that a cursor names.
fn position(Cursor(at): &Cursor) -> Result<&str, Error> {
    let (time, id) = at.split_once('#').ok_or_else(Cursor::invalid)?;
    let hex = id.strip_prefix("dlv_").unwrap_or_default();
    let is_id = hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    if time.parse::<Timestamp>().is_err() || !is_id {
        return Err(Cursor::invalid());
    }
    Ok(at)
}

fn from_item(item: &Item) -> Result<DeadLetter, Error> {
    let subject = match item.text("kind")? {
        "message" => Letter::Message {
            id: item.parse("message")?,
            user: UserId::stored(item.text("user")?.to_owned()),
            room: item.parse("room")?,
        },
        "notification" => Letter::Notification {
            id: item.parse("notification")?,
            topic: Topic::stored(item.text("topic")?.to_owned()),
        },
        _ => return Err(malformed("kind")),
    };
    Ok(DeadLetter {
        subject,
        attempts: item.number("attempts")?,
        last_attempt_at: item.parse("last_attempt_at")?,
        error: item.text_opt("error")?.unwrap_or_default().to_owned(),
    })
}
