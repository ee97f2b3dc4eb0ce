//! A team's keys as their keepers see them, in the `tenants` table. What each text opens is in [`super::keys`].
//!
//! | partition key     | sort key | attributes                                                                      |
//! |-------------------|----------|---------------------------------------------------------------------------------|
//! | `tenant#api_keys` | `key_…`  | `name`, `kind`, `origins?`, `user?`, `last4`, `hash` (hex), `created_at`, `expires_at?`, `last_used_at?`, `previous?` (hash in hex), `previous_until?` |
//! | `tenant#api_keys` | `count`  | `keys`                                                                          |
//!
//! **Invariant:** a key has at most two texts that hold, `hash` and `previous`: both tables change in one transaction, on
//! the condition that `hash` is what was read. `keys` is the number of the tenant's keys: it changes in the transaction that
//! makes or removes one, and stays at most [`MAX_KEYS`], so however many are made at once, there are never more.

use aws_sdk_dynamodb::{
    Client,
    types::{
        ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure::AllOld,
        TransactWriteItem, Update, builders::UpdateBuilder,
    },
};

use super::{
    Backoff,
    aws::settle,
    guards::{Claim, SHOWN},
    item::{Item, NewItem, Read, malformed, n, s},
    keys::{KeyStore, opens, with_opens},
    paging::Partition,
    tenants::profile,
    transaction::{self, Check, Outcome},
};
use crate::domain::{
    ApiKeyId, Error, Page, TenantId, Timestamp,
    api_key::{Key, KeyText, MAX_KEYS, Previous},
    page::Slice,
    secret::SecretHash,
    text::Name,
};

/// The sort key of the number of keys.
const COUNT: &str = "count";
/// What the sort key of a key begins with.
const KEY: &str = "key_";
/// A use is noted if none was for so long, in seconds.
const COARSE_SECONDS: i64 = 3_600;

/// The keys in the `tenants` table.
#[derive(Debug)]
pub struct ApiKeyStore {
    client: Client,
    table: String,
}

/// What became of making a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Making {
    /// It is there.
    Made,
    /// The tenant has [`MAX_KEYS`].
    Full,
}

/// The change of a key's text.
#[derive(Debug)]
pub struct TextRotation<'a> {
    /// The new one.
    pub text: &'a KeyText,
    /// When it begins to hold.
    pub at: Timestamp,
    /// Until when the one before it holds; `None` if it does not.
    pub overlap_ends: Option<Timestamp>,
}

