//! Who joins and who leaves.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::{
    Delete, ReturnValuesOnConditionCheckFailure::AllOld, TransactWriteItem, Update,
};

use super::{
    RoomStore, has, item_of,
    items::{HEAD, MEMBER, head, member, member_item, member_sort, partition},
};
use crate::{
    Backoff,
    domain::{
        Cursor, Error, LogId, Page, Timestamp, UserId,
        event::{Event, EventKind},
        message::Seq,
        page::Slice,
        room::{MAX_MEMBERS, Member, Role, room_is_full},
    },
    item::{n, s},
    paging::Partition,
    transaction::{self, Outcome},
};

/// How many members one transaction adds: it holds 100 writes, of which head and event are two.
pub const JOINED_AT_ONCE: usize = 90;

impl RoomStore {
    /// Adds `users`, at most [`JOINED_AT_ONCE`], to a ready room; those who are members already stay as
    /// they are. Gives the places of all of them, in their order. `tail` is the last seq of its log.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the room would hold more than [`MAX_MEMBERS`], [`Error::Busy`] if it
    /// is still being made.
    pub async fn join(
        &self,
        log: LogId,
        users: &BTreeSet<UserId>,
        role: Role,
        tail: Seq,
        event: impl Fn(EventKind) -> Event,
        race: &mut Backoff,
    ) -> Result<Vec<Member>, Error> {
        let mut joining = users.clone();
        let mut places = Vec::with_capacity(users.len());
        while !joining.is_empty() {
            let event = event(EventKind::MemberJoined(joining.iter().cloned().collect()));
            let now = event.at;
            let mut writes = vec![
                self.count(log, joining.len(), role)?,
                self.events.write(log.tenant, &event)?,
            ];
            for user in &joining {
                writes.push(self.put_new(member_item(log, user, role, now, tail))?);
            }
            let refused = match transaction::commit(&self.client, &writes, race).await? {
                Outcome::Committed => None,
                // The event is there: an earlier try of ours landed and its answer was lost.
                Outcome::Refused(refused) if has(&refused, 1).is_some() => None,
                Outcome::Refused(refused) => Some(refused),
            };
            let Some(refused) = refused else {
                places.extend(
                    joining
                        .into_iter()
                        .map(|user| joined(user, role, now, tail)),
                );
                break;
            };
            if let Some(standing) = has(&refused, 0) {
                let Some(item) = item_of(standing) else {
                    return Err(Error::NotFound("Room"));
                };
                if !head(item)?.creating.is_empty() {
                    return Err(Error::Busy);
                }
                // Full for all of them; but those who are in already do not count.
                if refused.iter().skip(2).all(Option::is_none) {
                    return Err(room_is_full());
                }
            }
            for standing in refused.iter().skip(2).flatten().filter_map(item_of) {
                let place = member(standing)?;
                joining.remove(&place.user);
                places.push(place);
            }
            race.pause().await?;
        }
        places.sort_by(|a, b| a.user.cmp(&b.user));
        Ok(places)
    }

    /// Removes a member, and tells of it. `false` if they were none.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if they are the last admin and others remain.
    pub async fn leave(
        &self,
        log: LogId,
        leaving: &Member,
        event: &Event,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        let mut role = leaving.role;
        loop {
            let writes = [
                self.remove(log, &leaving.user, role)?,
                self.discount(log, role)?,
                self.events.write(log.tenant, event)?,
            ];
            let refused = match transaction::commit(&self.client, &writes, race).await? {
                Outcome::Committed => return Ok(true),
                Outcome::Refused(refused) => refused,
            };
            if has(&refused, 2).is_some() {
                // The event is there: an earlier try of ours landed and its answer was lost.
                return Ok(true);
            }
            let Some(standing) = has(&refused, 0) else {
                return Err(Error::Conflict(
                    "The last admin of a room cannot leave while others remain",
                ));
            };
            match item_of(standing) {
                None => return Ok(false),
                // They left and came back in another role since they were read.
                Some(item) => role = member(item)?.role,
            }
            race.pause().await?;
        }
    }

    /// Gives those of `members`, at most [`JOINED_AT_ONCE`], the role `role` that have another, and tells of it. Those who are
    /// no members any more are passed over. Gives the places of those who are, in their order.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if no admin would be left.
    pub async fn change_roles(
        &self,
        log: LogId,
        members: Vec<Member>,
        role: Role,
        event: impl Fn(EventKind) -> Event,
        race: &mut Backoff,
    ) -> Result<Vec<Member>, Error> {
        let mut members = members;
        loop {
            let changing: Vec<UserId> = members
                .iter()
                .filter(|member| member.role != role)
                .map(|member| member.user.clone())
                .collect();
            if changing.is_empty() {
                return Ok(members);
            }
            let event = event(EventKind::MemberUpdated(changing.clone(), role));
            let mut writes = vec![
                self.recount_admins(log, changing.len(), role)?,
                self.events.write(log.tenant, &event)?,
            ];
            for user in &changing {
                writes.push(self.give_role(log, user, role)?);
            }
            let refused = match transaction::commit(&self.client, &writes, race).await? {
                Outcome::Committed => None,
                // The event is there: an earlier try of ours landed and its answer was lost.
                Outcome::Refused(refused) if has(&refused, 1).is_some() => None,
                Outcome::Refused(refused) => Some(refused),
            };
            let Some(refused) = refused else {
                for member in &mut members {
                    member.role = role;
                }
                return Ok(members);
            };
            let mut is_stale = false;
            for (user, refusal) in changing.iter().zip(refused.iter().skip(2)) {
                let Some(refusal) = refusal else { continue };
                is_stale = true;
                match item_of(refusal).map(member).transpose()? {
                    None => members.retain(|known| known.user != *user),
                    Some(standing) => {
                        for known in members.iter_mut().filter(|known| known.user == *user) {
                            *known = standing.clone();
                        }
                    }
                }
            }
            if has(&refused, 0).is_some() && !is_stale {
                return Err(Error::Conflict("A room keeps at least one admin"));
            }
            race.pause().await?;
        }
    }

