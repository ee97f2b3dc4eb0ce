//! Rooms and who is in them.

use std::collections::BTreeSet;

use super::{
    App,
    membership::{NO_ROOM, log_of},
};
use crate::{
    domain::{
        Actor, Cursor, Done, Error, EventId, Moment, Once, Page, RoomId, Timestamp, UserId,
        event::{Event, EventKind},
        page::Slice,
        room::{MAX_MEMBERS, Member, NewRoom, Role, Room, RoomType, RoomView, room_is_full},
        text::Name,
    },
    store::{
        Backoff,
        rooms::{Freshness, Head, JOINED_AT_ONCE as AT_ONCE},
    },
};

const NO_MEMBER: Error = Error::NotFound("Member");
const DM_IS_FIXED: Error = Error::Conflict("The members of a dm never change");

impl App {
    /// Makes a room in which the caller is the admin. One round trip up to 90 members.
    pub async fn create_room(
        &self,
        actor: &Actor,
        new: &NewRoom,
        once: Option<&Once>,
        moment: &Moment,
    ) -> Result<Done<Room>, Error> {
        let stores = self.stores();
        let room = RoomId::at(moment);
        let claim = once.map(|once| {
            let tenant = actor.tenant();
            stores
                .guards
                .claim(tenant, "create_room", actor.user(), once, moment.now)
        });
        let event = event(actor, room, moment, 0, EventKind::RoomCreated);
        let mut race = Backoff::until(moment.deadline, moment.seed);
        stores
            .rooms
            .create(actor, room, new, &event, claim.as_ref(), &mut race)
            .await
    }

    /// A room as the caller sees it, up to its newest message. One round trip.
    pub async fn room(
        &self,
        actor: &Actor,
        room: RoomId,
        moment: &Moment,
    ) -> Result<RoomView, Error> {
        let log = log_of(actor, room);
        let stores = self.stores();
        let (head, member, tail) = tokio::try_join!(
            stores.rooms.head(log, Freshness::Eventual),
            stores.rooms.member(log, actor.user(), Freshness::Eventual),
            stores.messages.tail(log),
        )?;
        let member = match member {
            Some(member) => member,
            None => Box::pin(self.member_for_sure(log, actor.user(), moment)).await?,
        };
        let head = match head {
            Some(head) => head,
            None => self.head(actor, room).await?,
        };
        Box::pin(self.finish(actor, &head, moment)).await?;
        let mut room = head.room;
        room.last_seq = room.last_seq.max(tail);
        Ok(RoomView {
            room,
            acked_seq: member.acked_seq,
        })
    }

    /// The caller's rooms, newest activity first, among the 1,000 they joined last. What heads say may
    /// be a second behind their logs. Two round trips.
    pub async fn rooms(
        &self,
        actor: &Actor,
        slice: &Slice,
        moment: &Moment,
    ) -> Result<Page<RoomView>, Error> {
        let after = slice.after.as_ref().map(position).transpose()?;
        let race = Backoff::until(moment.deadline, moment.seed);
        let mut views = self
            .stores()
            .rooms
            .joined(actor.tenant(), actor.user(), &race)
            .await?;
        views.sort_by_key(|view| std::cmp::Reverse(place(view)));
        if let Some(after) = after {
            views.retain(|view| place(view) < after);
        }
        let more = views.len() > slice.offset + slice.limit;
        let items: Vec<_> = views
            .into_iter()
            .skip(slice.offset)
            .take(slice.limit)
            .collect();
        Ok(Page::new(items, more, |last| {
            let (at, id) = place(last);
            format!("{}.{id}", at.micros())
        }))
    }

    /// Names a room the caller administers anew; `None` takes its name away.
    pub async fn rename_room(
        &self,
        actor: &Actor,
        room: RoomId,
        name: Option<&Name>,
        moment: &Moment,
    ) -> Result<RoomView, Error> {
        self.admin(actor, room, moment).await?;
        let event = event(actor, room, moment, 0, EventKind::RoomUpdated);
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let stores = self.stores();
        stores
            .rooms
            .rename(log_of(actor, room), name, &event, &mut race)
            .await?;
        let mut view = Box::pin(self.room(actor, room, moment)).await?;
        view.room.name = name.cloned();
        Ok(view)
    }