impl ApiKeyStore {
    pub(super) const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Makes `key`, once per `claim`.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such tenant; [`Error::Conflict`] if `claim` was used: the answer showed a
    /// secret, and is not shown again.
    pub async fn create(
        &self,
        keys: &KeyStore,
        key: &Key,
        claim: Option<&Claim>,
        race: &mut Backoff,
    ) -> Result<Making, Error> {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(to_item(key)))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .map_err(Error::internal)?;
        let count = self
            .update(key.tenant, COUNT)
            .update_expression("SET #keys = if_not_exists(#keys, :none) + :one, v = :one")
            .condition_expression("attribute_not_exists(#keys) OR #keys < :most")
            .expression_attribute_names("#keys", "keys")
            .expression_attribute_values(":none", n(0))
            .expression_attribute_values(":one", n(1))
            .expression_attribute_values(":most", n(MAX_KEYS));
        let mut writes = vec![
            transaction::put(put),
            self.is_tenant(key.tenant)?,
            built(count)?,
            keys.write_team(key, key.created_at)?,
        ];
        if let Some(claim) = claim {
            writes.push(claim.write(NewItem::new().s("id", key.id).build())?);
        }
        let refused = match transaction::commit(&self.client, &writes, race).await? {
            Outcome::Committed => return Ok(Making::Made),
            Outcome::Refused(refused) => refused,
        };
        if let Some(Some(_)) = refused.first() {
            // An earlier try of ours landed and its answer was lost: nobody else has this id.
            return Ok(Making::Made);
        }
        if let (Some(claim), Some(Some(marker))) = (claim, refused.get(4)) {
            claim.recognise(marker.item.as_ref())?;
            return Err(SHOWN);
        }
        if let Some(Some(_)) = refused.get(1) {
            return Err(Error::NotFound("Tenant"));
        }
        Ok(Making::Full)
    }

    /// One key of `tenant`.
    pub async fn get(&self, tenant: TenantId, id: ApiKeyId) -> Result<Option<Key>, Error> {
        let found = self.of(tenant).get(id).await?;
        found.map(|item| from_item(tenant, &item)).transpose()
    }

    /// Those of `slice`, oldest first.
    pub async fn list(&self, tenant: TenantId, slice: &Slice) -> Result<Page<Key>, Error> {
        let read = |item: &Item| from_item(tenant, item);
        self.of(tenant)
            .page::<_, ApiKeyId>(slice, |item| read(item).map(Some))
            .await
    }

    /// All keys of `tenant`, oldest first. One query.
    pub async fn all(&self, tenant: TenantId) -> Result<Vec<Key>, Error> {
        let all = Slice::first(MAX_KEYS as usize);
        Ok(self.list(tenant, &all).await?.items)
    }

    /// What a tenant has.
    fn of(&self, tenant: TenantId) -> Partition<'_> {
        Partition {
            client: &self.client,
            table: &self.table,
            pk: partition(tenant),
            begins_with: Some(KEY),
        }
    }

    /// Makes the text of `rotation` the newest of `key`. Of those before it only the last may go on to hold.
    /// The key as it is then.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the key was rotated or removed meanwhile, or if `claim` was used before.
    pub async fn rotate(
        &self,
        keys: &KeyStore,
        key: &Key,
        rotation: &TextRotation<'_>,
        claim: Option<&Claim>,
        race: &mut Backoff,
    ) -> Result<Key, Error> {
        let old = key.hash.to_hex();
        let next = Key {
            hash: rotation.text.hash(),
            last4: rotation.text.last4().to_owned(),
            previous: rotation.overlap_ends.map(|expires_at| Previous {
                hash: key.hash,
                expires_at,
            }),
            ..key.clone()
        };
        let update = self
            .update(key.tenant, &key.id.to_string())
            .condition_expression("#hash = :old")
            .expression_attribute_names("#hash", "hash")
            .expression_attribute_values(":new", s(next.hash.to_hex()))
            .expression_attribute_values(":old", s(&old))
            .expression_attribute_values(":last4", s(&next.last4));
        let (update, end) = match rotation.overlap_ends {
            Some(until) => (
                update
                    .update_expression(
                        "SET #hash = :new, last4 = :last4, previous = :old, previous_until = :until",
                    )
                    .expression_attribute_values(":until", s(until)),
                keys.retire(&old, until)?,
            ),
            None => (
                update.update_expression(
                    "SET #hash = :new, last4 = :last4 REMOVE previous, previous_until",
                ),
                keys.remove(key.hash)?,
            ),
        };
        let mut writes = vec![built(update)?, keys.write_team(&next, rotation.at)?, end];
        if let Some(previous) = &key.previous {
            writes.push(keys.remove(previous.hash)?);
        }
        let marker = writes.len();
        if let Some(claim) = claim {
            writes.push(claim.write(NewItem::new().s("id", key.id).build())?);
        }
        let refused = match transaction::commit(&self.client, &writes, race).await? {
            Outcome::Committed => return Ok(next),
            Outcome::Refused(refused) => refused,
        };
        let standing = refused.first().and_then(Option::as_ref);
        let item = standing.and_then(|standing| standing.item.as_ref());
        if item.is_some_and(|item| item.get("hash") == Some(&s(next.hash.to_hex()))) {
            // An earlier try of ours landed and its answer was lost: nobody else has this text.
            return Ok(next);
        }
        if let (Some(claim), Some(Some(marker))) = (claim, refused.get(marker)) {
            claim.recognise(marker.item.as_ref())?;
            return Err(SHOWN);
        }
        Err(Error::Conflict("The key was rotated or revoked meanwhile"))
    }

    /// Removes a key with all its texts. `false` if it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if rotations kept being faster until the deadline of `race`.
    pub async fn delete(
        &self,
        keys: &KeyStore,
        tenant: TenantId,
        id: ApiKeyId,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        let Some(mut key) = self.get(tenant, id).await? else {
            return Ok(false);
        };
        loop {
            if self.delete_as_read(keys, &key, race).await? {
                return Ok(true);
            }
            race.pause().await?;
            match self.get(tenant, id).await? {
                // It was there, and somebody has removed it since, perhaps we.
                None => return Ok(true),
                Some(rotated) => key = rotated,
            }
        }
    }

    /// Removes `key` unless it has changed since it was read.
    pub async fn delete_as_read(
        &self,
        keys: &KeyStore,
        key: &Key,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        let delete = Delete::builder()
            .table_name(&self.table)
            .key("pk", s(partition(key.tenant)))
            .key("sk", s(key.id))
            .condition_expression("#hash = :hash")
            .expression_attribute_names("#hash", "hash")
            .expression_attribute_values(":hash", s(key.hash.to_hex()))
            .build()
            .map_err(Error::internal)?;
        let count = self
            .update(key.tenant, COUNT)
            .update_expression("SET #keys = #keys - :one")
            .expression_attribute_names("#keys", "keys")
            .expression_attribute_values(":one", n(1));
        let mut writes = vec![
            transaction::delete(delete),
            built(count)?,
            keys.remove(key.hash)?,
        ];
        if let Some(previous) = &key.previous {
            writes.push(keys.remove(previous.hash)?);
        }
        match transaction::commit(&self.client, &writes, race).await? {
            Outcome::Committed => Ok(true),
            Outcome::Refused(_) => Ok(false),
        }
    }

    /// Notes that a key was used at `now`, unless that was noted within the last hour, or the key is gone.
    pub async fn note_use(
        &self,
        tenant: TenantId,
        id: ApiKeyId,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(partition(tenant)))
            .key("sk", s(id))
            .update_expression("SET last_used_at = :now")
            .condition_expression(
                "attribute_exists(pk) AND (attribute_not_exists(last_used_at) OR last_used_at < :before OR last_used_at > :after)",
            )
            .expression_attribute_values(":now", s(now))
            .expression_attribute_values(":before", s(now.plus_seconds(-COARSE_SECONDS)))
            .expression_attribute_values(":after", s(now.farthest_end(COARSE_SECONDS)))
            .return_values_on_condition_check_failure(AllOld);
        settle(race, &self.table, || update.clone().send())
            .await
            .map(drop)
    }

    fn update(&self, tenant: TenantId, sk: &str) -> UpdateBuilder {
        Update::builder()
            .table_name(&self.table)
            .key("pk", s(partition(tenant)))
            .key("sk", s(sk))
            .return_values_on_condition_check_failure(AllOld)
    }

    /// That there is such a tenant.
    fn is_tenant(&self, tenant: TenantId) -> Result<TransactWriteItem, Error> {
        let check = ConditionCheck::builder()
            .table_name(&self.table)
            .set_key(Some(profile(tenant).into()))
            .condition_expression("attribute_exists(pk)")
            .build()
            .map_err(Error::internal)?;
        Ok(Check::new(check).write())
    }
}

