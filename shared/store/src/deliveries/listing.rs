//! Lists of deliveries: the dead of a tenant, the overdue of all, and those of one subject.

use std::collections::HashMap;

use aws_sdk_dynamodb::{operation::query::builders::QueryFluentBuilder, types::KeysAndAttributes};
use futures_util::future::try_join_all;

use super::{DeliveryStore, Row, row::from_item};
use crate::{
    Backoff,
    aws::fault,
    domain::{
        Cursor, DeliveryId, Error, Page, RoomId, TenantId, Timestamp,
        delivery::{Delivery, LONGEST_OPEN_SECONDS},
        id::digest,
        page::Slice,
        subscription::Topic,
    },
    item::{Item, NewItem, Read, s},
    paging::count,
};

/// How many partitions the dead of a tenant are spread over.
const TENANT_SHARDS: u8 = 4;
/// How many partitions the open deliveries of all tenants are spread over. Each attempt writes to one, and a partition takes
/// 1,000 writes a second. Fewer would leave rows behind that nobody looks after.
pub const OPEN_SHARDS: u8 = 64;
/// How many of the open deliveries of a shard are looked at for the oldest: they are listed by when they are due, and a
/// tenant that asks often should not read others' backlog each time.
const LOOKED_AT: usize = 100;
/// Maximum number of rows of one shard that one page of dead letters is chosen from, about.
const MAX_LOOKED_AT: usize = 1_000;
/// Sorts after every time.
const NEWEST: &str = "9";
/// All of a row but what was to be told, which can be large.
const SHOWN: [&str; 24] = [
    "pk",
    "writes",
    "token",
    "what",
    "user",
    "event",
    "room",
    "topic",
    "state",
    "until",
    "ended_at",
    "by",
    "reason",
    "attempts",
    "round",
    "done",
    "refused",
    "owed",
    "held_since",
    "created_at",
    "last_attempt_at",
    "error",
    "error_endpoint",
    "overdue_at",
];

/// Which of the dead are meant: those to which all of it applies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Notifications about this topic.
    pub topic: Option<Topic>,
    /// What happened in this room.
    pub room: Option<RoomId>,
    /// Last tried before this time.
    pub older_than: Option<Timestamp>,
    /// Last tried after this time.
    pub newer_than: Option<Timestamp>,
}

/// Where a list of deliveries goes on.
#[derive(Debug)]
pub struct Onward(pub(super) Item);

/// How far all the dead of a tenant were looked through: the shards before this one, and of this one all up to a
/// `dead_at`, if any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    shard: u8,
    after: Option<String>,
}

impl Place {
    /// The beginning of `shard`, if there is such a one.
    pub fn of(shard: u8) -> Option<Self> {
        let after = None;
        (shard < TENANT_SHARDS).then_some(Self { shard, after })
    }

    /// The beginning of the next shard, if there is one.
    fn beyond(&self) -> Option<Self> {
        Self::of(self.shard + 1)
    }

    /// Reads what [`Place::cursor`] wrote for the same `purpose`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for what no answer had, and for the cursor of another request: letters that it passed over may
    /// be meant by this one.
    pub fn parse(Cursor(text): &Cursor, purpose: &Purpose) -> Result<Self, Error> {
        let (made_for, text) = text.split_once('#').ok_or_else(Cursor::invalid)?;
        if made_for != purpose.0 {
            return Err(Cursor::invalid());
        }
        let (shard, after) = text.split_once('#').ok_or_else(Cursor::invalid)?;
        let place = shard.parse().ok().and_then(Self::of);
        let place = place.ok_or_else(Cursor::invalid)?;
        if after.is_empty() {
            return Ok(place);
        }
        let after = position(&Cursor(after.to_owned()))?.to_owned();
        Ok(Self {
            after: Some(after),
            ..place
        })
    }

    /// The same for a client, who sends it back.
    pub fn cursor(&self, Purpose(purpose): &Purpose) -> Cursor {
        let after = self.after.as_deref().unwrap_or_default();
        Cursor(format!("{purpose}#{}#{after}", self.shard))
    }
}

