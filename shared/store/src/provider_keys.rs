//! Keys of model providers, in the `tenants` table, sealed.
//!
//! | partition key          | sort key            | attributes                                                             |
//! |------------------------|---------------------|------------------------------------------------------------------------|
//! | `tenant#provider_keys` | `pkey_…`            | `scope`, `scope_id?`, `key_type`, `provider`, `base_url?`, `name`, `status`, `expires_at?`, `masked`, `hash` (hex), `fingerprint` (hex), `sealed`, `created_at`, `updated_at`, `last_used_at?` |
//! | `tenant#provider_keys` | `once#scope#fingerprint` | `id`                                                              |
//! | `tenant#provider_keys` | `count`             | `keys`                                                                 |
//!
//! The operator's are under `provider_keys`. They lie beside what describes them, and not in the table of keys, so that all
//! that is needed to answer for a tenant is one query; whoever may read them here can open none.
//!
//! **Invariant:** no key is twice in one scope, and an owner has at most [`MAX_PROVIDER_KEYS`]: all three items change in one
//! transaction. A change is made of what was read, on the condition that it is still so.

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
    guards::Claim,
    item::{Item, NewItem, Read, malformed, n, s},
    paging::Partition,
    tenants::profile,
    transaction::{self, Check, Outcome},
};
use crate::domain::{
    Done, Error, Page, ProviderKeyId, TenantId, Timestamp,
    page::Slice,
    provider_key::{KeyType, MAX_PROVIDER_KEYS, Owner, ProviderKey, Scope, ScopeId},
    secret::SecretHash,
    text::escape,
    webhook::{Description, EndpointUrl, Sealed},
};

/// The sort key of the number of keys.
const COUNT: &str = "count";
/// What the sort key of a key begins with.
const KEY: &str = "pkey_";
const ACTIVE: &str = "active";
const INVALID: &str = "invalid";
/// A use is noted if none was for so long, in seconds.
const COARSE_SECONDS: i64 = 3_600;
const TOO_MANY: Error = Error::Conflict("There are at most 50 provider keys. Delete one first");
const TWICE: Error = Error::Conflict("This key is there already, in the same scope");

/// The attributes that a change may change, or remove.
const CHANGING: [&str; 9] = [
    "base_url",
    "name",
    "status",
    "expires_at",
    "masked",
    "hash",
    "fingerprint",
    "sealed",
    "updated_at",
];

/// The keys in the `tenants` table.
#[derive(Debug)]
pub struct ProviderKeyStore {
    client: Client,
    table: String,
}

