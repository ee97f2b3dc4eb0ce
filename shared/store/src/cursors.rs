//! Cursors: how far each connection has each log, and who is pumping it there.
//!
//! | partition key            | attributes                                                                   |
//! |--------------------------|------------------------------------------------------------------------------|
//! | `cursor#connection#log ` | `seq`, `began?`, `lease?`, `lease_until?` (µs since 1970), `wanted?`, `ttl`  |
//!
//! All of it is in the table `deliveries`. `began` is the seq that a cursor began after which no client put anywhere:
//! the connection is not sent what is up to there, and it does not have it.
//!
//! **Invariant:** `seq` is moved by the holder of the lease alone, forward only, and to what the connection was sent;
//! or by its client's `hello`, which ends the lease. A lease is let go only if nobody noted a later `wanted` meanwhile:
//! whoever finds it held and notes what they want knows that it will be looked at.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure::AllOld},
};

use super::{
    Backoff,
    aws::settle,
    batch,
    connections::kept_until,
    item::{Item, NewItem, Read, n, s},
};
use crate::domain::{Connection, ConnectionId, Error, Log, Timestamp, message::Seq, text::escape};

/// How long a lease holds, in seconds, from when it was taken or kept.
pub const LEASE_SECONDS: i64 = 15;

/// The cursors in the `deliveries` table.
#[derive(Debug)]
pub struct CursorStore {
    client: Client,
    table: String,
}

/// A claim to be the only one who pumps.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Unlike any other.
    pub owner: String,
    /// Until when it holds.
    pub until: Timestamp,
}

/// What became of asking for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It is ours.
    Leased {
        /// The connection has everything up to here.
        at: Seq,
        /// But for what is up to here.
        began: Seq,
    },
    /// Nothing is to be done: the cursor is beyond what was wanted.
    Passed {
        /// The connection does not have what is up to here.
        began: Seq,
    },
    /// Somebody else has it.
    Held {
        /// The connection does not have what is up to here.
        began: Seq,
    },
    /// There is no cursor yet.
    Absent,
}

/// What became of letting a lease go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetGo {
    /// It is let go.
    Done,
    /// It is still ours: somebody wants the connection to have everything up to here.
    Wanted(Seq),
    /// It was not ours any more.
    Lost,
}

/// A cursor as it was found.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// What the connection has.
    pub seq: Seq,
    /// Whether somebody is pumping.
    pub is_leased: bool,
}

