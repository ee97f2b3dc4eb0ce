//! Creates the tables and queues of a stack.
//!
//! Through the SDK alone, so that the embedded stores, another emulator and AWS are treated alike.
//!
//! **Invariant:** what exists is never replaced. Missing tables, indexes, expiries and queues are
//! added; a table with another key is an error.

use std::collections::{BTreeMap, HashMap};
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use aws_sdk_dynamodb::Client as DynamoDb;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, CreateGlobalSecondaryIndexAction, GlobalSecondaryIndex,
    GlobalSecondaryIndexUpdate, IndexStatus, KeySchemaElement, Projection, StreamSpecification,
    TableDescription, TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
};
use aws_sdk_sqs::Client as Sqs;
use aws_sdk_sqs::types::QueueAttributeName;

use crate::cause::Cause;
use crate::template::{Index, KeyPart, Queue, Redrive, Stack, Table};

/// How often a table is looked at while it is made, and how many times.
const PAUSE: Duration = Duration::from_millis(500);
const LOOKS: usize = 240;

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
        let stream = provision_table(table, dynamodb)
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
        let url = provision_queue(queue, &provisioned.queue_urls, sqs)
            .await
            .map_err(|reason| ProvisionError {
                resource: queue.name.clone(),
                reason,
            })?;
        provisioned.queue_urls.insert(queue.name.clone(), url);
    }
    Ok(provisioned)
}

/// Makes `table` usable; the ARN of its stream, if it has one.
async fn provision_table(table: &Table, dynamodb: &DynamoDb) -> Result<Option<String>, String> {
    let found = describe(table, dynamodb).await?;
    if found.is_none() {
        create(table, dynamodb).await?;
    }
    let mut found = until_active(table, dynamodb, found).await?;
    if found.key_schema() != key_schema(&table.key)? {
        return Err("a table of this name exists and has another key".to_owned());
    }
    for index in missing_indexes(table, &found) {
        add_index(table, index, dynamodb).await?;
        found = until_active(table, dynamodb, None).await?;
    }
    if let Some(attribute) = &table.ttl {
        expire_by(attribute, table, dynamodb).await?;
    }
    match (&table.stream, found.latest_stream_arn()) {
        (None, _) => Ok(None),
        (Some(_), Some(arn)) => Ok(Some(arn.to_owned())),
        (Some(_), None) => Err("a table of this name exists and has no stream".to_owned()),
    }
}

async fn describe(table: &Table, dynamodb: &DynamoDb) -> Result<Option<TableDescription>, String> {
    match dynamodb
        .describe_table()
        .table_name(&table.name)
        .send()
        .await
    {
        Ok(answer) => Ok(answer.table),
        Err(error) => match error.as_service_error() {
            Some(fault) if fault.is_resource_not_found_exception() => Ok(None),
            _ => Err(said(error)),
        },
    }
}

