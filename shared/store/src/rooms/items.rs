//! The shapes of the table's items.

use super::Head;
use crate::{
    domain::{
        Error, LogId, RoomId, TenantId, Timestamp, UserId,
        message::Seq,
        room::{Member, Role, Room},
        text::{Name, escape},
    },
    item::{Item, NewItem, Read, malformed},
};

/// The sort key of a head. It sorts before every member.
pub(super) const HEAD: &str = "HEAD";
/// What the sort key of a member begins with.
pub(super) const MEMBER: &str = "MEMBER#";
/// The sort key of a pair.
pub(super) const PAIR: &str = "DM";

pub(super) fn partition(log: LogId) -> String {
    log.to_string()
}

pub(super) fn member_sort(user: &UserId) -> String {
    format!("{MEMBER}{}", escape(user.as_str()))
}

pub(super) fn user_key(tenant: TenantId, user: &UserId) -> String {
    format!("{tenant}#{}", escape(user.as_str()))
}

pub(super) fn head_item(log: LogId, room: &Room, creating: &[UserId]) -> Item {
    NewItem::new()
        .s("pk", partition(log))
        .s("sk", HEAD)
        .s("kind", room.kind.as_str())
        .s_opt("name", room.name.as_ref().map(Name::as_str))
        .s_opt("unique_key", room.unique_key.as_ref())
        .n("last_seq", room.last_seq.get())
        .n("members", room.members)
        .n("admins", room.admins)
        .s("created_at", room.created_at)
        .list("creating", creating.iter().map(ToString::to_string))
        .build()
}

pub(super) fn head(item: &Item) -> Result<Head, Error> {
    Ok(Head {
        room: Room {
            id: room_of(item)?,
            kind: item.parse("kind")?,
            name: item
                .text_opt("name")?
                .map(|name| Name::stored(name.to_owned())),
            unique_key: item.text_opt("unique_key")?.map(ToOwned::to_owned),
            last_seq: Seq::new(item.number("last_seq")?),
            last_message_at: item.time_opt("last_message_at")?,
            members: item.number("members")?,
            admins: item.number("admins")?,
            created_at: item.parse("created_at")?,
        },
        creating: item
            .texts("creating")?
            .into_iter()
            .map(|user| UserId::stored(user.to_owned()))
            .collect(),
    })
}

pub(super) fn member_item(
    log: LogId,
    user: &UserId,
    role: Role,
    joined_at: Timestamp,
    joined_seq: Seq,
) -> Item {
    NewItem::new()
        .s("pk", partition(log))
        .s("sk", member_sort(user))
        .s("user", user)
        .s("role", role.as_str())
        .s("joined_at", joined_at)
        .n("acked_seq", 0)
        .n("joined_seq", joined_seq.get())
        .s("user_key", user_key(log.tenant, user))
        .s("joined_key", format!("{joined_at}#{}", log.log))
        .build()
}

pub(super) fn member(item: &Item) -> Result<Member, Error> {
    Ok(Member {
        user: UserId::stored(item.text("user")?.to_owned()),
        // Nobody has more rights here by a role that a later version has made.
        role: item.text("role")?.parse().unwrap_or(Role::Member),
        joined_at: item.parse("joined_at")?,
        acked_seq: super::acked(item)?,
        joined_seq: item.number_opt("joined_seq")?.map(Seq::new),
    })
}

/// The room that an item's partition belongs to.
pub(super) fn room_of(item: &Item) -> Result<RoomId, Error> {
    let (_, room) = item.text("pk")?.split_once('#').ok_or(malformed("pk"))?;
    room.parse().map_err(|_| malformed("pk"))
}
