//! Tenants' profiles.
//!
//! | partition key | sort key    | attributes                                         |
//! |---------------|-------------|----------------------------------------------------|
//! | `profile`     | `tenant_…`  | `name`, `rate_limit`, `key` (hash), `rotated_key?` (hash), `rotated_at?`, `previous_key?` (hash), `created_at`, `retry_attempts?`, `retry_interval?` (s), `retry_backoff?`, `list_scope?`, `token_cap?` |
//! | `tenant#keys` | `tkey_…`    | `last_used_at`                                     |
//!
//! **Invariant:** `key` names the tenant's current key: it changes in the transaction that writes that key. `rotated_key` is
//! the current key after the last rotation that named the previous one, `previous_key`, which is absent if it was ended.
//! Where `rotated_key` is not `key`, the version before this one has rotated since ([`crate::domain::tenant_key`]).

use aws_sdk_dynamodb::{
    Client,
    types::{
        AttributeValue, Delete, Put, ReturnValue, ReturnValuesOnConditionCheckFailure::AllOld,
        TransactWriteItem, Update, builders::UpdateBuilder,
    },
};

use super::{
    Backoff,
    aws::{fault, settle},
    guards::{Claim, SHOWN},
    item::{Item, NewItem, Read, VERSION, malformed, n, s},
    keys::KeyStore,
    paging::Partition,
    transaction::{self, Outcome},
};
use crate::domain::{
    Error, Page, TenantId, TenantKeyId, Timestamp,
    page::Slice,
    secret::{ApiKey, SecretHash},
    tenant::{
        CapChange, ListScope, RateLimit, RetrySchedule, Tenant, TenantPatch, TokenCap, Waits,
    },
    tenant_key::{LastRotation, TenantKeys},
    text::Name,
};

/// Profiles are few and rarely written: one partition lists them all.
const PROFILE: &str = "profile";
/// A use of a key is noted if none was for so long, in seconds.
const COARSE_SECONDS: i64 = 3_600;

/// The profiles in the `tenants` table.
#[derive(Debug)]
pub struct TenantStore {
    client: Client,
    table: String,
}

/// The change of a tenant's key.
#[derive(Debug)]
pub struct Rotation<'a> {
    /// The new key.
    pub key: &'a ApiKey,
    /// When it begins to hold.
    pub at: Timestamp,
    /// Until when the one before it holds; `None` if it does not.
    pub overlap_ends: Option<Timestamp>,
}

