//! Guards: what keeps an operation from being done twice, or too often. Every item may be lost at the
//! price of that protection alone.
//!
//! | what                 | partition key                          | attributes                                        |
//! |----------------------|----------------------------------------|---------------------------------------------------|
//! | idempotency marker   | `tenant#once#operation#caller#key`     | `digest`, `canonical?` (hex), `outcome` (map), `ttl`, `holder?`, `leased_until?` (µs since 1970) |
//! | rate-limit bucket    | `tenant#rate`, `tenant#rate#key_…`     | `tat` (ns since 1970), `ttl`                      |
//! | token of a connection | `socket_token#hash` (hex)              | `tenant`, `user`, `key` (hash in hex), `ttl`      |
//! | start of the work on a record | `start#function#event#sequence` | `starts` (set of random numbers), `ttl`           |
//! | trial of a webhook   | `tenant#trial`                         | `holder`, `until` (µs since 1970), `ttl`          |
//! | health probe         | `health`                               | `at`                                              |
//!
//! **Invariant:** a marker is written in the transaction whose outcome it names, so there is a marker
//! if and only if the operation was done. Adding members is the exception: its transactions are several and
//! may be repeated, so the marker follows the last of them. So is what takes a model's time: its marker is written with
//! its first transaction, and has a lease, so that one request at a time goes on with the rest. TTL deletes days late, so expiry is part of every condition.

use aws_sdk_dynamodb::{
    Client,
    types::{
        AttributeValue, Put, ReturnValue, ReturnValuesOnConditionCheckFailure::AllOld,
        TransactWriteItem,
    },
};

use super::{
    Backoff,
    aws::{Verdict, fault, refusal, settle},
    item::{Item, NewItem, Read, malformed, n, s},
    transaction::{self, Outcome},
};
use crate::domain::{
    Error, Once, TenantId, Timestamp, UserId,
    rate::Payer,
    secret::{SecretHash, SocketToken},
    text::escape,
};

/// How long a marker protects, in seconds.
pub const MARKER_SECONDS: i64 = 24 * 3_600;
/// What the second sender of a request is told whose answer is not kept.
pub(super) const SHOWN: Error = Error::Conflict(
    "This Idempotency-Key was used, and its answer held a secret that is shown only once",
);
/// How long one trial of a webhook may take at most, in seconds: the time-out of its function.
const TRIAL_SECONDS: i64 = 30;
/// A bucket that nobody used for so long is full, whatever it says.
const BUCKET_SECONDS: i64 = 3_600;

/// How long the start of the work on a record is noted, in seconds: longer than a stream keeps the record.
const START_SECONDS: i64 = 25 * 3_600;

/// The `guards` table.
#[derive(Debug)]
pub struct GuardStore {
    client: Client,
    table: String,
}

/// A claim to do an operation once, to be written with it.
#[derive(Debug, Clone)]
pub struct Claim {
    table: String,
    pk: String,
    digest: String,
    canonical: String,
    now: Timestamp,
}

/// An operation that was done before.
pub(super) struct Claimed {
    /// What it gave, in the words of the store that did it.
    pub(super) outcome: Item,
}

/// An operation that was begun before.
pub(super) struct Pending {
    /// What its first transaction gave.
    pub(super) outcome: Item,
    /// Who goes on with it, or did.
    pub(super) lease: Lease,
}

/// Who goes on with an operation that was claimed, and until when nobody else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Who: a random number of the request.
    pub holder: u128,
    /// Until when.
    pub until: Timestamp,
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

/// The attribute that names the holder of a lease.
const HOLDER: &str = "holder";

fn shown(holder: u128) -> String {
    format!("{holder:032x}")
}

fn lease_of(marker: &Item) -> Result<Option<Lease>, Error> {
    let Some(holder) = marker.text_opt(HOLDER)? else {
        return Ok(None);
    };
    Ok(Some(Lease {
        holder: u128::from_str_radix(holder, 16).map_err(|_| malformed(HOLDER))?,
        until: Timestamp::from_micros(marker.number("leased_until")?),
    }))
}

fn start_key(note: &str) -> String {
    format!("start#{note}")
}

fn bucket_key(payer: Payer) -> String {
    match payer {
        Payer::Tenant(tenant) => format!("{tenant}#rate"),
        Payer::Key(tenant, key) => format!("{tenant}#rate#{key}"),
    }
}

