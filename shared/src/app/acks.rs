//! How far a member has received a room.

use super::{
    App,
    membership::{NOT_MEMBER, thread},
};
use crate::{
    domain::{Actor, Error, Moment, RoomId, message::Seq},
    store::Backoff,
};

impl App {
    /// Notes that the caller has received a room up to `seq`. An older seq changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a seq that does not exist.
    pub async fn ack(
        &self,
        actor: &Actor,
        room: RoomId,
        seq: Seq,
        moment: &Moment,
    ) -> Result<(), Error> {
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let thread = thread(actor, room);
        let stores = self.stores();
        if !stores.messages.reaches(thread, seq).await? {
            // A stranger is told that they are one, not how long the log is.
            self.member(actor, room, moment).await?;
            return Err(Error::invalid(
                "seq",
                "Invalid seq. It is beyond the last message of the room",
            ));
        }
        if stores
            .rooms
            .ack(thread, actor.user(), seq, &mut race)
            .await?
        {
            return Ok(());
        }
        Box::pin(self.member_for_sure(thread, actor.user(), moment)).await?;
        if stores
            .rooms
            .ack(thread, actor.user(), seq, &mut race)
            .await?
        {
            return Ok(());
        }
        Err(NOT_MEMBER)
    }
}
