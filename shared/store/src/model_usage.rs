//! What models were used for, in the `tenants` table.
//!
//! | partition key        | sort key                                   | attributes                                          |
//! |----------------------|--------------------------------------------|-----------------------------------------------------|
//! | `tenant#model_usage` | `2026-11-22#agent#provider/model#shard`    | `agent`, `provider`, `model`, `answers?`, `errors?`, `input`, `output`, `latency_ms?` |
//! | `tenant#model_usage` | `month#2026-11#shard`                      | `tokens`                                            |
//!
//! **Invariant:** an answer is counted once: the additions are writes of the transaction that keeps it. Additions to one
//! row stand in each other's way, so there are [`SHARDS`] of each, and their sum is what was used. A failure is
//! counted by a write of its own, again whenever its answer was lost; and an answer that is kept so late that nobody heard of it
//! is counted as a failure too.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, TransactWriteItem, Update},
};

use super::{
    Backoff,
    aws::{fault, settle},
    item::{Item, Read, VERSION, malformed, n, s},
    transaction,
};
use crate::domain::{
    AgentId, Cursor, Error, Page, TenantId, Timestamp,
    model::{Provider, Tokens},
    model_usage::{Day, Month, UsageLine, Use},
    text::escape,
};

/// Over how many rows one number is spread.
const SHARDS: u128 = 8;
/// Sorts after every shard, and after every agent.
const LAST: &str = "#~";

/// The usage of models in the `tenants` table.
#[derive(Debug)]
pub struct ModelUsageStore {
    client: Client,
    table: String,
}

/// An addition to one row, of which nothing is asked.
struct Addition {
    key: Item,
    sets: Vec<String>,
    adds: Vec<String>,
    names: HashMap<String, String>,
    values: Item,
}

impl ModelUsageStore {
    pub(super) const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// The writes that count an answer, for the transaction that keeps it.
    pub(super) fn writes(&self, used: &Use) -> Result<Vec<TransactWriteItem>, Error> {
        let latency = u64::try_from(used.took.as_millis()).unwrap_or(u64::MAX);
        let additions = [
            line(used, &[("answers", 1), ("latency_ms", latency)]),
            month(used),
        ];
        let writes = additions.into_iter().map(|addition| {
            Update::builder()
                .table_name(&self.table)
                .update_expression(addition.expression())
                .set_key(Some(addition.key))
                .set_expression_attribute_names(Some(addition.names))
                .set_expression_attribute_values(Some(addition.values))
                .build()
                .map(transaction::update)
                .map_err(Error::internal)
        });
        writes.collect()
    }

    /// Counts a question to which no answer was given, and what it used all the same: answers are counted in the same rows,
    /// so it is tried until the deadline of `race`.
    pub async fn add_error(&self, used: &Use, race: &mut Backoff) -> Result<(), Error> {
        let mut additions = vec![line(used, &[("errors", 1)])];
        if used.tokens.total() > 0 {
            additions.push(month(used));
        }
        for addition in additions {
            let update = self
                .client
                .update_item()
                .table_name(&self.table)
                .update_expression(addition.expression())
                .set_key(Some(addition.key))
                .set_expression_attribute_names(Some(addition.names))
                .set_expression_attribute_values(Some(addition.values));
            // There is no condition that could refuse it.
            settle(race, &self.table, || update.clone().send())
                .await
                .map(drop)?;
        }
        Ok(())
    }

    /// How many tokens a tenant has used in the month of `now`. One query.
    pub async fn tokens_in_month(&self, tenant: TenantId, now: Timestamp) -> Result<u64, Error> {
        let page = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("pk = :pk AND begins_with(sk, :month)")
            .expression_attribute_values(":pk", s(partition(tenant)))
            .expression_attribute_values(":month", s(format!("month#{}#", Month::of(now))))
            .send()
            .await
            .map_err(fault(&self.table))?;
        let mut sum = 0_u64;
        for item in page.items() {
            sum = sum.saturating_add(item.number("tokens")?);
        }
        Ok(sum)
    }

