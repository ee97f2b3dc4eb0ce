//! API keys, by the SHA-256 of the secret.
//!
//! | partition key        | attributes                                    |
//! |----------------------|-----------------------------------------------|
//! | SHA-256 in hex       | `kind` = `tenant`, `tenant`, `created_at`, `ttl?` |
//!
//! **Invariant:** a key without `ttl` is its tenant's current one. TTL deletes days late, so expiry is
//! read, not waited for.

use aws_sdk_dynamodb::{
    Client,
    types::{Put, TransactWriteItem, Update},
};

use super::{
    aws::fault,
    item::{NewItem, Read, n, s},
    transaction,
};
use crate::domain::{Error, TenantId, Timestamp, secret::SecretHash};

/// The `keys` table.
#[derive(Debug)]
pub struct KeyStore {
    client: Client,
    table: String,
}

/// What a key opens.
#[derive(Debug, Clone, Copy)]
pub struct KeyRecord {
    /// Whose key it is.
    pub tenant: TenantId,
    /// When it stops to hold, in seconds since 1970; `None` for the current key.
    pub expires: Option<i64>,
}

impl KeyStore {
    pub(super) const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// What the key that hashes to `hash` opens. The caller checks its expiry.
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
        found
            .item
            .map(|item| {
                Ok(KeyRecord {
                    tenant: item.parse("tenant")?,
                    expires: item.number_opt("ttl")?,
                })
            })
            .transpose()
    }

    /// A new key of `tenant`, as a write of a transaction.
    pub(super) fn write(
        &self,
        tenant: TenantId,
        hash: SecretHash,
        now: Timestamp,
    ) -> Result<TransactWriteItem, Error> {
        let item = NewItem::new()
            .s("pk", hash.to_hex())
            .s("kind", "tenant")
            .s("tenant", tenant)
            .s("created_at", now)
            .build();
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
}
