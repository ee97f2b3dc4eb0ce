//! Who wants to hear of a topic.

use super::App;
use crate::{
    domain::{
        Actor, Done, Error, Moment, Once, Page, SubscriptionId,
        page::Slice,
        subscription::{Subscription, Topic},
    },
    store::Backoff,
};

impl App {
    /// Subscribes the caller to `topic`; twice is once.
    pub async fn subscribe(
        &self,
        actor: &Actor,
        topic: Topic,
        once: Option<&Once>,
        moment: &Moment,
    ) -> Result<Done<Subscription>, Error> {
        let stores = self.stores();
        let (tenant, user) = (actor.tenant(), actor.user());
        let claim = once.map(|once| {
            stores
                .guards
                .claim(tenant, "subscribe", user, once, moment.now)
        });
        let new = Subscription {
            id: SubscriptionId::of(tenant, user.as_str(), topic.as_str()),
            subscriber: user.clone(),
            topic,
            created_at: moment.now,
        };
        let mut race = Backoff::until(moment.deadline, moment.seed);
        stores
            .subscriptions
            .create(tenant, new, &stores.guards, claim.as_ref(), &mut race)
            .await
    }

    /// The caller's subscriptions.
    pub async fn subscriptions(
        &self,
        actor: &Actor,
        slice: &Slice,
    ) -> Result<Page<Subscription>, Error> {
        self.stores()
            .subscriptions
            .of(actor.tenant(), actor.user(), slice)
            .await
    }

    /// Ends one of the caller's subscriptions.
    pub async fn unsubscribe(
        &self,
        actor: &Actor,
        id: SubscriptionId,
        moment: &Moment,
    ) -> Result<(), Error> {
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let ended = self
            .stores()
            .subscriptions
            .delete(actor.tenant(), actor.user(), id, &mut race)
            .await?;
        if ended {
            Ok(())
        } else {
            Err(Error::NotFound("Subscription"))
        }
    }
}
