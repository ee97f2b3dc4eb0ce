//! Connections, and who is at one.
//!
//! | what       | partition key          | attributes                                                                |
//! |------------|------------------------|---------------------------------------------------------------------------|
//! | connection | `connection#id`        | `tenant`, `user`, `key` (hash in hex), `connected_at`, `ready_at`, `subject` (`tenant#connections`), `ttl` |
//! | presence   | `tenant#live#user`     | `connections?` (set of `connected_at#id`), `left_at?`, `ttl`, and for each connection at most one `typing#id` (`room at`) |
//!
//! All of it is in the table `deliveries`; times are microseconds since 1970. The index `by_subject`, where deliveries are
//! found by what they tell of, counts a tenant's connections by `subject`.
//!
//! **Invariant:** what a presence names has an item of its own, or had one: the item is written before the presence
//! names it, and removed after. A presence never names more than the limit. Who is gone without a word is named until
//! somebody looks or its lifetime ends: expiry is read, not waited for. That a user types is noted for a connection that
//! their presence names, in one room at a time; whoever takes the note away tells that it is over, and nobody else.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure::AllOld},
};

use super::{
    Backoff,
    aws::{fault, settle},
    batch,
    item::{Item, NewItem, Read, malformed, n, s},
    paging::count,
};
use crate::domain::{
    Connection, ConnectionId, Error, TenantId, Timestamp, UserId,
    live::{LIFETIME_SECONDS, PENDING_SECONDS, Socket, Typing},
    secret::SecretHash,
    text::escape,
};

/// So long after a connection must have ended, its items may go: the gateway's clock is not ours.
const SLACK_SECONDS: i64 = 300;

/// The connections in the `deliveries` table.
#[derive(Debug)]
pub struct ConnectionStore {
    client: Client,
    table: String,
}

/// Whether a connection was let in.
#[derive(Debug)]
pub enum Admission {
    /// It was. Says what was before.
    In {
        /// Whether the user had no other.
        first: bool,
        /// When their last one before it ended, if it was their last.
        left_at: Option<Timestamp>,
    },
    /// The user has as many as they may. These are they.
    Full(Vec<Connection>),
}

/// What is left of a user's presence once a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// They have others.
    Others,
    /// It was their last.
    Nobody,
}

/// A user's presence as it was found.
#[derive(Debug, Default)]
pub struct Found {
    /// The connections that may live.
    pub connections: Vec<Connection>,
    /// When the last one ended, if there is none.
    pub left_at: Option<Timestamp>,
    /// Where they have said that they type.
    pub typing: Vec<Typing>,
}

/// Which of some users are there.
#[derive(Debug, Default)]
pub struct Online {
    /// Their connections that may live.
    pub connections: Vec<Connection>,
    /// Where they have said that they type.
    pub typing: Vec<Typing>,
}

/// Until when something of a connection made at `connected_at` is kept, in seconds since 1970.
pub(super) const fn kept_until(connected_at: Timestamp) -> i64 {
    connected_at.seconds() + LIFETIME_SECONDS + SLACK_SECONDS
}