impl TenantStore {
    pub(super) const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Makes `tenant` and its first key, `key`, once per `claim`.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if `claim` was used: the answer showed a secret, and is not shown again.
    pub async fn create(
        &self,
        keys: &KeyStore,
        tenant: &Tenant,
        key: &ApiKey,
        claim: Option<&Claim>,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(to_item(tenant)))
            .condition_expression("attribute_not_exists(pk)")
            .build()
            .map_err(Error::internal)?;
        let mut writes = vec![
            transaction::put(put),
            keys.write(tenant.id, key, tenant.created_at)?,
        ];
        if let Some(claim) = claim {
            writes.push(claim.write(NewItem::new().s("tenant", tenant.id).build())?);
        }
        match transaction::commit(&self.client, &writes, race).await? {
            Outcome::Committed => Ok(()),
            Outcome::Refused(refused) => shown_before(claim, refused.get(2), tenant.id),
        }
    }

    /// One tenant.
    pub async fn get(&self, id: TenantId) -> Result<Option<Tenant>, Error> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", s(PROFILE))
            .key("sk", s(id))
            .consistent_read(true)
            .send()
            .await
            .map_err(fault(&self.table))?;
        found.item.map(|item| from_item(&item)).transpose()
    }

    /// All tenants, oldest first.
    pub async fn list(&self, slice: &Slice) -> Result<Page<Tenant>, Error> {
        let partition = Partition {
            client: &self.client,
            table: &self.table,
            pk: PROFILE.to_owned(),
            begins_with: None,
        };
        partition
            .page::<_, TenantId>(slice, |item| from_item(item).map(Some))
            .await
    }

    /// Changes what `patch` names. `None` if there is no such tenant.
    pub async fn patch(
        &self,
        id: TenantId,
        patch: &TenantPatch,
        race: &mut Backoff,
    ) -> Result<Option<Tenant>, Error> {
        let mut sets = Vec::new();
        let mut update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(PROFILE))
            .key("sk", s(id))
            .condition_expression("attribute_exists(pk)")
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(AllOld);
        if let Some(name) = &patch.name {
            sets.push("#name = :name");
            update = update
                .expression_attribute_names("#name", "name")
                .expression_attribute_values(":name", s(name.as_str()));
        }
        if let Some(rate) = patch.rate_limit {
            sets.push("rate_limit = :rate");
            update = update.expression_attribute_values(":rate", n(rate.per_second()));
        }
        if let Some(attempts) = patch.retry.attempts {
            sets.push("retry_attempts = :attempts");
            update = update.expression_attribute_values(":attempts", n(attempts));
        }
        if let Some(interval) = patch.retry.interval_seconds {
            sets.push("retry_interval = :interval");
            update = update.expression_attribute_values(":interval", n(interval));
        }
        if let Some(backoff) = patch.retry.backoff {
            sets.push("retry_backoff = :backoff");
            update = update.expression_attribute_values(":backoff", s(backoff.name()));
        }
        if let Some(scope) = patch.list_scope {
            sets.push("list_scope = :scope");
            update = update.expression_attribute_values(":scope", s(scope.name()));
        }
        let mut removes = "";
        match patch.token_cap {
            CapChange::To(cap) => {
                sets.push("token_cap = :cap");
                update = update.expression_attribute_values(":cap", n(cap.tokens()));
            }
            CapChange::Lift => removes = " REMOVE token_cap",
            CapChange::Keep => {}
        }
        let set = match sets.as_slice() {
            [] if removes.is_empty() => return self.get(id).await,
            [] => String::new(),
            sets => format!("SET {}", sets.join(", ")),
        };
        let update = update.update_expression(set + removes);
        match settle(race, &self.table, || update.clone().send()).await? {
            Ok(done) => from_item(&done.attributes.unwrap_or_default()).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Makes the key of `rotation` the current one of `tenant`. Of those before it only the last may go on to hold.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if another rotation was faster, or if `claim` was used before.
    pub async fn rotate(
        &self,
        keys: &KeyStore,
        tenant: &Tenant,
        rotation: &Rotation<'_>,
        claim: Option<&Claim>,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let (old, new) = (tenant.keys.current, rotation.key.hash().to_hex());
        let (previous, end) = match rotation.overlap_ends {
            Some(until) => (
                "SET #key = :new, rotated_key = :new, rotated_at = :at, previous_key = :old",
                keys.retire(&old.to_hex(), until)?,
            ),
            None => (
                "SET #key = :new, rotated_key = :new, rotated_at = :at REMOVE previous_key",
                keys.remove(old)?,
            ),
        };
        let update = self
            .while_current(tenant.id, old, previous)
            .expression_attribute_values(":new", s(&new))
            .expression_attribute_values(":at", s(rotation.at))
            .build()
            .map_err(Error::internal)?;
        let mut writes = vec![
            transaction::update(update),
            keys.write(tenant.id, rotation.key, rotation.at)?,
            end,
        ];
        if rotation.overlap_ends.is_none() {
            writes.push(self.forget_use(tenant.id, old)?);
        }
        writes.extend(self.end(keys, tenant)?);
        let marker = writes.len();
        if let Some(claim) = claim {
            writes.push(claim.write(NewItem::new().s("key", &new).build())?);
        }
        let refused = match transaction::commit(&self.client, &writes, race).await? {
            Outcome::Committed => return Ok(()),
            Outcome::Refused(refused) => refused,
        };
        let current = refused
            .first()
            .and_then(Option::as_ref)
            .and_then(|standing| standing.item.as_ref());
        if current.is_some_and(|item| item.get("key") == Some(&s(&new))) {
            // An earlier try of ours landed and its answer was lost: nobody else has this key.
            return Ok(());
        }
        if let (Some(claim), Some(Some(marker))) = (claim, refused.get(marker)) {
            claim.recognise(marker.item.as_ref())?;
            return Err(SHOWN);
        }
        Err(Error::Conflict("The key was rotated meanwhile"))
    }

    /// Ends all keys of `tenant` but its current one, as of `now`. `false` if it was rotated since it was read.
    pub async fn end_replaced(
        &self,
        keys: &KeyStore,
        tenant: &Tenant,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        let only = "SET rotated_key = :old, rotated_at = :at REMOVE previous_key";
        let update = self
            .while_current(tenant.id, tenant.keys.current, only)
            .expression_attribute_values(":at", s(now))
            .build()
            .map_err(Error::internal)?;
        let mut writes = vec![transaction::update(update)];
        writes.extend(self.end(keys, tenant)?);
        match transaction::commit(&self.client, &writes, race).await? {
            // A repetition after a lost answer does the same again.
            Outcome::Committed => Ok(true),
            Outcome::Refused(_) => Ok(false),
        }
    }

    /// When the key that `id` names was last used, to about an hour; `None` if that was not noted.
    pub async fn last_use(
        &self,
        tenant: TenantId,
        id: TenantKeyId,
    ) -> Result<Option<Timestamp>, Error> {
        let noted = Partition {
            client: &self.client,
            table: &self.table,
            pk: uses(tenant),
            begins_with: None,
        };
        match noted.get(id).await? {
            Some(item) => item.time_opt("last_used_at"),
            None => Ok(None),
        }
    }

    /// Notes that a key was used at `now`, unless that was noted within the last hour.
    pub async fn note_use(
        &self,
        tenant: TenantId,
        id: TenantKeyId,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(uses(tenant)))
            .key("sk", s(id))
            .update_expression("SET last_used_at = :now, v = :v")
            .condition_expression(
                "attribute_not_exists(last_used_at) OR last_used_at < :before OR last_used_at > :after",
            )
            .expression_attribute_values(":after", s(now.farthest_end(COARSE_SECONDS)))
            .expression_attribute_values(":now", s(now))
            .expression_attribute_values(":v", n(VERSION))
            .expression_attribute_values(":before", s(now.plus_seconds(-COARSE_SECONDS)))
            .return_values_on_condition_check_failure(AllOld);
        settle(race, &self.table, || update.clone().send())
            .await
            .map(drop)
    }

    /// The update `expression` of a profile whose current key hashes to `current`, which is `:old` in it.
    fn while_current(&self, id: TenantId, current: SecretHash, expression: &str) -> UpdateBuilder {
        Update::builder()
            .table_name(&self.table)
            .key("pk", s(PROFILE))
            .key("sk", s(id))
            .update_expression(expression)
            .condition_expression("#key = :old")
            .expression_attribute_names("#key", "key")
            .expression_attribute_values(":old", s(current.to_hex()))
            .return_values_on_condition_check_failure(AllOld)
    }

    /// The end of the keys of `tenant` that were replaced before, as writes of a transaction.
    fn end(&self, keys: &KeyStore, tenant: &Tenant) -> Result<Vec<TransactWriteItem>, Error> {
        let mut writes = Vec::new();
        for hash in tenant.keys.replaced() {
            writes.push(keys.remove(hash)?);
            writes.push(self.forget_use(tenant.id, hash)?);
        }
        Ok(writes)
    }

    /// The end of what is noted of a key's use, as a write of a transaction.
    fn forget_use(&self, tenant: TenantId, hash: SecretHash) -> Result<TransactWriteItem, Error> {
        Delete::builder()
            .table_name(&self.table)
            .key("pk", s(uses(tenant)))
            .key("sk", s(TenantKeyId::of(hash)))
            .build()
            .map(transaction::delete)
            .map_err(Error::internal)
    }
}

