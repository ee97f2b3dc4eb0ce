//! Deliveries, one row each.
//!
//! | partition key   | attributes                                                                                                        |
//! |-----------------|-------------------------------------------------------------------------------------------------------------------|
//! | `tenant#dlv_…`  | `writes`, `token` (hex), `what`, `user?`, `event`, `room?`, `topic?`, `state`, `until?`, `ended_at?`, `by?`, `reason?`, `attempts`, `round`, `done?`, `refused?` (reasons by endpoint), `owed?` (1 or 0), `held_since?`, `created_at`, `last_attempt_at?`, `error?`, `error_endpoint?`, `overdue_at`, `content?` (JSON), `subject`, `dead_shard?`, `dead_at?`, `ttl?` |
//!
//! The sparse index `dead` lists what needs somebody. The dead of a tenant are under `tenant#0` … `tenant#3`, by the
//! delivery's id, so that a tenant whose endpoint is down does not heat one partition, with `dead_at` =
//! `last_attempt_at#dlv_…`, so that it is unique. The open ones of all tenants are under `open#0` … `open#63`, with
//! `dead_at` = `overdue_at#dlv_…`. The index `by_subject` lists the deliveries of one message, notification or event:
//! `subject` is `tenant#msg_…` and so on.
//!
//! **Invariant:** a row changes only by a rule of [`Delivery`], from the state that the rule was shown: each write
//! counts `writes` up, if nobody else has.

mod held;
mod listing;
mod row;

pub use self::{
    held::{HELD_SHARDS, HeldMark, Resumed},
    listing::{Filter, OPEN_SHARDS, Place, Purpose},
};

use std::collections::BTreeSet;

use aws_sdk_dynamodb::{Client, types::ReturnValuesOnConditionCheckFailure::AllOld};

use self::row::{change, from_item, key, to_item};
use super::{
    Backoff,
    aws::{fault, settle},
    item::{Item, n, s},
};
use crate::domain::{
    DeliveryId, Error, TenantId, Timestamp,
    delivery::{Attempt, Begun, Delivery, Ended, Failure, Job, Receipt, Step, Telling},
};

/// The `deliveries` table.
#[derive(Debug)]
pub struct DeliveryStore {
    client: Client,
    table: String,
}

/// A delivery as it was read or written.
#[derive(Debug, Clone)]
pub struct Row {
    /// The delivery.
    pub delivery: Delivery,
    /// How often it was written.
    writes: u64,
}

