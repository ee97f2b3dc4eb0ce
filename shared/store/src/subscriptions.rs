//! Subscriptions, in the `tenants` table, once under their user and once under their topic.
//!
//! | partition key              | sort key  | attributes                       |
//! |----------------------------|-----------|----------------------------------|
//! | `tenant#subscriber#user`   | `sub_…`   | `user`, `topic`, `created_at`    |
//! | `tenant#topic#topic`       | user      | `user`, `created_at`             |
//!
//! **Invariant:** the two are written and removed together. The id is computed from user and topic, so a
//! user subscribes to a topic at most once.

use aws_sdk_dynamodb::{
    Client,
    types::{Delete, Put, ReturnValuesOnConditionCheckFailure::AllOld, TransactWriteItem},
};

use super::{
    Backoff,
    aws::fault,
    guards::{Claim, Claimed, GuardStore},
    item::{Item, NewItem, Read, s},
    paging::Partition,
    transaction::{self, Outcome},
};
use crate::domain::{
    Cursor, Done, Error, Page, SubscriptionId, TenantId, UserId,
    page::Slice,
    subscription::{Subscription, Topic},
    text::escape,
};

/// The subscriptions in the `tenants` table.
#[derive(Debug)]
pub struct SubscriptionStore {
    client: Client,
    table: String,
}

impl SubscriptionStore {
    pub(super) const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Subscribes; an existing subscription stays as it is and is given instead.
    pub async fn create(
        &self,
        tenant: TenantId,
        new: Subscription,
        guards: &GuardStore,
        claim: Option<&Claim>,
        race: &mut Backoff,
    ) -> Result<Done<Subscription>, Error> {
        let mut writes = vec![
            self.put(to_item(tenant, &new))?,
            self.put(
                NewItem::new()
                    .s("pk", by_topic(tenant, &new.topic))
                    .s("sk", &new.subscriber)
                    .s("user", &new.subscriber)
                    .s("created_at", new.created_at)
                    .build(),
            )?,
        ];
        if let Some(claim) = claim {
            writes.push(claim.write(to_item(tenant, &new))?);
        }
        let refused = match transaction::commit(&self.client, &writes, race).await? {
            Outcome::Committed => return Ok(Done::now(new)),
            Outcome::Refused(refused) => refused,
        };
        if let (Some(claim), Some(Some(marker))) = (claim, refused.get(2)) {
            let Claimed { outcome } = claim.recognise(marker.item.as_ref())?;
            let first = from_item(&outcome)?;
            return Ok(Done {
                replayed: first.created_at != new.created_at,
                value: first,
            });
        }
        let standing = refused
            .first()
            .and_then(Option::as_ref)
            .and_then(|standing| standing.item.as_ref())
            .ok_or(Error::Busy)?;
        let standing = from_item(standing)?;
        if let Some(claim) = claim {
            // Nothing was written, so nothing remembers the key yet.
            let outcome = to_item(tenant, &standing);
            if let Some(Claimed { outcome }) = guards.mark(claim, outcome, race).await? {
                return from_item(&outcome).map(Done::now);
            }
        }
        Ok(Done::now(standing))
    }

    /// A user's subscriptions.
    pub async fn of(
        &self,
        tenant: TenantId,
        user: &UserId,
        slice: &Slice,
    ) -> Result<Page<Subscription>, Error> {
        let partition = Partition {
            client: &self.client,
            table: &self.table,
            pk: by_subscriber(tenant, user),
            begins_with: None,
        };
        partition
            .page::<_, SubscriptionId>(slice, |item| from_item(item).map(Some))
            .await
    }

    /// Who subscribed to a topic, in the order of their ids.
    pub async fn to(
        &self,
        tenant: TenantId,
        topic: &Topic,
        slice: &Slice,
    ) -> Result<Page<UserId>, Error> {
        let partition = Partition {
            client: &self.client,
            table: &self.table,
            pk: by_topic(tenant, topic),
            begins_with: None,
        };
        let after = slice.after.clone().map(|Cursor(after)| after);
        let (items, more) = partition.slice(after, slice).await?;
        let users = items
            .iter()
            .map(|item| Ok(UserId::stored(item.text("user")?.to_owned())))
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(Page::new(users, more, ToString::to_string))
    }

    /// Ends a user's subscription. `false` if it is not theirs or not there.
    pub async fn delete(
        &self,
        tenant: TenantId,
        user: &UserId,
        id: SubscriptionId,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        let pk = by_subscriber(tenant, user);
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", s(&pk))
            .key("sk", s(id))
            .consistent_read(true)
            .send()
            .await
            .map_err(fault(&self.table))?;
        let Some(item) = found.item else {
            return Ok(false);
        };
        let subscription = from_item(&item)?;
        let writes = [
            self.delete_one(&pk, &id.to_string())?,
            self.delete_one(&by_topic(tenant, &subscription.topic), user.as_str())?,
        ];
        match transaction::commit(&self.client, &writes, race).await? {
            // Unconditional, so it cannot be refused.
            Outcome::Committed | Outcome::Refused(_) => Ok(true),
        }
    }

    fn put(&self, item: Item) -> Result<TransactWriteItem, Error> {
        Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .map(transaction::put)
            .map_err(Error::internal)
    }

    fn delete_one(&self, pk: &str, sk: &str) -> Result<TransactWriteItem, Error> {
        let delete = Delete::builder()
            .table_name(&self.table)
            .key("pk", s(pk))
            .key("sk", s(sk))
            .build()
            .map_err(Error::internal)?;
        Ok(transaction::delete(delete))
    }
}

fn by_subscriber(tenant: TenantId, user: &UserId) -> String {
    format!("{tenant}#subscriber#{}", escape(user.as_str()))
}

fn by_topic(tenant: TenantId, topic: &Topic) -> String {
    format!("{tenant}#topic#{}", escape(topic.as_str()))
}

fn to_item(tenant: TenantId, subscription: &Subscription) -> Item {
    NewItem::new()
        .s("pk", by_subscriber(tenant, &subscription.subscriber))
        .s("sk", subscription.id)
        .s("user", &subscription.subscriber)
        .s("topic", subscription.topic.as_str())
        .s("created_at", subscription.created_at)
        .build()
}

fn from_item(item: &Item) -> Result<Subscription, Error> {
    Ok(Subscription {
        id: item.parse("sk")?,
        subscriber: UserId::stored(item.text("user")?.to_owned()),
        topic: Topic::stored(item.text("topic")?.to_owned()),
        created_at: item.parse("created_at")?,
    })
}
