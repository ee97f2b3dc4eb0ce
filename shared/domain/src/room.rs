//! Rooms and their members.

use std::{collections::BTreeSet, fmt, str::FromStr};

use super::{
    Error, RoomId, Timestamp, UserId,
    message::Seq,
    text::{Name, escape},
};

/// The most members a request to create a room, or to add to one, may name.
pub const MAX_MEMBERS_PER_REQUEST: usize = 1_000;
/// The most members of a room.
pub const MAX_MEMBERS: usize = 10_000;

/// What who adds members is answered that do not fit.
pub fn room_is_full() -> Error {
    Error::invalid(
        "user_ids",
        format!("Invalid user_ids. A room has at most {MAX_MEMBERS} members"),
    )
}

/// What kind of room it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomType {
    /// Two people; one per pair.
    Dm,
    /// Some people.
    Group,
    /// Many people.
    Channel,
}

impl RoomType {
    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dm => "dm",
            Self::Group => "group",
            Self::Channel => "channel",
        }
    }
}

impl FromStr for RoomType {
    type Err = Error;

    /// The error's words are the seed's.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "dm" => Ok(Self::Dm),
            "group" => Ok(Self::Group),
            "channel" => Ok(Self::Channel),
            _ => Err(Error::invalid(
                "type",
                "Invalid room type. Must be one of: dm, group, channel",
            )),
        }
    }
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reads, sends and acks.
    Member,
    /// Also renames the room, adds and removes members.
    Admin,
}

impl Role {
    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "member" => Ok(Self::Member),
            "admin" => Ok(Self::Admin),
            _ => Err(Error::invalid(
                "role",
                "Invalid role. Must be one of: member, admin",
            )),
        }
    }
}

/// The two people of a DM, in an order that does not depend on who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    first: UserId,
    second: UserId,
}

impl Pair {
    /// The pair of `a` and `b`.
    pub fn of(a: UserId, b: UserId) -> Self {
        let (first, second) = if a <= b { (a, b) } else { (b, a) };
        Self { first, second }
    }
}

/// `dm:user1:user2`, as the seed shows it. `%`, `#` and `:` within an id are escaped, so that `p:q` with
/// `r` and `p` with `q:r` are two pairs.
impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "dm:{}:{}",
            escape(self.first.as_str()),
            escape(self.second.as_str())
        )
    }
}

/// A room that does not exist yet.
#[derive(Debug)]
pub struct NewRoom {
    /// Its kind.
    pub kind: RoomType,
    /// What people call it.
    pub name: Option<Name>,
    /// Everyone but the creator, each once.
    pub others: BTreeSet<UserId>,
}

impl NewRoom {
    /// Checks who is to be in a room that `creator` makes.
    pub fn new(
        kind: RoomType,
        name: Option<Name>,
        members: BTreeSet<UserId>,
        creator: &UserId,
    ) -> Result<Self, Error> {
        if members.is_empty() {
            return Err(Error::invalid(
                "members",
                "Invalid members. Name at least one user",
            ));
        }
        if kind == RoomType::Dm && !(members.len() == 2 && members.contains(creator)) {
            return Err(Error::invalid(
                "members",
                "Invalid members. A dm has exactly two members, and you are one of them",
            ));
        }
        let mut others = members;
        others.remove(creator);
        Ok(Self { kind, name, others })
    }
}

/// A room's head.
#[derive(Debug, Clone)]
pub struct Room {
    /// Its id.
    pub id: RoomId,
    /// Its kind.
    pub kind: RoomType,
    /// What people call it.
    pub name: Option<Name>,
    /// What makes a DM the only one of its pair.
    pub unique_key: Option<String>,
    /// The last seq, as far as this copy knows.
    pub last_seq: Seq,
    /// When the last message was sent, as far as this copy knows.
    pub last_message_at: Option<Timestamp>,
    /// How many members it has.
    pub members: usize,
    /// How many of them are admins.
    pub admins: usize,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Room {
    /// When something last happened in it: what lists are sorted by.
    pub fn active_at(&self) -> Timestamp {
        self.last_message_at.unwrap_or(self.created_at)
    }
}

/// A room as one of its members sees it.
#[derive(Debug)]
pub struct RoomView {
    /// The room.
    pub room: Room,
    /// The last seq that member has acked.
    pub acked_seq: Seq,
}

impl RoomView {
    /// How many messages this member has not acked. Never negative.
    pub fn unread(&self) -> u64 {
        self.room.last_seq.since(self.acked_seq)
    }
}

/// Someone's place in a room.
#[derive(Debug, Clone)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// What they may do.
    pub role: Role,
    /// Since when.
    pub joined_at: Timestamp,
    /// The last seq they have acked.
    pub acked_seq: Seq,
    /// The last seq of the room when they joined: what is up to there was said before. `None` if a version joined them that
    /// did not note it.
    pub joined_seq: Option<Seq>,
}

impl Member {
    /// Whether the message `seq` was said while they were a member, since they last joined.
    pub fn was_there_at(&self, seq: Seq) -> bool {
        self.joined_seq.is_none_or(|joined| seq > joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> UserId {
        UserId::parse("user_id", id).unwrap()
    }

    #[test]
    fn a_pair_has_one_key_whoever_asks() {
        let key = Pair::of(user("user2"), user("user1")).to_string();
        assert_eq!(key, "dm:user1:user2");
        assert_eq!(key, Pair::of(user("user1"), user("user2")).to_string());
    }

    #[test]
    fn pairs_of_ids_with_separators_do_not_collide() {
        let one = Pair::of(user("p:q"), user("r")).to_string();
        let other = Pair::of(user("p"), user("q:r")).to_string();
        assert_ne!(one, other);
        assert_ne!(escape("a%3Ab"), escape("a:b"));
    }

    #[test]
    fn a_dm_is_of_exactly_two_with_the_caller() {
        let make = |ids: &[&str]| {
            let members = ids.iter().map(|id| user(id)).collect();
            NewRoom::new(RoomType::Dm, None, members, &user("a"))
        };
        assert!(make(&["a", "b"]).is_ok());
        for bad in [&["a"][..], &["b", "c"], &["a", "b", "c"], &[]] {
            assert!(make(bad).is_err(), "{bad:?}");
        }
    }
}
