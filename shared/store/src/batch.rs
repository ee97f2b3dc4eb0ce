//! Reading many items of one table at once.

use std::collections::HashMap;

use aws_sdk_dynamodb::{Client, types::KeysAndAttributes};
use futures_util::future::try_join_all;

use super::{
    Backoff,
    aws::fault,
    item::{Item, s},
};
use crate::domain::Error;

/// What one request reads at most.
const AT_ONCE: usize = 100;

/// The items of a table that have these partition keys alone, strongly consistent, in no order.
pub(super) async fn read(
    client: &Client,
    table: &str,
    keys: &[String],
    race: &Backoff,
) -> Result<Vec<Item>, Error> {
    let keys = keys.iter();
    let keys = keys.map(|pk| HashMap::from([("pk".to_owned(), s(pk))]));
    read_keys(client, table, keys.collect(), race).await
}

/// The same with whole keys.
pub(super) async fn read_keys(
    client: &Client,
    table: &str,
    keys: Vec<Item>,
    race: &Backoff,
) -> Result<Vec<Item>, Error> {
    let batches = keys
        .chunks(AT_ONCE)
        .map(|keys| batch(client, table, keys.to_vec(), race.clone()));
    Ok(try_join_all(batches).await?.into_iter().flatten().collect())
}

async fn batch(
    client: &Client,
    table: &str,
    mut keys: Vec<Item>,
    mut race: Backoff,
) -> Result<Vec<Item>, Error> {
    let mut items = Vec::with_capacity(keys.len());
    loop {
        let wanted = KeysAndAttributes::builder()
            .set_keys(Some(keys))
            .consistent_read(true)
            .build()
            .map_err(Error::internal)?;
        let mut found = client
            .batch_get_item()
            .request_items(table, wanted)
            .send()
            .await
            .map_err(fault(table))?;
        let taken = found.responses.as_mut();
        items.extend(
            taken
                .and_then(|tables| tables.remove(table))
                // Throttled as a whole: nothing of this table.
                .unwrap_or_default(),
        );
        // Throttled in part: the rest is asked for again.
        let rest = found
            .unprocessed_keys
            .and_then(|mut tables| tables.remove(table));
        match rest {
            Some(rest) if !rest.keys.is_empty() => keys = rest.keys,
            Some(_) | None => return Ok(items),
        }
        race.pause().await?;
    }
}
