//! The outbox for all that happened and is not a message.
//!
//! | partition key       | attributes                                                                                  |
//! |---------------------|---------------------------------------------------------------------------------------------|
//! | `tenant#evt_…`      | `kind`, `at`, `actor?`, `room?`, `users?`, `role?`, `endpoint?`, `reason?`, `chat?`, `agent?`, `ttl` |
//! | `tenant#notif_…`    | `kind` = `notification`, `at`, `actor`, `topic`, `payload` (JSON), `users?`, `room?`, `topic_subscribers?`, `ttl` |
//!
//! **Invariant:** an event is written in the transaction of the change it tells of, and never changed.

use aws_sdk_dynamodb::{
    Client,
    types::{Put, TransactWriteItem},
};

use super::{
    Backoff,
    aws::{fault, settle},
    guards::{Claim, Claimed},
    item::{Item, NewItem, Read, malformed, s, take},
    transaction::{self, Check, Outcome},
};
use crate::domain::{
    Done, Error, EventId, NotificationId, RoomId, TenantId, Timestamp, UserId,
    delivery::Subject,
    event::{Event, EventKind, Gone, RETENTION_SECONDS},
    message::Json,
    notification::{Notification, Notified, Targets},
    subscription::Topic,
};

/// The `events` table.
#[derive(Debug, Clone)]
pub struct EventStore {
    client: Client,
    table: String,
}

/// An event as it is told: what it does not say is left out.
#[derive(Debug)]
pub struct Happened {
    /// What happened: `room.created` and so on.
    pub kind: String,
    /// When.
    pub at: Timestamp,
    /// Who did it; `None` for what the service did by itself.
    pub actor: Option<UserId>,
    /// In which room.
    pub room: Option<RoomId>,
    /// To whom.
    pub users: Vec<UserId>,
    /// To which webhook endpoint.
    pub endpoint: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// What came of a try to store a notification.
#[derive(Debug)]
pub enum Stored {
    /// It is stored.
    Done(Done<Notified>),
    /// The check that went with it failed: nothing was stored.
    Refused,
}

impl EventStore {
    pub(super) const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// `event` as a write of the transaction that makes it true.
    pub(super) fn write(
        &self,
        tenant: TenantId,
        event: &Event,
    ) -> Result<TransactWriteItem, Error> {
        let mut item = NewItem::new()
            .s("pk", format!("{tenant}#{}", event.id))
            .s("kind", event.kind.name())
            .s("at", event.at)
            .s_opt("actor", event.actor.as_ref())
            .s_opt("room", event.room)
            .n("ttl", event.at.seconds() + RETENTION_SECONDS);
        item = match &event.kind {
            EventKind::RoomCreated | EventKind::RoomUpdated => item,
            EventKind::MemberJoined(users) => {
                item.list("users", users.iter().map(ToString::to_string))
            }
            EventKind::MemberLeft(user) => item.list("users", [user.to_string()].into_iter()),
            EventKind::MemberUpdated(users, role) => item
                .list("users", users.iter().map(ToString::to_string))
                .s("role", role.as_str()),
            EventKind::WebhookPaused { endpoint, reason } => {
                item.s("endpoint", endpoint).s("reason", reason)
            }
            EventKind::ChatDeleted(chat) => item.s("chat", chat),
            EventKind::AgentDeleted(agent) => item.s("agent", agent),
        };
        self.put(item.build()).map(transaction::put)
    }

    /// Stores `notification`, if `check` holds, once per `claim`.
    ///
    /// One plain write where neither is given; one transaction otherwise.
    pub async fn notify(
        &self,
        tenant: TenantId,
        notification: &Notification,
        check: Option<Check>,
        claim: Option<&Claim>,
        race: &mut Backoff,
    ) -> Result<Stored, Error> {
        let item = notification_item(tenant, notification);
        let told = Notified {
            id: notification.id,
            created_at: notification.created_at,
        };
        if check.is_none() && claim.is_none() {
            self.put_alone(item, race).await?;
            return Ok(Stored::Done(Done::now(told)));
        }
        let mut writes = vec![transaction::put(self.put(item)?)];
        if let Some(claim) = claim {
            let outcome = NewItem::new()
                .s("id", told.id)
                .s("created_at", told.created_at)
                .build();
            writes.push(claim.write(outcome)?);
        }
        if let Some(check) = check {
            writes.push(check.write());
        }
        let refused = match transaction::commit(&self.client, &writes, race).await? {
            Outcome::Committed => return Ok(Stored::Done(Done::now(told))),
            Outcome::Refused(refused) => refused,
        };
        if let (Some(claim), Some(Some(marker))) = (claim, refused.get(1)) {
            let Claimed { outcome } = claim.recognise(marker.item.as_ref())?;
            let id: NotificationId = outcome.parse("id")?;
            return Ok(Stored::Done(Done {
                value: Notified {
                    id,
                    created_at: outcome.parse("created_at")?,
                },
                replayed: id != told.id,
            }));
        }
        if let Some(Some(_)) = refused.first() {
            // An earlier try of ours landed and its answer was lost: nobody else has this id.
            return Ok(Stored::Done(Done::now(told)));
        }
        Ok(Stored::Refused)
    }

