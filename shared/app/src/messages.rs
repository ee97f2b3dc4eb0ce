//! The log of a room.

use super::{App, membership::log_of};
use crate::{
    domain::{
        Actor, Done, Error, MessageId, Moment, Once, RoomId,
        message::{Content, Draft, Json, Message, Range, Sent, Stretch},
    },
    store::{Backoff, messages::Change, rooms::Freshness},
};

impl App {
    /// Sends a message to a room the caller is in.
    ///
    /// Two round trips: the caller's place and the log's tail together, then one conditional write.
    pub async fn send_message(
        &self,
        actor: &Actor,
        room: RoomId,
        content: Content,
        meta: Option<Json>,
        once: Option<&Once>,
        moment: &Moment,
    ) -> Result<Done<Sent>, Error> {
        let log = log_of(actor, room);
        let stores = self.stores();
        let (member, tail) = tokio::try_join!(
            stores.rooms.member(log, actor.user(), Freshness::Eventual),
            stores.messages.tail_hint(log),
        )?;
        let claim = once.map(|once| {
            let tenant = actor.tenant();
            stores
                .guards
                .claim(tenant, "send_message", actor.user(), once, moment.now)
        });
        if member.is_none()
            && let Err(denied) = Box::pin(self.member_for_sure(log, actor.user(), moment)).await
        {
            // Who has sent it as a member, and left, is told so.
            return match claim {
                Some(claim) => stores.messages.sent_before(&stores.guards, &claim).await,
                None => Ok(None),
            }?
            .map(Done::before)
            .ok_or(denied);
        }
        let draft = Draft {
            log,
            author: actor.user().clone(),
            role: None,
            in_reply_to: None,
            content,
            meta,
            created_at: moment.now,
            seed: moment.seed,
        };
        let messages = &stores.messages;
        match claim {
            None => messages
                .append(&draft, tail, moment.deadline)
                .await
                .map(Done::now),
            Some(claim) => {
                messages
                    .append_once(&draft, tail, &claim, moment.deadline)
                    .await
            }
        }
    }

    /// Messages of a room the caller is in. One round trip.
    pub async fn messages(
        &self,
        actor: &Actor,
        room: RoomId,
        range: Range,
        moment: &Moment,
    ) -> Result<Stretch, Error> {
        let messages = self.stores().messages.range(log_of(actor, room), range);
        let (_, messages) = tokio::try_join!(self.member(actor, room, moment), messages)?;
        Ok(messages)
    }

    /// One message of a room the caller is in.
    pub async fn message(
        &self,
        actor: &Actor,
        room: RoomId,
        id: MessageId,
        moment: &Moment,
    ) -> Result<Message, Error> {
        let message = self.stores().messages.get(log_of(actor, room), id);
        let (_, message) = tokio::try_join!(self.member(actor, room, moment), message)?;
        message.ok_or(Error::NotFound("Message"))
    }

    /// Changes the caller's own message. It keeps its seq.
    pub async fn edit_message(
        &self,
        actor: &Actor,
        room: RoomId,
        id: MessageId,
        content: Content,
        meta: Option<Json>,
        moment: &Moment,
    ) -> Result<Message, Error> {
        let change = Change::Edit { content, meta };
        self.change_message(actor, room, id, &change, moment).await
    }

    /// Takes the caller's own message back. A tombstone keeps its place.
    pub async fn delete_message(
        &self,
        actor: &Actor,
        room: RoomId,
        id: MessageId,
        moment: &Moment,
    ) -> Result<(), Error> {
        self.change_message(actor, room, id, &Change::Delete, moment)
            .await
            .map(|_| ())
    }

    async fn change_message(
        &self,
        actor: &Actor,
        room: RoomId,
        id: MessageId,
        change: &Change,
        moment: &Moment,
    ) -> Result<Message, Error> {
        self.member(actor, room, moment).await?;
        let mut race = Backoff::until(moment.deadline, moment.seed);
        self.stores()
            .messages
            .change(
                log_of(actor, room),
                id,
                actor.user(),
                change,
                moment.now,
                &mut race,
            )
            .await
    }
}
