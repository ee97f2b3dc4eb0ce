//! Guards: what keeps an operation from being done twice, or too often. Every item may be lost at the
//! price of that protection alone.
//!
//! | what                 | partition key                          | attributes                                        |
//! |----------------------|----------------------------------------|---------------------------------------------------|
//! | idempotency marker   | `tenant#once#operation#caller#key`     | `digest` (hex), `outcome` (map), `ttl`                  |
//! | rate-limit bucket    | `tenant#rate`                          | `tat` (ns since 1970), `ttl`                      |
//! | token of a connection | `socket_token#hash` (hex)              | `tenant`, `user`, `key` (hash in hex), `ttl`      |
//! | health probe         | `health`                               | `at`                                              |
//!
//! **Invariant:** a marker is written in the transaction whose outcome it names, so there is a marker
//! if and only if the operation was done. Adding members is the exception: its transactions are several and
//! may be repeated, so the marker follows the last of them. TTL deletes days late, so expiry is part of every condition.

use aws_sdk_dynamodb::{
    Client,
    types::{
        AttributeValue, Put, ReturnValue, ReturnValuesOnConditionCheckFailure::AllOld,
        TransactWriteItem,
    },
};

use super::{
    Backoff,
    aws::{Verdict, fault, refusal},
    item::{Item, NewItem, Read, malformed, n, s},
    transaction::{self, Outcome},
};
use crate::domain::{Error, Once, TenantId, Timestamp, UserId, secret::SecretHash, text::escape};

/// How long a marker protects, in seconds.
pub const MARKER_SECONDS: i64 = 24 * 3_600;
/// What the second sender of a request is told whose answer is not kept.
pub(super) const SHOWN: Error = Error::Conflict(
    "This Idempotency-Key was used, and its answer held a secret that is shown only once",
);
/// A bucket that nobody used for so long is full, whatever it says.
const BUCKET_SECONDS: i64 = 3_600;

/// The `guards` table.
#[derive(Debug)]
pub struct GuardStore {
    client: Client,
    table: String,
}

/// A claim to do an operation once, to be written with it.
#[derive(Debug)]
pub struct Claim {
    table: String,
    pk: String,
    digest: String,
    now: Timestamp,
}

/// An operation that was done before.
pub(super) struct Claimed {
    /// What it gave, in the words of the store that did it.
    pub(super) outcome: Item,
}

/// What a token of a connection opens.
#[derive(Debug)]
pub struct Opens {
    /// Whose tenant's connection.
    pub tenant: TenantId,
    /// Whose connection.
    pub user: UserId,
    /// The API key it was made with.
    pub key: SecretHash,
}

fn token_key(token: SecretHash) -> String {
    format!("socket_token#{}", token.to_hex())
}

impl GuardStore {
    pub(super) fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// A claim of `once` for `operation` by `user` of `tenant`, made at `now`.
    pub fn claim(
        &self,
        tenant: TenantId,
        operation: &'static str,
        user: &UserId,
        once: &Once,
        now: Timestamp,
    ) -> Claim {
        self.claim_at(
            format!(
                "{tenant}#once#{operation}#{}#{}",
                escape(user.as_str()),
                escape(once.key())
            ),
            once,
            now,
        )
    }

    /// A claim of `once` for `operation` by `tenant` itself, made at `now`.
    pub fn tenant_claim(
        &self,
        tenant: TenantId,
        operation: &'static str,
        once: &Once,
        now: Timestamp,
    ) -> Claim {
        // No user's id is empty.
        self.claim_at(
            format!("{tenant}#once#{operation}##{}", escape(once.key())),
            once,
            now,
        )
    }

    /// A claim of `once` for `operation` by the operator, made at `now`.
    pub fn operator_claim(&self, operation: &'static str, once: &Once, now: Timestamp) -> Claim {
        // No tenant's id is "operator", and no caller enters this key.
        self.claim_at(
            format!("operator#once#{operation}#{}", escape(once.key())),
            once,
            now,
        )
    }

    fn claim_at(&self, pk: String, once: &Once, now: Timestamp) -> Claim {
        Claim {
            table: self.table.clone(),
            pk,
            digest: hex::encode(once.digest()),
            now,
        }
    }

