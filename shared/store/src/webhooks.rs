//! Webhook endpoints, in the `tenants` table.
//!
//! | partition key     | sort key | attributes                                                                      |
//! |-------------------|----------|---------------------------------------------------------------------------------|
//! | `tenant#webhooks` | `ep_…`   | `url`, `description`, `events?`, `status`, `paused_at?`, `paused_reason?`, `failing_since?`, `overdue_since?`, `secret`, `previous?`, `previous_until?`, `created_at` |
//! | `tenant#webhooks` | `count`  | `endpoints`                                                                     |
//!
//! **Invariant:** `endpoints` is the number of the tenant's endpoints: it changes in the transaction that makes or
//! removes one, on the condition that it stays at most [`MAX_ENDPOINTS`]. So however many are made at once, there
//! are never more. At most two secrets are live, both sealed.

use aws_sdk_dynamodb::{
    Client,
    types::{
        Delete, Put, ReturnValue, ReturnValuesOnConditionCheckFailure::AllOld, TransactWriteItem,
        Update, builders::UpdateBuilder,
    },
};

use super::{
    Backoff,
    aws::settle,
    events::EventStore,
    guards::{Claim, SHOWN},
    item::{Item, NewItem, Read, malformed, n, s},
    paging::Partition,
    transaction::{self, Outcome},
};
use crate::domain::{
    EndpointId, Error, Page, TenantId, Timestamp,
    event::Event,
    page::Slice,
    webhook::{
        BY_REQUEST, Description, Endpoint, EndpointPatch, EndpointUrl, EventTypes, MAX_ENDPOINTS,
        Sealed, Status,
    },
};

/// The sort key of the number of endpoints.
const COUNT: &str = "count";
/// What the sort key of an endpoint begins with.
const ENDPOINT: &str = "ep_";
const ACTIVE: &str = "active";
const PAUSED: &str = "paused";
const TOO_MANY: Error = Error::Conflict("A tenant has at most 10 webhook endpoints");

/// The endpoints in the `tenants` table.
#[derive(Debug)]
pub struct WebhookStore {
    client: Client,
    table: String,
    events: EventStore,
}

/// The change of an endpoint's secret.
#[derive(Debug)]
pub struct SecretRotation {
    /// The new one.
    pub secret: Sealed,
    /// Until when the one before it holds; `None` if it does not.
    pub overlap_ends: Option<Timestamp>,
}

/// The condition on which an endpoint is paused that is active still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseIf {
    /// It has failed since then without a success.
    FailingSince(Timestamp),
    /// Its address is the one that was told.
    Unmoved,
}

impl WebhookStore {
    pub(super) const fn new(client: Client, table: String, events: EventStore) -> Self {
        Self {
            client,
            table,
            events,
        }
    }

