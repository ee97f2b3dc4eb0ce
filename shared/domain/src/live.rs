//! Connections: who hears of things as they happen.

use std::fmt;

use super::{Log, TenantId, Timestamp, UserId, secret::SecretHash};

/// How long API Gateway keeps a connection, in seconds.
pub const LIFETIME_SECONDS: i64 = 2 * 3_600;
/// How long a connection that said nothing is pending, in seconds: nothing can be posted to it before its
/// `$connect` was answered.
pub const PENDING_SECONDS: i64 = 1;
/// So long after its last connection a user is still online, in seconds: a page that is loaded anew is nobody leaving.
pub const GRACE_SECONDS: i64 = 5;
/// In its first seconds a connection that is not found may not be there yet.
pub const YOUNG_SECONDS: i64 = 5;

/// So long after its last `typing.start` a user is shown as typing, in seconds.
pub const TYPING_SECONDS: u16 = 6;
/// A `typing.start` so soon after the last one is not told again, in seconds: whoever heard that one shows it for longer.
pub const TYPING_AGAIN_SECONDS: i64 = 3;

/// After so many tries, which is half a minute, who was not reached is told in another way, and a connection that took
/// nothing is ended.
pub const STUCK_TRIES: u32 = 6;
/// A connection is not ended for taking nothing before it is so old, in seconds.
pub const STUCK_SECONDS: i64 = 30;
/// The longest wait until somebody is tried again, in seconds.
const LONGEST_WAIT: u16 = 60;

/// After how many seconds what was tried `tries` times is tried again: 1, 1, 2, 4, and so on up to 60.
pub const fn wait(tries: u32) -> u16 {
    match 1_u16.checked_shl(tries.saturating_sub(2)) {
        Some(wait) if wait != 0 && wait < LONGEST_WAIT => wait,
        Some(_) | None => LONGEST_WAIT,
    }
}

/// Names a connection, in the gateway's words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(String);

impl ConnectionId {
    /// The longest id, in characters. API Gateway's have 16.
    pub const MAX: usize = 128;

    /// Reads what the gateway gave; `None` for what no gateway gives.
    pub fn parse(text: &str) -> Option<Self> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        let is_id = visible && !text.is_empty() && text.len() <= Self::MAX;
        is_id.then(|| Self(text.to_owned()))
    }

    /// Trusts what our own store gives back.
    pub const fn stored(text: String) -> Self {
        Self(text)
    }

    /// The id as the gateway gave it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A connection of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Which.
    pub id: ConnectionId,
    /// Whose tenant's.
    pub tenant: TenantId,
    /// Whose.
    pub user: UserId,
    /// Since when.
    pub connected_at: Timestamp,
}

impl Connection {
    /// Whether it was made less than `seconds` before `now`. One that was made long after it is old: the clock was set back.
    pub const fn is_younger_than(&self, seconds: i64, now: Timestamp) -> bool {
        self.connected_at
            .plus_seconds(seconds)
            .is_awaited(now, seconds)
    }

    /// Whether it is so new that the gateway may not know it yet.
    pub fn is_young(&self, now: Timestamp) -> bool {
        self.is_younger_than(YOUNG_SECONDS, now)
    }
}

/// That a user types, as it was last said over one of their connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typing {
    /// The user who types.
    pub user: UserId,
    /// The connection over which it was said.
    pub connection: ConnectionId,
    /// Where.
    pub log: Log,
    /// When it was said. A later start has another time, which tells the two apart.
    pub at: Timestamp,
}

impl Typing {
    /// Whether it was said less than `seconds` from `now`, before or after: clocks differ, and may step back.
    fn is_within(&self, seconds: i64, now: Timestamp) -> bool {
        self.at.micros().abs_diff(now.micros()) < seconds.unsigned_abs() * 1_000_000
    }

    /// Whether it still lasts, unless it was ended.
    pub fn lasts(&self, now: Timestamp) -> bool {
        self.is_within(i64::from(TYPING_SECONDS), now)
    }

    /// Whether it was told so lately that saying it again tells nobody anything.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        self.is_within(TYPING_AGAIN_SECONDS, now)
    }
}

/// A connection as its own frames find it.
#[derive(Debug, Clone)]
pub struct Socket {
    /// The connection.
    pub connection: Connection,
    /// The API key it was made with, or that its token was made with: its frames are charged as that key's requests.
    pub key: SecretHash,
    /// Until when nothing is pumped to it.
    pub ready_at: Timestamp,
}

/// How far a live delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Somebody at a connection of the user's has it.
    Reached,
    /// The user has no connection.
    Offline,
    /// Not yet, and it is not known to fail: come back after [`wait`].
    Later,
}

impl Reach {
    /// What has become of a user of whose connections one came so far as `self` and another as `other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Later, _) | (_, Self::Later) => Self::Later,
            (Self::Reached, _) | (_, Self::Reached) => Self::Reached,
            (Self::Offline, Self::Offline) => Self::Offline,
        }
    }
}

/// Whether a user is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// At a connection.
    Online,
    /// At none, for longer than [`GRACE_SECONDS`].
    Offline,
}

impl Presence {
    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_lasts_six_seconds_and_a_clock_that_steps_does_not_prolong_it() {
        let typing = Typing {
            user: UserId::stored("alice".to_owned()),
            connection: ConnectionId::stored("c".to_owned()),
            log: format!("room_{:032x}", 1).parse().unwrap(),
            at: Timestamp::from_micros(100_000_000),
        };
        let after = |seconds| typing.at.plus_seconds(seconds);
        let fresh: Vec<_> = [-3, -2, 0, 2, 3]
            .map(after)
            .map(|now| typing.is_fresh(now))
            .into();
        assert_eq!(fresh, [false, true, true, true, false]);
        let lasts: Vec<_> = [-6, -5, 5, 6]
            .map(after)
            .map(|now| typing.lasts(now))
            .into();
        assert_eq!(lasts, [false, true, true, false]);
    }

    #[test]
    fn who_is_not_reached_is_tried_again_ever_more_seldom() {
        let waits: Vec<_> = (1..=9).map(wait).collect();
        assert_eq!(waits, [1, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!((0..200).map(wait).max(), Some(60));
        let until_stuck: u16 = (1..=STUCK_TRIES).map(wait).sum();
        assert_eq!(until_stuck, 32);
    }
}
