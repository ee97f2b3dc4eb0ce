//! Whom something reaches. A large audience is done in pages of [`PAGE`]: each page's job sends the next
//! one, so a room of 10,000 members costs no more memory than one of 100.
//!
//! Whoever is connected is told of messages by the pump; for whoever is not, and for everything else, a
//! delivery is queued. All of it may be done twice: pumps stop at what a connection has, and a delivery's
//! copies meet in one row.

use super::{App, live::in_passing};
use crate::{
    domain::{
        ConnectionId, Cursor, Error, Log, LogId, Moment, Reach, TenantId, UserId,
        delivery::{Job, Subject},
        event::MEMBER_LEFT,
        live::{STUCK_TRIES, wait},
        message::Message,
        notification::Notification,
        page::Slice,
        room::Member,
        webhook::EventType,
    },
    providers::frames,
    queue::{Audience, Fanout, Sending},
    store::{Backoff, rooms::Freshness},
};

/// How many people are told by one job.
const PAGE: usize = 100;

/// What became of a job that tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It is done.
    Done,
    /// Nobody can be told, for what happened is kept no longer. Why, for who looks at what was put aside.
    Lost(&'static str),
}

impl App {
    /// Tells what happened to `audience`, or queues that. Several `subjects` are messages that were written to
    /// the same log, in any order.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] and the like, if something that is needed is out: all of it is to be done again.
    pub async fn tell(
        &self,
        tenant: TenantId,
        subjects: &[Subject],
        audience: &Audience,
        moment: &Moment,
    ) -> Result<Told, Error> {
        let Some(first) = subjects.first() else {
            return Ok(Told::Done);
        };
        match *first {
            Subject::MessageCreated { log, .. } => {
                let log = LogId { tenant, log };
                self.tell_written(log, subjects, audience, moment).await?;
            }
            Subject::MessageEdited { log, id, .. } | Subject::MessageDeleted { log, id } => {
                let log = LogId { tenant, log };
                let Some(message) = self.stores().messages.get(log, id).await? else {
                    return Ok(Told::Lost("the message is not in its log"));
                };
                self.tell_changed(log, first, &message, audience, moment)
                    .await?;
            }
            Subject::Notification(id) => {
                let found = self.stores().events.notification(tenant, id).await?;
                let Some(notification) = found else {
                    return Ok(Told::Lost("the notification is no longer kept"));
                };
                self.tell_targets(tenant, &notification, audience, moment)
                    .await?;
            }
            Subject::Event(id) => {
                let Some(event) = self.stores().events.happened(tenant, id).await? else {
                    return Ok(Told::Lost("the event is no longer kept"));
                };
                // Not all that happens is told to webhooks.
                if let Ok(kind) = event.kind.parse() {
                    self.tell_webhooks(tenant, first, kind, moment).await?;
                }
                if event.kind == MEMBER_LEFT
                    && let Some(room) = event.room
                {
                    let log = LogId::new(tenant, room);
                    for user in &event.users {
                        in_passing(self.end_typing_of_leaver(log, user, moment)).await;
                    }
                }
            }
        }
        Ok(Told::Done)
    }

    /// Brings a connection that said where it stands up to date, or has that done in a moment.
    ///
    /// # Errors
    ///
    /// As [`App::tell`].
    pub async fn bring_up_to_date(
        &self,
        tenant: TenantId,
        connection: &ConnectionId,
        logs: &[Log],
        tries: u32,
        moment: &Moment,
    ) -> Result<(), Error> {
        let catching_up = self.catch_up(tenant, connection, logs, tries, moment);
        let behind = catching_up.await?;
        if behind.logs.is_empty() {
            return Ok(());
        }
        let tries = if behind.came_on { 1 } else { tries + 1 };
        let again = Fanout::CatchUp {
            tenant,
            connection: connection.clone(),
            logs: behind.logs,
            tries,
        };
        let sent = self.jobs().fan_out(&[again], wait(tries)).await;
        sent.map_err(Error::from)
    }

