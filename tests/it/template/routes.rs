//! Which function a route is given to.

use std::collections::{BTreeMap, BTreeSet};

use utoipa::OpenApi;

use super::{events, function};

/// `METHOD path` of every route that the template gives to the function whose binary is `binary`.
fn deployed(binary: &str) -> BTreeSet<String> {
    let routes = events(&function(binary), "HttpApi");
    let route = |event: &yaml_serde::Value| {
        let (method, path) = (event["Method"].as_str()?, event["Path"].as_str()?);
        Some(format!("{method} {path}"))
    };
    routes.iter().filter_map(route).collect()
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
    assert_eq!(deployed("webhooks"), described(&webhooks::Doc::openapi()));
    assert_eq!(deployed("admin"), described(&admin::Doc::openapi()));
    assert_eq!(deployed("chats"), described(&chats::Doc::openapi()));
    assert_eq!(deployed("agents"), described(&agents::Doc::openapi()));
    assert_eq!(deployed("keys"), described(&keys::Doc::openapi()));
    assert_eq!(deployed("health"), described(&health::Doc::openapi()));
    assert_eq!(deployed("ws-token"), described(&sockets::Doc::openapi()));
    let own = ["GET /docs", "GET /openapi.json", "OPTIONS /{proxy+}"].map(str::to_owned);
    assert_eq!(deployed("edge"), BTreeSet::from(own));
}

#[test]
fn what_no_route_takes_goes_to_the_edge() {
    let takes_the_rest = |binary: &str| {
        let routes = events(&function(binary), "HttpApi");
        routes.iter().any(|event| event["Path"].is_null())
    };
    assert!(takes_the_rest("edge"));
    for binary in [
        "rooms", "messages", "acks", "notify", "webhooks", "admin", "health", "ws-token", "chats",
        "agents", "keys",
    ] {
        assert!(!takes_the_rest(binary), "{binary}");
    }
}

/// Users write paths and queries; a route's template is ours.
#[test]
fn the_access_log_is_json_without_paths_or_queries() {
    let (_, api) = super::resources(super::TEMPLATE, "AWS::Serverless::HttpApi")
        .pop()
        .unwrap();
    let format = &api["Properties"]["AccessLogSettings"]["Format"];
    let line: BTreeMap<String, String> = serde_json::from_str(format.as_str().unwrap()).unwrap();
    assert_eq!(line["route"], "$context.routeKey");
    for (name, value) in line {
        let variable = value.strip_prefix("$context.").unwrap();
        let of_users = ["path", "query", "header", "userAgent", "authorizer"];
        assert!(!of_users.iter().any(|it| variable.contains(it)), "{name}");
    }
}
