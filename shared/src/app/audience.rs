//! Whom something reaches. A large audience is done in pages of [`PAGE`]: each page's job sends the next
//! one, so a room of 10,000 members costs no more memory than one of 100.
//!
//! Whoever is connected is told of messages by the pump; for whoever is not, and for everything else, a
//! delivery is queued. All of it may be done twice: pumps stop at what a connection has, and a delivery's
//! copies meet in one row.

use super::App;
use crate::{
    domain::{
        Cursor, Error, Moment, NotificationId, TenantId, Thread, UserId,
        delivery::{Job, Subject},
        page::Slice,
    },
    queue::{Audience, Fanout},
    store::{Backoff, rooms::Freshness},
};

/// How many people are told by one job.
const PAGE: usize = 100;

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
    ) -> Result<(), Error> {
        let Some(first) = subjects.first() else {
            return Ok(());
        };
        match *first {
            Subject::Notification(id) => self.tell_targets(tenant, id, audience, moment).await,
            Subject::MessageCreated { .. }
            | Subject::MessageEdited { .. }
            | Subject::MessageDeleted { .. }
            | Subject::Event(_) => Ok(()),
        }
    }

    /// A notification was stored: a delivery to each of its targets is queued.
    async fn tell_targets(
        &self,
        tenant: TenantId,
        id: NotificationId,
        audience: &Audience,
        moment: &Moment,
    ) -> Result<(), Error> {
        let stores = self.stores();
        let Some(notification) = stores.events.notification(tenant, id).await? else {
            return Ok(());
        };
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
                    | Audience::Only(_) => 0,
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
                    let thread = Thread { tenant, room };
                    let page = self.members_of(thread, audience, moment).await?;
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
            Audience::Only(users) => (users.clone(), None),
        };
        let subject = Subject::Notification(id);
        let jobs: Vec<_> = users
            .into_iter()
            .map(|user| Job {
                tenant,
                subject,
                user: Some(user),
            })
            .collect();
        self.jobs().deliver(&jobs, 0).await?;
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

    /// A page of a room's members.
    async fn members_of(
        &self,
        thread: Thread,
        audience: &Audience,
        moment: &Moment,
    ) -> Result<Found, Error> {
        let rooms = &self.stores().rooms;
        let after = match audience {
            Audience::Only(users) => {
                return Ok(Found {
                    users: users.clone(),
                    next: None,
                });
            }
            Audience::All | Audience::Users(_) | Audience::Subscribers(_) => None,
            Audience::Members(after) => after.as_ref(),
        };
        let slice = slice_after(after);
        let mut page = if after.is_some() {
            rooms.members(thread, &slice).await?
        } else {
            let (head, page) = tokio::try_join!(
                rooms.head(thread, Freshness::Strong),
                rooms.members(thread, &slice),
            )?;
            match head {
                // A large room that is still being made has members who are missing.
                Some(head) if !head.creating.is_empty() => {
                    let mut race = Backoff::until(moment.deadline, moment.seed);
                    let made = head.room.created_at;
                    rooms
                        .complete(thread, &head.creating, made, &mut race)
                        .await?;
                    rooms.members(thread, &slice).await?
                }
                Some(_) | None => page,
            }
        };
        let more = page.next.take().is_some();
        let users: Vec<_> = page.items.into_iter().map(|member| member.user).collect();
        let last = users.last().filter(|_| more).cloned();
        Ok(Found {
            next: last.map(|last| Audience::Members(Some(last))),
            users,
        })
    }
}

/// Some of an audience, and who comes after them.
struct Found {
    users: Vec<UserId>,
    next: Option<Audience>,
}

fn slice_after(user: Option<&UserId>) -> Slice {
    Slice {
        limit: PAGE,
        offset: 0,
        after: user.map(|user| Cursor(user.to_string())),
    }
}