    /// What was used from the day `from` to the day `to`: at most `limit` lines by day, agent and model, after the line
    /// that `after` names.
    pub async fn lines(
        &self,
        tenant: TenantId,
        (from, to): (Day, Day),
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page<UsageLine>, Error> {
        let first = match after {
            Some(after) => from
                .to_string()
                .max(format!("{}{LAST}", line_named(after)?)),
            None => from.to_string(),
        };
        let last = format!("{to}{LAST}");
        let mut lines: Vec<UsageLine> = Vec::new();
        let mut start = None;
        if first > last {
            return Ok(Page::new(lines, false, group));
        }
        // Of a line that is begun all shards are wanted, and then one line more.
        loop {
            let page = self
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
                .expression_attribute_values(":pk", s(partition(tenant)))
                .expression_attribute_values(":first", s(&first))
                .expression_attribute_values(":last", s(&last))
                .limit(i32::try_from((limit + 1) * 8).unwrap_or(i32::MAX))
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(fault(&self.table))?;
            for item in page.items() {
                add(&mut lines, from_item(item)?);
            }
            start = page.last_evaluated_key;
            if start.is_none() || lines.len() > limit {
                break;
            }
        }
        let more = lines.len() > limit;
        lines.truncate(limit);
        Ok(Page::new(lines, more, group))
    }
}

/// Adds `part` to the line it belongs to, which is the last one if it is there.
fn add(lines: &mut Vec<UsageLine>, part: UsageLine) {
    match lines.last_mut() {
        Some(last) if group(last) == group(&part) => {
            last.answers += part.answers;
            last.errors += part.errors;
            last.tokens += part.tokens;
            last.latency_ms = last.latency_ms.saturating_add(part.latency_ms);
        }
        Some(_) | None => lines.push(part),
    }
}

fn partition(tenant: TenantId) -> String {
    format!("{tenant}#model_usage")
}

/// What the sort keys of a line have in common.
fn group(line: &UsageLine) -> String {
    let model = escape(&line.model);
    format!("{}#{}#{}/{model}", line.day, line.agent, line.provider)
}

/// What the sort keys of the line begin with that `cursor` names.
///
/// # Errors
///
/// [`Error::Invalid`] if it names none.
fn line_named(cursor: &Cursor) -> Result<&str, Error> {
    /// A day, an agent's id, and a model's name with all its characters escaped.
    const LONGEST: usize = 512;
    let Cursor(text) = cursor;
    let mut parts = text.splitn(3, '#');
    let mut next = || parts.next().unwrap_or_default();
    let is_line = next().parse::<Day>().is_ok()
        && next().parse::<AgentId>().is_ok()
        && next()
            .split_once('/')
            .is_some_and(|(provider, _)| provider.parse::<Provider>().is_ok());
    if is_line && text.len() <= LONGEST {
        Ok(text)
    } else {
        Err(Cursor::invalid())
    }
}

fn line(used: &Use, counted: &[(&str, u64)]) -> Addition {
    let (day, model) = (Day::of(used.at), escape(&used.model));
    let (agent, provider, shard) = (used.agent, used.provider, used.seed % SHARDS);
    let sk = format!("{day}#{agent}#{provider}/{model}#{shard}");
    let Tokens { input, output } = used.tokens;
    let mut addition = Addition::to(used.tenant, &sk);
    addition.add(counted);
    addition.add(&[("input", input), ("output", output)]);
    addition.set("agent", &agent.to_string());
    addition.set("provider", provider.name());
    addition.set("model", &used.model);
    addition
}

fn month(used: &Use) -> Addition {
    let sk = format!("month#{}#{}", Month::of(used.at), used.seed % SHARDS);
    let mut addition = Addition::to(used.tenant, &sk);
    addition.add(&[("tokens", used.tokens.total())]);
    addition
}

impl Addition {
    fn to(tenant: TenantId, sk: &str) -> Self {
        let key = [("pk", s(partition(tenant))), ("sk", s(sk))];
        Self {
            key: key.map(|(name, value)| (name.to_owned(), value)).into(),
            sets: vec!["v = :v".to_owned()],
            adds: Vec::new(),
            names: HashMap::new(),
            values: HashMap::from([(":v".to_owned(), n(VERSION))]),
        }
    }

    fn add(&mut self, numbers: &[(&str, u64)]) {
        for (name, number) in numbers {
            self.adds.push(format!("#{name} :{name}"));
            self.name(name, n(number));
        }
    }

    fn set(&mut self, name: &str, text: &str) {
        self.sets.push(format!("#{name} = :{name}"));
        self.name(name, s(text));
    }

    fn name(&mut self, name: &str, value: AttributeValue) {
        self.names.insert(format!("#{name}"), name.to_owned());
        self.values.insert(format!(":{name}"), value);
    }

    fn expression(&self) -> String {
        let (sets, adds) = (self.sets.join(", "), self.adds.join(", "));
        format!("SET {sets} ADD {adds}")
    }
}

fn from_item(item: &Item) -> Result<UsageLine, Error> {
    let number = |name| Ok::<u64, Error>(item.number_opt(name)?.unwrap_or_default());
    let day = item.text("sk")?.split('#').next().unwrap_or_default();
    Ok(UsageLine {
        day: day.parse().map_err(|_| malformed("sk"))?,
        agent: item.parse("agent")?,
        provider: item.parse("provider")?,
        model: item.text("model")?.to_owned(),
        answers: number("answers")?,
        errors: number("errors")?,
        tokens: Tokens {
            input: number("input")?,
            output: number("output")?,
        },
        latency_ms: number("latency_ms")?,
    })
}
