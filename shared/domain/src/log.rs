//! Which log something is of. A room and a chat are heads on one thing: a log of messages.

use std::{fmt, str::FromStr};

use super::{ChatId, RoomId, TenantId, id::InvalidId};

/// What a log is of. Its text is the id of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Log {
    /// Of a room of people.
    Room(RoomId),
    /// Of a chat with an agent.
    Chat(ChatId),
}

impl Log {
    /// The room, if it is one's.
    pub const fn room(self) -> Option<RoomId> {
        match self {
            Self::Room(room) => Some(room),
            Self::Chat(_) => None,
        }
    }
}

impl From<RoomId> for Log {
    fn from(room: RoomId) -> Self {
        Self::Room(room)
    }
}

impl From<ChatId> for Log {
    fn from(chat: ChatId) -> Self {
        Self::Chat(chat)
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Room(room) => room.fmt(f),
            Self::Chat(chat) => chat.fmt(f),
        }
    }
}

impl FromStr for Log {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let room = text.parse().map(Self::Room);
        room.or_else(|_| text.parse().map(Self::Chat))
    }
}

/// Names a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId {
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// Whose log it is.
    pub log: Log,
}

impl LogId {
    /// The log of a tenant's room or chat.
    pub fn new(tenant: TenantId, log: impl Into<Log>) -> Self {
        Self {
            tenant,
            log: log.into(),
        }
    }
}

impl fmt::Display for LogId {
    /// `tenant_…#room_…` or `tenant_…#chat_…`: no two logs have one name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.tenant, self.log)
    }
}
