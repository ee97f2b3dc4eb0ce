//! Who is there, told to those who share a small room with them.
//!
//! Told to the online members of those of the [`RECENT_ROOMS`] rooms the user joined last that have at most
//! [`super::SMALL_ROOM`] members: whoever needs more asks with `subscribe`.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{ROOMS_AT_ONCE, SMALL_ROOM};
use crate::{
    App,
    domain::{Error, LogId, Moment, TenantId, Timestamp, UserId, live::Presence},
    providers::frames,
    store::Backoff,
};

/// How many of a user's rooms are told.
const RECENT_ROOMS: usize = 20;

impl App {
    /// Tells that a user came, if they are still there.
    pub async fn presence_came(
        &self,
        tenant: TenantId,
        user: &UserId,
        moment: &Moment,
    ) -> Result<(), Error> {
        let now = moment.current();
        let store = &self.stores().connections;
        let found = store.presence(tenant, user, now).await?;
        if found.connections.is_empty() {
            return Ok(());
        }
        self.tell_presence(tenant, user, Presence::Online, moment)
            .await
    }

    /// Tells that a user whose last connection ended at `at` is gone, unless they came back. Called
    /// [`crate::domain::live::GRACE_SECONDS`] after `at`.
    pub async fn presence_gone(
        &self,
        tenant: TenantId,
        user: &UserId,
        at: Timestamp,
        moment: &Moment,
    ) -> Result<(), Error> {
        let now = moment.current();
        let store = &self.stores().connections;
        let found = store.presence(tenant, user, now).await?;
        let came_and_left_again = found.left_at.is_some_and(|left| left != at);
        if came_and_left_again || !found.connections.is_empty() {
            return Ok(());
        }
        self.tell_presence(tenant, user, Presence::Offline, moment)
            .await
    }

    async fn tell_presence(
        &self,
        tenant: TenantId,
        user: &UserId,
        presence: Presence,
        moment: &Moment,
    ) -> Result<(), Error> {
        let race = Backoff::until(moment.deadline, moment.seed);
        let rooms = &self.stores().rooms;
        let small = rooms
            .small_joined(tenant, user, RECENT_ROOMS, SMALL_ROOM, &race)
            .await?;
        let reading = small
            .into_iter()
            .map(|room| self.few_members(LogId::new(tenant, room)));
        let members: Vec<_> = stream::iter(reading.collect::<Vec<_>>())
            .buffer_unordered(ROOMS_AT_ONCE)
            .try_collect()
            .await?;
        let mut others: BTreeSet<UserId> = members.into_iter().flatten().flatten().collect();
        others.remove(user);
        let frame = frames::presence_update(user, presence)?;
        self.tell_online(tenant, others, &frame, moment).await
    }
}
