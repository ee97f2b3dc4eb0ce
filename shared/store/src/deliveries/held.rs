//! Which deliveries are held for which paused endpoint, and which endpoints have gone on.
//!
//! | partition key        | `dead_shard`             | `dead_at`            | other attributes             |
//! |----------------------|--------------------------|----------------------|------------------------------|
//! | `tenant#held#ep_…#dlv_…` | `held#tenant#ep_…#0` … `3` | `marked_at#dlv_…`  | `delivery`, `ttl`            |
//! | `tenant#resumed#ep_…`    | `resumed`                  | `until#tenant#ep_…` | `endpoint`, `at`, `ttl`      |
//!
//! **Invariant:** a delivery is marked before its row is held, and an endpoint is noted before it goes on. Whoever holds
//! a delivery reads the endpoints after that, and whoever wakes looks again for as long as the note stands, which is two minutes at
//! least: so one of them sees the other. A mark is removed only by whoever woke its delivery, or found it ended; the version before this
//! one passes over both.

use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure::AllOld;

use super::{DeliveryStore, Row, listing::Onward, there};
use crate::{
    Backoff,
    aws::{fault, settle},
    domain::{
        DeliveryId, EndpointId, Error, TenantId, Timestamp,
        delivery::{Delivery, HELD_SECONDS},
    },
    item::{Item, NewItem, Read, malformed, n, s},
};

/// How many partitions the deliveries that are held for one endpoint are spread over.
pub const HELD_SHARDS: u8 = 4;
/// How long an endpoint is noted as gone on, in seconds: as long as waking a large backlog may take.
const RESUMED_SECONDS: i64 = 3_600;
/// How long after an endpoint went on a delivery may still be held for it by whoever had not heard of that, in seconds:
/// endpoints are remembered for ten seconds, and an attempt takes thirty at most.
const UNHEARD_SECONDS: i64 = 60;
/// How long what has no use any more is kept, in seconds.
const SLACK_SECONDS: i64 = 24 * 3_600;
/// The partition of endpoints that have gone on.
const RESUMED: &str = "resumed";

/// An endpoint that was paused and has gone on, or is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumed {
    /// Whose it is.
    pub tenant: TenantId,
    /// Which.
    pub endpoint: EndpointId,
    /// Since when.
    pub at: Timestamp,
}

impl Resumed {
    /// Whether everybody who may still hold a delivery for it has heard that it went on. A time to come is from before
    /// the clock was set back.
    pub fn is_heard(&self, now: Timestamp) -> bool {
        self.at > now.farthest_end(0) || now > self.at.plus_seconds(2 * UNHEARD_SECONDS)
    }
}

/// The mark of a delivery that is held for an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldMark {
    /// The delivery.
    pub delivery: DeliveryId,
    pk: String,
    dead_at: String,
}

impl DeliveryStore {
    /// Marks a delivery that is about to be held for `endpoint`.
    pub async fn mark_held(
        &self,
        delivery: &Delivery,
        endpoint: &str,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let (tenant, id) = (delivery.tenant, delivery.id);
        let shard = id.shard(HELD_SHARDS);
        let item = NewItem::new()
            .s("pk", format!("{tenant}#held#{endpoint}#{id}"))
            .s("dead_shard", partition(tenant, endpoint, shard))
            .s("dead_at", format!("{now}#{id}"))
            .s("delivery", id)
            .n("ttl", now.seconds() + HELD_SECONDS + SLACK_SECONDS)
            .build();
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .return_values_on_condition_check_failure(AllOld);
        settle(race, &self.table, || put.clone().send())
            .await
            .map(drop)
    }

    /// Marks of deliveries that are held for an endpoint since before it went on, or were until somebody did something
    /// with them, and where to go on: those of one shard, the oldest first, `limit` at most.
    pub async fn held_for(
        &self,
        resumed: &Resumed,
        shard: u8,
        now: Timestamp,
        limit: usize,
        start: Option<Onward>,
    ) -> Result<(Vec<HeldMark>, Option<Onward>), Error> {
        let before = resumed.at.plus_seconds(UNHEARD_SECONDS).to_string();
        // A mark of a time to come is from before the clock was set back.
        let after = now.farthest_end(0).to_string();
        let endpoint = resumed.endpoint.to_string();
        let page = self
            .list(&partition(resumed.tenant, &endpoint, shard), limit)
            .key_condition_expression("dead_shard = :shard")
            .set_exclusive_start_key(start.map(|Onward(key)| key))
            .send()
            .await
            .map_err(fault(&self.table))?;
        let items = page.items.unwrap_or_default();
        let marks = items.iter().map(mark);
        let mut marks = marks.collect::<Result<Vec<_>, _>>()?;
        marks.retain(|mark| mark.dead_at < before || mark.dead_at > after);
        Ok((marks, page.last_evaluated_key.map(Onward)))
    }

