//! What goes over the wire.

use std::collections::BTreeSet;

use parlance::domain::{
    Error, UserId,
    room::{MAX_MEMBERS_PER_REQUEST, Member, NewRoom, Role, Room, RoomView},
    text::Name,
};
use parlance::http::not_null;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// A room to create.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RoomIn {
    /// `dm`, `group` or `channel`.
    #[serde(rename = "type")]
    #[schema(example = "group")]
    kind: String,
    /// 1 to 1,000 user ids; doubles count once. A dm names exactly two, the caller among them.
    #[schema(example = json!(["user1", "user2"]), max_items = 1000)]
    members: Vec<String>,
    /// 1 to 256 bytes.
    #[schema(example = "Team Chat", max_length = 256)]
    name: Option<String>,
}

impl RoomIn {
    /// The same in domain words.
    pub(crate) fn parse(self, creator: &UserId) -> Result<NewRoom, Error> {
        let kind = self.kind.parse()?;
        let members = users("members", &self.members)?;
        let name = self.name.map(Name::parse).transpose()?;
        NewRoom::new(kind, name, members, creator)
    }
}

/// Distinct user ids, at most [`MAX_MEMBERS_PER_REQUEST`] named.
fn users(field: &'static str, ids: &[String]) -> Result<BTreeSet<UserId>, Error> {
    if ids.len() > MAX_MEMBERS_PER_REQUEST {
        return Err(Error::invalid(
            field,
            format!("Invalid {field}. At most {MAX_MEMBERS_PER_REQUEST} users per request"),
        ));
    }
    ids.iter().map(|id| UserId::parse(field, id)).collect()
}

/// A room that was created.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RoomCreated {
    #[schema(example = "room_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    room_id: String,
    #[serde(rename = "type")]
    #[schema(example = "dm")]
    kind: &'static str,
    /// What makes a dm the only one of its pair; `null` for other rooms.
    #[schema(example = "dm:user1:user2")]
    unique_key: Option<String>,
    name: Option<String>,
    #[schema(example = 0)]
    last_seq: u64,
    #[schema(example = "2025-12-13T12:00:00.000000Z", format = "date-time")]
    created_at: String,
}

impl From<&Room> for RoomCreated {
    fn from(room: &Room) -> Self {
        Self {
            room_id: room.id.to_string(),
            kind: room.kind.as_str(),
            unique_key: room.unique_key.clone(),
            name: name(room),
            last_seq: room.last_seq.get(),
            created_at: room.created_at.to_string(),
        }
    }
}

fn name(room: &Room) -> Option<String> {
    room.name.as_ref().map(|name| name.as_str().to_owned())
}

/// A room as the caller sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RoomOut {
    #[schema(example = "room_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    room_id: String,
    #[serde(rename = "type")]
    #[schema(example = "group")]
    kind: &'static str,
    /// Present for a dm.
    #[serde(skip_serializing_if = "Option::is_none")]
    unique_key: Option<String>,
    #[schema(example = "Team Chat")]
    name: Option<String>,
    #[schema(example = 42)]
    last_seq: u64,
    /// `last_seq` less what the caller has acknowledged.
    #[schema(example = 2)]
    unread_count: u64,
    /// When the last message was sent; only in lists, absent without a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    last_message_at: Option<String>,
    #[schema(example = "2025-12-13T12:00:00.000000Z", format = "date-time")]
    created_at: String,
}

impl From<&RoomView> for RoomOut {
    fn from(view: &RoomView) -> Self {
        let room = &view.room;
        Self {
            room_id: room.id.to_string(),
            kind: room.kind.as_str(),
            unique_key: room.unique_key.clone(),
            name: name(room),
            last_seq: room.last_seq.get(),
            unread_count: view.unread(),
            last_message_at: None,
            created_at: room.created_at.to_string(),
        }
    }
}

impl RoomOut {
    /// With the time by which lists are sorted.
    pub(crate) fn listed(view: &RoomView) -> Self {
        Self {
            last_message_at: view.room.last_message_at.map(|at| at.to_string()),
            ..Self::from(view)
        }
    }
}

/// What to change of a room.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoomPatch {
    /// 1 to 256 bytes, or `null` for none.
    #[expect(
        clippy::option_option,
        reason = "absent, null and given are three things"
    )]
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, example = "Team Chat", max_length = 256)]
    name: Option<Option<String>>,
}

/// Tells `null` from absent.
#[expect(
    clippy::option_option,
    reason = "absent, null and given are three things"
)]
fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(value).map(Some)
}

impl RoomPatch {
    /// The name the room is to have.
    pub(crate) fn parse(self) -> Result<Option<Name>, Error> {
        self.name
            .ok_or(Error::invalid("name", "Missing name"))?
            .map(Name::parse)
            .transpose()
    }
}

/// Members to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MembersIn {
    /// 1 to 1,000 user ids; doubles count once. `members`, as in the creation of a room, is taken too.
    #[serde(alias = "members")]
    #[schema(example = json!(["user3", "user4"]), max_items = 1000)]
    user_ids: Vec<String>,
    /// `member` or `admin`, for all who are named. Without it, who is new is a `member`, and who is in the room keeps theirs.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "member")]
    role: Option<String>,
}

impl MembersIn {
    /// The same in domain words.
    pub(crate) fn parse(self) -> Result<(BTreeSet<UserId>, Option<Role>), Error> {
        let users = users("user_ids", &self.user_ids)?;
        if users.is_empty() {
            return Err(Error::invalid(
                "user_ids",
                "Invalid user_ids. Name at least one user",
            ));
        }
        let role = self.role.map(|role| role.parse()).transpose()?;
        Ok((users, role))
    }
}

/// A change of a member.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberPatch {
    /// `member` or `admin`.
    #[schema(example = "admin")]
    role: String,
}

impl MemberPatch {
    /// The role the member is to have.
    pub(crate) fn parse(self) -> Result<Role, Error> {
        self.role.parse()
    }
}

/// Someone's place in a room.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemberOut {
    #[schema(example = "user1")]
    user_id: String,
    #[schema(example = "admin")]
    role: &'static str,
    #[schema(example = "2025-12-13T12:00:00.000000Z", format = "date-time")]
    joined_at: String,
}

impl From<&Member> for MemberOut {
    fn from(member: &Member) -> Self {
        Self {
            user_id: member.user.to_string(),
            role: member.role.as_str(),
            joined_at: member.joined_at.to_string(),
        }
    }
}