    /// The members of a room the caller is in.
    pub async fn members(
        &self,
        actor: &Actor,
        room: RoomId,
        slice: &Slice,
        moment: &Moment,
    ) -> Result<Page<Member>, Error> {
        let log = log_of(actor, room);
        let rooms = &self.stores().rooms;
        let (_, head, members) = tokio::try_join!(
            self.member(actor, room, moment),
            rooms.head(log, Freshness::Strong),
            rooms.members(log, slice),
        )?;
        let head = head.ok_or(NO_ROOM)?;
        if head.creating.is_empty() {
            return Ok(members);
        }
        self.finish(actor, &head, moment).await?;
        rooms.members(log, slice).await
    }

    /// Adds members to a room the caller administers, as `role` or else as members. Those who are in it already get `role`
    /// too, and stay as they are without one.
    ///
    /// More than 90 take several transactions; a request that died among them is finished by the same
    /// request sent again.
    pub async fn add_members(
        &self,
        actor: &Actor,
        room: RoomId,
        users: &BTreeSet<UserId>,
        role: Option<Role>,
        once: Option<&Once>,
        moment: &Moment,
    ) -> Result<Done<Vec<Member>>, Error> {
        let log = log_of(actor, room);
        let (_, head, tail) = tokio::try_join!(
            self.admin(actor, room, moment),
            self.head(actor, room),
            self.stores().messages.tail(log),
        )?;
        if head.room.kind == RoomType::Dm {
            return Err(DM_IS_FIXED);
        }
        self.finish(actor, &head, moment).await?;
        let stores = self.stores();
        let claim = once.map(|once| {
            let tenant = actor.tenant();
            stores
                .guards
                .claim(tenant, "add_members", actor.user(), once, moment.now)
        });
        let mut race = Backoff::until(moment.deadline, moment.seed);
        if let Some(claim) = &claim
            && let Some(places) = stores.rooms.joined_before(&stores.guards, claim).await?
        {
            return Ok(Done::before(places));
        }
        // Several transactions: all must fit, or none may be written.
        if head.room.members + users.len() > MAX_MEMBERS {
            let known = stores.rooms.places(log, users, &race).await?.len();
            if head.room.members + users.len() - known > MAX_MEMBERS {
                return Err(room_is_full());
            }
        }
        let users: Vec<_> = users.iter().cloned().collect();
        let mut places = Vec::with_capacity(users.len());
        let rooms = &stores.rooms;
        // Each change has an event of its own.
        let mut parts = 0..;
        let mut event = move || {
            let part = parts.next().unwrap_or_default();
            move |kind| event(actor, room, moment, part, kind)
        };
        if let Some(role) = role {
            // First: what no role can be changed for is not half done.
            let named = users.iter().cloned().collect();
            let known = rooms.places(log, &named, &race).await?;
            for known in known.chunks(AT_ONCE) {
                let known = known.to_vec();
                let changed = rooms.change_roles(log, known, role, event(), &mut race);
                changed.await?;
            }
        }
        let first = role.unwrap_or(Role::Member);
        for (part, users) in users.chunks(AT_ONCE).enumerate() {
            // The parts before took a while: messages of that time were said while these users were out.
            let tail = match part {
                0 => tail,
                _ => stores.messages.tail(log).await?,
            };
            let users = users.iter().cloned().collect();
            let joined = rooms.join(log, &users, first, tail, event(), &mut race);
            let mut joined = joined.await?;
            if let Some(role) = role {
                // Users whom another request added meanwhile may have the other role.
                let changed = rooms.change_roles(log, joined, role, event(), &mut race);
                joined = changed.await?;
            }
            places.extend(joined);
        }
        if let Some(claim) = &claim {
            return rooms
                .remember_joined(&stores.guards, claim, places, &mut race)
                .await;
        }
        Ok(Done::now(places))
    }