/// Sorts after each `dead_at` of this time, and before those of later ones.
fn after(at: Timestamp) -> String {
    format!("{at}~")
}

/// A digest of a tenant, a filter and an operation: a cursor of one is none of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purpose(String);

impl Purpose {
    /// The purpose of a request to do `operation` with the dead letters of `tenant` that `filter` means.
    pub fn new(tenant: TenantId, filter: &Filter, operation: &str) -> Self {
        let time = |at: Option<Timestamp>| at.map_or_else(String::new, |at| at.to_string());
        let Filter {
            topic,
            room,
            older_than,
            newer_than,
        } = filter;
        let topic = topic.as_ref().map(Topic::as_str).unwrap_or_default();
        let room = room.map_or_else(String::new, |room| room.to_string());
        Self(digest(&[
            &tenant.to_string(),
            operation,
            topic,
            &room,
            &time(*older_than),
            &time(*newer_than),
        ]))
    }
}

impl DeliveryStore {
    /// A tenant's dead letters that `filter` means, newest first, after `after`: at most `limit`, and fewer or none where
    /// many others lie between.
    pub async fn dead(
        &self,
        tenant: TenantId,
        filter: &Filter,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page<Delivery>, Error> {
        let before = after.map_or(Ok(NEWEST), position)?.to_owned();
        let before = match filter.older_than {
            Some(at) => before.min(at.to_string()),
            None => before,
        };
        let shards =
            (0..TENANT_SHARDS).map(|shard| self.newest(tenant, shard, filter, limit, &before));
        let (mut items, mut seen) = (Vec::new(), None);
        for (found, seen_to) in try_join_all(shards).await? {
            // Beyond where the first shard stopped, letters of the others would come before some of its own.
            seen = seen.max(seen_to);
            for item in found {
                items.push((item.text("dead_at")?.to_owned(), item));
            }
        }
        if let Some(seen) = &seen {
            items.retain(|(at, _)| at >= seen);
        }
        items.sort_by(|(a, _), (b, _)| b.cmp(a));
        let more = items.len() > limit;
        items.truncate(limit);
        let next = match items.last() {
            Some((at, _)) if more => Some(Cursor(at.clone())),
            Some(_) | None => seen.map(Cursor),
        };
        let items = items
            .into_iter()
            .map(|(_, item)| from_item(item).map(|row| row.delivery))
            .collect::<Result<_, _>>()?;
        Ok(Page { items, next })
    }

    /// One more than `limit`, to know whether more follow; and the `dead_at` to which the shard was looked through, if
    /// that is not its end.
    async fn newest(
        &self,
        tenant: TenantId,
        shard: u8,
        filter: &Filter,
        limit: usize,
        before: &str,
    ) -> Result<(Vec<Item>, Option<String>), Error> {
        let oldest = filter.newer_than.map(after);
        let is_meant = |at: &str| oldest.as_deref().is_none_or(|oldest| at >= oldest);
        let (mut items, mut start, mut looked_at) = (Vec::new(), None, 0);
        loop {
            let left = limit + 1 - items.len();
            // Few of those that are read may be meant.
            let left = if *filter == Filter::default() {
                left
            } else {
                left.max(LOOKED_AT)
            };
            let query = self
                .list(&format!("{tenant}#{shard}"), left)
                .scan_index_forward(false)
                .key_condition_expression("dead_shard = :shard AND dead_at < :before")
                .expression_attribute_values(":before", s(before));
            let page = chosen(shown(query, &["dead_at"]), filter)
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(fault(&self.table))?;
            looked_at += usize::try_from(page.scanned_count).unwrap_or_default();
            start = page.last_evaluated_key;
            for item in page.items.unwrap_or_default() {
                if is_meant(item.text("dead_at")?) {
                    items.push(item);
                }
            }
            let Some(seen) = &start else {
                return Ok((items, None));
            };
            let seen = seen.text("dead_at")?;
            if items.len() > limit || !is_meant(seen) {
                return Ok((items, None));
            }
            if looked_at >= MAX_LOOKED_AT {
                let seen = seen.to_owned();
                return Ok((items, Some(seen)));
            }
        }
    }

    /// The dead of a tenant that `filter` means, from `place` on, oldest first in each shard, and where to go on: at most
    /// `limit`, and fewer or none where others are not meant.
    pub async fn dead_of(
        &self,
        tenant: TenantId,
        place: &Place,
        filter: &Filter,
        limit: usize,
    ) -> Result<(Vec<Row>, Option<Place>), Error> {
        let from = filter.newer_than.map_or_else(String::new, after);
        let to = filter
            .older_than
            .map_or_else(|| NEWEST.to_owned(), |at| at.to_string());
        // An empty string is no key.
        let from = if from.is_empty() {
            "0".to_owned()
        } else {
            from
        };
        // Ids are of one length: nothing is between one that was seen and this.
        let seen = place.after.as_ref().map(|after| format!("{after}!"));
        let from = seen.map_or(from.clone(), |seen| from.max(seen));
        if from > to {
            return Ok((Vec::new(), place.beyond()));
        }
        let query = self
            .list(&format!("{tenant}#{}", place.shard), limit)
            .key_condition_expression("dead_shard = :shard AND dead_at BETWEEN :from AND :to")
            .expression_attribute_values(":from", s(from))
            .expression_attribute_values(":to", s(to));
        let (rows, next) = self.rows_of(chosen(query, filter), None).await?;
        let next = match next {
            None => place.beyond(),
            Some(Onward(key)) => Some(Place {
                shard: place.shard,
                after: Some(key.text("dead_at")?.to_owned()),
            }),
        };
        Ok((rows, next))
    }

    /// Open deliveries of one shard that should have ended before `now`, the longest overdue first, and where to
    /// go on: at most `limit`.
    pub async fn overdue(
        &self,
        shard: u8,
        now: Timestamp,
        limit: usize,
        start: Option<Onward>,
    ) -> Result<(Vec<Row>, Option<Onward>), Error> {
        let query = self
            .list(&format!("open#{shard}"), limit)
            .key_condition_expression("dead_shard = :shard AND dead_at < :now")
            .expression_attribute_values(":now", s(now));
        self.rows_of(query, start).await
    }

    /// Open deliveries of one shard that should end later than any does at `now`, and where to go on: at most `limit`.
    /// They were written by a clock that was ahead.
    pub async fn far_off(
        &self,
        shard: u8,
        now: Timestamp,
        limit: usize,
        start: Option<Onward>,
    ) -> Result<(Vec<Row>, Option<Onward>), Error> {
        let farthest = now.farthest_end(LONGEST_OPEN_SECONDS);
        let query = self
            .list(&format!("open#{shard}"), limit)
            .key_condition_expression("dead_shard = :shard AND dead_at > :farthest")
            .expression_attribute_values(":farthest", s(farthest));
        self.rows_of(query, start).await
    }

    /// Open deliveries of one shard that were last tried later than `now`, and where to go on: at most `limit`, and fewer
    /// or none where others lie between. The clock was set back since, and they wait for as much longer.
    pub async fn tried_ahead(
        &self,
        shard: u8,
        now: Timestamp,
        limit: usize,
        start: Option<Onward>,
    ) -> Result<(Vec<Row>, Option<Onward>), Error> {
        let query = self
            .list(&format!("open#{shard}"), limit)
            .key_condition_expression("dead_shard = :shard AND dead_at > :soon")
            .filter_expression("last_attempt_at > :soon")
            .expression_attribute_values(":soon", s(now.farthest_end(0)));
        self.rows_of(query, start).await
    }

    /// How many dead letters a tenant has.
    pub async fn count_dead(&self, tenant: TenantId) -> Result<u64, Error> {
        let shards = (0..TENANT_SHARDS).map(|shard| {
            let query = self
                .client
                .query()
                .table_name(&self.table)
                .index_name("dead")
                .key_condition_expression("dead_shard = :shard")
                .expression_attribute_values(":shard", s(format!("{tenant}#{shard}")));
            count(query, &self.table)
        });
        Ok(try_join_all(shards).await?.into_iter().sum())
    }

    /// When the oldest open delivery was made, of `tenant` or of all: of those that are due first, up to
    /// 100 of each shard.
    pub async fn oldest_open(&self, tenant: Option<TenantId>) -> Result<Option<Timestamp>, Error> {
        let shards = (0..OPEN_SHARDS).map(|shard| async move {
            let query = self
                .list(&format!("open#{shard}"), LOOKED_AT)
                .key_condition_expression("dead_shard = :shard")
                .projection_expression("created_at");
            // What is held for a paused endpoint is as old as the pause, which says nothing of how deliveries go.
            let query = match tenant {
                None => query.filter_expression("attribute_not_exists(held_since)"),
                Some(tenant) => query
                    .filter_expression(
                        "attribute_not_exists(held_since) AND begins_with(pk, :tenant)",
                    )
                    .expression_attribute_values(":tenant", s(format!("{tenant}#"))),
            };
            let page = query.send().await.map_err(fault(&self.table))?;
            let made = page.items.unwrap_or_default().into_iter();
            made.map(|item| item.parse::<Timestamp>("created_at"))
                .collect::<Result<Vec<_>, _>>()
        });
        Ok(try_join_all(shards).await?.into_iter().flatten().min())
    }

    /// Whole rows, so that they can be written as they are.
    async fn rows_of(
        &self,
        query: QueryFluentBuilder,
        start: Option<Onward>,
    ) -> Result<(Vec<Row>, Option<Onward>), Error> {
        let page = query
            .set_exclusive_start_key(start.map(|Onward(key)| key))
            .send()
            .await
            .map_err(fault(&self.table))?;
        let rows = page.items.unwrap_or_default().into_iter().map(from_item);
        let rows = rows.collect::<Result<_, _>>()?;
        Ok((rows, page.last_evaluated_key.map(Onward)))
    }

    pub(super) fn list(&self, shard: &str, limit: usize) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.table)
            .index_name("dead")
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .expression_attribute_values(":shard", s(shard))
    }

    /// The deliveries of one message, notification or event, in the order of their ids. The index may be a
    /// moment behind; the rows are as they are.
    pub async fn of_subject(
        &self,
        tenant: TenantId,
        about: &str,
        slice: &Slice,
        race: &mut Backoff,
    ) -> Result<Page<Delivery>, Error> {
        let after: Option<DeliveryId> = slice.after.as_ref().map(Cursor::parse).transpose()?;
        let wanted = slice.offset + slice.limit;
        let mut keys = Vec::new();
        let mut start = None;
        loop {
            let left = wanted + 1 - keys.len();
            let query = self
                .client
                .query()
                .table_name(&self.table)
                .index_name("by_subject")
                .limit(i32::try_from(left).unwrap_or(i32::MAX))
                .key_condition_expression("subject = :subject AND pk > :after")
                .expression_attribute_values(":subject", s(by_subject(tenant, about)))
                .expression_attribute_values(
                    ":after",
                    s(after.map_or_else(|| format!("{tenant}#"), |id| super::key(tenant, id))),
                );
            let page = query
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(fault(&self.table))?;
            start = page.last_evaluated_key;
            keys.extend(page.items.unwrap_or_default());
            if start.is_none() || keys.len() > wanted {
                break;
            }
        }
        let more = keys.len() > wanted;
        keys.truncate(wanted);
        keys.drain(..slice.offset.min(keys.len()));
        let next = keys.last().filter(|_| more).map(|last| last.text("pk"));
        let next = next.transpose()?.and_then(|pk| pk.split_once('#'));
        let next = next.map(|(_, id)| Cursor(id.to_owned()));
        let mut items = self.rows(keys, race).await?;
        items.sort_by_key(|delivery| delivery.id);
        Ok(Page { items, next })
    }

    /// The rows of `keys`, at most 100, in no order; those that expired meanwhile are left out.
    async fn rows(&self, keys: Vec<Item>, race: &mut Backoff) -> Result<Vec<Delivery>, Error> {
        let mut rows = Vec::with_capacity(keys.len());
        let mut keys: Vec<Item> = keys
            .into_iter()
            .filter_map(|mut item| item.remove("pk"))
            .map(|pk| HashMap::from([("pk".to_owned(), pk)]))
            .collect();
        while !keys.is_empty() {
            let (names, projection) = projection(&[]);
            let wanted = KeysAndAttributes::builder()
                .set_keys(Some(keys))
                .consistent_read(true)
                .projection_expression(projection)
                .set_expression_attribute_names(Some(names))
                .build()
                .map_err(Error::internal)?;
            let mut found = self
                .client
                .batch_get_item()
                .request_items(&self.table, wanted)
                .send()
                .await
                .map_err(fault(&self.table))?;
            let answered = found.responses.as_mut();
            let answered = answered.and_then(|tables| tables.remove(&self.table));
            for item in answered.unwrap_or_default() {
                rows.push(from_item(item)?.delivery);
            }
            // Throttled in part: the rest is asked for again.
            let rest = found
                .unprocessed_keys
                .and_then(|mut tables| tables.remove(&self.table));
            keys = rest.map(|rest| rest.keys).unwrap_or_default();
            if !keys.is_empty() {
                race.pause().await?;
            }
        }
        Ok(rows)
    }
}

