//! Notifications: something happened outside a log, and these people want to know.

use super::{Error, NotificationId, RoomId, Timestamp, UserId, message::Json, subscription::Topic};

/// Whom a notification is for: the union of the three, each person once.
#[derive(Debug, Clone)]
pub struct Targets {
    /// These users.
    pub users: Vec<UserId>,
    /// The members of this room.
    pub room: Option<RoomId>,
    /// Whoever subscribed to the topic.
    pub topic_subscribers: bool,
}

impl Targets {
    /// The most users that one notification may name.
    pub const MAX_USERS: usize = 1_000;

    /// Refuses a notification for nobody: it would be acknowledged and reach no one.
    pub fn new(
        mut users: Vec<UserId>,
        room: Option<RoomId>,
        topic_subscribers: bool,
    ) -> Result<Self, Error> {
        users.sort();
        users.dedup();
        if users.len() > Self::MAX_USERS {
            return Err(Error::invalid(
                "targets.user_ids",
                "Invalid targets.user_ids. At most 1000 users",
            ));
        }
        if users.is_empty() && room.is_none() && !topic_subscribers {
            return Err(Error::invalid(
                "targets",
                "Invalid targets. Name user_ids, a room_id or topic_subscribers",
            ));
        }
        Ok(Self {
            users,
            room,
            topic_subscribers,
        })
    }
}

/// The most bytes of a notification's payload.
pub const MAX_PAYLOAD: usize = 32 * 1024;

/// A notification as it is kept until it was delivered.
#[derive(Debug)]
pub struct Notification {
    /// Its id.
    pub id: NotificationId,
    /// What it is about.
    pub topic: Topic,
    /// What it says.
    pub payload: Json,
    /// Whom it is for.
    pub targets: Targets,
    /// Who sent it.
    pub sender: UserId,
    /// When.
    pub created_at: Timestamp,
}

/// What the sender of a notification is told.
#[derive(Debug, Clone, Copy)]
pub struct Notified {
    /// Its id.
    pub id: NotificationId,
    /// When it was stored.
    pub created_at: Timestamp,
}