impl ConnectionStore {
    pub(super) const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Lets a connection in, unless its user has `limit` of them. It is pending for a second.
    pub async fn connect(
        &self,
        connection: &Connection,
        key: SecretHash,
        limit: usize,
        race: &mut Backoff,
    ) -> Result<Admission, Error> {
        let ready_at = connection.connected_at.plus_seconds(PENDING_SECONDS);
        let item = NewItem::new()
            .s("pk", connection_key(&connection.id))
            .s("tenant", connection.tenant)
            .s("user", &connection.user)
            .s("key", key.to_hex())
            .n("connected_at", connection.connected_at.micros())
            .n("ready_at", ready_at.micros())
            .s("subject", subject(connection.tenant))
            .n("ttl", kept_until(connection.connected_at))
            .build();
        // The gateway gives an id once: whatever is there is an earlier try of ours.
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item));
        let put = || async { put.clone().send().await };
        if settle(race, &self.table, put).await?.is_err() {
            return Err(malformed("pk"));
        }
        let entry = entry(connection);
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(presence_key(connection.tenant, &connection.user)))
            .update_expression("ADD connections :entries SET #ttl = :ttl, v = :v")
            .condition_expression(
                "attribute_not_exists(connections) OR size(connections) < :limit OR contains(connections, :entry)",
            )
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":v", n(super::item::VERSION))
            .expression_attribute_values(":ttl", n(kept_until(connection.connected_at)))
            .expression_attribute_values(":limit", n(limit))
            .expression_attribute_values(":entry", s(&entry))
            .expression_attribute_values(":entries", AttributeValue::Ss(vec![entry]))
            .return_values(ReturnValue::AllOld)
            .return_values_on_condition_check_failure(AllOld);
        let named = |item: &Item| named(item, connection.tenant, &connection.user);
        match settle(race, &self.table, || update.clone().send()).await? {
            Ok(done) => {
                let before = done.attributes.unwrap_or_default();
                let mut others = named(&before)?;
                others.retain(|it| it.id != connection.id);
                Ok(Admission::In {
                    first: others.is_empty(),
                    left_at: time(&before, "left_at")?,
                })
            }
            Err(standing) => {
                self.remove(&connection.id, race).await?;
                named(&standing.unwrap_or_default()).map(Admission::Full)
            }
        }
    }

    /// A connection as its own frames find it; `None` if it is not, or no longer, let in.
    pub async fn get(&self, id: &ConnectionId, now: Timestamp) -> Result<Option<Socket>, Error> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", s(connection_key(id)))
            .consistent_read(true)
            .send()
            .await
            .map_err(fault(&self.table))?;
        let Some(item) = found.item else {
            return Ok(None);
        };
        let socket = socket(&item, id)?;
        let is_over = kept_until(socket.connection.connected_at) <= now.seconds();
        Ok((!is_over).then_some(socket))
    }

    /// Lets nothing be pumped to a connection until `at`, or lets it from `at` on. `false` if there is none.
    pub async fn ready(
        &self,
        id: &ConnectionId,
        at: Timestamp,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(connection_key(id)))
            .update_expression("SET ready_at = :at")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_values(":at", n(at.micros()));
        let done = settle(race, &self.table, || update.clone().send()).await?;
        Ok(done.is_ok())
    }

    /// Lets what happens be pumped to a connection from `at` on, if it was pending until `as_read`: who has moved that
    /// meanwhile had a reason.
    pub async fn ready_as_read(
        &self,
        id: &ConnectionId,
        as_read: Timestamp,
        at: Timestamp,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(connection_key(id)))
            .update_expression("SET ready_at = :at")
            .condition_expression("ready_at = :as_read")
            .expression_attribute_values(":at", n(at.micros()))
            .expression_attribute_values(":as_read", n(as_read.micros()));
        settle(race, &self.table, || update.clone().send())
            .await
            .map(drop)
    }

    /// The connections of `users`, and where they type. Users without a connection are not named.
    pub async fn online(
        &self,
        tenant: TenantId,
        users: &BTreeSet<UserId>,
        now: Timestamp,
        race: &Backoff,
    ) -> Result<Online, Error> {
        let keys: Vec<_> = users
            .iter()
            .map(|user| presence_key(tenant, user))
            .collect();
        let mut online = Online::default();
        for item in batch::read(&self.client, &self.table, &keys, race).await? {
            let user = user_of(&item)?;
            let connections = named(&item, tenant, &user)?.into_iter();
            let living = connections.filter(|it| may_live(it, now));
            online.connections.extend(living);
            online.typing.extend(typing(&item, &user)?);
        }
        Ok(online)
    }

    /// Notes that a user types. `false` if their presence does not name `connection`.
    pub async fn note_typing(
        &self,
        connection: &Connection,
        typing: &Typing,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(presence_key(connection.tenant, &connection.user)))
            .update_expression("SET #typing = :typing")
            .condition_expression("contains(connections, :entry)")
            .expression_attribute_names("#typing", typing_name(typing))
            .expression_attribute_values(":typing", s(typing_value(typing)))
            .expression_attribute_values(":entry", s(entry(connection)));
        let done = settle(race, &self.table, || update.clone().send()).await?;
        Ok(done.is_ok())
    }

    /// Takes away the note `typing`. `false` if it was not there as it says: it was taken away, or made anew.
    pub async fn end_typing(
        &self,
        tenant: TenantId,
        typing: &Typing,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(presence_key(tenant, &typing.user)))
            .update_expression("REMOVE #typing")
            .condition_expression("#typing = :typing")
            .expression_attribute_names("#typing", typing_name(typing))
            .expression_attribute_values(":typing", s(typing_value(typing)));
        let done = settle(race, &self.table, || update.clone().send()).await?;
        Ok(done.is_ok())
    }

    /// The presence of one user.
    pub async fn presence(
        &self,
        tenant: TenantId,
        user: &UserId,
        now: Timestamp,
    ) -> Result<Found, Error> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", s(presence_key(tenant, user)))
            .consistent_read(true)
            .send()
            .await
            .map_err(fault(&self.table))?;
        let item = found.item.unwrap_or_default();
        let mut connections = named(&item, tenant, user)?;
        connections.retain(|it| may_live(it, now));
        Ok(Found {
            connections,
            left_at: time(&item, "left_at")?,
            typing: typing(&item, user)?,
        })
    }

    /// Until when connections are pending, of those of `ids` that are let in.
    pub async fn ready_times(
        &self,
        ids: &[&ConnectionId],
        race: &Backoff,
    ) -> Result<HashMap<ConnectionId, Timestamp>, Error> {
        let keys: Vec<_> = ids.iter().map(|id| connection_key(id)).collect();
        let mut times = HashMap::new();
        for item in batch::read(&self.client, &self.table, &keys, race).await? {
            let id = item.text("pk")?.strip_prefix(CONNECTION);
            let id = id.ok_or_else(|| malformed("pk"))?;
            let ready_at = time(&item, "ready_at")?.ok_or_else(|| malformed("ready_at"))?;
            times.insert(ConnectionId::stored(unescape(id)), ready_at);
        }
        Ok(times)
    }

    /// A connection ended at `at`.
    pub async fn leave(
        &self,
        connection: &Connection,
        at: Timestamp,
        race: &mut Backoff,
    ) -> Result<Left, Error> {
        let entry = entry(connection);
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(presence_key(connection.tenant, &connection.user)))
            .update_expression("DELETE connections :entries SET left_at = :at")
            // Who was forgotten before, or long ago, leaves nothing behind now.
            .condition_expression("contains(connections, :entry)")
            .expression_attribute_values(":at", n(at.micros()))
            .expression_attribute_values(":entry", s(&entry))
            .expression_attribute_values(":entries", AttributeValue::Ss(vec![entry]))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(AllOld);
        let left = match settle(race, &self.table, || update.clone().send()).await? {
            Ok(done) => done.attributes,
            Err(standing) => standing,
        };
        self.remove(&connection.id, race).await?;
        let others = named(
            &left.unwrap_or_default(),
            connection.tenant,
            &connection.user,
        )?;
        Ok(if others.is_empty() {
            Left::Nobody
        } else {
            Left::Others
        })
    }

    /// How many connections a tenant has. Those whose end nobody heard of count until DynamoDB removes their items,
    /// which is hours after their [`LIFETIME_SECONDS`] at worst, as a rule; the index may be a moment behind.
    pub async fn count(&self, tenant: TenantId) -> Result<u64, Error> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("by_subject")
            .key_condition_expression("subject = :subject")
            .expression_attribute_values(":subject", s(subject(tenant)));
        count(query, &self.table).await
    }

    async fn remove(&self, id: &ConnectionId, race: &mut Backoff) -> Result<(), Error> {
        let delete = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("pk", s(connection_key(id)));
        settle(race, &self.table, || delete.clone().send())
            .await
            .map(drop)
    }
}