fn built(update: UpdateBuilder) -> Result<TransactWriteItem, Error> {
    update
        .build()
        .map(transaction::update)
        .map_err(Error::internal)
}

fn partition(tenant: TenantId) -> String {
    format!("{tenant}#api_keys")
}

fn to_item(key: &Key) -> Item {
    let item = NewItem::new()
        .s("pk", partition(key.tenant))
        .s("sk", key.id)
        .s("name", key.name.as_str())
        .s("last4", &key.last4)
        .s("hash", key.hash.to_hex())
        .s("created_at", key.created_at)
        .s_opt("expires_at", key.expires_at);
    with_opens(item, &key.opens).build()
}

fn from_item(tenant: TenantId, item: &Item) -> Result<Key, Error> {
    let hash = |name| {
        let hex = item.text_opt(name)?;
        hex.map(|hex| SecretHash::from_hex(hex).ok_or_else(|| malformed(name)))
            .transpose()
    };
    let previous = match (hash("previous")?, item.time_opt("previous_until")?) {
        (Some(hash), Some(expires_at)) => Some(Previous { hash, expires_at }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err(malformed("previous")),
    };
    Ok(Key {
        id: item.parse("sk")?,
        tenant,
        name: Name::stored(item.text("name")?.to_owned()),
        opens: opens(item)?,
        last4: item.text("last4")?.to_owned(),
        created_at: item.parse("created_at")?,
        expires_at: item.time_opt("expires_at")?,
        last_used_at: item.time_opt("last_used_at")?,
        previous,
        hash: hash("hash")?.ok_or_else(|| malformed("hash"))?,
    })
}
