//! Deliveries that failed for good.

use super::{MessageId, NotificationId, RoomId, Timestamp, UserId, subscription::Topic};

/// A delivery whose attempts are used up.
#[derive(Debug)]
pub struct DeadLetter {
    /// What could not be delivered.
    pub subject: Subject,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was last tried.
    pub last_attempt_at: Timestamp,
    /// Why the last attempt failed.
    pub error: String,
}

/// What a delivery carries.
#[derive(Debug)]
pub enum Subject {
    /// A message of a room, to one of its members.
    Message {
        /// Which.
        id: MessageId,
        /// To whom.
        user: UserId,
        /// From which room.
        room: RoomId,
    },
    /// A notification.
    Notification {
        /// Which.
        id: NotificationId,
        /// About what.
        topic: Topic,
    },
}
