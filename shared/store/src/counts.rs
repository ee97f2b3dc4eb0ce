//! What was counted of tenants, in the `tenants` table.
//!
//! | partition key   | sort key | attributes                                                                                       |
//! |-----------------|----------|--------------------------------------------------------------------------------------------------|
//! | `tenant#counts` | `all`    | `messages_sent?`, `queued?`, `attempts?`, `failures?`, `delivered?`, `retried?`, `held?`, `dead?` (since ever) |
//!
//! Numbers are only ever added to. An addition whose answer was lost is repeated by the SDK, and counts twice then.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;

use super::{
    Backoff,
    aws::fault,
    batch,
    item::{Item, Read, VERSION, malformed, n, s},
};
use crate::domain::{Counts, Error, TenantId};

/// The sort key of what was counted since ever.
const ALL: &str = "all";
const PARTITION: &str = "counts";

/// The counts in the `tenants` table.
#[derive(Debug)]
pub struct CountStore {
    client: Client,
    table: String,
}

/// The attributes and their numbers.
fn numbers(counts: &Counts) -> [(&'static str, u64); 8] {
    [
        ("messages_sent", counts.messages_sent),
        ("queued", counts.queued),
        ("attempts", counts.attempts),
        ("failures", counts.failures),
        ("delivered", counts.delivered),
        ("retried", counts.retried),
        ("held", counts.held),
        ("dead", counts.dead),
    ]
}

impl CountStore {
    pub(super) const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Adds `counts` to what was counted of a tenant.
    pub async fn add(&self, tenant: TenantId, counts: &Counts) -> Result<(), Error> {
        let mut update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(tenant)))
            .expression_attribute_values(":v", n(VERSION));
        let mut additions = Vec::new();
        for (name, number) in numbers(counts).into_iter().filter(|(_, it)| *it > 0) {
            additions.push(format!("#{name} :{name}"));
            update = update
                .expression_attribute_names(format!("#{name}"), name)
                .expression_attribute_values(format!(":{name}"), n(number));
        }
        if additions.is_empty() {
            return Ok(());
        }
        update
            .update_expression(format!("ADD {} SET v = :v", additions.join(", ")))
            .send()
            .await
            .map_err(fault(&self.table))?;
        Ok(())
    }

    /// What was counted of `tenants`, in no order; those of whom nothing was are not named.
    pub async fn of(
        &self,
        tenants: &[TenantId],
        race: &Backoff,
    ) -> Result<Vec<(TenantId, Counts)>, Error> {
        let keys = tenants.iter().map(|tenant| key(*tenant)).collect();
        let items = batch::read_keys(&self.client, &self.table, keys, race).await?;
        items.iter().map(from_item).collect()
    }
}

fn key(tenant: TenantId) -> Item {
    HashMap::from([
        ("pk".to_owned(), s(format!("{tenant}#{PARTITION}"))),
        ("sk".to_owned(), s(ALL)),
    ])
}

fn from_item(item: &Item) -> Result<(TenantId, Counts), Error> {
    let tenant = item.text("pk")?.split('#').next().unwrap_or_default();
    let tenant = tenant.parse().map_err(|_| malformed("pk"))?;
    let number = |name| Ok::<u64, Error>(item.number_opt(name)?.unwrap_or_default());
    let counts = Counts {
        messages_sent: number("messages_sent")?,
        queued: number("queued")?,
        attempts: number("attempts")?,
        failures: number("failures")?,
        delivered: number("delivered")?,
        retried: number("retried")?,
        held: number("held")?,
        dead: number("dead")?,
    };
    Ok((tenant, counts))
}