    /// A notification, as long as it is kept.
    pub async fn notification(
        &self,
        tenant: TenantId,
        id: NotificationId,
    ) -> Result<Option<Notification>, Error> {
        let item = self.get(format!("{tenant}#{id}")).await?;
        item.map(|item| notification_of(id, item)).transpose()
    }

    /// Something else that happened, as long as it is kept.
    pub async fn happened(&self, tenant: TenantId, id: EventId) -> Result<Option<Happened>, Error> {
        let item = self.get(format!("{tenant}#{id}")).await?;
        item.map(|item| happened_of(&item)).transpose()
    }

    async fn get(&self, pk: String) -> Result<Option<Item>, Error> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", s(pk))
            .consistent_read(true)
            .send()
            .await
            .map_err(fault(&self.table))?;
        Ok(found.item)
    }

    async fn put_alone(&self, item: Item, race: &mut Backoff) -> Result<(), Error> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(pk)");
        // Refused by our own, from a try whose answer was lost: nobody else has this id.
        settle(race, &self.table, || put.clone().send())
            .await
            .map(drop)
    }

    fn put(&self, item: Item) -> Result<Put, Error> {
        Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(pk)")
            .build()
            .map_err(Error::internal)
    }
}

fn notification_item(tenant: TenantId, notification: &Notification) -> Item {
    let targets = &notification.targets;
    NewItem::new()
        .s("pk", format!("{tenant}#{}", notification.id))
        .s("kind", "notification")
        .s("at", notification.created_at)
        .s("actor", &notification.sender)
        .s("topic", notification.topic.as_str())
        .s("payload", notification.payload.as_str())
        .list("users", targets.users.iter().map(ToString::to_string))
        .s_opt("room", targets.room)
        .s_opt(
            "topic_subscribers",
            targets.topic_subscribers.then_some("yes"),
        )
        .n("ttl", notification.created_at.seconds() + RETENTION_SECONDS)
        .build()
}

fn notification_of(id: NotificationId, mut item: Item) -> Result<Notification, Error> {
    let payload = take(&mut item, "payload")?.ok_or_else(|| malformed("payload"))?;
    let users = item.texts("users")?.into_iter();
    Ok(Notification {
        id,
        topic: Topic::stored(item.text("topic")?.to_owned()),
        payload: Json::stored(payload),
        targets: Targets {
            users: users.map(|user| UserId::stored(user.to_owned())).collect(),
            room: item
                .text_opt("room")?
                .map(|room| room.parse().map_err(|_| malformed("room")))
                .transpose()?,
            topic_subscribers: item.text_opt("topic_subscribers")?.is_some(),
        },
        sender: UserId::stored(item.text("actor")?.to_owned()),
        created_at: item.parse("at")?,
    })
}

fn happened_of(item: &Item) -> Result<Happened, Error> {
    let text = |name| Ok::<_, Error>(item.text_opt(name)?.map(ToOwned::to_owned));
    let users = item.texts("users")?.into_iter();
    Ok(Happened {
        kind: item.text("kind")?.to_owned(),
        at: item.parse("at")?,
        actor: text("actor")?.map(UserId::stored),
        room: item
            .text_opt("room")?
            .map(|room| room.parse().map_err(|_| malformed("room")))
            .transpose()?,
        users: users.map(|user| UserId::stored(user.to_owned())).collect(),
        endpoint: text("endpoint")?,
        reason: text("reason")?,
    })
}

/// What a record of the table's stream tells. `text` gives the string attributes of its new image.
///
/// # Errors
///
/// [`Error::Internal`] if it is not an event's.
pub fn told_of<'a>(text: impl Fn(&str) -> Option<&'a str>) -> Result<(TenantId, Subject), Error> {
    let (tenant, id) = text("pk")
        .and_then(|pk| pk.split_once('#'))
        .ok_or_else(|| malformed("pk"))?;
    let subject = match id.parse() {
        Ok(notification) => Subject::Notification(notification),
        Err(_) => Subject::Event(id.parse().map_err(|_| malformed("pk"))?),
    };
    Ok((tenant.parse().map_err(|_| malformed("pk"))?, subject))
}

/// The deletion of which a record of the table's stream tells. `text` gives the string attributes of its new image.
/// `None` if it tells of something else.
///
/// # Errors
///
/// [`Error::Internal`] if it is not an event's.
pub fn gone<'a>(text: impl Fn(&str) -> Option<&'a str>) -> Result<Option<(TenantId, Gone)>, Error> {
    let gone = match (text("chat"), text("agent")) {
        (Some(chat), _) => Gone::Chat(chat.parse().map_err(|_| malformed("chat"))?),
        (None, Some(agent)) => Gone::Agent(agent.parse().map_err(|_| malformed("agent"))?),
        (None, None) => return Ok(None),
    };
    let tenant = text("pk").and_then(|pk| pk.split_once('#'));
    let (tenant, _) = tenant.ok_or_else(|| malformed("pk"))?;
    let tenant = tenant.parse().map_err(|_| malformed("pk"))?;
    Ok(Some((tenant, gone)))
}
