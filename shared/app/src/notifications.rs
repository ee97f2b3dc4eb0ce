//! Telling people something outside a log.

use super::{App, membership::log_of};
use crate::{
    domain::{
        Actor, Done, Error, Moment, NotificationId, Once,
        message::Json,
        notification::{Notification, Notified, Targets},
        subscription::Topic,
    },
    store::{Backoff, events::Stored},
};

impl App {
    /// Stores a notification; it is delivered from the table's stream. One round trip.
    ///
    /// # Errors
    ///
    /// As for reading it, if a targeted room is not one of the caller's: nothing is stored.
    pub async fn notify(
        &self,
        actor: &Actor,
        topic: Topic,
        payload: Json,
        targets: Targets,
        once: Option<&Once>,
        moment: &Moment,
    ) -> Result<Done<Notified>, Error> {
        let stores = self.stores();
        let (tenant, user) = (actor.tenant(), actor.user());
        let room = targets.room;
        let claim = once.map(|once| {
            stores
                .guards
                .claim(tenant, "notify", user, once, moment.now)
        });
        let notification = Notification {
            id: NotificationId::at(moment),
            topic,
            payload,
            targets,
            sender: user.clone(),
            created_at: moment.now,
        };
        let mut race = Backoff::until(moment.deadline, moment.seed);
        loop {
            let check = match room {
                None => None,
                Some(room) => Some(stores.rooms.membership_check(log_of(actor, room), user)?),
            };
            let outcome = stores
                .events
                .notify(tenant, &notification, check, claim.as_ref(), &mut race)
                .await?;
            match (outcome, room) {
                (Stored::Done(done), _) => return Ok(done),
                (Stored::Refused, None) => return Err(Error::Busy),
                (Stored::Refused, Some(room)) => {
                    // Says why they are no member; or they are one by now.
                    Box::pin(self.member_for_sure(log_of(actor, room), user, moment)).await?;
                    race.pause().await?;
                }
            }
        }
    }
}