async fn create(table: &Table, dynamodb: &DynamoDb) -> Result<(), String> {
    let indexes: Result<Vec<_>, String> = table
        .indexes
        .iter()
        .map(|index| {
            GlobalSecondaryIndex::builder()
                .index_name(&index.index_name)
                .set_key_schema(Some(key_schema(&index.key_schema)?))
                .projection(projection(index))
                .build()
                .map_err(said)
        })
        .collect();
    let stream = table.stream.as_deref().map(|view| {
        StreamSpecification::builder()
            .stream_enabled(true)
            .stream_view_type(view.into())
            .build()
    });
    let answer = dynamodb
        .create_table()
        .table_name(&table.name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_attribute_definitions(Some(attributes(table)?))
        .set_key_schema(Some(key_schema(&table.key)?))
        .set_global_secondary_indexes(Some(indexes?).filter(|indexes| !indexes.is_empty()))
        .set_stream_specification(stream.transpose().map_err(said)?)
        .send()
        .await;
    match answer {
        Ok(_) => Ok(()),
        // Another process was faster.
        Err(error) if error.as_service_error().is_some_and(is_in_use) => Ok(()),
        Err(error) => Err(said(error)),
    }
}

fn is_in_use(fault: &aws_sdk_dynamodb::operation::create_table::CreateTableError) -> bool {
    fault.is_resource_in_use_exception()
}

/// Looks until table and indexes are active. `found` saves the first look.
async fn until_active(
    table: &Table,
    dynamodb: &DynamoDb,
    mut found: Option<TableDescription>,
) -> Result<TableDescription, String> {
    for look in 0..LOOKS {
        if let Some(table) = found.take_if(|found| is_active(found)) {
            return Ok(table);
        }
        if look > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        found = describe(table, dynamodb).await?;
    }
    Err("it does not become active".to_owned())
}

fn is_active(found: &TableDescription) -> bool {
    let indexes = found.global_secondary_indexes();
    found.table_status() == Some(&TableStatus::Active)
        && indexes.iter().all(|index| {
            // Some emulators leave it out.
            index
                .index_status()
                .is_none_or(|status| *status == IndexStatus::Active)
        })
}

fn missing_indexes<'a>(table: &'a Table, found: &TableDescription) -> Vec<&'a Index> {
    let has = |index: &&Index| {
        let mut names = found
            .global_secondary_indexes()
            .iter()
            .filter_map(|found| found.index_name());
        names.any(|name| name == index.index_name)
    };
    table.indexes.iter().filter(|index| !has(index)).collect()
}

async fn add_index(table: &Table, index: &Index, dynamodb: &DynamoDb) -> Result<(), String> {
    let action = CreateGlobalSecondaryIndexAction::builder()
        .index_name(&index.index_name)
        .set_key_schema(Some(key_schema(&index.key_schema)?))
        .projection(projection(index))
        .build()
        .map_err(said)?;
    dynamodb
        .update_table()
        .table_name(&table.name)
        .set_attribute_definitions(Some(attributes(table)?))
        .global_secondary_index_updates(
            GlobalSecondaryIndexUpdate::builder().create(action).build(),
        )
        .send()
        .await
        .map(drop)
        .map_err(said)
}

async fn expire_by(attribute: &str, table: &Table, dynamodb: &DynamoDb) -> Result<(), String> {
    let found = dynamodb
        .describe_time_to_live()
        .table_name(&table.name)
        .send()
        .await;
    let found = found.map_err(said)?.time_to_live_description;
    let status = found.as_ref().and_then(|found| found.time_to_live_status());
    if matches!(
        status,
        Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)
    ) {
        return Ok(());
    }
    let ttl = TimeToLiveSpecification::builder()
        .attribute_name(attribute)
        .enabled(true)
        .build()
        .map_err(said)?;
    dynamodb
        .update_time_to_live()
        .table_name(&table.name)
        .time_to_live_specification(ttl)
        .send()
        .await
        .map(drop)
        .map_err(said)
}

fn attributes(table: &Table) -> Result<Vec<AttributeDefinition>, String> {
    let definition = |attribute: &crate::template::Attribute| {
        AttributeDefinition::builder()
            .attribute_name(&attribute.attribute_name)
            .attribute_type(attribute.attribute_type.as_str().into())
            .build()
            .map_err(said)
    };
    table.attributes.iter().map(definition).collect()
}

fn key_schema(key: &[KeyPart]) -> Result<Vec<KeySchemaElement>, String> {
    let element = |part: &KeyPart| {
        KeySchemaElement::builder()
            .attribute_name(&part.attribute_name)
            .key_type(part.key_type.as_str().into())
            .build()
            .map_err(said)
    };
    key.iter().map(element).collect()
}

fn projection(index: &Index) -> Projection {
    let included = &index.projection.non_key_attributes;
    Projection::builder()
        .projection_type(index.projection.projection_type.as_str().into())
        .set_non_key_attributes(Some(included.clone()).filter(|included| !included.is_empty()))
        .build()
}

