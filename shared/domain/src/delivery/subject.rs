//! What deliveries tell of, and the jobs that make them.

use std::{fmt, str::FromStr};

use crate::{DeliveryId, EventId, Log, MessageId, NotificationId, TenantId, Timestamp, UserId};

/// What happened.
///
/// Its text names it within its tenant, in jobs and rows: `room_…/msg_…:created`,
/// `room_…/msg_…:edited@1765627200123456`, `room_…/msg_…:deleted`, `notif_…`, `evt_…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A message was written.
    MessageCreated {
        /// To which log.
        log: Log,
        /// Which.
        id: MessageId,
    },
    /// A message was changed.
    MessageEdited {
        /// In which log.
        log: Log,
        /// Which.
        id: MessageId,
        /// When: each edit is told on its own, though what is told is the message as it is by then.
        at: Timestamp,
    },
    /// A message was taken back.
    MessageDeleted {
        /// From which log.
        log: Log,
        /// Which.
        id: MessageId,
    },
    /// A notification was sent.
    Notification(NotificationId),
    /// Something else happened.
    Event(EventId),
}

impl Subject {
    /// The id of what it is about: a message's creation, its edits and its deletion are about that message.
    pub fn about(&self) -> String {
        match self {
            Self::MessageCreated { id, .. }
            | Self::MessageEdited { id, .. }
            | Self::MessageDeleted { id, .. } => id.to_string(),
            Self::Notification(id) => id.to_string(),
            Self::Event(id) => id.to_string(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MessageCreated { log, id } => write!(f, "{log}/{id}:created"),
            Self::MessageEdited { log, id, at } => {
                write!(f, "{log}/{id}:edited@{}", at.micros())
            }
            Self::MessageDeleted { log, id } => write!(f, "{log}/{id}:deleted"),
            Self::Notification(id) => id.fmt(f),
            Self::Event(id) => id.fmt(f),
        }
    }
}

/// The text names no subject.
#[derive(Debug, Clone, Copy)]
pub struct InvalidSubject;

impl fmt::Display for InvalidSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a subject of deliveries")
    }
}

impl std::error::Error for InvalidSubject {}

impl FromStr for Subject {
    type Err = InvalidSubject;

    /// Accepts only the form that `Display` writes.
    fn from_str(text: &str) -> Result<Self, InvalidSubject> {
        let subject = match text.split_once('/') {
            Some((log, message)) => of_message(log, message),
            None => text
                .parse()
                .map(Self::Notification)
                .or_else(|_| text.parse().map(Self::Event))
                .ok(),
        };
        subject
            .filter(|subject| subject.to_string() == text)
            .ok_or(InvalidSubject)
    }
}

fn of_message(log: &str, message: &str) -> Option<Subject> {
    let (id, what) = message.split_once(':')?;
    let (log, id) = (log.parse().ok()?, id.parse().ok()?);
    match (what, what.strip_prefix("edited@")) {
        ("created", _) => Some(Subject::MessageCreated { log, id }),
        ("deleted", _) => Some(Subject::MessageDeleted { log, id }),
        (_, Some(micros)) => Some(Subject::MessageEdited {
            log,
            id,
            at: Timestamp::from_micros(micros.parse().ok()?),
        }),
        (_, None) => None,
    }
}

/// A delivery to be made: what a queue carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Whose it is.
    pub tenant: TenantId,
    /// What is told.
    pub subject: Subject,
    /// To whom; nobody in particular where only the tenant's endpoints are told.
    pub user: Option<UserId>,
}

impl Job {
    /// The delivery that this job and its copies are about.
    pub fn id(&self) -> DeliveryId {
        DeliveryId::of(self.tenant, &self.subject, self.user.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> (TenantId, Log, MessageId) {
        let hex = format!("{:032x}", 7);
        (
            format!("tenant_{hex}").parse().unwrap(),
            format!("room_{hex}").parse().unwrap(),
            format!("msg_{hex}").parse().unwrap(),
        )
    }

    fn subjects() -> [Subject; 6] {
        let (_, log, id) = ids();
        let chat: Log = format!("chat_{:032x}", 7).parse().unwrap();
        let at = Timestamp::from_micros(1_765_627_200_123_456);
        [
            Subject::MessageCreated { log, id },
            Subject::MessageCreated { log: chat, id },
            Subject::MessageEdited { log, id, at },
            Subject::MessageDeleted { log, id },
            Subject::Notification(format!("notif_{:032x}", 7).parse().unwrap()),
            Subject::Event(format!("evt_{:032x}", 7).parse().unwrap()),
        ]
    }

    #[test]
    fn a_subject_is_read_back_as_it_was_written() {
        for subject in subjects() {
            let text = subject.to_string();
            assert_eq!(text.parse::<Subject>().unwrap(), subject, "{text}");
        }
    }

    #[test]
    fn a_subject_has_one_spelling() {
        let hex = format!("{:032x}", 7);
        for bad in [
            String::new(),
            "/".to_owned(),
            format!("msg_{hex}:created"),
            format!("room_{hex}/msg_{hex}"),
            format!("room_{hex}/msg_{hex}:"),
            format!("room_{hex}/msg_{hex}:read"),
            format!("room_{hex}/msg_{hex}:edited"),
            format!("room_{hex}/msg_{hex}:edited@"),
            format!("room_{hex}/msg_{hex}:edited@007"),
            format!("room_{hex}/msg_{hex}:edited@+7"),
            format!("room_{hex}/msg_{hex}:created "),
            format!("tenant_{hex}"),
            format!("NOTIF_{hex}"),
        ] {
            assert!(bad.parse::<Subject>().is_err(), "{bad}");
        }
    }

    #[test]
    fn deliveries_of_different_subjects_or_users_have_different_ids() {
        let (tenant, ..) = ids();
        let users = [None, Some("a"), Some("b")];
        let mut seen = Vec::new();
        for subject in subjects() {
            for user in users {
                let user = user.map(|user| UserId::stored(user.to_owned()));
                let id = Job {
                    tenant,
                    subject,
                    user,
                }
                .id();
                assert!(!seen.contains(&id), "{id}");
                seen.push(id);
            }
        }
    }

    #[test]
    fn a_delivery_has_the_same_id_each_time() {
        let (tenant, ..) = ids();
        let job = Job {
            tenant,
            subject: subjects()[0],
            user: Some(UserId::stored("alice".to_owned())),
        };
        assert_eq!(job.id(), job.clone().id());
        assert_eq!(
            job.id().to_string().parse::<DeliveryId>().unwrap(),
            job.id()
        );
    }
}
