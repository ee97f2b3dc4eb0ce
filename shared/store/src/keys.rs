//! API keys, by the SHA-256 of the secret.
//!
//! | partition key        | attributes                                    |
//! |----------------------|-----------------------------------------------|
//! | SHA-256 in hex       | `kind` = `tenant`, `tenant`, `last4?`, `created_at`, `ttl?` |
//! | SHA-256 in hex       | `kind` = `publishable` or `secret`, `tenant`, `key` (`key_…`), `origins?`, `user?`, `created_at`, `ttl?` |
//!
//! **Invariant:** a key of kind `tenant` without `ttl` is its tenant's current one; which of the others hold, the tenant's
//! profile says besides ([`crate::domain::tenant_key`]). What is here of a team's key changes only with its row in
//! [`super::api_keys`]. TTL deletes days late, so expiry is read, not waited for.

use aws_sdk_dynamodb::{
    Client,
    types::{Delete, Put, TransactWriteItem, Update},
};

use super::{
    aws::fault,
    item::{Item, NewItem, Read, malformed, n, s},
    transaction,
};
use crate::domain::{
    ApiKeyId, Error, TenantId, Timestamp, UserId,
    api_key::{Key, Kind, Opens, Origin, Origins},
    secret::{ApiKey, SecretHash},
};

/// The kind of a tenant's key.
const TENANT: &str = "tenant";

/// The `keys` table.
#[derive(Debug)]
pub struct KeyStore {
    client: Client,
    table: String,
}

/// What a key opens.
#[derive(Debug, Clone)]
pub struct KeyRecord {
    /// Whose key it is.
    pub tenant: TenantId,
    /// When its text was made.
    pub created_at: Timestamp,
    /// When it stops to hold, in seconds since 1970; `None` for never.
    pub expires: Option<i64>,
    /// Which door it is for.
    pub door: Door,
}

/// Which door a key is for. It opens no other.
#[derive(Debug, Clone)]
pub enum Door {
    /// The tenant's own, by the key that ends with these characters, if they were kept.
    Tenant(Option<String>),
    /// The team's, by the key that has this name.
    Team(ApiKeyId, Opens),
}

impl KeyStore {
    pub(super) const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// What the key that hashes to `hash` opens. The caller checks its expiry.
    ///
    /// A kind of key that a later version has made opens nothing here: its holder is a stranger to this version, and no
    /// fault of it.
    pub async fn get(&self, hash: SecretHash) -> Result<Option<KeyRecord>, Error> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", s(hash.to_hex()))
            .consistent_read(true)
            .send()
            .await
            .map_err(fault(&self.table))?;
        let known = |item: &Item| {
            let kind = item.text("kind");
            kind.is_ok_and(|kind| kind == TENANT || Kind::stored(kind).is_some())
        };
        found
            .item
            .filter(known)
            .map(|item| {
                Ok(KeyRecord {
                    tenant: item.parse("tenant")?,
                    created_at: item.parse("created_at")?,
                    expires: item.number_opt("ttl")?,
                    door: match item.text("kind")? {
                        TENANT => Door::Tenant(item.text_opt("last4")?.map(str::to_owned)),
                        _ => Door::Team(item.parse("key")?, opens(&item)?),
                    },
                })
            })
            .transpose()
    }

    /// The new key `key` of `tenant`, as a write of a transaction.
    pub(super) fn write(
        &self,
        tenant: TenantId,
        key: &ApiKey,
        now: Timestamp,
    ) -> Result<TransactWriteItem, Error> {
        let item = NewItem::new()
            .s("pk", key.hash().to_hex())
            .s("kind", TENANT)
            .s("tenant", tenant)
            .s("last4", key.last4())
            .s("created_at", now)
            .build();
        self.put(item)
    }

    /// The newest text of a team's key, as a write of a transaction.
    pub(super) fn write_team(&self, key: &Key, now: Timestamp) -> Result<TransactWriteItem, Error> {
        let item = NewItem::new()
            .s("pk", key.hash.to_hex())
            .s("tenant", key.tenant)
            .s("key", key.id)
            .s("created_at", now);
        let item = with_opens(item, &key.opens);
        let item = match key.expires_at {
            Some(end) => item.n("ttl", end.seconds()),
            None => item,
        };
        self.put(item.build())
    }

    fn put(&self, item: Item) -> Result<TransactWriteItem, Error> {
        Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(pk)")
            .build()
            .map(transaction::put)
            .map_err(Error::internal)
    }

    /// The end of the key whose hash in hex is `hash`, as a write of a transaction.
    pub(super) fn retire(
        &self,
        hash: &str,
        expires: Timestamp,
    ) -> Result<TransactWriteItem, Error> {
        Update::builder()
            .table_name(&self.table)
            .key("pk", s(hash))
            .update_expression("SET #ttl = :ttl")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":ttl", n(expires.seconds()))
            .build()
            .map(transaction::update)
            .map_err(Error::internal)
    }

    /// The end of the key that hashes to `hash`, now, as a write of a transaction.
    pub(super) fn remove(&self, hash: SecretHash) -> Result<TransactWriteItem, Error> {
        Delete::builder()
            .table_name(&self.table)
            .key("pk", s(hash.to_hex()))
            .build()
            .map(transaction::delete)
            .map_err(Error::internal)
    }
}

/// `item` with what a team's key opens: here and in [`super::api_keys`] alike.
pub(super) fn with_opens(item: NewItem, opens: &Opens) -> NewItem {
    let item = item.s("kind", opens.kind().name());
    match opens {
        Opens::Publishable { origins, user } => item
            .list("origins", origins.named().map(|it| it.as_str().to_owned()))
            .s_opt("user", user.as_ref()),
        Opens::Secret => item,
    }
}

/// What the team's key in `item` opens.
pub(super) fn opens(item: &Item) -> Result<Opens, Error> {
    match Kind::stored(item.text("kind")?).ok_or_else(|| malformed("kind"))? {
        Kind::Publishable => {
            let origins = item.texts("origins")?.into_iter();
            let origins = origins.map(|text| Origin::stored(text.to_owned()));
            let user = item.text_opt("user")?;
            Ok(Opens::Publishable {
                origins: Origins::stored(origins.collect()),
                user: user.map(|user| UserId::stored(user.to_owned())),
            })
        }
        Kind::Secret => Ok(Opens::Secret),
    }
}