/// Makes `queue` usable; its URL.
async fn provision_queue(
    queue: &Queue,
    urls: &BTreeMap<String, String>,
    sqs: &Sqs,
) -> Result<String, String> {
    let mut wanted: HashMap<QueueAttributeName, String> = HashMap::new();
    for (name, value) in &queue.attributes {
        wanted.insert(name.as_str().into(), value.clone());
    }
    if let Some(redrive) = &queue.redrive {
        wanted.insert(
            QueueAttributeName::RedrivePolicy,
            policy(redrive, urls, sqs).await?,
        );
    }
    match sqs.get_queue_url().queue_name(&queue.name).send().await {
        Ok(answer) => {
            let url = answer.queue_url.ok_or("it has no URL")?;
            adjust_queue(&url, wanted, sqs).await?;
            Ok(url)
        }
        Err(error) if error.as_service_error().is_some_and(is_missing) => {
            let created = sqs
                .create_queue()
                .queue_name(&queue.name)
                .set_attributes(Some(wanted))
                .send()
                .await
                .map_err(said)?;
            created.queue_url.ok_or_else(|| "it has no URL".to_owned())
        }
        Err(error) => Err(said(error)),
    }
}

fn is_missing(fault: &aws_sdk_sqs::operation::get_queue_url::GetQueueUrlError) -> bool {
    fault.is_queue_does_not_exist()
}

/// Sets those attributes of an existing queue that differ from the template's.
async fn adjust_queue(
    url: &str,
    mut wanted: HashMap<QueueAttributeName, String>,
    sqs: &Sqs,
) -> Result<(), String> {
    let found = sqs
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(QueueAttributeName::All)
        .send()
        .await
        .map_err(said)?
        .attributes
        .unwrap_or_default();
    // Whether a queue is FIFO is part of its name and cannot be set.
    wanted.remove(&QueueAttributeName::FifoQueue);
    wanted.retain(|name, value| {
        found
            .get(name)
            .is_none_or(|found| !means_the_same(found, value))
    });
    if wanted.is_empty() {
        return Ok(());
    }
    let answer = sqs
        .set_queue_attributes()
        .queue_url(url)
        .set_attributes(Some(wanted));
    answer.send().await.map(drop).map_err(said)
}

/// Policies are JSON, in which spaces, order and quotes around numbers mean nothing.
fn means_the_same(one: &str, other: &str) -> bool {
    let normal = |text: &str| {
        let parsed: Option<BTreeMap<String, serde_json::Value>> = serde_json::from_str(text).ok();
        parsed.map(|map| {
            let unquoted = |value: serde_json::Value| match value {
                serde_json::Value::String(text) => text,
                value => value.to_string(),
            };
            map.into_iter()
                .map(|(key, value)| (key, unquoted(value)))
                .collect::<Vec<_>>()
        })
    };
    one == other || normal(one).is_some_and(|one| Some(one) == normal(other))
}

async fn policy(
    redrive: &Redrive,
    urls: &BTreeMap<String, String>,
    sqs: &Sqs,
) -> Result<String, String> {
    let url = urls.get(&redrive.dead_letters).ok_or_else(|| {
        format!(
            "its dead-letter queue {} is not defined",
            redrive.dead_letters
        )
    })?;
    let arn = sqs
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(QueueAttributeName::QueueArn)
        .send()
        .await
        .map_err(said)?
        .attributes
        .and_then(|mut attributes| attributes.remove(&QueueAttributeName::QueueArn))
        .ok_or_else(|| format!("its dead-letter queue {} has no ARN", redrive.dead_letters))?;
    let policy = serde_json::json!({
        "deadLetterTargetArn": arn,
        "maxReceiveCount": redrive.max_receives,
    });
    Ok(policy.to_string())
}

fn said(error: impl StdError) -> String {
    Cause(&error).to_string()
}