    /// Messages were written: members who are connected are brought up to the last of them; webhooks hear, of each
    /// message, of those who were not.
    async fn tell_written(
        &self,
        log: LogId,
        subjects: &[Subject],
        audience: &Audience,
        moment: &Moment,
    ) -> Result<(), Error> {
        let tenant = log.tenant;
        let page = self.audience_of(log, audience, moment).await?;
        let messages: Vec<_> = subjects
            .iter()
            .filter_map(|subject| match subject {
                Subject::MessageCreated { id, .. } => Some((*subject, *id)),
                Subject::MessageEdited { .. }
                | Subject::MessageDeleted { .. }
                | Subject::Notification(_)
                | Subject::Event(_) => None,
            })
            .collect();
        let seqs: Vec<_> = messages.iter().map(|(_, id)| id.seq()).collect();
        let tries = audience.tries();
        let reached = match audience {
            // They may have left the room since the last try, or joined it again.
            Audience::Only { users, .. } => self.pump_room(log, &seqs, users, tries, moment).await,
            Audience::All
            | Audience::Users(_)
            | Audience::Members(_)
            | Audience::Subscribers(_) => {
                self.pump_members(log, &seqs, &page.members, tries, moment)
                    .await
            }
        }?;
        let mut missed = Vec::new();
        let mut again = Vec::new();
        for ((subject, id), reached) in messages.into_iter().zip(reached) {
            let (mut offline, mut later) = (Vec::new(), Vec::new());
            for (user, reach) in reached {
                match reach {
                    Reach::Reached => {}
                    Reach::Offline => offline.push(user),
                    Reach::Later => later.push(user),
                }
            }
            if tries == STUCK_TRIES {
                // Whoever is waited for so long hears of it in both ways.
                offline.extend(later.iter().cloned());
            }
            if !offline.is_empty() {
                missed.push((subject, id, offline));
            }
            if !later.is_empty() {
                again.push(Fanout::Tell {
                    tenant,
                    subject,
                    audience: Audience::Only {
                        users: later,
                        tries: tries + 1,
                    },
                });
            }
        }
        if !missed.is_empty() && self.wants(tenant, EventType::MessageCreated).await? {
            let mut jobs = Vec::new();
            for (subject, id, users) in missed {
                let Some(message) = self.stores().messages.get(log, id).await? else {
                    continue;
                };
                let others = users.into_iter().filter(|user| *user != message.author);
                jobs.extend(others.map(|user| Job {
                    tenant,
                    subject,
                    user: Some(user),
                }));
            }
            self.queue(tenant, &jobs, moment).await?;
        }
        self.jobs().fan_out(&again, wait(tries + 1)).await?;
        if let Some(next) = page.next {
            let next: Vec<_> = subjects
                .iter()
                .map(|subject| Fanout::Tell {
                    tenant,
                    subject: *subject,
                    audience: next.clone(),
                })
                .collect();
            self.jobs().fan_out(&next, 0).await?;
        }
        Ok(())
    }

    /// A message was changed or taken back: members who have it are told, and webhooks once.
    async fn tell_changed(
        &self,
        log: LogId,
        subject: &Subject,
        message: &Message,
        audience: &Audience,
        moment: &Moment,
    ) -> Result<(), Error> {
        let tenant = log.tenant;
        let page = self.audience_of(log, audience, moment).await?;
        // What it has become since then is what is told.
        let (frame, kind) = if message.deleted_at.is_some() {
            let frame = frames::message_deleted(log.log, message)?;
            (frame, EventType::MessageDeleted)
        } else {
            let frame = frames::message_edited(log.log, message)?;
            (frame, EventType::MessageEdited)
        };
        let tries = audience.tries();
        let told = self
            .post_change(log, message.seq, &page.users, &frame, tries, moment)
            .await?;
        let later = told.into_iter().filter(|(_, reach)| *reach == Reach::Later);
        let later: Vec<_> = later.map(|(user, _)| user).collect();
        let is_deletion = matches!(subject, Subject::MessageDeleted { .. });
        if *audience == Audience::All && is_deletion == (kind == EventType::MessageDeleted) {
            self.tell_webhooks(tenant, subject, kind, moment).await?;
        }
        let tell = |audience| Fanout::Tell {
            tenant,
            subject: *subject,
            audience,
        };
        if !later.is_empty() {
            let later = tell(Audience::Only {
                users: later,
                tries: tries + 1,
            });
            self.jobs().fan_out(&[later], wait(tries + 1)).await?;
        }
        let next: Vec<_> = page.next.map(tell).into_iter().collect();
        self.jobs().fan_out(&next, 0).await.map_err(Error::from)
    }