/// The partition of what is noted of the use of a tenant's keys.
fn uses(tenant: TenantId) -> String {
    format!("{tenant}#keys")
}

fn shown_before(
    claim: Option<&Claim>,
    marker: Option<&Option<transaction::Refusal>>,
    ours: TenantId,
) -> Result<(), Error> {
    if let (Some(claim), Some(Some(marker))) = (claim, marker) {
        let first: TenantId = claim
            .recognise(marker.item.as_ref())?
            .outcome
            .parse("tenant")?;
        if first != ours {
            return Err(SHOWN);
        }
    }
    // What is left to refuse is our own tenant, from a try whose answer was lost.
    Ok(())
}

fn to_item(tenant: &Tenant) -> Item {
    NewItem::new()
        .s("pk", PROFILE)
        .s("sk", tenant.id)
        .s("name", tenant.name.as_str())
        .n("rate_limit", tenant.rate_limit.per_second())
        .s("key", tenant.keys.current.to_hex())
        .s("created_at", tenant.created_at)
        .build()
}

fn from_item(item: &Item) -> Result<Tenant, Error> {
    // One that a later version has made shows no more than the narrowest that is known here.
    let scope = item.text_opt("list_scope")?;
    let scope = scope.and_then(|name| ListScope::parse(name).ok());
    Ok(Tenant {
        id: item.parse("sk")?,
        name: Name::stored(item.text("name")?.to_owned()),
        rate_limit: RateLimit::stored(item.number("rate_limit")?),
        retry: retry(item)?,
        list_scope: scope.unwrap_or(ListScope::User),
        token_cap: item.number_opt("token_cap")?.map(TokenCap::stored),
        created_at: item.parse("created_at")?,
        keys: keys(item)?,
    })
}

fn keys(item: &Item) -> Result<TenantKeys, Error> {
    let hash = |name| {
        let hex = item.text_opt(name)?;
        hex.map(|hex| SecretHash::from_hex(hex).ok_or_else(|| malformed(name)))
            .transpose()
    };
    let rotation = match (hash("rotated_key")?, item.time_opt("rotated_at")?) {
        (Some(current), Some(at)) => Some(LastRotation {
            current,
            at,
            previous: hash("previous_key")?,
        }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err(malformed("rotated_key")),
    };
    Ok(TenantKeys {
        current: hash("key")?.ok_or_else(|| malformed("key"))?,
        rotation,
    })
}

/// The partition and sort key of a tenant's profile.
pub(super) fn profile(id: TenantId) -> [(String, AttributeValue); 2] {
    [("pk".to_owned(), s(PROFILE)), ("sk".to_owned(), s(id))]
}

/// What was never changed is not in the profile.
fn retry(item: &Item) -> Result<RetrySchedule, Error> {
    let default = RetrySchedule::DEFAULT;
    let backoff = item.text_opt("retry_backoff")?;
    // Waits that a later version has made are not shorter than they were meant: receivers may count on that.
    let backoff = backoff.map(|name| Waits::parse(name).unwrap_or(Waits::Exponential));
    Ok(RetrySchedule::stored(
        item.number_opt("retry_attempts")?
            .unwrap_or(default.attempts()),
        item.number_opt("retry_interval")?
            .unwrap_or(default.interval_seconds()),
        backoff.unwrap_or(default.backoff()),
    ))
}
