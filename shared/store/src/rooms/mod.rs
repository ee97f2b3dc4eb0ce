//! Heads of rooms, their members, and what makes a DM the only one of its pair.
//!
//! | what   | partition key       | sort key        | other attributes                                                                                          |
//! |--------|---------------------|-----------------|-----------------------------------------------------------------------------------------------------------|
//! | head   | `tenant#room`       | `HEAD`          | `kind`, `name?`, `unique_key?`, `last_seq`, `last_message_at?`, `members`, `admins`, `created_at`, `creating?` |
//! | member | `tenant#room`       | `MEMBER#user`   | `user`, `role`, `joined_at`, `joined_seq?`, `acked_seq`, `user_key`, `joined_key` (index `by_user`)       |
//! | pair   | `tenant#dm:a:b`     | `DM`            | `room`                                                                                                    |
//!
//! **Invariants:** `members` and `admins` of a ready head count its member items: they change in the
//! transactions that write those. `acked_seq` and a head's `last_seq` only grow. While `creating` is there,
//! it lists members whose items may be missing; [`RoomStore::complete`] writes them and removes it. `joined_seq` was the last
//! seq of the log just before the member joined: all that was said while they were out is up to there.

mod create;
mod items;
mod listing;
mod membership;
mod replay;

use aws_sdk_dynamodb::{
    Client,
    types::{ConditionCheck, ReturnValuesOnConditionCheckFailure::AllOld, Update},
};

use self::items::{HEAD, head, member, member_sort, partition};
pub use self::membership::JOINED_AT_ONCE;
use super::{
    Backoff,
    aws::{fault, settle},
    events::EventStore,
    item::{Item, Read, n, s},
    transaction::{self, Check, Outcome},
};
use crate::domain::{
    Error, LogId, Timestamp, UserId,
    event::Event,
    message::Seq,
    room::{Member, Room},
    text::Name,
};

/// The `rooms` table.
#[derive(Debug)]
pub struct RoomStore {
    client: Client,
    table: String,
    events: EventStore,
}

/// A head as it was found.
#[derive(Debug)]
pub struct Head {
    /// The room.
    pub room: Room,
    /// Members that may have no item yet: the room is still being made.
    pub creating: Vec<UserId>,
}

/// The result of an ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acked {
    /// The member has received more than before.
    Moved,
    /// The member has received as much before, or more.
    Before,
    /// There is no such member.
    Nobody,
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Sees every write that was acknowledged. Costs twice as much.
    Strong,
    /// May be a moment behind.
    Eventual,
}

impl RoomStore {
    pub(super) fn new(client: Client, table: String, events: EventStore) -> Self {
        Self {
            client,
            table,
            events,
        }
    }

    /// A room's head.
    pub async fn head(&self, log: LogId, fresh: Freshness) -> Result<Option<Head>, Error> {
        let item = self.get(log, HEAD.to_owned(), fresh).await?;
        item.map(|item| head(&item)).transpose()
    }

    /// Someone's place in a room.
    pub async fn member(
        &self,
        log: LogId,
        user: &UserId,
        fresh: Freshness,
    ) -> Result<Option<Member>, Error> {
        let item = self.get(log, member_sort(user), fresh).await?;
        item.map(|item| member(&item)).transpose()
    }

    async fn get(&self, log: LogId, sort: String, fresh: Freshness) -> Result<Option<Item>, Error> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", s(partition(log)))
            .key("sk", s(sort))
            .consistent_read(fresh == Freshness::Strong)
            .send()
            .await
            .map_err(fault(&self.table))?;
        Ok(found.item)
    }

    /// That `user` is a member, to be checked in a transaction.
    pub fn membership_check(&self, log: LogId, user: &UserId) -> Result<Check, Error> {
        ConditionCheck::builder()
            .table_name(&self.table)
            .key("pk", s(partition(log)))
            .key("sk", s(member_sort(user)))
            .condition_expression("attribute_exists(pk)")
            .build()
            .map(Check::new)
            .map_err(Error::internal)
    }

    /// Notes that `user` has received everything up to `seq`. An older seq changes nothing.
    pub async fn ack(
        &self,
        log: LogId,
        user: &UserId,
        seq: Seq,
        race: &mut Backoff,
    ) -> Result<Acked, Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(partition(log)))
            .key("sk", s(member_sort(user)))
            .update_expression("SET acked_seq = :seq")
            .condition_expression("attribute_exists(pk) AND acked_seq < :seq")
            .expression_attribute_values(":seq", n(seq.get()))
            .return_values_on_condition_check_failure(AllOld);
        match settle(race, &self.table, || update.clone().send()).await? {
            Ok(_) => Ok(Acked::Moved),
            Err(Some(_)) => Ok(Acked::Before),
            Err(None) => Ok(Acked::Nobody),
        }
    }

    /// Names a room anew, and tells of it.
    pub async fn rename(
        &self,
        log: LogId,
        name: Option<&Name>,
        event: &Event,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let update = Update::builder()
            .table_name(&self.table)
            .key("pk", s(partition(log)))
            .key("sk", s(HEAD))
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_names("#name", "name");
        let update = match name {
            Some(name) => update
                .update_expression("SET #name = :name")
                .expression_attribute_values(":name", s(name.as_str())),
            None => update.update_expression("REMOVE #name"),
        };
        let writes = [
            transaction::update(update.build().map_err(Error::internal)?),
            self.events.write(log.tenant, event)?,
        ];
        match transaction::commit(&self.client, &writes, race).await? {
            Outcome::Committed => Ok(()),
            // The event is there: an earlier try of ours landed and its answer was lost.
            Outcome::Refused(refused) if matches!(refused.get(1), Some(Some(_))) => Ok(()),
            Outcome::Refused(_) => Err(Error::NotFound("Room")),
        }
    }

    /// Moves a head's `last_seq` and `last_message_at` forward, never back.
    pub async fn advance(
        &self,
        log: LogId,
        seq: Seq,
        at: Timestamp,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(partition(log)))
            .key("sk", s(HEAD))
            .update_expression("SET last_seq = :seq, last_message_at = :at")
            .condition_expression("attribute_exists(pk) AND last_seq < :seq")
            .expression_attribute_values(":seq", n(seq.get()))
            .expression_attribute_values(":at", s(at));
        // Refused: the head is there already, or the room is not.
        settle(race, &self.table, || update.clone().send())
            .await
            .map(drop)
    }
}

fn has(refused: &[Option<transaction::Refusal>], index: usize) -> Option<&transaction::Refusal> {
    refused.get(index).and_then(Option::as_ref)
}

fn item_of(refusal: &transaction::Refusal) -> Option<&Item> {
    refusal.item.as_ref()
}

fn acked(item: &Item) -> Result<Seq, Error> {
    item.number("acked_seq").map(Seq::new)
}