impl CursorStore {
    pub(super) const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Asks for the lease of a cursor at `now`, in order to bring its connection up to `seq`.
    pub async fn acquire(
        &self,
        connection: &Connection,
        log: Log,
        seq: Seq,
        lease: &Lease,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Result<Asked, Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(key(&connection.id, log)))
            .update_expression("SET lease = :lease, lease_until = :until")
            .condition_expression(
                "attribute_exists(pk) AND seq < :seq AND (attribute_not_exists(lease_until) OR lease_until <= :now OR lease_until > :farthest)",
            )
            .expression_attribute_values(":lease", s(&lease.owner))
            .expression_attribute_values(":until", n(lease.until.micros()))
            .expression_attribute_values(":now", n(now.micros()))
            .expression_attribute_values(":farthest", farthest(now))
            .expression_attribute_values(":seq", n(seq.get()))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(AllOld);
        match settle(race, &self.table, || update.clone().send()).await? {
            Ok(done) => {
                let item = done.attributes.unwrap_or_default();
                Ok(Asked::Leased {
                    at: seq_of(&item)?,
                    began: began_of(&item)?,
                })
            }
            Err(None) => Ok(Asked::Absent),
            Err(Some(item)) => {
                let (at, began) = (seq_of(&item)?, began_of(&item)?);
                if item.text_opt("lease")? == Some(&lease.owner) {
                    // An earlier try of ours landed, and its answer was lost.
                    Ok(Asked::Leased { at, began })
                } else if at >= seq {
                    Ok(Asked::Passed { began })
                } else {
                    Ok(Asked::Held { began })
                }
            }
        }
    }

    /// Makes a cursor that begins after `seq`, unless there is one.
    pub async fn begin(
        &self,
        connection: &Connection,
        log: Log,
        seq: Seq,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(
                fresh(connection, log, seq).n("began", seq.get()).build(),
            ))
            .condition_expression("attribute_not_exists(pk)");
        settle(race, &self.table, || put.clone().send())
            .await
            .map(drop)
    }

    /// Puts a cursor at `seq`, wherever it was: its client says so. Who pumps stops.
    pub async fn set(
        &self,
        connection: &Connection,
        log: Log,
        seq: Seq,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(fresh(connection, log, seq).build()));
        settle(race, &self.table, || put.clone().send())
            .await
            .map(drop)
    }

    /// Notes that a connection is to have everything up to `seq`, for whoever holds the lease at `now`. `false` if
    /// nobody does.
    pub async fn want(
        &self,
        connection: &Connection,
        log: Log,
        seq: Seq,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(key(&connection.id, log)))
            .update_expression("SET wanted = :seq")
            .condition_expression(
                "lease_until > :now AND lease_until <= :farthest AND (attribute_not_exists(wanted) OR wanted < :seq)",
            )
            .expression_attribute_values(":now", n(now.micros()))
            .expression_attribute_values(":farthest", farthest(now))
            .expression_attribute_values(":seq", n(seq.get()))
            .return_values_on_condition_check_failure(AllOld);
        match settle(race, &self.table, || update.clone().send()).await? {
            Ok(_) => Ok(true),
            Err(None) => Ok(false),
            Err(Some(item)) => {
                // Held, then: as much is wanted already.
                is_leased(&item, now)
            }
        }
    }

    /// Keeps a lease until `lease.until`, and notes that the connection has everything up to `seq`. `false` if it
    /// was not ours any more.
    pub async fn keep(
        &self,
        connection: &Connection,
        log: Log,
        seq: Seq,
        lease: &Lease,
        race: &mut Backoff,
    ) -> Result<bool, Error> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(key(&connection.id, log)))
            .update_expression("SET seq = :seq, lease_until = :until")
            .condition_expression("lease = :lease")
            .expression_attribute_values(":seq", n(seq.get()))
            .expression_attribute_values(":until", n(lease.until.micros()))
            .expression_attribute_values(":lease", s(&lease.owner));
        let done = settle(race, &self.table, || update.clone().send()).await?;
        Ok(done.is_ok())
    }

    /// Lets a lease go, and notes that the connection has everything up to `seq`: unless more is wanted, if
    /// `heeds` says that this is to be looked at.
    pub async fn let_go(
        &self,
        connection: &Connection,
        log: Log,
        seq: Seq,
        lease: &Lease,
        heeds: bool,
        race: &mut Backoff,
    ) -> Result<LetGo, Error> {
        let condition = if heeds {
            "lease = :lease AND (attribute_not_exists(wanted) OR wanted <= :seq)"
        } else {
            "lease = :lease"
        };
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s(key(&connection.id, log)))
            .update_expression("SET seq = :seq REMOVE lease, lease_until, wanted")
            .condition_expression(condition)
            .expression_attribute_values(":seq", n(seq.get()))
            .expression_attribute_values(":lease", s(&lease.owner))
            .return_values_on_condition_check_failure(AllOld);
        let done = settle(race, &self.table, || update.clone().send()).await?;
        let Err(standing) = done else {
            return Ok(LetGo::Done);
        };
        let Some(item) = standing else {
            return Ok(LetGo::Lost);
        };
        let wanted: Option<u64> = item.number_opt("wanted")?;
        match (item.text_opt("lease")?, wanted) {
            (Some(owner), Some(wanted)) if owner == lease.owner => {
                Ok(LetGo::Wanted(Seq::new(wanted)))
            }
            // An earlier try of ours landed, and its answer was lost.
            (None, _) if seq_of(&item)? == seq => Ok(LetGo::Done),
            (_, _) => Ok(LetGo::Lost),
        }
    }

    /// The cursors of a log that `connections` have, as they are at `now`.
    pub async fn standing(
        &self,
        connections: &[Connection],
        log: Log,
        now: Timestamp,
        race: &Backoff,
    ) -> Result<HashMap<ConnectionId, Standing>, Error> {
        let keys: HashMap<_, _> = connections
            .iter()
            .map(|connection| (key(&connection.id, log), &connection.id))
            .collect();
        let wanted: Vec<_> = keys.keys().cloned().collect();
        let mut standing = HashMap::new();
        for item in batch::read(&self.client, &self.table, &wanted, race).await? {
            let cursor = Standing {
                seq: seq_of(&item)?,
                is_leased: is_leased(&item, now)?,
            };
            if let Some(id) = keys.get(item.text("pk")?) {
                standing.insert((*id).clone(), cursor);
            }
        }
        Ok(standing)
    }
}

fn key(connection: &ConnectionId, log: Log) -> String {
    format!("cursor#{}#{log}", escape(connection.as_str()))
}

fn fresh(connection: &Connection, log: Log, seq: Seq) -> NewItem {
    NewItem::new()
        .s("pk", key(&connection.id, log))
        .n("seq", seq.get())
        .n("ttl", kept_until(connection.connected_at))
}

/// The farthest end that a lease may have at `now`.
fn farthest(now: Timestamp) -> AttributeValue {
    n(now.farthest_end(LEASE_SECONDS).micros())
}

fn is_leased(item: &Item, now: Timestamp) -> Result<bool, Error> {
    let until = item.number_opt("lease_until")?.map(Timestamp::from_micros);
    Ok(until.is_some_and(|until| until.is_awaited(now, LEASE_SECONDS)))
}

fn seq_of(item: &Item) -> Result<Seq, Error> {
    item.number("seq").map(Seq::new)
}

/// Nothing is up to there, if the client said where it is.
fn began_of(item: &Item) -> Result<Seq, Error> {
    let began: Option<u64> = item.number_opt("began")?;
    Ok(began.map_or(Seq::ZERO, Seq::new))
}