    /// Makes `endpoint`, once per `claim`.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the tenant has [`MAX_ENDPOINTS`], or if `claim` was used: the answer showed a
    /// secret, and is not shown again.
    pub async fn create(
        &self,
        endpoint: &Endpoint,
        claim: Option<&Claim>,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(to_item(endpoint)))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .map_err(Error::internal)?;
        let count = self
            .update(endpoint.tenant, COUNT)
            .update_expression("SET endpoints = if_not_exists(endpoints, :none) + :one, v = :one")
            .condition_expression("attribute_not_exists(endpoints) OR endpoints < :most")
            .expression_attribute_values(":none", n(0))
            .expression_attribute_values(":one", n(1))
            .expression_attribute_values(":most", n(MAX_ENDPOINTS));
        let mut writes = vec![transaction::put(put), built(count)?];
        if let Some(claim) = claim {
            writes.push(claim.write(NewItem::new().s("id", endpoint.id).build())?);
        }
        let refused = match transaction::commit(&self.client, &writes, race).await? {
            Outcome::Committed => return Ok(()),
            Outcome::Refused(refused) => refused,
        };
        if let Some(Some(_)) = refused.first() {
            // An earlier try of ours landed and its answer was lost: nobody else has this id.
            return Ok(());
        }
        if let (Some(claim), Some(Some(marker))) = (claim, refused.get(2)) {
            claim.recognise(marker.item.as_ref())?;
            return Err(SHOWN);
        }
        Err(TOO_MANY)
    }

    /// One endpoint of `tenant`.
    pub async fn get(&self, tenant: TenantId, id: EndpointId) -> Result<Option<Endpoint>, Error> {
        let found = self.of(tenant).get(id).await?;
        found.map(|item| from_item(tenant, &item)).transpose()
    }

    /// Those of `slice`, oldest first.
    pub async fn list(&self, tenant: TenantId, slice: &Slice) -> Result<Page<Endpoint>, Error> {
        let read = |item: &Item| from_item(tenant, item);
        self.of(tenant)
            .page::<_, EndpointId>(slice, |item| read(item).map(Some))
            .await
    }

    /// All endpoints of `tenant`, oldest first. One query.
    pub async fn all(&self, tenant: TenantId) -> Result<Vec<Endpoint>, Error> {
        let all = Slice::first(MAX_ENDPOINTS as usize);
        Ok(self.list(tenant, &all).await?.items)
    }

    /// What a tenant has.
    fn of(&self, tenant: TenantId) -> Partition<'_> {
        Partition {
            client: &self.client,
            table: &self.table,
            pk: partition(tenant),
            begins_with: Some(ENDPOINT),
        }
    }

    /// Changes what `patch` names. `None` if there is no such endpoint.
    pub async fn patch(
        &self,
        tenant: TenantId,
        id: EndpointId,
        patch: &EndpointPatch,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Result<Option<Endpoint>, Error> {
        let mut sets = Vec::new();
        let mut removes = Vec::new();
        let mut update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(partition(tenant)))
            .key("sk", s(id))
            .condition_expression("attribute_exists(pk)")
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(AllOld);
        if let Some(url) = &patch.url {
            sets.push("#url = :url");
            removes.push("failing_since");
            update = update
                .expression_attribute_names("#url", "url")
                .expression_attribute_values(":url", s(url.as_str()));
        }
        if let Some(events) = &patch.events {
            update = update.expression_attribute_names("#events", "events");
            let mut listed = NewItem::new().list("events", names(events)).build();
            if let Some(list) = listed.remove("events") {
                sets.push("#events = :events");
                update = update.expression_attribute_values(":events", list);
            } else {
                removes.push("#events");
            }
        }
        if let Some(description) = &patch.description {
            sets.push("#description = :description");
            update = update
                .expression_attribute_names("#description", "description")
                .expression_attribute_values(":description", s(description.as_str()));
        }
        if let Some(active) = patch.active {
            sets.push("#status = :status");
            update = update
                .expression_attribute_names("#status", "status")
                .expression_attribute_values(":status", s(if active { ACTIVE } else { PAUSED }));
            if active {
                removes.extend(["paused_at", "paused_reason", "failing_since"]);
            } else {
                // One that is paused already stays so since then, and for that reason.
                sets.push("paused_at = if_not_exists(paused_at, :now)");
                sets.push("paused_reason = if_not_exists(paused_reason, :reason)");
                update = update
                    .expression_attribute_values(":now", s(now))
                    .expression_attribute_values(":reason", s(BY_REQUEST));
            }
        }
        removes.sort_unstable();
        removes.dedup();
        if sets.is_empty() && removes.is_empty() {
            return self.get(tenant, id).await;
        }
        let clause = |word: &str, parts: &[&str]| match parts {
            [] => String::new(),
            parts => format!("{word} {} ", parts.join(", ")),
        };
        let update = update.update_expression(clause("SET", &sets) + &clause("REMOVE", &removes));
        match settle(race, &self.table, || update.clone().send()).await? {
            Ok(done) => from_item(tenant, &done.attributes.unwrap_or_default()).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Makes the secret of `rotation` the newest of `endpoint`. Of those before it only the last stays.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if another rotation was faster, or if `claim` was used before.
    pub async fn rotate(
        &self,
        endpoint: &Endpoint,
        rotation: &SecretRotation,
        claim: Option<&Claim>,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let SecretRotation {
            secret,
            overlap_ends,
        } = rotation;
        let update = self
            .update(endpoint.tenant, &endpoint.id.to_string())
            .condition_expression("#secret = :old")
            .expression_attribute_names("#secret", "secret")
            .expression_attribute_values(":new", s(&secret.0))
            .expression_attribute_values(":old", s(&endpoint.secret.0));
        let update = match overlap_ends {
            Some(until) => update
                .update_expression("SET #secret = :new, previous = :old, previous_until = :until")
                .expression_attribute_values(":until", s(until)),
            None => update.update_expression("SET #secret = :new REMOVE previous, previous_until"),
        };
        let mut writes = vec![built(update)?];
        if let Some(claim) = claim {
            writes.push(claim.write(NewItem::new().s("id", endpoint.id).build())?);
        }
        let refused = match transaction::commit(&self.client, &writes, race).await? {
            Outcome::Committed => return Ok(()),
            Outcome::Refused(refused) => refused,
        };
        let standing = refused.first().and_then(Option::as_ref);
        let item = standing.and_then(|standing| standing.item.as_ref());
        if item.is_some_and(|item| item.get("secret") == Some(&s(&secret.0))) {
            // An earlier try of ours landed and its answer was lost: nobody else has sealed this.
            return Ok(());
        }
        if let (Some(claim), Some(Some(marker))) = (claim, refused.get(1)) {
            claim.recognise(marker.item.as_ref())?;
            return Err(SHOWN);
        }
        Err(Error::Conflict("The secret was rotated meanwhile"))
    }

    /// Puts `sealed` in the place of the newest secret of `endpoint`, which it is too. Nothing, if that was rotated.
    pub async fn reseal(
        &self,
        endpoint: &Endpoint,
        sealed: &Sealed,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(partition(endpoint.tenant)))
            .key("sk", s(endpoint.id))
            .update_expression("SET #secret = :new")
            .condition_expression("#secret = :old")
            .expression_attribute_names("#secret", "secret")
            .expression_attribute_values(":new", s(&sealed.0))
            .expression_attribute_values(":old", s(&endpoint.secret.0))
            .return_values_on_condition_check_failure(AllOld);
        settle(race, &self.table, || update.clone().send())
            .await
            .map(drop)
    }

    /// Removes an endpoint. `false` if it is not there.
    pub async fn delete(
        &self,
        tenant: TenantId,
        id: EndpointId,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        // A repetition after a lost answer cannot tell its own effect from an endpoint that never was.
        if self.get(tenant, id).await?.is_none() {
            return Ok(false);
        }
        let delete = Delete::builder()
            .table_name(&self.table)
            .key("pk", s(partition(tenant)))
            .key("sk", s(id))
            .condition_expression("attribute_exists(pk)")
            .build()
            .map_err(Error::internal)?;
        let count = self
            .update(tenant, COUNT)
            .update_expression("SET endpoints = endpoints - :one")
            .expression_attribute_values(":one", n(1));
        let writes = [transaction::delete(delete), built(count)?];
        match transaction::commit(&self.client, &writes, race).await? {
            // Refused: it was there, and somebody has removed it since, perhaps we.
            Outcome::Committed | Outcome::Refused(_) => Ok(true),
        }
    }

    /// Notes that an endpoint fails since `now`, unless it is noted to fail already. Since when it fails;
    /// `None` if it is not there.
    pub async fn begin_failing(
        &self,
        endpoint: &Endpoint,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Result<Option<Timestamp>, Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(partition(endpoint.tenant)))
            .key("sk", s(endpoint.id))
            .update_expression("SET failing_since = :now")
            .condition_expression("attribute_exists(pk) AND attribute_not_exists(failing_since)")
            .expression_attribute_values(":now", s(now))
            .return_values_on_condition_check_failure(AllOld);
        match settle(race, &self.table, || update.clone().send()).await? {
            Ok(_) => Ok(Some(now)),
            Err(Some(standing)) => standing.time_opt("failing_since"),
            Err(None) => Ok(None),
        }
    }

    /// Notes that an endpoint fails since `now`, where it is noted to fail since `later`, a time to come.
    pub async fn begin_failing_anew(
        &self,
        endpoint: &Endpoint,
        later: Timestamp,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(partition(endpoint.tenant)))
            .key("sk", s(endpoint.id))
            .update_expression("SET failing_since = :now")
            .condition_expression("failing_since = :later")
            .expression_attribute_values(":now", s(now))
            .expression_attribute_values(":later", s(later))
            .return_values_on_condition_check_failure(AllOld);
        // Refused: somebody else has noted it, or the endpoint works or is gone.
        settle(race, &self.table, || update.clone().send())
            .await
            .map(drop)
    }

    /// Notes that at `now` an endpoint has failed for too long since `since`, unless that is noted. Since when that is
    /// so; `None` if it no longer fails since then.
    pub async fn begin_overdue(
        &self,
        endpoint: &Endpoint,
        since: Timestamp,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Result<Option<Timestamp>, Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(partition(endpoint.tenant)))
            .key("sk", s(endpoint.id))
            .update_expression("SET overdue_since = :now")
            .condition_expression(
                // One from before it worked again says nothing, nor does one to come.
                "failing_since = :since AND (attribute_not_exists(overdue_since) OR overdue_since < :since OR overdue_since > :farthest)",
            )
            .expression_attribute_values(":now", s(now))
            .expression_attribute_values(":since", s(since))
            .expression_attribute_values(":farthest", s(now.farthest_end(0)))
            .return_values_on_condition_check_failure(AllOld);
        match settle(race, &self.table, || update.clone().send()).await? {
            Ok(_) => Ok(Some(now)),
            Err(Some(standing)) if standing.time_opt("failing_since")? == Some(since) => {
                standing.time_opt("overdue_since")
            }
            Err(_) => Ok(None),
        }
    }

    /// Notes that an endpoint works.
    pub async fn end_failing(&self, endpoint: &Endpoint, race: &mut Backoff) -> Result<(), Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(partition(endpoint.tenant)))
            .key("sk", s(endpoint.id))
            .update_expression("REMOVE failing_since")
            .condition_expression("attribute_exists(failing_since)")
            .return_values_on_condition_check_failure(AllOld);
        // Refused: it is noted already, perhaps by us.
        settle(race, &self.table, || update.clone().send())
            .await
            .map(drop)
    }

    /// Pauses an active endpoint for `reason`, if `condition` holds still, and tells of it by `event`. `false` if it is
    /// no longer so.
    pub async fn pause(
        &self,
        endpoint: &Endpoint,
        condition: PauseIf,
        reason: &str,
        event: &Event,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        let update = self
            .update(endpoint.tenant, &endpoint.id.to_string())
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":active", s(ACTIVE))
            .expression_attribute_values(":paused", s(PAUSED))
            .expression_attribute_values(":now", s(event.at))
            .expression_attribute_values(":reason", s(reason));
        let update = match condition {
            PauseIf::FailingSince(since) => update
                .update_expression(
                    "SET #status = :paused, paused_at = :now, paused_reason = :reason",
                )
                .condition_expression("#status = :active AND failing_since = :since")
                .expression_attribute_values(":since", s(since)),
            PauseIf::Unmoved => update
                .update_expression(
                    "SET #status = :paused, paused_at = :now, paused_reason = :reason, \
                     failing_since = if_not_exists(failing_since, :now)",
                )
                .condition_expression("#status = :active AND #url = :url")
                .expression_attribute_names("#url", "url")
                .expression_attribute_values(":url", s(endpoint.url.as_str())),
        };
        let writes = [built(update)?, self.events.write(endpoint.tenant, event)?];
        match transaction::commit(&self.client, &writes, race).await? {
            Outcome::Committed => Ok(true),
            // Also by a try of ours whose answer was lost: then the event is there.
            Outcome::Refused(refused) => Ok(refused.get(1).is_some_and(Option::is_some)),
        }
    }

    fn update(&self, tenant: TenantId, sk: &str) -> UpdateBuilder {
        Update::builder()
            .table_name(&self.table)
            .key("pk", s(partition(tenant)))
            .key("sk", s(sk))
            .return_values_on_condition_check_failure(AllOld)
    }
}