    /// That `user`, who has the other role, has `role`.
    fn give_role(&self, log: LogId, user: &UserId, role: Role) -> Result<TransactWriteItem, Error> {
        Update::builder()
            .table_name(&self.table)
            .key("pk", s(partition(log)))
            .key("sk", s(member_sort(user)))
            .update_expression("SET #role = :role")
            .condition_expression("attribute_exists(pk) AND #role <> :role")
            .expression_attribute_names("#role", "role")
            .expression_attribute_values(":role", s(role.as_str()))
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .map(transaction::update)
            .map_err(Error::internal)
    }

    /// `changed` members on the head have become `role`, if an admin stays.
    fn recount_admins(
        &self,
        log: LogId,
        changed: usize,
        role: Role,
    ) -> Result<TransactWriteItem, Error> {
        let changed = i64::try_from(changed).map_err(Error::internal)?;
        let update = Update::builder()
            .table_name(&self.table)
            .key("pk", s(partition(log)))
            .key("sk", s(HEAD))
            .update_expression("ADD admins :change");
        let update = match role {
            Role::Admin => update
                .condition_expression("attribute_exists(pk)")
                .expression_attribute_values(":change", n(changed)),
            Role::Member => update
                .condition_expression("attribute_exists(pk) AND admins > :changed")
                .expression_attribute_values(":changed", n(changed))
                .expression_attribute_values(":change", n(-changed)),
        };
        update
            .build()
            .map(transaction::update)
            .map_err(Error::internal)
    }

    /// The end of `user`'s place, if it is one of `role`: that decides what the head counts.
    fn remove(&self, log: LogId, user: &UserId, role: Role) -> Result<TransactWriteItem, Error> {
        let delete = Delete::builder()
            .table_name(&self.table)
            .key("pk", s(partition(log)))
            .key("sk", s(member_sort(user)))
            .condition_expression("#role = :role")
            .expression_attribute_names("#role", "role")
            .expression_attribute_values(":role", s(role.as_str()))
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .map_err(Error::internal)?;
        Ok(transaction::delete(delete))
    }

    /// One member of `role` less on the head, if an admin stays with those who stay.
    fn discount(&self, log: LogId, role: Role) -> Result<TransactWriteItem, Error> {
        let update = Update::builder()
            .table_name(&self.table)
            .key("pk", s(partition(log)))
            .key("sk", s(HEAD))
            .expression_attribute_values(":less", n(-1));
        let update = match role {
            Role::Member => update
                .update_expression("ADD members :less")
                .condition_expression("attribute_exists(pk)"),
            Role::Admin => update
                .update_expression("ADD members :less, admins :less")
                .condition_expression("attribute_exists(pk) AND (admins > :one OR members = :one)")
                .expression_attribute_values(":one", n(1)),
        };
        update
            .build()
            .map(transaction::update)
            .map_err(Error::internal)
    }

    /// A room's members, in the order of their ids.
    pub async fn members(&self, log: LogId, slice: &Slice) -> Result<Page<Member>, Error> {
        let after = match &slice.after {
            None => None,
            Some(Cursor(after)) => Some(member_sort(&UserId::parse("cursor", after)?)),
        };
        let partition = Partition {
            client: &self.client,
            table: &self.table,
            pk: partition(log),
            begins_with: Some(MEMBER),
        };
        let (items, more) = partition.slice(after, slice).await?;
        let items = items.iter().map(member).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::new(items, more, |last| last.user.to_string()))
    }

    /// `more` members of `role` on the head, if they fit and the room is ready.
    fn count(&self, log: LogId, more: usize, role: Role) -> Result<TransactWriteItem, Error> {
        let change = match role {
            Role::Member => "ADD members :more",
            Role::Admin => "ADD members :more, admins :more",
        };
        Update::builder()
            .table_name(&self.table)
            .key("pk", s(partition(log)))
            .key("sk", s(HEAD))
            .update_expression(change)
            .condition_expression(
                "attribute_exists(pk) AND attribute_not_exists(creating) AND members <= :room",
            )
            .expression_attribute_values(":more", n(more))
            .expression_attribute_values(":room", n(MAX_MEMBERS.saturating_sub(more)))
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .map(transaction::update)
            .map_err(Error::internal)
    }
}

fn joined(user: UserId, role: Role, joined_at: Timestamp, joined_seq: Seq) -> Member {
    Member {
        user,
        role,
        joined_at,
        acked_seq: Seq::ZERO,
        joined_seq: Some(joined_seq),
    }
}
