//! What happened and is not a message. Written in the same transaction as the change itself, and
//! told to the outside from the table's stream.

use super::{ChatId, EndpointId, EventId, OwnAgentId, RoomId, Timestamp, UserId, room::Role};

/// How long an event is kept, in seconds: longer than a job that tells of it can be on its way, which is two weeks in a
/// queue and two more among what was put aside. So an operator can replay it, too.
pub const RETENTION_SECONDS: i64 = 35 * 24 * 3_600;

/// The name of [`EventKind::MemberLeft`].
pub const MEMBER_LEFT: &str = "member.left";

/// Something that happened.
#[derive(Debug)]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// When it happened.
    pub at: Timestamp,
    /// Who did it; `None` for what the service did by itself.
    pub actor: Option<UserId>,
    /// In which room; `None` for what happened in none.
    pub room: Option<RoomId>,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug)]
pub enum EventKind {
    /// A room was made; its members are on its head and in its member items.
    RoomCreated,
    /// A room was renamed.
    RoomUpdated,
    /// These users became members.
    MemberJoined(Vec<UserId>),
    /// This user is no longer a member.
    MemberLeft(UserId),
    /// These members have another role.
    MemberUpdated(Vec<UserId>, Role),
    /// A webhook endpoint is told nothing any more.
    WebhookPaused {
        /// Which.
        endpoint: EndpointId,
        /// Why.
        reason: &'static str,
    },
    /// A chat was deleted: its log is to go.
    ChatDeleted(ChatId),
    /// An agent was deleted that a tenant had made: its versions are to go.
    AgentDeleted(OwnAgentId),
}

/// What was deleted and has left something that is to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// A chat: its log.
    Chat(ChatId),
    /// An agent: its versions.
    Agent(OwnAgentId),
}

impl EventKind {
    /// The event's name on the wire.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RoomCreated => "room.created",
            Self::RoomUpdated => "room.updated",
            Self::MemberJoined(_) => "member.joined",
            Self::MemberLeft(_) => MEMBER_LEFT,
            Self::MemberUpdated(..) => "member.updated",
            Self::WebhookPaused { .. } => "webhook.paused",
            Self::ChatDeleted(_) => "chat.deleted",
            Self::AgentDeleted(_) => "agent.deleted",
        }
    }
}