fn built(update: UpdateBuilder) -> Result<TransactWriteItem, Error> {
    update
        .build()
        .map(transaction::update)
        .map_err(Error::internal)
}

fn partition(tenant: TenantId) -> String {
    format!("{tenant}#webhooks")
}

fn names(events: &EventTypes) -> impl Iterator<Item = String> {
    events.named().map(|event| event.to_string())
}

fn to_item(endpoint: &Endpoint) -> Item {
    let item = NewItem::new()
        .s("pk", partition(endpoint.tenant))
        .s("sk", endpoint.id)
        .s("url", endpoint.url.as_str())
        .s("description", endpoint.description.as_str())
        .list("events", names(&endpoint.events))
        .s("secret", &endpoint.secret.0)
        .s("created_at", endpoint.created_at)
        .s_opt("failing_since", endpoint.failing_since);
    let item = match &endpoint.previous {
        Some((sealed, until)) => item.s("previous", &sealed.0).s("previous_until", until),
        None => item,
    };
    match &endpoint.status {
        Status::Active => item.s("status", ACTIVE),
        Status::Paused { reason, at } => item
            .s("status", PAUSED)
            .s("paused_at", at)
            .s("paused_reason", reason),
    }
    .build()
}

fn from_item(tenant: TenantId, item: &Item) -> Result<Endpoint, Error> {
    let url = EndpointUrl::stored(item.text("url")?.to_owned());
    let previous = item.text_opt("previous")?.map(ToOwned::to_owned);
    Ok(Endpoint {
        id: item.parse("sk")?,
        tenant,
        url: url.ok_or_else(|| malformed("url"))?,
        description: Description::stored(item.text("description")?.to_owned()),
        events: EventTypes::stored(&item.texts("events")?),
        status: match item.text("status")? {
            ACTIVE => Status::Active,
            PAUSED => Status::Paused {
                reason: item.text("paused_reason")?.to_owned(),
                at: item.parse("paused_at")?,
            },
            // What a later version calls neither is not told: what it is owed waits, as for one that is paused.
            other => Status::Paused {
                reason: other.to_owned(),
                at: item
                    .time_opt("paused_at")?
                    .unwrap_or(item.parse("created_at")?),
            },
        },
        failing_since: item.time_opt("failing_since")?,
        created_at: item.parse("created_at")?,
        secret: Sealed(item.text("secret")?.to_owned()),
        previous: match (previous, item.time_opt("previous_until")?) {
            (Some(sealed), Some(until)) => Some((Sealed(sealed), until)),
            (None, _) => None,
            (Some(_), None) => return Err(malformed("previous_until")),
        },
    })
}