    /// A notification was stored: a delivery to each of its targets is queued.
    async fn tell_targets(
        &self,
        tenant: TenantId,
        notification: &Notification,
        audience: &Audience,
        moment: &Moment,
    ) -> Result<(), Error> {
        let stores = self.stores();
        let targets = &notification.targets;
        let members = targets.room.map(|_| Audience::Members(None));
        let subscribers = targets
            .topic_subscribers
            .then_some(Audience::Subscribers(None));
        let (users, next) = match audience {
            Audience::All | Audience::Users(_) => {
                let done = match audience {
                    Audience::Users(done) => *done,
                    Audience::All
                    | Audience::Members(_)
                    | Audience::Subscribers(_)
                    | Audience::Only { .. } => 0,
                };
                let users: Vec<_> = targets
                    .users
                    .iter()
                    .skip(done)
                    .take(PAGE)
                    .cloned()
                    .collect();
                let end = done + users.len();
                let more = (end < targets.users.len()).then_some(Audience::Users(end));
                (users, more.or(members).or(subscribers))
            }
            Audience::Members(_) => match targets.room {
                None => (Vec::new(), None),
                Some(room) => {
                    let log = LogId::new(tenant, room);
                    let page = self.audience_of(log, audience, moment).await?;
                    (page.users, page.next.or(subscribers))
                }
            },
            Audience::Subscribers(after) => {
                let slice = slice_after(after.as_ref());
                let topic = &notification.topic;
                let page = stores.subscriptions.to(tenant, topic, &slice).await?;
                let next = page.next.and(page.items.last().cloned());
                (
                    page.items,
                    next.map(|last| Audience::Subscribers(Some(last))),
                )
            }
            Audience::Only { users, .. } => (users.clone(), None),
        };
        let subject = Subject::Notification(notification.id);
        let jobs: Vec<_> = users
            .into_iter()
            .map(|user| Job {
                tenant,
                subject,
                user: Some(user),
            })
            .collect();
        self.queue(tenant, &jobs, moment).await?;
        match next {
            None => Ok(()),
            Some(audience) => {
                let next = Fanout::Tell {
                    tenant,
                    subject,
                    audience,
                };
                self.jobs().fan_out(&[next], 0).await.map_err(Error::from)
            }
        }
    }

    /// Queues the delivery of `subject` to webhooks, if one wants it.
    async fn tell_webhooks(
        &self,
        tenant: TenantId,
        subject: &Subject,
        kind: EventType,
        moment: &Moment,
    ) -> Result<(), Error> {
        if !self.wants(tenant, kind).await? {
            return Ok(());
        }
        let job = Job {
            tenant,
            subject: *subject,
            user: None,
        };
        self.queue(tenant, &[job], moment).await
    }

    /// Queues deliveries of one tenant.
    async fn queue(&self, tenant: TenantId, jobs: &[Job], moment: &Moment) -> Result<(), Error> {
        let sending = Sending::first(moment.now);
        self.jobs().deliver(jobs, sending).await?;
        self.count_queued(tenant, jobs.len());
        Ok(())
    }

    /// Whether a webhook of the tenant wants events of `kind`.
    async fn wants(&self, tenant: TenantId, kind: EventType) -> Result<bool, Error> {
        Ok(!self.endpoints_for(tenant, kind).await?.is_empty())
    }

    /// Whom what happens in a log is told to: a page of them. Of a room its members; of a chat nobody yet.
    async fn audience_of(
        &self,
        log: LogId,
        audience: &Audience,
        moment: &Moment,
    ) -> Result<Found, Error> {
        let rooms = &self.stores().rooms;
        let after = match audience {
            Audience::Only { users, .. } => {
                return Ok(Found {
                    users: users.clone(),
                    members: Vec::new(),
                    next: None,
                });
            }
            Audience::All | Audience::Users(_) | Audience::Subscribers(_) => None,
            Audience::Members(after) => after.as_ref(),
        };
        match log.log {
            Log::Room(_) => {}
            Log::Chat(_) => return Ok(Found::default()),
        }
        let slice = slice_after(after);
        let mut page = if after.is_some() {
            rooms.members(log, &slice).await?
        } else {
            let (head, page) = tokio::try_join!(
                rooms.head(log, Freshness::Strong),
                rooms.members(log, &slice),
            )?;
            match head {
                // A large room that is still being made has members who are missing.
                Some(head) if !head.creating.is_empty() => {
                    let mut race = Backoff::until(moment.deadline, moment.seed);
                    let made = head.room.created_at;
                    rooms.complete(log, &head.creating, made, &mut race).await?;
                    rooms.members(log, &slice).await?
                }
                Some(_) | None => page,
            }
        };
        let more = page.next.take().is_some();
        let members = page.items;
        let users: Vec<_> = members.iter().map(|member| member.user.clone()).collect();
        let last = users.last().filter(|_| more).cloned();
        Ok(Found {
            next: last.map(|last| Audience::Members(Some(last))),
            users,
            members,
        })
    }
}

/// Some of an audience, and who comes after them.
#[derive(Default)]
struct Found {
    users: Vec<UserId>,
    /// Their places, if they were read.
    members: Vec<Member>,
    next: Option<Audience>,
}

fn slice_after(user: Option<&UserId>) -> Slice {
    Slice {
        limit: PAGE,
        offset: 0,
        after: user.map(|user| Cursor(user.to_string())),
    }
}
