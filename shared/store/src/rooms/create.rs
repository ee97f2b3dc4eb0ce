//! Making a room: one transaction, and for a large one the members after it.

use aws_sdk_dynamodb::types::{
    ConditionCheck, Put, ReturnValuesOnConditionCheckFailure::AllOld, TransactWriteItem, Update,
};

use super::{
    Freshness, Head, RoomStore, has, item_of,
    items::{HEAD, PAIR, head, head_item, member, member_item, partition},
};
use crate::{
    Backoff,
    domain::{
        Actor, Done, Error, LogId, RoomId, Timestamp, UserId,
        event::Event,
        message::Seq,
        room::{NewRoom, Pair, Role, Room, RoomType},
    },
    guards::{Claim, Claimed},
    item::{NewItem, Read, s},
    transaction::{self, Check, Outcome},
};

/// A transaction holds 100 writes: head, pair, event, marker, creator, and these.
const OTHERS_AT_ONCE: usize = 89;
/// How many members one transaction adds to a room that is being made, beside its check of the head.
const COMPLETED_AT_ONCE: usize = 99;
/// A head that still lists members without an item.
const BEING_MADE: &str = "attribute_exists(creating)";

impl RoomStore {
    /// Makes the room `id`, with its creator as its admin.
    ///
    /// A room of up to 90 members is one transaction. A larger one is readable to its creator at once;
    /// its other members are listed on the head, and written before this returns, or by whoever next
    /// meets the room if this process dies.
    ///
    /// # Errors
    ///
    /// [`Error::RoomExists`] if the pair has a DM, [`Error::Conflict`] if `claim` was used for
    /// another request.
    pub async fn create(
        &self,
        creator: &Actor,
        id: RoomId,
        new: &NewRoom,
        event: &Event,
        claim: Option<&Claim>,
        race: &mut Backoff,
    ) -> Result<Done<Room>, Error> {
        let now = event.at;
        let (log, creator) = (LogId::new(creator.tenant(), id), creator.user());
        let pair = match (new.kind, new.others.first()) {
            (RoomType::Dm, Some(other)) => Some(Pair::of(creator.clone(), other.clone())),
            (RoomType::Dm, None) | (RoomType::Group | RoomType::Channel, _) => None,
        };
        let room = Room {
            id,
            kind: new.kind,
            name: new.name.clone(),
            unique_key: pair.as_ref().map(ToString::to_string),
            last_seq: Seq::ZERO,
            last_message_at: None,
            members: new.others.len() + 1,
            admins: 1,
            created_at: now,
        };
        let others: Vec<UserId> = new.others.iter().cloned().collect();
        let large = others.len() > OTHERS_AT_ONCE;
        let (listed, written): (&[UserId], &[UserId]) = if large {
            (&others, &[])
        } else {
            (&[], &others)
        };

        let mut writes = vec![
            self.put_new(head_item(log, &room, listed))?,
            self.put_new(member_item(log, creator, Role::Admin, now, Seq::ZERO))?,
            self.events.write(log.tenant, event)?,
        ];
        let claim_at = claim
            .map(|claim| {
                writes.push(claim.write(head_item(log, &room, &[]))?);
                Ok::<_, Error>(writes.len() - 1)
            })
            .transpose()?;
        let pair_at = pair
            .map(|pair| {
                let item = NewItem::new()
                    .s("pk", format!("{}#{pair}", log.tenant))
                    .s("sk", PAIR)
                    .s("room", id)
                    .build();
                writes.push(self.put_new(item)?);
                Ok::<_, Error>(writes.len() - 1)
            })
            .transpose()?;
        for user in written {
            writes.push(self.put_new(member_item(log, user, Role::Member, now, Seq::ZERO))?);
        }

        match transaction::commit(&self.client, &writes, race).await? {
            Outcome::Committed => {}
            Outcome::Refused(refused) => {
                if let (Some(claim), Some(marker)) =
                    (claim, claim_at.and_then(|at| has(&refused, at)))
                {
                    return self
                        .replay(log, claim.recognise(item_of(marker))?, race)
                        .await;
                }
                if let Some(taken) = pair_at.and_then(|at| has(&refused, at)) {
                    let existing: RoomId = item_of(taken).ok_or(Error::Busy)?.parse("room")?;
                    if existing != id {
                        return Err(Error::RoomExists(existing));
                    }
                }
                // What is left to refuse is our own room, from a try whose answer was lost.
            }
        }
        if large {
            self.complete(log, &others, now, race).await?;
        }
        Ok(Done::now(room))
    }

