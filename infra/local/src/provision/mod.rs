//! Creates the tables and queues of a stack.
//!
//! Through the SDK alone, so that the embedded stores, another emulator and AWS are treated alike.
//!
//! **Invariant:** what exists is never replaced. Missing tables, indexes, expiries and queues are
//! added; a table with another key is an error.

mod queue;
mod table;

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;

use aws_sdk_dynamodb::Client as DynamoDb;
use aws_sdk_sqs::Client as Sqs;

use crate::cause::Cause;
use crate::template::Stack;

/// Where the stack's resources are found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provisioned {
    /// Table to stream.
    pub stream_arns: BTreeMap<String, String>,
    /// Queue to URL.
    pub queue_urls: BTreeMap<String, String>,
}

/// Why a resource could not be made, in one line.
#[derive(Debug)]
pub struct ProvisionError {
    resource: String,
    reason: String,
}

impl fmt::Display for ProvisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot set up {}: {}", self.resource, self.reason)
    }
}

impl StdError for ProvisionError {}

/// Creates what is missing, and waits until all of it can be used.
pub async fn provision(
    stack: &Stack,
    dynamodb: &DynamoDb,
    sqs: &Sqs,
) -> Result<Provisioned, ProvisionError> {
    let mut provisioned = Provisioned::default();
    for table in &stack.tables {
        let stream = table::provision(table, dynamodb)
            .await
            .map_err(|reason| ProvisionError {
                resource: table.name.clone(),
                reason,
            })?;
        provisioned
            .stream_arns
            .extend(stream.map(|arn| (table.name.clone(), arn)));
    }
    for queue in &stack.queues {
        let url = queue::provision(queue, &provisioned.queue_urls, sqs)
            .await
            .map_err(|reason| ProvisionError {
                resource: queue.name.clone(),
                reason,
            })?;
        provisioned.queue_urls.insert(queue.name.clone(), url);
    }
    Ok(provisioned)
}

fn said(error: impl StdError) -> String {
    Cause(&error).to_string()
}
