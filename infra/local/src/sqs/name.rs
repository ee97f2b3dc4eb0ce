//! A queue's name, in the three shapes a client writes it.
//!
//! | shape | example                                             |
//! |-------|-----------------------------------------------------|
//! | name  | `deliveries`                                        |
//! | URL   | `http://sqs.local.localhost/000000000000/deliveries` |
//! | ARN   | `arn:aws:sqs:us-east-1:000000000000:deliveries`     |
//!
//! Of a URL only the last segment counts, because the gateway, the CLI and the SDK reach one store
//! under different hosts.

use super::fault::Fault;
use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};

/// Ends the name of every FIFO queue, and of no other.
const FIFO: &str = ".fifo";
const BASE_URL: &str = "http://sqs.local.localhost/000000000000/";
const BASE_ARN: &str = "arn:aws:sqs:us-east-1:000000000000:";

/// Names a queue. Read from JSON it is a queue's URL; an absent one is empty and names no queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(from = "String")]
pub(super) struct QueueName(String);

impl QueueName {
    /// Checks the name of a new queue.
    pub(super) fn parse(name: &str) -> Result<Self, Fault> {
        let stem = name.strip_suffix(FIFO).unwrap_or(name);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if stem.is_empty() || name.len() > 80 || !stem.bytes().all(plain) {
            return Err(Fault::invalid(
                "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
            ));
        }
        Ok(Self(name.to_owned()))
    }

    /// `None` if `arn` is not that of a queue. The region and the account are not looked at.
    pub(super) fn from_arn(arn: &str) -> Option<Self> {
        let place = arn.strip_prefix("arn:aws:sqs:")?;
        let name = place.splitn(3, ':').nth(2)?;
        Self::parse(name).ok()
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn url(&self) -> String {
        format!("{BASE_URL}{}", self.0)
    }

    pub(super) fn arn(&self) -> String {
        format!("{BASE_ARN}{}", self.0)
    }

    pub(super) fn is_fifo(&self) -> bool {
        self.0.strip_suffix(FIFO).is_some()
    }
}

impl From<String> for QueueName {
    fn from(url: String) -> Self {
        match url.rsplit_once('/') {
            Some((_, name)) => Self(name.to_owned()),
            None => Self(url),
        }
    }
}

impl ToSql for QueueName {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

impl FromSql for QueueName {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        String::column_result(value).map(Self)
    }
}

/// The answer that is only a queue's URL.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Located {
    queue_url: String,
}

impl From<&QueueName> for Located {
    fn from(name: &QueueName) -> Self {
        Self {
            queue_url: name.url(),
        }
    }
}
