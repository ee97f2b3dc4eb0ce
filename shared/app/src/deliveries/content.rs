//! What is told: the body that endpoints are sent, and the frame that connections are.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    App,
    domain::{
        Error, LogId, RoomId, TenantId, Timestamp, UserId,
        delivery::{About, Job, Subject},
        message::{Json, Message},
        notification::Notification,
        webhook::EventType,
    },
    store::events::Happened,
};

/// What a delivery tells.
#[derive(Debug, Clone)]
pub(super) struct Content {
    /// What it is about.
    pub(super) about: About,
    /// The body that endpoints are sent, as ChatAPI's: `{"type", "timestamp", "tenant_id", "data"}`.
    pub(super) body: String,
}

/// The body of a webhook.
#[derive(Serialize)]
struct Body<'a, T> {
    r#type: &'a str,
    timestamp: String,
    tenant_id: String,
    data: T,
}

#[derive(Serialize)]
struct MessageData<'a> {
    room_id: String,
    recipient_id: Option<&'a str>,
    message: MessageShown<'a>,
}

#[derive(Serialize)]
struct MessageShown<'a> {
    message_id: String,
    sender_id: &'a str,
    seq: u64,
    content: &'a str,
    meta: &'a RawValue,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    edited_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<String>,
}

#[derive(Serialize)]
struct NotificationData<'a> {
    notification_id: String,
    recipient_id: Option<&'a str>,
    sender_id: &'a str,
    topic: &'a str,
    payload: &'a RawValue,
    created_at: String,
}

#[derive(Serialize)]
struct EventData<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    room_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    user_ids: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl Content {
    /// What was kept in the row.
    pub(super) const fn kept(about: About, body: String) -> Self {
        Self { about, body }
    }

    /// The endpoint that it says is paused, if it says that.
    pub(super) fn paused_endpoint(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Kept {
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            endpoint_id: Option<String>,
        }
        if self.about.event != EventType::WebhookPaused.name() {
            return None;
        }
        let kept: Kept = serde_json::from_str(&self.body).ok()?;
        kept.data.endpoint_id
    }

    /// What must be kept of it, should it outlive its source. A message does not: the log keeps it, and what its author
    /// takes back is to be found nowhere else.
    pub(super) fn into_kept(self, subject: &Subject) -> Option<String> {
        match subject {
            Subject::MessageCreated { .. }
            | Subject::MessageEdited { .. }
            | Subject::MessageDeleted { .. } => None,
            Subject::Notification(_) | Subject::Event(_) => Some(self.body),
        }
    }

    /// What a subject is about of which nothing is known but its name.
    pub(super) fn unknown(subject: &Subject) -> About {
        let (event, room) = named(subject);
        About {
            event: event.to_owned(),
            room,
            topic: None,
        }
    }

    /// The same as a frame for live connections: flat, its type and all of its data.
    pub(super) fn frame(&self) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Kept<'a> {
            #[serde(borrow)]
            data: &'a RawValue,
        }
        let Kept { data } = serde_json::from_str(&self.body).map_err(Error::internal)?;
        let data = data.get().trim_start_matches('{');
        let event = serde_json::to_string(&self.about.event).map_err(Error::internal)?;
        // The data is carried byte for byte: a notification's payload is not ours to rewrite.
        Ok(format!("{{\"type\":{event},{data}"))
    }

    fn of_message(job: &Job, message: &Message) -> Result<Self, Error> {
        let about = Self::unknown(&job.subject);
        let at = match &job.subject {
            Subject::MessageEdited { at, .. } => *at,
            Subject::MessageDeleted { .. } => message.deleted_at.unwrap_or(message.created_at),
            Subject::MessageCreated { .. } | Subject::Notification(_) | Subject::Event(_) => {
                message.created_at
            }
        };
        let meta = message.meta.as_ref().map_or("{}", Json::as_str);
        let data = MessageData {
            room_id: about.room.map(|room| room.to_string()).unwrap_or_default(),
            recipient_id: job.user.as_ref().map(UserId::as_str),
            message: MessageShown {
                message_id: message.id.to_string(),
                sender_id: message.author.as_str(),
                seq: message.seq.get(),
                content: &message.content,
                meta: raw(meta)?,
                created_at: message.created_at.to_string(),
                edited_at: message.edited_at.map(|at| at.to_string()),
                deleted_at: message.deleted_at.map(|at| at.to_string()),
            },
        };
        Self::new(job.tenant, about, at, data)
    }

    fn of_notification(job: &Job, notification: &Notification) -> Result<Self, Error> {
        let about = About {
            topic: Some(notification.topic.clone()),
            ..Self::unknown(&job.subject)
        };
        let data = NotificationData {
            notification_id: notification.id.to_string(),
            recipient_id: job.user.as_ref().map(UserId::as_str),
            sender_id: notification.sender.as_str(),
            topic: notification.topic.as_str(),
            payload: raw(notification.payload.as_str())?,
            created_at: notification.created_at.to_string(),
        };
        Self::new(job.tenant, about, notification.created_at, data)
    }

    fn of_event(job: &Job, event: &Happened) -> Result<Self, Error> {
        let about = About {
            event: event.kind.clone(),
            room: event.room,
            topic: None,
        };
        let data = EventData {
            room_id: event.room.map(|room| room.to_string()),
            actor_id: event.actor.as_ref().map(UserId::as_str),
            user_ids: event.users.iter().map(UserId::as_str).collect(),
            endpoint_id: event.endpoint.as_deref(),
            reason: event.reason.as_deref(),
        };
        Self::new(job.tenant, about, event.at, data)
    }

    fn new(
        tenant: TenantId,
        about: About,
        at: Timestamp,
        data: impl Serialize,
    ) -> Result<Self, Error> {
        let body = Body {
            r#type: &about.event,
            timestamp: at.to_string(),
            tenant_id: tenant.to_string(),
            data,
        };
        let body = serde_json::to_string(&body).map_err(Error::internal)?;
        Ok(Self { about, body })
    }
}

/// The name of what happened, as far as the subject itself tells, and where.
fn named(subject: &Subject) -> (&'static str, Option<RoomId>) {
    match subject {
        Subject::MessageCreated { log, .. } => ("message.created", log.room()),
        Subject::MessageEdited { log, .. } => ("message.edited", log.room()),
        Subject::MessageDeleted { log, .. } => ("message.deleted", log.room()),
        Subject::Notification(_) => ("notification", None),
        Subject::Event(_) => ("event", None),
    }
}

/// JSON that is carried byte for byte.
fn raw(text: &str) -> Result<&RawValue, Error> {
    serde_json::from_str(text).map_err(Error::internal)
}

impl App {
    /// What `job` tells, as it is now: a message as it stands in its log. `None` if it is no longer kept.
    pub(super) async fn content(&self, job: &Job) -> Result<Option<Content>, Error> {
        let stores = self.stores();
        let tenant = job.tenant;
        match job.subject {
            Subject::MessageCreated { log, id }
            | Subject::MessageEdited { log, id, .. }
            | Subject::MessageDeleted { log, id } => {
                let log = LogId { tenant, log };
                let message = stores.messages.get(log, id).await?;
                let content = message.map(|message| Content::of_message(job, &message));
                content.transpose()
            }
            Subject::Notification(id) => {
                let notification = stores.events.notification(tenant, id).await?;
                let content = notification.map(|told| Content::of_notification(job, &told));
                content.transpose()
            }
            Subject::Event(id) => {
                let event = stores.events.happened(tenant, id).await?;
                let content = event.map(|event| Content::of_event(job, &event));
                content.transpose()
            }
        }
    }
}
