//! Which rooms a user is in.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::types::KeysAndAttributes;
use futures_util::future::try_join_all;

use super::{
    Freshness, RoomStore, acked,
    items::{HEAD, head, member, member_sort, partition, room_of, user_key},
};
use crate::{
    Backoff,
    aws::fault,
    domain::{
        Error, LogId, RoomId, TenantId, UserId,
        room::{Member, RoomView},
    },
    item::{Item, Read, s},
};

/// How many of a user's rooms a list looks at: those joined last.
const MAX_JOINED: usize = 1_000;
/// A batch reads 100 items: head and member of each room.
const ROOMS_AT_ONCE: usize = 50;

impl RoomStore {
    /// The rooms `user` joined last, at most [`MAX_JOINED`], in no order. Rooms that are still being
    /// made are left out.
    ///
    /// Two round trips: the index, then all heads and places at the same time.
    pub async fn joined(
        &self,
        tenant: TenantId,
        user: &UserId,
        race: &Backoff,
    ) -> Result<Vec<RoomView>, Error> {
        let any = |room| LogId::new(tenant, room);
        let rooms = self.rooms_of(tenant, user, MAX_JOINED).await?;
        let batches = rooms.chunks(ROOMS_AT_ONCE).map(|rooms| {
            let keys = rooms
                .iter()
                .flat_map(|room| {
                    let pk = partition(any(*room));
                    [HEAD.to_owned(), member_sort(user)].map(|sk| {
                        HashMap::from([("pk".to_owned(), s(&pk)), ("sk".to_owned(), s(sk))])
                    })
                })
                .collect();
            self.batch(keys, Freshness::Eventual, race.clone())
        });
        let items = try_join_all(batches).await?;

        let mut acks = HashMap::new();
        let mut heads = Vec::new();
        for item in items.iter().flatten() {
            if item.text("sk")? == HEAD {
                heads.push(head(item)?);
            } else {
                acks.insert(room_of(item)?, acked(item)?);
            }
        }
        Ok(heads
            .into_iter()
            .filter(|head| head.creating.is_empty())
            .filter_map(|head| {
                // No place: the index is behind, they have left.
                let acked_seq = *acks.get(&head.room.id)?;
                Some(RoomView {
                    room: head.room,
                    acked_seq,
                })
            })
            .collect())
    }

    /// The places of `user` in those of `rooms` that they are in.
    pub async fn among(
        &self,
        tenant: TenantId,
        user: &UserId,
        rooms: &[RoomId],
        race: &Backoff,
    ) -> Result<HashMap<RoomId, Member>, Error> {
        let batches = rooms.chunks(2 * ROOMS_AT_ONCE).map(|rooms| {
            let keys = rooms.iter().map(|room| {
                let pk = partition(LogId::new(tenant, *room));
                HashMap::from([
                    ("pk".to_owned(), s(pk)),
                    ("sk".to_owned(), s(member_sort(user))),
                ])
            });
            self.batch(keys.collect(), Freshness::Strong, race.clone())
        });
        let items = try_join_all(batches).await?;
        let place = |item| Ok((room_of(item)?, member(item)?));
        items.iter().flatten().map(place).collect()
    }

    /// Of the `recent` rooms that `user` joined last, those of at most `largest` members.
    pub async fn small_joined(
        &self,
        tenant: TenantId,
        user: &UserId,
        recent: usize,
        largest: usize,
        race: &Backoff,
    ) -> Result<Vec<RoomId>, Error> {
        let rooms = self.rooms_of(tenant, user, recent).await?;
        if rooms.is_empty() {
            return Ok(Vec::new());
        }
        let keys = rooms.iter().map(|room| {
            let pk = partition(LogId::new(tenant, *room));
            HashMap::from([("pk".to_owned(), s(pk)), ("sk".to_owned(), s(HEAD))])
        });
        let heads = self
            .batch(keys.collect(), Freshness::Eventual, race.clone())
            .await?;
        let mut small = Vec::new();
        for item in &heads {
            let head = head(item)?;
            if head.room.members <= largest {
                small.push(head.room.id);
            }
        }
        Ok(small)
    }

    /// The places of those of `users` who are in a room, in the order of their ids.
    pub async fn places(
        &self,
        log: LogId,
        users: &BTreeSet<UserId>,
        race: &Backoff,
    ) -> Result<Vec<Member>, Error> {
        let keys: Vec<_> = users
            .iter()
            .map(|user| {
                HashMap::from([
                    ("pk".to_owned(), s(partition(log))),
                    ("sk".to_owned(), s(member_sort(user))),
                ])
            })
            .collect();
        let batches = keys
            .chunks(2 * ROOMS_AT_ONCE)
            .map(|keys| self.batch(keys.to_vec(), Freshness::Strong, race.clone()));
        let items = try_join_all(batches).await?;
        let mut places = items
            .iter()
            .flatten()
            .map(member)
            .collect::<Result<Vec<_>, _>>()?;
        places.sort_by(|a, b| a.user.cmp(&b.user));
        Ok(places)
    }

    async fn rooms_of(
        &self,
        tenant: TenantId,
        user: &UserId,
        recent: usize,
    ) -> Result<Vec<RoomId>, Error> {
        let page = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("by_user")
            .scan_index_forward(false)
            .limit(i32::try_from(recent).unwrap_or(i32::MAX))
            .key_condition_expression("user_key = :user")
            .expression_attribute_values(":user", s(user_key(tenant, user)))
            .send()
            .await
            .map_err(fault(&self.table))?;
        page.items().iter().map(room_of).collect()
    }

    async fn batch(
        &self,
        mut keys: Vec<Item>,
        fresh: Freshness,
        mut race: Backoff,
    ) -> Result<Vec<Item>, Error> {
        let mut items = Vec::with_capacity(keys.len());
        loop {
            let wanted = KeysAndAttributes::builder()
                .set_keys(Some(keys))
                .consistent_read(fresh == Freshness::Strong)
                .build()
                .map_err(Error::internal)?;
            let mut found = self
                .client
                .batch_get_item()
                .request_items(&self.table, wanted)
                .send()
                .await
                .map_err(fault(&self.table))?;
            items.extend(
                found
                    .responses
                    .as_mut()
                    .and_then(|tables| tables.remove(&self.table))
                    // Throttled as a whole: nothing of this table.
                    .unwrap_or_default(),
            );
            // Throttled in part: the rest is asked for again.
            let rest = found
                .unprocessed_keys
                .and_then(|mut tables| tables.remove(&self.table));
            match rest {
                Some(rest) if !rest.keys.is_empty() => keys = rest.keys,
                Some(_) | None => return Ok(items),
            }
            race.pause().await?;
        }
    }
}