impl ProviderKeyStore {
    pub(super) const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Makes `key`, once per `claim`: a repetition is told of the first, as it was made.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such tenant; [`Error::Conflict`] if its scope has it already, or its owner as many
    /// as it may have.
    pub async fn create(
        &self,
        key: ProviderKey,
        claim: Option<&Claim>,
        race: &mut Backoff,
    ) -> Result<Done<ProviderKey>, Error> {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(to_item(&key)))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .map_err(Error::internal)?;
        let count = self
            .update(key.owner, COUNT)
            .update_expression("SET #keys = if_not_exists(#keys, :none) + :one, v = :one")
            .condition_expression("attribute_not_exists(#keys) OR #keys < :most")
            .expression_attribute_names("#keys", "keys")
            .expression_attribute_values(":none", n(0))
            .expression_attribute_values(":one", n(1))
            .expression_attribute_values(":most", n(MAX_PROVIDER_KEYS));
        let mut writes = vec![transaction::put(put), self.only(&key)?, built(count)?];
        // Where they stand among the writes, if they are there.
        let (mut tenant, mut marker) = (None, None);
        if let Owner::Tenant(id) = key.owner {
            tenant = Some(writes.len());
            writes.push(self.is_tenant(id)?);
        }
        if let Some(claim) = claim {
            marker = Some(writes.len());
            let outcome = NewItem::new().s("id", key.id).s("at", key.created_at);
            writes.push(claim.write(outcome.build())?);
        }
        let refused = match transaction::commit(&self.client, &writes, race).await? {
            Outcome::Committed => return Ok(Done::now(key)),
            Outcome::Refused(refused) => refused,
        };
        if let Some(Some(_)) = refused.first() {
            // An earlier try of ours landed and its answer was lost: nobody else has this id.
            return Ok(Done::now(key));
        }
        let at = |place: Option<usize>| refused.get(place?)?.as_ref();
        if let (Some(claim), Some(marker)) = (claim, at(marker)) {
            let told = claim.recognise(marker.item.as_ref())?.outcome;
            let made_at = told.parse("at")?;
            // The request was the same, and so was what it made.
            return Ok(Done::before(ProviderKey {
                id: told.parse("id")?,
                created_at: made_at,
                updated_at: made_at,
                ..key
            }));
        }
        if at(tenant).is_some() {
            return Err(Error::NotFound("Tenant"));
        }
        Err(if at(Some(1)).is_some() {
            TWICE
        } else {
            TOO_MANY
        })
    }

    /// One key of `owner`, unless only a later version can use it.
    pub async fn get(&self, owner: Owner, id: ProviderKeyId) -> Result<Option<ProviderKey>, Error> {
        let found = self.of(owner).get(id).await?;
        found.map_or(Ok(None), |item| from_item(owner, &item))
    }

    /// Those of `slice`, oldest first. A key that only a later version can use is left out.
    pub async fn list(&self, owner: Owner, slice: &Slice) -> Result<Page<ProviderKey>, Error> {
        let read = |item: &Item| from_item(owner, item);
        self.of(owner).page::<_, ProviderKeyId>(slice, read).await
    }

    /// All keys of `owner`, oldest first. One query.
    pub async fn all(&self, owner: Owner) -> Result<Vec<ProviderKey>, Error> {
        let all = Slice::first(MAX_PROVIDER_KEYS as usize);
        Ok(self.list(owner, &all).await?.items)
    }

    /// What an owner has.
    fn of(&self, owner: Owner) -> Partition<'_> {
        Partition {
            client: &self.client,
            table: &self.table,
            pk: partition(owner),
            begins_with: Some(KEY),
        }
    }

    /// Makes `new` of `old`, which it was made of. `false` if that has changed since it was read.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the scope has the new key already.
    pub async fn change(
        &self,
        old: &ProviderKey,
        new: &ProviderKey,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        // What a later version added stays, and so does the last use, which others note meanwhile.
        let mut update = self
            .update(old.owner, &old.id.to_string())
            .condition_expression(
                "#fingerprint = :fingerprint AND #updated_at = :at AND #status = :status",
            )
            .expression_attribute_values(":fingerprint", s(old.fingerprint.to_hex()))
            .expression_attribute_values(":at", s(old.updated_at))
            .expression_attribute_values(":status", s(status(old)));
        let mut item = to_item(new);
        let (mut sets, mut removes) = (Vec::new(), Vec::new());
        for name in CHANGING {
            update = update.expression_attribute_names(format!("#{name}"), name);
            if let Some(value) = item.remove(name) {
                sets.push(format!("#{name} = :new_{name}"));
                update = update.expression_attribute_values(format!(":new_{name}"), value);
            } else {
                removes.push(format!("#{name}"));
            }
        }
        let mut expression = format!("SET {}", sets.join(", "));
        if !removes.is_empty() {
            expression = format!("{expression} REMOVE {}", removes.join(", "));
        }
        let mut writes = vec![built(update.update_expression(expression))?];
        if new.fingerprint != old.fingerprint {
            writes.push(self.only(new)?);
            writes.push(self.free(old)?);
        }
        let refused = match transaction::commit(&self.client, &writes, race).await? {
            Outcome::Committed => return Ok(true),
            Outcome::Refused(refused) => refused,
        };
        let Some(Some(standing)) = refused.first() else {
            return Err(TWICE);
        };
        // An earlier try of ours may have landed, and its answer been lost.
        let is_ours = |item: &Item| {
            item.get("updated_at") == Some(&s(new.updated_at))
                && item.get("sealed") == Some(&s(&new.sealed.0))
        };
        Ok(standing.item.as_ref().is_some_and(is_ours))
    }

    /// Removes `key` unless it has changed since it was read.
    pub async fn delete(&self, key: &ProviderKey, race: &mut Backoff) -> Result<bool, Error> {
        let delete = Delete::builder()
            .table_name(&self.table)
            .key("pk", s(partition(key.owner)))
            .key("sk", s(key.id))
            .condition_expression("#fingerprint = :fingerprint")
            .expression_attribute_names("#fingerprint", "fingerprint")
            .expression_attribute_values(":fingerprint", s(key.fingerprint.to_hex()))
            .build()
            .map_err(Error::internal)?;
        let count = self
            .update(key.owner, COUNT)
            .update_expression("SET #keys = #keys - :one")
            .expression_attribute_names("#keys", "keys")
            .expression_attribute_values(":one", n(1));
        let writes = [transaction::delete(delete), self.free(key)?, built(count)?];
        match transaction::commit(&self.client, &writes, race).await? {
            Outcome::Committed => Ok(true),
            Outcome::Refused(_) => Ok(false),
        }
    }

    /// Notes that a key with this `fingerprint` is not taken. Nothing, if it was changed or removed.
    pub async fn reject(
        &self,
        owner: Owner,
        id: ProviderKeyId,
        fingerprint: SecretHash,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(partition(owner)))
            .key("sk", s(id))
            .update_expression("SET #status = :invalid, updated_at = :now")
            .condition_expression("#fingerprint = :fingerprint")
            .expression_attribute_names("#fingerprint", "fingerprint")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":fingerprint", s(fingerprint.to_hex()))
            .expression_attribute_values(":invalid", s(INVALID))
            .expression_attribute_values(":now", s(now))
            .return_values_on_condition_check_failure(AllOld);
        settle(race, &self.table, || update.clone().send())
            .await
            .map(drop)
    }

    /// Notes that a key was taken at `now`, unless that was noted within the last hour, or the key is gone.
    pub async fn note_use(
        &self,
        owner: Owner,
        id: ProviderKeyId,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(partition(owner)))
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

    fn update(&self, owner: Owner, sk: &str) -> UpdateBuilder {
        Update::builder()
            .table_name(&self.table)
            .key("pk", s(partition(owner)))
            .key("sk", s(sk))
            .return_values_on_condition_check_failure(AllOld)
    }

    /// That `key` is the only one of its scope with its fingerprint.
    fn only(&self, key: &ProviderKey) -> Result<TransactWriteItem, Error> {
        let item = NewItem::new()
            .s("pk", partition(key.owner))
            .s("sk", once(key))
            .s("id", key.id)
            .build();
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .map_err(Error::internal)?;
        Ok(transaction::put(put))
    }

    /// That the scope of `key` may have another one with its fingerprint.
    fn free(&self, key: &ProviderKey) -> Result<TransactWriteItem, Error> {
        let delete = Delete::builder()
            .table_name(&self.table)
            .key("pk", s(partition(key.owner)))
            .key("sk", s(once(key)))
            .build()
            .map_err(Error::internal)?;
        Ok(transaction::delete(delete))
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

fn partition(owner: Owner) -> String {
    match owner {
        Owner::Operator => "provider_keys".to_owned(),
        Owner::Tenant(tenant) => format!("{tenant}#provider_keys"),
    }
}

fn once(key: &ProviderKey) -> String {
    let (scope, fingerprint) = (&key.scope, key.fingerprint.to_hex());
    let id = scope.id().map_or(String::new(), |id| escape(id.as_str()));
    format!("once#{}#{id}#{fingerprint}", scope.kind())
}

const fn status(key: &ProviderKey) -> &'static str {
    if key.is_valid { ACTIVE } else { INVALID }
}