impl DeliveryStore {
    pub(super) const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// One delivery.
    pub async fn get(&self, tenant: TenantId, id: DeliveryId) -> Result<Option<Row>, Error> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", s(key(tenant, id)))
            .consistent_read(true)
            .send()
            .await
            .map_err(fault(&self.table))?;
        found.item.map(from_item).transpose()
    }

    /// Begins an attempt, if `job` is due: [`Delivery::begin`]. With the row as it is by then, which is `known` unless
    /// somebody wrote meanwhile. One write.
    pub async fn begin(
        &self,
        known: Option<Row>,
        job: &Job,
        telling: Telling<'_>,
        receipt: Receipt,
        attempt: Attempt,
        race: &mut Backoff,
    ) -> Result<(Begun, Row), Error> {
        let rule = |known| Ok(Delivery::begin(known, job, telling, receipt, attempt));
        self.step(known, rule, race).await
    }

    /// Notes that `took` took the delivery of `row`: [`Delivery::delivered`].
    pub async fn delivered(
        &self,
        row: Row,
        took: &BTreeSet<String>,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let rule = |known| Ok(there(known)?.delivered(took, now));
        self.step(Some(row), rule, race).await.map(|((), _)| ())
    }

    /// Notes that `attempt` at the delivery of `row` failed: [`Delivery::failed`]. With the row as it is by then.
    pub async fn failed(
        &self,
        row: Row,
        failure: &Failure,
        attempt: Attempt,
        race: &mut Backoff,
    ) -> Result<(Ended, Row), Error> {
        let rule = |known| Ok(there(known)?.failed(failure, attempt));
        self.step(Some(row), rule, race).await
    }

    /// Notes that `attempt` at the delivery of `row` came to nothing: [`Delivery::unmade`].
    pub async fn unmade(
        &self,
        row: Row,
        failure: &Failure,
        attempt: Attempt,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let rule = |known| Ok(there(known)?.unmade(failure, attempt));
        self.step(Some(row), rule, race).await.map(|((), _)| ())
    }

    /// Gives a dead delivery a fresh set of attempts: [`Delivery::redriven`]. Its job is sent after that.
    pub async fn redrive(
        &self,
        row: Row,
        token: u128,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        let rule = |known| Ok(there(known)?.redriven(token, now));
        self.step(Some(row), rule, race).await.map(|(done, _)| done)
    }

    /// Gives a dead delivery up: [`Delivery::discarded`].
    pub async fn discard(
        &self,
        row: Row,
        by: &str,
        reason: &str,
        token: u128,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        let rule = |known| Ok(there(known)?.discarded(by, reason, token, now));
        self.step(Some(row), rule, race).await.map(|(done, _)| done)
    }

    /// Notes that an overdue delivery has a job again: [`Delivery::requeued`].
    pub async fn requeued(
        &self,
        row: Row,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let rule = |known| Ok(there(known)?.requeued(now));
        self.step(Some(row), rule, race).await.map(|((), _)| ())
    }

    /// Writes what `rule` makes of a row, which is `known` unless somebody wrote meanwhile.
    ///
    /// Where another's write, or our own whose answer was lost, is in the way, `rule` is asked again about the row
    /// that stands there. So it must recognise its own work.
    async fn step<T>(
        &self,
        mut known: Option<Row>,
        rule: impl Fn(Option<Delivery>) -> Result<Step<T>, Error>,
        race: &mut Backoff,
    ) -> Result<(T, Row), Error> {
        loop {
            let (next, answer) = match (
                rule(known.as_ref().map(|row| row.delivery.clone()))?,
                known.take(),
            ) {
                (Step::Stay(answer), Some(row)) => return Ok((answer, row)),
                (Step::Stay(_), None) => return Err(Error::NotFound("Delivery")),
                (Step::Write(next, answer), seen) => {
                    known = seen;
                    (next, answer)
                }
            };
            let row = Row {
                delivery: *next,
                writes: known.as_ref().map_or(0, |row| row.writes) + 1,
            };
            let written = match &known {
                None => self.insert(&row, race).await?,
                Some(known) => self.update(known, &row, race).await?,
            };
            match written {
                Ok(()) => return Ok((answer, row)),
                Err(standing) => {
                    known = standing.map(from_item).transpose()?;
                    race.pause().await?;
                }
            }
        }
    }
}

impl DeliveryStore {
    /// Writes a row where there is none; or else gives the one that is there.
    async fn insert(
        &self,
        row: &Row,
        race: &mut Backoff,
    ) -> Result<Result<(), Option<Item>>, Error> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(to_item(row)))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(AllOld);
        let put = settle(race, &self.table, || put.clone().send()).await?;
        Ok(put.map(drop))
    }

    /// Makes `next` of `known`, attribute by attribute, if nobody has written it meanwhile; or else gives the row that is
    /// there.
    async fn update(
        &self,
        known: &Row,
        next: &Row,
        race: &mut Backoff,
    ) -> Result<Result<(), Option<Item>>, Error> {
        let Delivery { id, tenant, .. } = known.delivery;
        let change = change(known, next);
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(key(tenant, id)))
            .update_expression(change.expression)
            .set_expression_attribute_names(Some(change.names))
            .set_expression_attribute_values(Some(change.values))
            .condition_expression("#writes = :seen")
            .expression_attribute_values(":seen", n(known.writes))
            .return_values_on_condition_check_failure(AllOld);
        let update = settle(race, &self.table, || update.clone().send()).await?;
        Ok(update.map(drop))
    }
}

/// The row of a delivery that was there.
fn there(known: Option<Delivery>) -> Result<Delivery, Error> {
    // Expired meanwhile, or removed by hand.
    known.ok_or(Error::NotFound("Delivery"))
}