const CONNECTION: &str = "connection#";

fn connection_key(id: &ConnectionId) -> String {
    format!("{CONNECTION}{}", escape(id.as_str()))
}

/// Under what the index lists a tenant's connections: no delivery tells of that.
fn subject(tenant: TenantId) -> String {
    format!("{tenant}#connections")
}

fn presence_key(tenant: TenantId, user: &UserId) -> String {
    format!("{tenant}#live#{}", escape(user.as_str()))
}

/// Whose presence an item is.
fn user_of(item: &Item) -> Result<UserId, Error> {
    let user = item.text("pk")?.rsplit('#').next().unwrap_or_default();
    Ok(UserId::stored(unescape(user)))
}

/// What [`escape`] made of a text.
fn unescape(text: &str) -> String {
    text.replace("%3A", ":")
        .replace("%23", "#")
        .replace("%25", "%")
}

/// How a presence names a connection.
fn entry(connection: &Connection) -> String {
    format!("{}#{}", connection.connected_at.micros(), connection.id)
}

/// The connections that a presence names.
fn named(item: &Item, tenant: TenantId, user: &UserId) -> Result<Vec<Connection>, Error> {
    let Some(entries) = item.get("connections") else {
        return Ok(Vec::new());
    };
    let entries = entries.as_ss().map_err(|_| malformed("connections"))?;
    let read = |entry: &String| {
        let (at, id) = entry.split_once('#')?;
        Some(Connection {
            id: ConnectionId::stored(id.to_owned()),
            tenant,
            user: user.clone(),
            connected_at: Timestamp::from_micros(at.parse().ok()?),
        })
    };
    entries
        .iter()
        .map(|entry| read(entry).ok_or_else(|| malformed("connections")))
        .collect()
}

