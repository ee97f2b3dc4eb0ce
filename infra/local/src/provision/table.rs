//! One table: its key, indexes, stream and expiry.

use std::time::Duration;

use aws_sdk_dynamodb::Client as DynamoDb;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, CreateGlobalSecondaryIndexAction, GlobalSecondaryIndex,
    GlobalSecondaryIndexUpdate, IndexStatus, KeySchemaElement, Projection, StreamSpecification,
    TableDescription, TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
};

use super::said;
use crate::template::{Index, KeyPart, Table};

/// How often a table is looked at while it is made, and how many times.
const PAUSE: Duration = Duration::from_millis(500);
const LOOKS: usize = 240;

/// Makes `table` usable; the ARN of its stream, if it has one.
pub(super) async fn provision(
    table: &Table,
    dynamodb: &DynamoDb,
) -> Result<Option<String>, String> {
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