    /// Gives a member of a room the caller administers another role.
    pub async fn change_role(
        &self,
        actor: &Actor,
        room: RoomId,
        user: &UserId,
        role: Role,
        moment: &Moment,
    ) -> Result<Member, Error> {
        let log = log_of(actor, room);
        let rooms = &self.stores().rooms;
        let (_, head, place) = tokio::try_join!(
            self.admin(actor, room, moment),
            self.head(actor, room),
            rooms.member(log, user, Freshness::Strong),
        )?;
        if head.room.kind == RoomType::Dm {
            return Err(DM_IS_FIXED);
        }
        self.finish(actor, &head, moment).await?;
        let place = match place {
            None if head.creating.contains(user) => {
                rooms.member(log, user, Freshness::Strong).await?
            }
            place => place,
        };
        let place = place.ok_or(NO_MEMBER)?;
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let event = |kind| event(actor, room, moment, 0, kind);
        let changed = rooms.change_roles(log, vec![place], role, event, &mut race);
        changed.await?.pop().ok_or(NO_MEMBER)
    }

    /// Removes `user` from a room: the caller themself, or anyone if the caller is an admin.
    pub async fn remove_member(
        &self,
        actor: &Actor,
        room: RoomId,
        user: &UserId,
        moment: &Moment,
    ) -> Result<(), Error> {
        let log = log_of(actor, room);
        let rooms = &self.stores().rooms;
        let (caller, head, leaving) = tokio::try_join!(
            self.member(actor, room, moment),
            self.head(actor, room),
            rooms.member(log, user, Freshness::Strong),
        )?;
        if user != actor.user() && caller.role != Role::Admin {
            return Err(Error::Forbidden("Only an admin of the room may do this"));
        }
        if head.room.kind == RoomType::Dm {
            return Err(DM_IS_FIXED);
        }
        self.finish(actor, &head, moment).await?;
        let leaving = match leaving {
            Some(leaving) => leaving,
            None if head.creating.contains(user) => rooms
                .member(log, user, Freshness::Strong)
                .await?
                .ok_or(NO_MEMBER)?,
            None => return Err(NO_MEMBER),
        };
        let event = event(actor, room, moment, 0, EventKind::MemberLeft(user.clone()));
        let mut race = Backoff::until(moment.deadline, moment.seed);
        if rooms.leave(log, &leaving, &event, &mut race).await? {
            Ok(())
        } else {
            Err(NO_MEMBER)
        }
    }

    async fn head(&self, actor: &Actor, room: RoomId) -> Result<Head, Error> {
        let rooms = &self.stores().rooms;
        let head = rooms.head(log_of(actor, room), Freshness::Strong).await?;
        head.ok_or(NO_ROOM)
    }

    /// Writes the members of a large room that a process which died has left out.
    async fn finish(&self, actor: &Actor, head: &Head, moment: &Moment) -> Result<(), Error> {
        let mut race = Backoff::until(moment.deadline, moment.seed);
        self.stores()
            .rooms
            .complete(
                log_of(actor, head.room.id),
                &head.creating,
                head.room.created_at,
                &mut race,
            )
            .await
    }
}

/// Where a room stands in the list: by activity, then by id, so that no two share a place.
fn place(view: &RoomView) -> (Timestamp, RoomId) {
    (view.room.active_at(), view.room.id)
}

fn position(cursor: &Cursor) -> Result<(Timestamp, RoomId), Error> {
    let wrong = Cursor::invalid;
    let (at, id) = cursor.0.split_once('.').ok_or_else(wrong)?;
    let micros = at.parse().map_err(|_| wrong())?;
    let id = id.parse().map_err(|_| wrong())?;
    Ok((Timestamp::from_micros(micros), id))
}

/// The `part`th event of this request.
fn event(actor: &Actor, room: RoomId, moment: &Moment, part: u128, kind: EventKind) -> Event {
    let seed = moment.seed.wrapping_add(part << 64);
    Event {
        id: EventId::at(&Moment { seed, ..*moment }),
        at: moment.now,
        actor: Some(actor.user().clone()),
        room: Some(room),
        kind,
    }
}