/// Prefix of the attributes that note typing, before the connection's id.
const TYPING: &str = "typing#";

fn typing_name(typing: &Typing) -> String {
    format!("{TYPING}{}", typing.connection)
}

fn typing_value(typing: &Typing) -> String {
    format!("{} {}", typing.log, typing.at.micros())
}

/// Where a presence says that its user types.
fn typing(item: &Item, user: &UserId) -> Result<Vec<Typing>, Error> {
    let read = |id: &str, value: &AttributeValue| {
        let (log, at) = value.as_s().ok()?.split_once(' ')?;
        Some(Typing {
            user: user.clone(),
            connection: ConnectionId::stored(id.to_owned()),
            log: log.parse().ok()?,
            at: Timestamp::from_micros(at.parse().ok()?),
        })
    };
    item.iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(TYPING)?, value)))
        .map(|(id, value)| read(id, value).ok_or_else(|| malformed(TYPING)))
        .collect()
}

fn may_live(connection: &Connection, now: Timestamp) -> bool {
    now.seconds() < kept_until(connection.connected_at)
}

fn time(item: &Item, name: &'static str) -> Result<Option<Timestamp>, Error> {
    let micros = item.number_opt(name)?;
    Ok(micros.map(Timestamp::from_micros))
}

fn socket(item: &Item, id: &ConnectionId) -> Result<Socket, Error> {
    let promised = |name| time(item, name)?.ok_or_else(|| malformed(name));
    Ok(Socket {
        connection: Connection {
            id: id.clone(),
            tenant: item.parse("tenant")?,
            user: UserId::stored(item.text("user")?.to_owned()),
            connected_at: promised("connected_at")?,
        },
        key: SecretHash::from_hex(item.text("key")?).ok_or_else(|| malformed("key"))?,
        ready_at: promised("ready_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_read_back_from_the_key_of_their_presence() {
        let tenant: TenantId = format!("tenant_{:032x}", 7).parse().unwrap();
        for id in ["a", "a#b:c%23", "%25", "a/b"] {
            let user = UserId::stored(id.to_owned());
            let item = HashMap::from([("pk".to_owned(), s(presence_key(tenant, &user)))]);
            assert_eq!(user_of(&item).unwrap(), user);
        }
    }
}