    /// What the operation of `claim` gave, if it was done before. For an operation of several steps, which
    /// ends with [`GuardStore::mark`].
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the key was used for another request.
    pub(super) async fn used(&self, claim: &Claim) -> Result<Option<Claimed>, Error> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", s(&claim.pk))
            .consistent_read(true)
            .send()
            .await
            .map_err(fault(&self.table))?;
        let Some(marker) = found.item else {
            return Ok(None);
        };
        if marker.number::<i64>("ttl")? <= claim.now.seconds() {
            return Ok(None);
        }
        claim.recognise(Some(&marker)).map(Some)
    }

    /// Remembers that all steps of the operation of `claim` are done, and that they gave `outcome`. What
    /// the marker says if it is there already: the same request, sent twice at once, was faster, or an
    /// earlier try of ours landed.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the key was used for another request.
    pub(super) async fn mark(
        &self,
        claim: &Claim,
        outcome: Item,
        race: &mut Backoff,
    ) -> Result<Option<Claimed>, Error> {
        let writes = [claim.write(outcome)?];
        match transaction::commit(&self.client, &writes, race).await? {
            Outcome::Committed => Ok(None),
            Outcome::Refused(refused) => {
                let marker = refused.first().and_then(Option::as_ref);
                let marker = marker.and_then(|refusal| refusal.item.as_ref());
                claim.recognise(marker).map(Some)
            }
        }
    }

    /// Moves a tenant's bucket from `known` to `next`, both theoretical arrival times in ns since 1970.
    /// `Err(actual)` if the bucket is elsewhere: nothing was taken.
    pub async fn move_bucket(
        &self,
        tenant: TenantId,
        known: Option<i64>,
        next: i64,
        now: Timestamp,
    ) -> Result<Result<(), Option<i64>>, Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(format!("{tenant}#rate")))
            .update_expression("SET tat = :next, #ttl = :ttl")
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":next", n(next))
            .expression_attribute_values(":ttl", n(now.seconds() + BUCKET_SECONDS))
            .return_values_on_condition_check_failure(AllOld);
        let update = match known {
            None => update.condition_expression("attribute_not_exists(pk)"),
            Some(known) => update
                .condition_expression("tat = :known")
                .expression_attribute_values(":known", n(known)),
        };
        let Err(error) = update.send().await else {
            return Ok(Ok(()));
        };
        match refusal(error, &self.table).map_err(Verdict::into_error)? {
            Some(item) => Ok(Err(item.number_opt("tat")?)),
            None => Ok(Err(None)),
        }
    }

    /// Keeps what a token of a connection opens, until `expires`.
    pub async fn keep_token(
        &self,
        token: SecretHash,
        opens: &Opens,
        expires: Timestamp,
    ) -> Result<(), Error> {
        let item = NewItem::new()
            .s("pk", token_key(token))
            .s("tenant", opens.tenant)
            .s("user", &opens.user)
            .s("key", opens.key.to_hex())
            .n("ttl", expires.seconds())
            .build();
        // Its own name: done twice, it is done once.
        self.client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .send()
            .await
            .map(drop)
            .map_err(fault(&self.table))
    }

    /// Uses a token up, and says what it opens; `None` if there is none, or no longer. Whose answer is lost needs a
    /// new one.
    pub async fn take_token(
        &self,
        token: SecretHash,
        now: Timestamp,
    ) -> Result<Option<Opens>, Error> {
        let deleted = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("pk", s(token_key(token)))
            .condition_expression("#ttl > :now")
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":now", n(now.seconds()))
            .return_values(ReturnValue::AllOld)
            .send()
            .await;
        let item = match deleted {
            Ok(gone) => gone.attributes.unwrap_or_default(),
            Err(error) => {
                return refusal(error, &self.table)
                    .map(|_| None)
                    .map_err(Verdict::into_error);
            }
        };
        Ok(Some(Opens {
            tenant: item.parse("tenant")?,
            user: UserId::stored(item.text("user")?.to_owned()),
            key: SecretHash::from_hex(item.text("key")?).ok_or_else(|| malformed("key"))?,
        }))
    }

    /// Whether the store takes a conditional write.
    pub async fn writable(&self, now: Timestamp) -> Result<(), Error> {
        let write = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s("health"))
            .update_expression("SET #at = :now")
            .condition_expression("attribute_not_exists(pk) OR #at < :now")
            .expression_attribute_names("#at", "at")
            .expression_attribute_values(":now", n(now.micros()))
            .send()
            .await;
        let Err(error) = write else {
            return Ok(());
        };
        // A refusal means that somebody wrote a later time: it is writable.
        refusal(error, &self.table)
            .map(|_| ())
            .map_err(Verdict::into_error)
    }
}

impl Claim {
    /// The marker that says the operation gave `outcome`, refused if there is one already.
    pub(super) fn write(&self, outcome: Item) -> Result<TransactWriteItem, Error> {
        let item = NewItem::new()
            .s("pk", &self.pk)
            .s("digest", &self.digest)
            .map("outcome", outcome)
            .n("ttl", self.now.seconds() + MARKER_SECONDS)
            .build();
        Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(pk) OR #ttl <= :now")
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":now", n(self.now.seconds()))
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .map(transaction::put)
            .map_err(Error::internal)
    }

    /// What the marker that refused this claim says.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the key was used for another request.
    pub(super) fn recognise(&self, marker: Option<&Item>) -> Result<Claimed, Error> {
        let marker = marker.ok_or(Error::Busy)?;
        if marker.text("digest")? != self.digest {
            return Err(Error::Conflict(
                "This Idempotency-Key was used for another request",
            ));
        }
        match marker.get("outcome").map(AttributeValue::as_m) {
            Some(Ok(outcome)) => Ok(Claimed {
                outcome: outcome.clone(),
            }),
            Some(Err(_)) | None => Err(malformed("outcome")),
        }
    }
}
