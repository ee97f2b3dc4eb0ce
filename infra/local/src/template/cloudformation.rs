//! How a template writes down what the runner needs of it.

use std::collections::BTreeMap;

use serde::Deserialize;
use yaml_serde::{Mapping, Value};

use super::{Attribute, Index, KeyPart};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Template {
    #[serde(default)]
    pub(super) globals: Globals,
    #[serde(deserialize_with = "in_order")]
    pub(super) resources: Vec<(String, Resource)>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Globals {
    pub(super) function: FunctionGlobals,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct FunctionGlobals {
    pub(super) environment: Environment,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Environment {
    pub(super) variables: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Resource {
    #[serde(rename = "Type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) properties: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TableProperties {
    pub(super) attribute_definitions: Vec<Attribute>,
    pub(super) key_schema: Vec<KeyPart>,
    #[serde(default)]
    pub(super) global_secondary_indexes: Vec<Index>,
    pub(super) stream_specification: Option<StreamSpecification>,
    pub(super) time_to_live_specification: Option<TimeToLive>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StreamSpecification {
    pub(super) stream_view_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TimeToLive {
    pub(super) attribute_name: String,
    pub(super) enabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct FunctionProperties {
    #[serde(default)]
    pub(super) events: BTreeMap<String, Resource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StreamEvent {
    pub(super) stream: Value,
    #[serde(default = "usual_batch_size")]
    pub(super) batch_size: usize,
    #[serde(default)]
    pub(super) maximum_batching_window_in_seconds: u64,
}

/// What Lambda takes when the template is silent.
fn usual_batch_size() -> usize {
    100
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct QueueEvent {
    pub(super) queue: Value,
    #[serde(default = "usual_queue_batch_size")]
    pub(super) batch_size: usize,
}

fn usual_queue_batch_size() -> usize {
    10
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ScheduleEvent {
    pub(super) schedule_expression: String,
}

fn in_order<'de, D: serde::Deserializer<'de>>(
    input: D,
) -> Result<Vec<(String, Resource)>, D::Error> {
    let resources = Mapping::deserialize(input)?;
    let read = |(name, resource)| {
        let name: String = yaml_serde::from_value(name)?;
        Ok((name, yaml_serde::from_value(resource)?))
    };
    let read: Result<_, yaml_serde::Error> = resources.into_iter().map(read).collect();
    read.map_err(serde::de::Error::custom)
}
