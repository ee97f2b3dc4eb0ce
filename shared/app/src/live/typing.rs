//! Typing indicators, told to the other members of small rooms.
//!
//! That a user types is noted on their presence, for the connection over which it was said, and a job is sent that ends it
//! [`TYPING_SECONDS`] later. A new start replaces the note, which the job then no longer finds. So does a stop, a message of
//! theirs, their leaving and the end of the connection: they take the note away, and whoever does tells that it is over.
//!
//! **Invariant:** a start is told only with a note and a job that ends it. In one room, a connection's starts are noted and
//! told at most once in [`TYPING_AGAIN_SECONDS`](crate::domain::live::TYPING_AGAIN_SECONDS), however often they are said.

use std::collections::BTreeSet;

use super::in_passing;
use crate::{
    App,
    domain::{
        Actor, Connection, Error, LogId, Moment, RoomId, TenantId, UserId,
        live::{TYPING_SECONDS, Typing},
        message::{Range, Seq},
    },
    membership::log_of,
    providers::frames,
    queue::Fanout,
    store::Backoff,
};

/// How many messages are looked at whose authors may have typed: more than one call tells of.
const MOST_WRITTEN: usize = 100;

impl App {
    /// The caller says over `connection` that they type in a room.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] for a stranger, [`Error::NotFound`] without a room.
    pub async fn start_typing(
        &self,
        actor: &Actor,
        connection: &Connection,
        room: RoomId,
        moment: &Moment,
    ) -> Result<(), Error> {
        self.member(actor, room, moment).await?;
        let typing = Typing {
            user: actor.user().clone(),
            connection: connection.id.clone(),
            log: room.into(),
            at: moment.now,
        };
        in_passing(self.note_typing(connection, typing, moment)).await;
        Ok(())
    }

    /// The caller says over `connection` that they type in a room no longer.
    ///
    /// # Errors
    ///
    /// As [`App::start_typing`].
    pub async fn stop_typing(
        &self,
        actor: &Actor,
        connection: &Connection,
        room: RoomId,
        moment: &Moment,
    ) -> Result<(), Error> {
        let log = log_of(actor, room);
        self.member(actor, room, moment).await?;
        in_passing(async {
            let store = &self.stores().connections;
            let found = store.presence(log.tenant, actor.user(), moment.now);
            let mut typing = found.await?.typing;
            typing.retain(|it| it.log == log.log && it.connection == connection.id);
            for typing in &typing {
                self.end_typing(log.tenant, typing, moment).await?;
            }
            Ok(())
        })
        .await;
        Ok(())
    }

    async fn note_typing(
        &self,
        connection: &Connection,
        typing: Typing,
        moment: &Moment,
    ) -> Result<(), Error> {
        let tenant = connection.tenant;
        let log = LogId::new(tenant, typing.log);
        let Some(mut users) = self.few_members(log).await? else {
            return Ok(());
        };
        users.insert(typing.user.clone());
        let mut online = self.online(tenant, &users, moment).await?;
        let before = online
            .typing
            .into_iter()
            .find(|it| it.connection == connection.id);
        let is_told = |it: &Typing| it.log == typing.log && it.is_fresh(typing.at);
        if before.as_ref().is_some_and(is_told) {
            return Ok(());
        }
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let store = &self.stores().connections;
        if !store.note_typing(connection, &typing, &mut race).await? {
            return Ok(());
        }
        // Before it is told: what nobody ends must not begin.
        self.end_typing_after(tenant, &typing, TYPING_SECONDS)
            .await?;
        online.connections.retain(|it| it.user != typing.user);
        let frame = frames::typing(typing.log, &typing.user, frames::Typing::Start)?;
        self.post_each(&online.connections, &frame, 0, moment)
            .await?;
        // A note of another room was replaced: its job no longer finds it, so its end is told here.
        match before.filter(|it| it.log != typing.log && it.lasts(typing.at)) {
            Some(elsewhere) => self.tell_typing_over(tenant, &elsewhere, moment).await,
            None => Ok(()),
        }
    }

    /// Has it ended that a user types, `seconds` from now, unless they say it again.
    pub(super) async fn end_typing_after(
        &self,
        tenant: TenantId,
        typing: &Typing,
        seconds: u16,
    ) -> Result<(), Error> {
        let job = Fanout::TypingEnds {
            tenant,
            typing: typing.clone(),
        };
        let sent = self.jobs().fan_out(&[job], seconds).await;
        sent.map_err(Error::from)
    }

    /// Ends that a user types, and tells it; unless they have said it again, or it was ended before.
    pub async fn end_typing(
        &self,
        tenant: TenantId,
        typing: &Typing,
        moment: &Moment,
    ) -> Result<(), Error> {
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let store = &self.stores().connections;
        if !store.end_typing(tenant, typing, &mut race).await? {
            return Ok(());
        }
        self.tell_typing_over(tenant, typing, moment).await
    }

    /// Tells the other members of a small room that a user types no longer, unless they do at another connection.
    async fn tell_typing_over(
        &self,
        tenant: TenantId,
        typing: &Typing,
        moment: &Moment,
    ) -> Result<(), Error> {
        let log = LogId::new(tenant, typing.log);
        let members = self.few_members(log).await?;
        let mut users = members.unwrap_or_default();
        users.insert(typing.user.clone());
        let mut online = self.online(tenant, &users, moment).await?;
        let now = moment.current();
        let goes_on = online.typing.iter().any(|it| {
            let is_other = it.connection != typing.connection;
            is_other && it.user == typing.user && it.log == typing.log && it.lasts(now)
        });
        if goes_on {
            return Ok(());
        }
        online.connections.retain(|it| it.user != typing.user);
        let frame = frames::typing(typing.log, &typing.user, frames::Typing::Stop)?;
        self.post_each(&online.connections, &frame, 0, moment)
            .await
            .map(drop)
    }

    /// Messages `seqs` of a room were written: those of `typing` who have said one of them type no longer, unless they have
    /// begun again since.
    pub(super) async fn end_typing_of_authors(
        &self,
        log: LogId,
        seqs: &[Seq],
        mut typing: Vec<Typing>,
        moment: &Moment,
    ) -> Result<(), Error> {
        let now = moment.current();
        typing.retain(|it| it.log == log.log && it.lasts(now));
        let (Some(first), Some(last)) = (seqs.iter().min(), seqs.iter().max()) else {
            return Ok(());
        };
        if typing.is_empty() {
            return Ok(());
        }
        let range = Range {
            after: Some(Seq::new(first.get().saturating_sub(1))),
            before: Some(last.next()),
            limit: usize::try_from(last.since(*first) + 1)
                .unwrap_or(usize::MAX)
                .min(MOST_WRITTEN),
        };
        let written = self.stores().messages.range(log, range).await?.messages;
        for typing in typing {
            let said_since = |it: &crate::domain::message::Message| {
                it.author == typing.user && typing.at <= it.created_at
            };
            if written.iter().any(said_since) {
                self.end_typing(log.tenant, &typing, moment).await?;
            }
        }
        Ok(())
    }

    /// A user is no member of a room any more: if they typed there, it is over.
    pub(crate) async fn end_typing_of_leaver(
        &self,
        log: LogId,
        user: &UserId,
        moment: &Moment,
    ) -> Result<(), Error> {
        let users = BTreeSet::from([user.clone()]);
        let online = self.online(log.tenant, &users, moment).await?;
        for typing in online.typing.iter().filter(|it| it.log == log.log) {
            self.end_typing(log.tenant, typing, moment).await?;
        }
        Ok(())
    }
}
