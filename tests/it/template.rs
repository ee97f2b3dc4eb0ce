//! The template and the code are one system.

use std::collections::BTreeSet;

use utoipa::OpenApi;
use yaml_serde::Value;

const TEMPLATE: &str = include_str!("../../template.yaml");

fn resources() -> Value {
    let template: Value = yaml_serde::from_str(TEMPLATE).unwrap();
    template["Resources"].clone()
}

/// `METHOD path` of every route that the template gives to the function whose binary is `binary`.
fn deployed(binary: &str) -> BTreeSet<String> {
    let resources = resources();
    let function = resources
        .as_mapping()
        .unwrap()
        .values()
        .find(|resource| resource["Metadata"]["BuildProperties"]["Binary"] == binary)
        .unwrap_or_else(|| panic!("the template has no function {binary}"));
    function["Properties"]["Events"]
        .as_mapping()
        .unwrap()
        .values()
        .filter_map(|event| {
            let route = &event["Properties"];
            Some(format!(
                "{} {}",
                route["Method"].as_str()?,
                route["Path"].as_str()?
            ))
        })
        .collect()
}

/// `METHOD path` of every operation that a function describes; a test holds these and the routers together.
fn described(document: &utoipa::openapi::OpenApi) -> BTreeSet<String> {
    let document = serde_json::to_value(document).unwrap();
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, operations)| {
            let methods = operations.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect()
}

#[test]
fn every_route_is_deployed_on_its_function_and_no_other_is() {
    assert_eq!(deployed("rooms"), described(&rooms::Doc::openapi()));
    assert_eq!(deployed("messages"), described(&messages::Doc::openapi()));
    assert_eq!(deployed("acks"), described(&acks::Doc::openapi()));
    assert_eq!(deployed("notify"), described(&notify::Doc::openapi()));
    assert_eq!(deployed("admin"), described(&admin::Doc::openapi()));
    assert_eq!(deployed("health"), described(&health::Doc::openapi()));
    let own = ["GET /docs", "GET /openapi.json"].map(str::to_owned);
    assert_eq!(deployed("edge"), BTreeSet::from(own));
}

#[test]
fn every_function_keeps_its_logs_for_a_while_only() {
    let resources = resources();
    let resources = resources.as_mapping().unwrap();
    let of = |kind: &str| resources.values().filter(|it| it["Type"] == kind).count();
    assert_eq!(of("AWS::Serverless::Function"), of("AWS::Logs::LogGroup"));
}
