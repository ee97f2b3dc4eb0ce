//! The log of a room.

use super::{App, membership::thread};
use crate::{
    domain::{
        Actor, Done, Error, MessageId, Moment, Once, RoomId,
        message::{Content, Draft, Json, Message, Range, Sent, Stretch},
    },
    store::{messages::Change, rooms::Freshness},
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
        let thread = thread(actor, room);
        let stores = self.stores();
        let (member, tail) = tokio::try_join!(
            stores
                .rooms
                .member(thread, actor.user(), Freshness::Eventual),
            stores.messages.tail_hint(thread),
        )?;
        if member.is_none() {
            Box::pin(self.member_for_sure(thread, actor.user())).await?;
        }
        let draft = Draft {
            thread,
            author: actor.user().clone(),
            content,
            meta,
            created_at: moment.now,
            seed: moment.seed,
        };
        match once {
            None => {
                let sent = stores
                    .messages
                    .append(&draft, tail, moment.deadline)
                    .await?;
                Ok(Done::now(sent))
            }
            Some(once) => {
                let claim = stores.guards.claim(
                    actor.tenant(),
                    "send_message",
                    actor.user(),
                    once,
                    moment.now,
                );
                stores
                    .messages
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
    ) -> Result<Stretch, Error> {
        let messages = self.stores().messages.range(thread(actor, room), range);
        let (_, messages) = tokio::try_join!(self.member(actor, room), messages)?;
        Ok(messages)
    }

    /// One message of a room the caller is in.
    pub async fn message(
        &self,
        actor: &Actor,
        room: RoomId,
        id: MessageId,
    ) -> Result<Message, Error> {
        let message = self.stores().messages.get(thread(actor, room), id);
        let (_, message) = tokio::try_join!(self.member(actor, room), message)?;
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
        self.member(actor, room).await?;
        self.stores()
            .messages
            .change(thread(actor, room), id, actor.user(), change, moment.now)
            .await
    }
}