/// `query` for those that are about the topic and the room of `filter`.
fn chosen(mut query: QueryFluentBuilder, filter: &Filter) -> QueryFluentBuilder {
    let mut wanted = Vec::new();
    if let Some(topic) = &filter.topic {
        wanted.push("#topic = :topic");
        query = query
            .expression_attribute_names("#topic", "topic")
            .expression_attribute_values(":topic", s(topic.as_str()));
    }
    if let Some(room) = filter.room {
        wanted.push("#room = :room");
        query = query
            .expression_attribute_names("#room", "room")
            .expression_attribute_values(":room", s(room));
    }
    if wanted.is_empty() {
        return query;
    }
    query.filter_expression(wanted.join(" AND "))
}

/// `query`, answered with what is shown, and with `also`.
fn shown(query: QueryFluentBuilder, also: &[&str]) -> QueryFluentBuilder {
    let (names, projection) = projection(also);
    query
        .projection_expression(projection)
        .set_expression_attribute_names(Some(names))
}

/// Names are reserved words, some of them.
fn projection(also: &[&str]) -> (HashMap<String, String>, String) {
    let names: HashMap<_, _> = SHOWN
        .iter()
        .chain(also)
        .map(|name| (format!("#{name}"), (*name).to_owned()))
        .collect();
    let projection: Vec<_> = names.keys().map(String::as_str).collect();
    let projection = projection.join(", ");
    (names, projection)
}

