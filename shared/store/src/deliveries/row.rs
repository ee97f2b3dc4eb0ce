//! The shape of a row.

use std::collections::HashMap;

use super::{Row, listing};
use crate::{
    domain::{
        DeliveryId, Error, TenantId, UserId,
        delivery::{About, Delivery, State},
        subscription::Topic,
    },
    item::{Item, NewItem, Read, malformed, take},
};

/// How long a delivered or discarded row is kept, in seconds: longer than a dead-letter queue keeps a copy of its
/// job (14 days), which must meet it.
const ENDED_SECONDS: i64 = 16 * 24 * 3_600;
/// How long a dead one is kept, in seconds.
const DEAD_SECONDS: i64 = 90 * 24 * 3_600;

/// The key of a delivery.
pub(super) fn key(tenant: TenantId, id: DeliveryId) -> String {
    format!("{tenant}#{id}")
}

pub(super) fn to_item(row: &Row) -> Item {
    let delivery = &row.delivery;
    let Delivery {
        id, tenant, about, ..
    } = delivery;
    let item = NewItem::new()
        .s("pk", key(*tenant, *id))
        .n("writes", row.writes)
        .s("token", format!("{:032x}", delivery.token))
        .s("what", delivery.subject)
        .s_opt("user", delivery.user.as_ref())
        .s("event", &about.event)
        .s_opt("room", about.room)
        .s_opt("topic", about.topic.as_ref().map(Topic::as_str))
        .s("state", delivery.state.name())
        .n("attempts", delivery.attempts)
        .n("round", delivery.round)
        .list("done", delivery.done.iter().cloned())
        .texts_opt("refused", &delivery.refused)
        .n("owed", u8::from(delivery.is_owed))
        .s_opt("held_since", delivery.held_since)
        .s("created_at", delivery.created_at)
        .s_opt("last_attempt_at", delivery.last_attempt_at)
        .s_opt("error", delivery.error.as_ref())
        .s_opt("error_endpoint", delivery.error_endpoint.as_ref())
        .s("overdue_at", delivery.overdue_at)
        .s_opt("content", delivery.content.as_ref())
        .s(
            "subject",
            listing::by_subject(*tenant, &delivery.subject.about()),
        );
    match &delivery.state {
        State::Queued => listing::open(item, delivery),
        State::Attempting { until } | State::Waiting { until } | State::Parked { until } => {
            listing::open(item.s("until", until), delivery)
        }
        State::Delivered { at } => item
            .s("ended_at", at)
            .n("ttl", at.seconds() + ENDED_SECONDS),
        State::Dead { at } => {
            listing::dead(item.s("ended_at", at), delivery).n("ttl", at.seconds() + DEAD_SECONDS)
        }
        State::Discarded { at, by, reason } => item
            .s("ended_at", at)
            .s("by", by)
            .s("reason", reason)
            .n("ttl", at.seconds() + ENDED_SECONDS),
    }
    .build()
}

/// A change of a row: an update expression, with its names and values.
pub(super) struct Change {
    pub(super) expression: String,
    pub(super) names: HashMap<String, String>,
    pub(super) values: Item,
}

/// The change that makes `next` of `known`. Attributes that a later version has added stay.
pub(super) fn change(known: &Row, next: &Row) -> Change {
    let (mut before, after) = (to_item(known), to_item(next));
    // Where the version before this one has not said it, it was derived from others, which may change.
    before.remove("owed");
    let mut change = Change {
        expression: String::new(),
        names: HashMap::new(),
        values: Item::new(),
    };
    let (mut sets, mut removes) = (Vec::new(), Vec::new());
    for (name, value) in after {
        if before.remove(&name).as_ref() != Some(&value) {
            sets.push(format!("#{name} = :{name}"));
            change.names.insert(format!("#{name}"), name.clone());
            change.values.insert(format!(":{name}"), value);
        }
    }
    for name in before.into_keys() {
        removes.push(format!("#{name}"));
        change.names.insert(format!("#{name}"), name);
    }
    // `writes` changes always, so there is something to set.
    let set = sets.join(", ");
    change.expression = match removes.as_slice() {
        [] => format!("SET {set}"),
        removes => format!("SET {set} REMOVE {}", removes.join(", ")),
    };
    change
}

/// Reads a row. One that was listed lacks what was to be told.
pub(super) fn from_item(mut item: Item) -> Result<Row, Error> {
    let content = take(&mut item, "content")?;
    let token = u128::from_str_radix(item.text("token")?, 16);
    let (tenant, id) = item
        .text("pk")?
        .split_once('#')
        .ok_or_else(|| malformed("pk"))?;
    let attempts = item.number("attempts")?;
    let room = item.text_opt("room")?;
    let room = room.map(|room| room.parse().map_err(|_| malformed("room")));
    let delivery = Delivery {
        id: id.parse().map_err(|_| malformed("pk"))?,
        tenant: tenant.parse().map_err(|_| malformed("pk"))?,
        subject: item.parse("what")?,
        user: item
            .text_opt("user")?
            .map(|user| UserId::stored(user.to_owned())),
        about: About {
            event: item.text("event")?.to_owned(),
            room: room.transpose()?,
            topic: item
                .text_opt("topic")?
                .map(|topic| Topic::stored(topic.to_owned())),
        },
        state: state(&item)?,
        attempts,
        round: item.number("round")?,
        done: item
            .texts("done")?
            .into_iter()
            .map(ToOwned::to_owned)
            .collect(),
        refused: item.text_map("refused")?,
        // The version before this one did not say. It kept no delivery open that nobody was to be told of.
        is_owed: item
            .number_opt::<u8>("owed")?
            .map_or(attempts > 0, |owed| owed > 0),
        held_since: item.time_opt("held_since")?,
        created_at: item.parse("created_at")?,
        last_attempt_at: item.time_opt("last_attempt_at")?,
        error: item.text_opt("error")?.map(ToOwned::to_owned),
        error_endpoint: item.text_opt("error_endpoint")?.map(ToOwned::to_owned),
        overdue_at: item.parse("overdue_at")?,
        content,
        token: token.map_err(|_| malformed("token"))?,
    };
    Ok(Row {
        delivery,
        writes: item.number("writes")?,
    })
}

fn state(item: &Item) -> Result<State, Error> {
    let until = || item.parse("until");
    let at = || item.parse("ended_at");
    Ok(match item.text("state")? {
        "queued" => State::Queued,
        "attempting" => State::Attempting { until: until()? },
        "waiting" => State::Waiting { until: until()? },
        "parked" => State::Parked { until: until()? },
        "delivered" => State::Delivered { at: at()? },
        "dead" => State::Dead { at: at()? },
        "discarded" => State::Discarded {
            at: at()?,
            by: item.text("by")?.to_owned(),
            reason: item.text("reason")?.to_owned(),
        },
        _ => return Err(malformed("state")),
    })
}
