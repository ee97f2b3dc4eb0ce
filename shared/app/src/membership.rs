//! Whether someone is in a room: the question before every other.

use super::App;
use crate::{
    domain::{Actor, Error, LogId, Moment, RoomId, UserId, room::Member, room::Role},
    store::{Backoff, rooms::Freshness},
};

/// The room's log, within the caller's tenant.
pub(super) fn log_of(actor: &Actor, room: RoomId) -> LogId {
    LogId::new(actor.tenant(), room)
}

pub(super) const NO_ROOM: Error = Error::NotFound("Room");
pub(super) const NOT_MEMBER: Error = Error::Forbidden("You are not a member of this room");
const NOT_ADMIN: Error = Error::Forbidden("Only an admin of the room may do this");

impl App {
    /// The caller's place in a room.
    ///
    /// A cheap read first; only a miss is read again strongly, and a room that is still being made is
    /// finished before anyone is turned away.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] for a stranger, [`Error::NotFound`] without a room.
    pub(super) async fn member(
        &self,
        actor: &Actor,
        room: RoomId,
        moment: &Moment,
    ) -> Result<Member, Error> {
        let log = log_of(actor, room);
        let rooms = &self.stores().rooms;
        match rooms.member(log, actor.user(), Freshness::Eventual).await? {
            Some(member) => Ok(member),
            // Boxed: rare, and large.
            None => Box::pin(self.member_for_sure(log, actor.user(), moment)).await,
        }
    }

    /// The same, after a cheap read that found nothing.
    pub(super) async fn member_for_sure(
        &self,
        log: LogId,
        user: &UserId,
        moment: &Moment,
    ) -> Result<Member, Error> {
        let rooms = &self.stores().rooms;
        let (head, member) = tokio::try_join!(
            rooms.head(log, Freshness::Strong),
            rooms.member(log, user, Freshness::Strong),
        )?;
        let head = head.ok_or(NO_ROOM)?;
        if let Some(member) = member {
            return Ok(member);
        }
        if !head.creating.contains(user) {
            return Err(NOT_MEMBER);
        }
        let mut race = Backoff::until(moment.deadline, moment.seed);
        rooms
            .complete(log, &head.creating, head.room.created_at, &mut race)
            .await?;
        rooms
            .member(log, user, Freshness::Strong)
            .await?
            .ok_or(NOT_MEMBER)
    }

    /// The caller's place in a room, where they must be an admin.
    pub(super) async fn admin(
        &self,
        actor: &Actor,
        room: RoomId,
        moment: &Moment,
    ) -> Result<Member, Error> {
        let member = self.member(actor, room, moment).await?;
        match member.role {
            Role::Admin => Ok(member),
            Role::Member => Err(NOT_ADMIN),
        }
    }
}