fn trial_key(tenant: TenantId) -> String {
    format!("{tenant}#trial")
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
            digest: hex::encode(once.request().exact),
            canonical: hex::encode(once.request().canonical),
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
        match self.marker(claim).await? {
            Some(marker) => claim.recognise(Some(&marker)).map(Some),
            None => Ok(None),
        }
    }

    /// The marker of `claim`, while it holds.
    async fn marker(&self, claim: &Claim) -> Result<Option<Item>, Error> {
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
        Ok(Some(marker))
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

    /// Takes the lease of `claim` over from `known`. `false` if somebody else was faster.
    pub async fn take_over(
        &self,
        claim: &Claim,
        known: &Lease,
        next: &Lease,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(&claim.pk))
            .update_expression("SET #holder = :next, leased_until = :until")
            .condition_expression("#holder = :known AND leased_until = :was")
            .expression_attribute_names("#holder", HOLDER)
            .expression_attribute_values(":known", s(shown(known.holder)))
            .expression_attribute_values(":was", n(known.until.micros()))
            .expression_attribute_values(":next", s(shown(next.holder)))
            .expression_attribute_values(":until", n(next.until.micros()))
            .return_values_on_condition_check_failure(AllOld);
        match settle(race, &self.table, || update.clone().send()).await? {
            Ok(_) => Ok(true),
            // Ours, if an earlier try landed and its answer was lost.
            Err(Some(standing)) => Ok(lease_of(&standing)? == Some(*next)),
            Err(None) => Ok(false),
        }
    }

    /// Ends `lease` of `claim`, if it is still its holder's. `false` if it is not, or not yet.
    pub async fn release(
        &self,
        claim: &Claim,
        lease: &Lease,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(&claim.pk))
            .update_expression("SET leased_until = :ended")
            .condition_expression("#holder = :me")
            .expression_attribute_names("#holder", HOLDER)
            .expression_attribute_values(":me", s(shown(lease.holder)))
            .expression_attribute_values(":ended", n(0))
            .return_values_on_condition_check_failure(AllOld);
        let ended = settle(race, &self.table, || update.clone().send()).await?;
        Ok(ended.is_ok())
    }

    /// What the marker of `claim` says, and its lease, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the key was used for another request.
    pub(super) async fn pending(&self, claim: &Claim) -> Result<Option<Pending>, Error> {
        match self.marker(claim).await? {
            Some(marker) => claim.pending(Some(&marker)).map(Some),
            None => Ok(None),
        }
    }

    /// Moves a payer's bucket from `known` to `next`, both theoretical arrival times in ns since 1970.
    /// `Err(actual)` if the bucket is elsewhere: nothing was taken.
    pub async fn move_bucket(
        &self,
        payer: Payer,
        known: Option<i64>,
        next: i64,
        now: Timestamp,
    ) -> Result<Result<(), Option<i64>>, Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(bucket_key(payer)))
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

    /// Reserves the tenant's one trial of a webhook for `holder`, until [`Self::end_trial`] or for [`TRIAL_SECONDS`]. `false` if
    /// another one is under way. An end that is too far off was written by a clock that was ahead, and has passed.
    pub async fn begin_trial(
        &self,
        tenant: TenantId,
        holder: u128,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let until = now.plus_seconds(TRIAL_SECONDS);
        let begun = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(trial_key(tenant)))
            .update_expression("SET #holder = :me, #until = :until, #ttl = :ttl")
            // The SDK repeats an update whose answer was lost: it finds itself.
            .condition_expression(
                "attribute_not_exists(pk) OR #holder = :me OR NOT #until BETWEEN :next AND :farthest",
            )
            .expression_attribute_names("#holder", HOLDER)
            .expression_attribute_names("#until", "until")
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":me", s(shown(holder)))
            .expression_attribute_values(":until", n(until.micros()))
            .expression_attribute_values(":ttl", n(now.seconds() + BUCKET_SECONDS))
            .expression_attribute_values(":next", n(now.micros() + 1))
            .expression_attribute_values(":farthest", n(now.farthest_end(TRIAL_SECONDS).micros()))
            .send()
            .await;
        match begun {
            Ok(_) => Ok(true),
            Err(error) => refusal(error, &self.table)
                .map(|_| false)
                .map_err(Verdict::into_error),
        }
    }

    /// Ends the trial of `holder`. It ends by itself, so a failure is for the log alone.
    pub async fn end_trial(&self, tenant: TenantId, holder: u128) -> Result<(), Error> {
        let ended = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(trial_key(tenant)))
            .update_expression("SET #until = :ended")
            .condition_expression("#holder = :me")
            .expression_attribute_names("#holder", HOLDER)
            .expression_attribute_names("#until", "until")
            .expression_attribute_values(":me", s(shown(holder)))
            .expression_attribute_values(":ended", n(0))
            .send()
            .await;
        match ended {
            Ok(_) => Ok(()),
            // Somebody else's by now: it took too long.
            Err(error) => refusal(error, &self.table)
                .map(|_| ())
                .map_err(Verdict::into_error),
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

    /// Uses a token up, and says what it opens; `None` if there is none, or no longer, or if it would hold for longer than
    /// any: then the clock was set back. Whose answer is lost needs a new one.
    ///
    /// It is read first: a made-up token costs a read, and never a write, which is five times as dear.
    pub async fn take_token(
        &self,
        token: SecretHash,
        now: Timestamp,
    ) -> Result<Option<Opens>, Error> {
        let read = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", s(token_key(token)))
            .consistent_read(true)
            .send()
            .await
            .map_err(fault(&self.table))?;
        if read.item.is_none() {
            return Ok(None);
        }
        let deleted = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("pk", s(token_key(token)))
            .condition_expression("#ttl BETWEEN :next AND :farthest")
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":next", n(now.seconds() + 1))
            .expression_attribute_values(
                ":farthest",
                n(now.farthest_end(SocketToken::SECONDS).seconds()),
            )
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

    /// Notes that the work on the record `note` starts, and says how often it has, this time included. `token` names this
    /// start: done twice, it is done once.
    pub async fn note_start(
        &self,
        note: &str,
        token: u128,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Result<usize, Error> {
        let tokens = AttributeValue::Ss(vec![shown(token)]);
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(start_key(note)))
            .update_expression("ADD starts :token SET #ttl = :ttl")
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":token", tokens)
            .expression_attribute_values(":ttl", n(now.seconds() + START_SECONDS))
            .return_values_on_condition_check_failure(AllOld)
            .return_values(ReturnValue::UpdatedNew);
        let updated = settle(race, &self.table, || update.clone().send()).await?;
        let starts = updated.ok().and_then(|updated| updated.attributes);
        match starts.as_ref().and_then(|starts| starts.get("starts")) {
            Some(AttributeValue::Ss(tokens)) => Ok(tokens.len()),
            Some(_) | None => Err(malformed("starts")),
        }
    }

    /// The work on the record `note` has ended.
    pub async fn forget_start(&self, note: &str) -> Result<(), Error> {
        self.client
            .delete_item()
            .table_name(&self.table)
            .key("pk", s(start_key(note)))
            .send()
            .await
            .map(drop)
            .map_err(fault(&self.table))
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
        self.put(self.item(outcome).build())
    }

    /// The same marker of an operation that is not done yet, and whose rest the holder of `lease` goes on with.
    pub(super) fn begin(&self, outcome: Item, lease: &Lease) -> Result<TransactWriteItem, Error> {
        let item = self
            .item(outcome)
            .s(HOLDER, shown(lease.holder))
            .n("leased_until", lease.until.micros());
        self.put(item.build())
    }

    fn item(&self, outcome: Item) -> NewItem {
        NewItem::new()
            .s("pk", &self.pk)
            .s("digest", &self.digest)
            .s("canonical", &self.canonical)
            .map("outcome", outcome)
            .n("ttl", self.now.seconds() + MARKER_SECONDS)
    }

    fn put(&self, item: Item) -> Result<TransactWriteItem, Error> {
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

    /// What the marker that refused this claim says, and who goes on with it.
    ///
    /// # Errors
    ///
    /// As [`Claim::recognise`].
    pub(super) fn pending(&self, marker: Option<&Item>) -> Result<Pending, Error> {
        let claimed = self.recognise(marker)?;
        let lease = marker.map(lease_of).transpose()?.flatten();
        Ok(Pending {
            outcome: claimed.outcome,
            lease: lease.ok_or_else(|| malformed(HOLDER))?,
        })
    }

    /// What the marker that refused this claim says.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the key was used for another request.
    pub(super) fn recognise(&self, marker: Option<&Item>) -> Result<Claimed, Error> {
        let marker = marker.ok_or(Error::Busy)?;
        // A marker of the version before has the exact digest alone.
        let is_same = match marker.text_opt("canonical")? {
            Some(canonical) => canonical == self.canonical,
            None => marker.text("digest")? == self.digest,
        };
        if !is_same {
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
