//! How far a member has received a room.

use super::{
    App,
    live::in_passing,
    membership::{NOT_MEMBER, log_of},
};
use crate::{
    domain::{Actor, ConnectionId, Error, Moment, RoomId, message::Seq},
    queue::Fanout,
    store::{Backoff, rooms::Acked},
};

impl App {
    /// Notes that the caller has received a room up to `seq`, and has that told: to the other members of a small room, and
    /// to the caller's other connections. An older seq changes nothing and is told to nobody. `said_by` is the connection
    /// over which it was said, if it was over one.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a seq that does not exist.
    pub async fn ack(
        &self,
        actor: &Actor,
        room: RoomId,
        seq: Seq,
        said_by: Option<&ConnectionId>,
        moment: &Moment,
    ) -> Result<(), Error> {
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let log = log_of(actor, room);
        let stores = self.stores();
        if !stores.messages.reaches(log, seq).await? {
            // A stranger is told that they are one, not how long the log is.
            self.member(actor, room, moment).await?;
            return Err(Error::invalid(
                "seq",
                "Invalid seq. It is beyond the last message of the room",
            ));
        }
        let acked = stores.rooms.ack(log, actor.user(), seq, &mut race);
        let acked = match acked.await? {
            Acked::Nobody => {
                Box::pin(self.member_for_sure(log, actor.user(), moment)).await?;
                let acked = stores.rooms.ack(log, actor.user(), seq, &mut race);
                acked.await?
            }
            acked @ (Acked::Moved | Acked::Before) => acked,
        };
        match acked {
            Acked::Moved => {
                let job = Fanout::Acked {
                    tenant: actor.tenant(),
                    log: room.into(),
                    user: actor.user().clone(),
                    seq,
                    said_by: said_by.cloned(),
                };
                // It is noted: whoever does not hear of it reads it.
                in_passing(async { Ok(self.jobs().fan_out(&[job], 0).await?) }).await;
                Ok(())
            }
            Acked::Before => Ok(()),
            Acked::Nobody => Err(NOT_MEMBER),
        }
    }
}