    /// The room that an earlier request made, complete.
    async fn replay(
        &self,
        log: LogId,
        claimed: Claimed,
        race: &mut Backoff,
    ) -> Result<Done<Room>, Error> {
        let first = head(&claimed.outcome)?.room;
        let made = LogId::new(log.tenant, first.id);
        if let Some(Head { room, creating }) = self.head(made, Freshness::Strong).await? {
            self.complete(made, &creating, room.created_at, race)
                .await?;
        }
        Ok(Done {
            // The marker may be our own, its answer lost: then this is not a repetition.
            replayed: made != log,
            value: first,
        })
    }

    /// Writes the items of `creating` that are missing, and with the last of them marks the room as ready.
    /// Harmless at any time: an item that is there stays as it is, and once the room is ready nothing is
    /// written.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] or [`Error::Unavailable`] at the deadline of `race`.
    pub async fn complete(
        &self,
        log: LogId,
        creating: &[UserId],
        joined_at: Timestamp,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        // One after the other: all of them hold the head, so at once they would be in each other's way.
        let mut chunks = creating.chunks(COMPLETED_AT_ONCE).peekable();
        while let Some(users) = chunks.next() {
            let head = if chunks.peek().is_some() {
                self.unfinished(log)?
            } else {
                self.ready(log)?
            };
            if !self.put_members(log, users, joined_at, head, race).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Writes those of `users` who have no item yet, with `head`. `false` if the room is ready already.
    ///
    /// Only while it is not: once it is, who has no item has left, and must not come back by a write that
    /// was slow.
    async fn put_members(
        &self,
        log: LogId,
        users: &[UserId],
        joined_at: Timestamp,
        head: TransactWriteItem,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        let mut missing = users.to_vec();
        loop {
            let mut writes = vec![head.clone()];
            for user in &missing {
                // They are members since the room is there, whenever this is written.
                let item = member_item(log, user, Role::Member, joined_at, Seq::ZERO);
                writes.push(self.put_new(item)?);
            }
            let refused = match transaction::commit(&self.client, &writes, race).await? {
                Outcome::Committed => return Ok(true),
                Outcome::Refused(refused) => refused,
            };
            if has(&refused, 0).is_some() {
                return Ok(false);
            }
            for there in refused.iter().skip(1).flatten().filter_map(item_of) {
                let there = member(there)?.user;
                missing.retain(|user| *user != there);
            }
            race.pause().await?;
        }
    }

    /// That the room is still being made.
    fn unfinished(&self, log: LogId) -> Result<TransactWriteItem, Error> {
        ConditionCheck::builder()
            .table_name(&self.table)
            .key("pk", s(partition(log)))
            .key("sk", s(HEAD))
            .condition_expression(BEING_MADE)
            .build()
            .map(|check| Check::new(check).write())
            .map_err(Error::internal)
    }

    /// That the room, which was still being made, is ready.
    fn ready(&self, log: LogId) -> Result<TransactWriteItem, Error> {
        Update::builder()
            .table_name(&self.table)
            .key("pk", s(partition(log)))
            .key("sk", s(HEAD))
            .update_expression("REMOVE creating")
            .condition_expression(BEING_MADE)
            .build()
            .map(transaction::update)
            .map_err(Error::internal)
    }

    /// A put of something that must not be there yet.
    pub(super) fn put_new(&self, item: super::Item) -> Result<TransactWriteItem, Error> {
        Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .map(transaction::put)
            .map_err(Error::internal)
    }
}