/// The key of an index under which the deliveries of `about` are.
pub(super) fn by_subject(tenant: TenantId, about: &str) -> String {
    format!("{tenant}#{about}")
}

/// Lists an open delivery under the time when somebody must look after it.
pub(super) fn open(item: NewItem, delivery: &Delivery) -> NewItem {
    let shard = delivery.id.shard(OPEN_SHARDS);
    // No tenant's id is "open".
    item.s("dead_shard", format!("open#{shard}")).s(
        "dead_at",
        format!("{}#{}", delivery.overdue_at, delivery.id),
    )
}

/// Lists a dead one for its tenant.
pub(super) fn dead(item: NewItem, delivery: &Delivery) -> NewItem {
    let shard = delivery.id.shard(TENANT_SHARDS);
    let at = delivery.last_attempt_at.unwrap_or(delivery.created_at);
    item.s("dead_shard", format!("{}#{shard}", delivery.tenant))
        .s("dead_at", format!("{at}#{}", delivery.id))
}

/// The `dead_at` that a cursor names.
fn position(Cursor(at): &Cursor) -> Result<&str, Error> {
    let (time, id) = at.split_once('#').ok_or_else(Cursor::invalid)?;
    if time.parse::<Timestamp>().is_err() || id.parse::<DeliveryId>().is_err() {
        return Err(Cursor::invalid());
    }
    Ok(at)
}
