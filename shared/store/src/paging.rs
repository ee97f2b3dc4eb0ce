//! Reading an item or a slice of a partition, or counting it.

use std::{fmt::Display, str::FromStr};

use aws_sdk_dynamodb::{Client, operation::query::builders::QueryFluentBuilder, types::Select};

use super::{
    aws::fault,
    item::{Item, Read, s},
};
use crate::domain::{Cursor, Error, Page, page::Slice};

/// The items of one partition whose sort keys begin alike.
pub(super) struct Partition<'a> {
    pub(super) client: &'a Client,
    pub(super) table: &'a str,
    pub(super) pk: String,
    pub(super) begins_with: Option<&'a str>,
}

impl Partition<'_> {
    /// The item whose sort key is `sk`, strongly consistent.
    pub(super) async fn get(&self, sk: impl Display) -> Result<Option<Item>, Error> {
        let found = self
            .client
            .get_item()
            .table_name(self.table)
            .key("pk", s(&self.pk))
            .key("sk", s(sk))
            .consistent_read(true)
            .send()
            .await
            .map_err(fault(self.table))?;
        Ok(found.item)
    }

    /// A page of what `read` makes of items whose sort keys are ids. What it makes nothing of is left out, so a page may
    /// hold less than `slice` asks for, and still be followed by another.
    pub(super) async fn page<T, Id: FromStr + Display>(
        &self,
        slice: &Slice,
        read: impl Fn(&Item) -> Result<Option<T>, Error>,
    ) -> Result<Page<T>, Error> {
        let after: Option<Id> = slice.after.as_ref().map(Cursor::parse).transpose()?;
        let (items, more) = self.slice(after.map(|id| id.to_string()), slice).await?;
        let next = match items.last() {
            Some(last) if more => Some(Cursor(last.text("sk")?.to_owned())),
            Some(_) | None => None,
        };
        let read = items.iter().filter_map(|item| read(item).transpose());
        Ok(Page {
            items: read.collect::<Result<_, _>>()?,
            next,
        })
    }

    /// The items of `slice`, in the order of their sort keys, after the sort key `after`; and whether
    /// more follow.
    pub(super) async fn slice(
        &self,
        after: Option<String>,
        slice: &Slice,
    ) -> Result<(Vec<Item>, bool), Error> {
        let wanted = slice.offset + slice.limit;
        let mut items = Vec::new();
        // One more than wanted, to know whether more follow: a page that ends with the list says so.
        let mut start =
            after.map(|sk| [("pk".to_owned(), s(&self.pk)), ("sk".to_owned(), s(sk))].into());
        // A page of DynamoDB ends at 1 MB, so one slice may take several.
        loop {
            let left = wanted + 1 - items.len();
            let query = self
                .client
                .query()
                .table_name(self.table)
                .consistent_read(true)
                .limit(i32::try_from(left).unwrap_or(i32::MAX))
                .expression_attribute_values(":pk", s(&self.pk))
                .set_exclusive_start_key(start);
            let query = match self.begins_with {
                None => query.key_condition_expression("pk = :pk"),
                Some(begin) => query
                    .key_condition_expression("pk = :pk AND begins_with(sk, :begin)")
                    .expression_attribute_values(":begin", s(begin)),
            };
            let page = query.send().await.map_err(fault(self.table))?;
            start = page.last_evaluated_key;
            items.extend(page.items.unwrap_or_default());
            if start.is_none() || items.len() > wanted {
                break;
            }
        }
        let more = items.len() > wanted;
        items.truncate(wanted);
        items.drain(..slice.offset.min(items.len()));
        Ok((items, more))
    }
}

/// How many items `query` finds.
pub(super) async fn count(query: QueryFluentBuilder, table: &str) -> Result<u64, Error> {
    let (mut found, mut start) = (0, None);
    loop {
        let page = query
            .clone()
            .select(Select::Count)
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(fault(table))?;
        found += u64::try_from(page.count).unwrap_or_default();
        start = page.last_evaluated_key;
        if start.is_none() {
            return Ok(found);
        }
    }
}
