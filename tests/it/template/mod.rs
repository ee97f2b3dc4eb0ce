//! The template and the code are one system: each holds all that the other needs, and nothing else.

mod alarms;
mod chats;
mod choices;
mod environment;
mod front;
mod functions;
mod grants;
mod guard;
mod permissions;
mod queues;
mod routes;
mod sockets;

use yaml_serde::Value;

/// What is deployed.
const TEMPLATE: &str = include_str!("../../../template.yaml");
/// What is nested in it.
const OPERATIONS: &str = include_str!("../../../infra/operations.yaml");

/// The resources of `kind` in a template, with their logical ids.
fn resources(template: &str, kind: &str) -> Vec<(String, Value)> {
    let template: Value = yaml_serde::from_str(template).unwrap();
    let resources = template["Resources"].as_mapping().unwrap();
    resources
        .iter()
        .filter(|(_, resource)| resource["Type"] == kind)
        .map(|(name, resource)| (name.as_str().unwrap().to_owned(), resource.clone()))
        .collect()
}

/// The functions, with their logical ids.
fn functions() -> Vec<(String, Value)> {
    resources(TEMPLATE, "AWS::Serverless::Function")
}

/// The function whose binary is `binary`.
fn function(binary: &str) -> Value {
    functions()
        .into_iter()
        .map(|(_, function)| function)
        .find(|function| binary_of(function) == binary)
        .unwrap_or_else(|| panic!("the template has no function {binary}"))
}

fn binary_of(function: &Value) -> &str {
    let build = &function["Metadata"]["BuildProperties"];
    build["Binary"].as_str().unwrap()
}

/// The binary of the function with this logical id.
fn binary_of_id(id: &str) -> String {
    let functions = functions();
    let found = functions.iter().find(|(name, _)| name == id);
    binary_of(&found.unwrap().1).to_owned()
}

/// The argument of `!tag argument`.
fn tagged<'a>(value: &'a Value, tag: &str) -> Option<&'a str> {
    match value {
        Value::Tagged(tagged) if tagged.tag == tag => tagged.value.as_str(),
        _ => None,
    }
}

/// A value, or all values of a list.
fn each(value: &Value) -> Vec<Value> {
    match value {
        Value::Sequence(values) => values.clone(),
        Value::Null => Vec::new(),
        value => vec![value.clone()],
    }
}

/// The events of a function that are of `kind`.
fn events(function: &Value, kind: &str) -> Vec<Value> {
    let events = function["Properties"]["Events"].as_mapping();
    events
        .into_iter()
        .flat_map(yaml_serde::Mapping::values)
        .filter(|event| event["Type"] == kind)
        .map(|event| event["Properties"].clone())
        .collect()
}