fn to_item(key: &ProviderKey) -> Item {
    NewItem::new()
        .s("pk", partition(key.owner))
        .s("sk", key.id)
        .s("scope", key.scope.kind())
        .s_opt("scope_id", key.scope.id().map(ScopeId::as_str))
        .s("key_type", key.key_type.name())
        .s("provider", key.provider)
        .s_opt("base_url", key.base_url.as_ref().map(EndpointUrl::as_str))
        .s("name", key.name.as_str())
        .s("status", status(key))
        .s_opt("expires_at", key.expires_at)
        .s("masked", &key.masked)
        .s("hash", key.hash.to_hex())
        .s("fingerprint", key.fingerprint.to_hex())
        .s("sealed", &key.sealed.0)
        .s("created_at", key.created_at)
        .s("updated_at", key.updated_at)
        .s_opt("last_used_at", key.last_used_at)
        .build()
}

fn hash(item: &Item, name: &'static str) -> Result<SecretHash, Error> {
    SecretHash::from_hex(item.text(name)?).ok_or_else(|| malformed(name))
}

/// `None` for a key of a provider, a type or a scope that a later version has made. It stays where it is, and this version
/// neither shows nor uses it.
fn from_item(owner: Owner, item: &Item) -> Result<Option<ProviderKey>, Error> {
    let text = |name| item.text_opt(name).map(|text| text.map(ToOwned::to_owned));
    let scope = Scope::stored(item.text("scope")?, text("scope_id")?);
    let key_type = KeyType::parse(item.text("key_type")?).ok();
    let provider = item.text("provider")?.parse().ok();
    let (Some(scope), Some(key_type), Some(provider)) = (scope, key_type, provider) else {
        return Ok(None);
    };
    let base_url = text("base_url")?
        .map(|url| EndpointUrl::stored(url).ok_or_else(|| malformed("base_url")))
        .transpose()?;
    Ok(Some(ProviderKey {
        id: item.parse("sk")?,
        owner,
        scope,
        key_type,
        provider,
        base_url,
        name: Description::stored(item.text("name")?.to_owned()),
        is_valid: item.text("status")? == ACTIVE,
        expires_at: item.time_opt("expires_at")?,
        masked: ProviderKey::masked_as_stored(item.text("masked")?),
        created_at: item.parse("created_at")?,
        updated_at: item.parse("updated_at")?,
        last_used_at: item.time_opt("last_used_at")?,
        hash: hash(item, "hash")?,
        fingerprint: hash(item, "fingerprint")?,
        sealed: Sealed(item.text("sealed")?.to_owned()),
    }))
}