    /// Removes a mark, unless its delivery was held anew since it was read.
    pub async fn unmark(&self, mark: &HeldMark, race: &mut Backoff) -> Result<(), Error> {
        let delete = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("pk", s(&mark.pk))
            .condition_expression("dead_at = :seen")
            .expression_attribute_values(":seen", s(&mark.dead_at))
            .return_values_on_condition_check_failure(AllOld);
        settle(race, &self.table, || delete.clone().send())
            .await
            .map(drop)
    }

    /// Notes that an endpoint is about to go on, or to be gone: what is held for it is woken.
    pub async fn resume(&self, resumed: &Resumed, race: &mut Backoff) -> Result<(), Error> {
        let Resumed {
            tenant,
            endpoint,
            at,
        } = resumed;
        let until = at.plus_seconds(RESUMED_SECONDS);
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(format!("{tenant}#resumed#{endpoint}")))
            .update_expression(
                "SET dead_shard = :shard, dead_at = :place, endpoint = :endpoint, #at = :at, \
                 #ttl = :ttl, v = :v",
            )
            .expression_attribute_names("#at", "at")
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":shard", s(RESUMED))
            .expression_attribute_values(":place", s(format!("{until}#{tenant}#{endpoint}")))
            .expression_attribute_values(":endpoint", s(endpoint))
            .expression_attribute_values(":at", s(at))
            .expression_attribute_values(":ttl", n(until.seconds() + SLACK_SECONDS))
            .expression_attribute_values(":v", n(1))
            .return_values_on_condition_check_failure(AllOld);
        settle(race, &self.table, || update.clone().send())
            .await
            .map(drop)
    }

    /// Endpoints that have gone on within the last hour, those first that did so first, and where to go on: `limit` at
    /// most.
    pub async fn resumed(
        &self,
        now: Timestamp,
        limit: usize,
        start: Option<Onward>,
    ) -> Result<(Vec<Resumed>, Option<Onward>), Error> {
        let query = self
            .list(RESUMED, limit)
            .key_condition_expression("dead_shard = :shard AND dead_at > :now")
            .expression_attribute_values(":now", s(now))
            .set_exclusive_start_key(start.map(|Onward(key)| key));
        let page = query.send().await.map_err(fault(&self.table))?;
        let items = page.items.unwrap_or_default().into_iter();
        let resumed = items.map(|item| {
            let tenant = item.text("pk")?.split('#').next().unwrap_or_default();
            Ok(Resumed {
                tenant: tenant.parse().map_err(|_| malformed("pk"))?,
                endpoint: item.parse("endpoint")?,
                at: item.parse("at")?,
            })
        });
        let resumed = resumed.collect::<Result<_, Error>>()?;
        Ok((resumed, page.last_evaluated_key.map(Onward)))
    }

    /// Removes the note of an endpoint that has gone on, unless it did so once more since the note was read.
    pub async fn forget_resumed(&self, resumed: &Resumed, race: &mut Backoff) -> Result<(), Error> {
        let Resumed {
            tenant,
            endpoint,
            at,
        } = resumed;
        let delete = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("pk", s(format!("{tenant}#resumed#{endpoint}")))
            .condition_expression("#at = :seen")
            .expression_attribute_names("#at", "at")
            .expression_attribute_values(":seen", s(at))
            .return_values_on_condition_check_failure(AllOld);
        settle(race, &self.table, || delete.clone().send())
            .await
            .map(drop)
    }

    /// Has a held delivery go on: [`Delivery::woken`]. Its job is sent after that.
    pub async fn wake(
        &self,
        row: Row,
        token: u128,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        let rule = |known| Ok(there(known)?.woken(token, now));
        self.step(Some(row), rule, race).await.map(|(done, _)| done)
    }
}

fn partition(tenant: TenantId, endpoint: &str, shard: u8) -> String {
    format!("held#{tenant}#{endpoint}#{shard}")
}

fn mark(item: &Item) -> Result<HeldMark, Error> {
    Ok(HeldMark {
        delivery: item.parse("delivery")?,
        pk: item.text("pk")?.to_owned(),
        dead_at: item.text("dead_at")?.to_owned(),
    })
}
