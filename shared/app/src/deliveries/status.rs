//! What became of a message or a notification.

use crate::{
    App,
    domain::{
        Actor, Error, MessageId, Moment, NotificationId, Page, RoomId, delivery::Delivery,
        notification::Notification, page::Slice,
    },
    store::Backoff,
};

impl App {
    /// The deliveries of a message in a room the caller is in, in the order of their ids.
    ///
    /// # Errors
    ///
    /// As for reading the message.
    pub async fn message_deliveries(
        &self,
        actor: &Actor,
        room: RoomId,
        id: MessageId,
        slice: &Slice,
        moment: &Moment,
    ) -> Result<Page<Delivery>, Error> {
        // Ids come from clients: a message is asked for in its own room only.
        self.message(actor, room, id, moment).await?;
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let deliveries = &self.stores().deliveries;
        deliveries
            .of_subject(actor.tenant(), &id.to_string(), slice, &mut race)
            .await
    }

    /// A notification that the caller sent, and its deliveries in the order of their ids.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for somebody else's, and for one that is not kept any more.
    pub async fn notification(
        &self,
        actor: &Actor,
        id: NotificationId,
        slice: &Slice,
        moment: &Moment,
    ) -> Result<(Notification, Page<Delivery>), Error> {
        let stores = self.stores();
        let tenant = actor.tenant();
        let found = stores.events.notification(tenant, id).await?;
        let notification = found
            .filter(|notification| notification.sender == *actor.user())
            .ok_or(Error::NotFound("Notification"))?;
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let deliveries = stores
            .deliveries
            .of_subject(tenant, &id.to_string(), slice, &mut race)
            .await?;
        Ok((notification, deliveries))
    }
}
