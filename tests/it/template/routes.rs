//! Which function a route is given to.

use std::collections::{BTreeMap, BTreeSet};

use parlance::http::dialects::{SEGMENTS, of_path};
use parlance_lambda::{Gateway, Lambda, Surroundings, definitions};
use utoipa::OpenApi;
use yaml_serde::Value;

use super::{TEMPLATE, function, resources, tagged};

/// The methods of any request, described or not.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

/// API Gateway in front of the template's functions, none of which is ever called.
fn gateway() -> Gateway {
    let template: Value = yaml_serde::from_str(TEMPLATE).unwrap();
    // Variables of the environment refer to resources. Any name will do for them.
    let mut known = BTreeMap::new();
    for (name, resource) in template["Resources"].as_mapping().unwrap() {
        let name = name.as_str().unwrap();
        known.insert(name.to_owned(), name.to_owned());
        known.insert(format!("{name}.Arn"), name.to_owned());
        assert!(!resource.is_null());
    }
    for name in ["AWS::Region", "AWS::URLSuffix"] {
        known.insert(name.to_owned(), name.to_owned());
    }
    let definitions = definitions(TEMPLATE, &known).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for definition in &definitions {
        std::fs::write(folder.path().join(&definition.binary), "").unwrap();
    }
    let lambda = Lambda::new(definitions, folder.path(), &Surroundings::default()).unwrap();
    Gateway::new(&lambda).unwrap()
}

/// `METHOD path` of every operation that a function describes; a test holds these and the routers together.
fn described(document: &utoipa::openapi::OpenApi) -> Vec<(String, String)> {
    let document = serde_json::to_value(document).unwrap();
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, operations)| {
            let methods = operations.as_object().unwrap().keys();
            methods.map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect()
}

/// The operations of each function.
fn operations() -> BTreeMap<&'static str, Vec<(String, String)>> {
    let own = ["/docs", "/openapi.json"].map(|path| ("GET".to_owned(), path.to_owned()));
    BTreeMap::from([
        ("rooms", described(&rooms::Doc::openapi())),
        ("messages", described(&messages::Doc::openapi())),
        ("acks", described(&acks::Doc::openapi())),
        ("notify", described(&notify::Doc::openapi())),
        ("webhooks", described(&webhooks::Doc::openapi())),
        ("admin", described(&admin::Doc::openapi())),
        ("chats", described(&chats::Doc::openapi())),
        ("agents", described(&agents::Doc::openapi())),
        ("keys", described(&keys::Doc::openapi())),
        ("health", described(&health::Doc::openapi())),
        ("ws-token", described(&sockets::Doc::openapi())),
        ("edge", own.to_vec()),
    ])
}

/// A path that `template` matches, with `value` for each parameter.
fn filled(template: &str, value: &str) -> String {
    let segments = template.split('/');
    let segments = segments.map(|it| if it.starts_with('{') { value } else { it });
    segments.collect::<Vec<_>>().join("/")
}

/// The template's routes: `METHOD path`, and the binary of the function that each leads to.
fn deployed() -> BTreeMap<String, String> {
    let (_, api) = resources(TEMPLATE, "AWS::Serverless::HttpApi").remove(0);
    let body = &api["Properties"]["DefinitionBody"];
    let integrations = &body["components"]["x-amazon-apigateway-integrations"];
    let mut routes = BTreeMap::new();
    for (path, operations) in body["paths"].as_mapping().unwrap() {
        for (method, operation) in operations.as_mapping().unwrap() {
            let to = operation["x-amazon-apigateway-integration"]["$ref"].as_str();
            let name = to.unwrap().rsplit('/').next().unwrap();
            let uri = tagged(&integrations[name]["uri"], "Sub").unwrap();
            assert!(uri.contains(&format!("${{{name}Function.Arn}}")), "{uri}");
            let method = match method.as_str().unwrap() {
                "x-amazon-apigateway-any-method" => "ANY".to_owned(),
                method => method.to_uppercase(),
            };
            let path = path.as_str().unwrap();
            let key = if path == "$default" {
                path.to_owned()
            } else {
                format!("{method} {path}")
            };
            routes.insert(key, super::binary_of_id(&format!("{name}Function")));
        }
    }
    routes
}

/// Ids of paths, the odd ones too: a path is decoded before it is matched.
const VALUES: [&str; 4] = ["x_1", "a b", "ü%#?", "rotate"];

#[tokio::test]
async fn every_operation_is_led_to_the_function_that_has_it() {
    let gateway = gateway();
    for (binary, operations) in operations() {
        for (method, path) in operations {
            for value in VALUES {
                let found = gateway.function(&method, &filled(&path, value)).unwrap();
                assert_eq!(found.definition().binary, binary, "{method} {path}");
            }
        }
    }
}

/// So that its router answers 405 and preflights. Where a route is for one method alone, for the sake of its throttle, the
/// edge does.
#[tokio::test]
async fn every_method_of_a_path_is_led_to_the_function_that_has_the_path() {
    let gateway = gateway();
    let alone = BTreeSet::from(["/health", "/docs", "/openapi.json"]);
    for (binary, operations) in operations() {
        for (described, path) in operations {
            for method in METHODS.into_iter().filter(|method| *method != described) {
                let found = gateway.function(method, &filled(&path, "x_1")).unwrap();
                let is_alone = alone.contains(path.as_str());
                let expected = if is_alone { "edge" } else { binary };
                assert_eq!(found.definition().binary, expected, "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn no_route_is_needless() {
    let gateway = gateway();
    let mut used = BTreeSet::from(["$default".to_owned()]);
    for (method, path) in operations().into_values().flatten() {
        used.insert(gateway.route(&method, &filled(&path, "x_1")).unwrap());
    }
    assert_eq!(used, deployed().into_keys().collect());
}

/// A route's path is either its function's prefix or a greedy one below it, but where another function's prefix, or a
/// throttle, is below it.
#[test]
fn greedy_routes_take_every_method_and_only_one_prefix_of_a_path_is_greedy() {
    let keys: Vec<_> = deployed().into_keys().collect();
    let greedy = keys.iter().filter_map(|key| key.strip_suffix("/{proxy+}"));
    let greedy: Vec<_> = greedy
        .map(|prefix| prefix.strip_prefix("ANY ").expect("all methods"))
        .collect();
    for one in &greedy {
        // Which of two greedy routes wins is not documented.
        let below = greedy
            .iter()
            .filter(|it| it.starts_with(&format!("{one}/")));
        assert_eq!(below.count(), 0, "{one}");
    }
}

#[test]
fn a_route_for_one_method_has_a_throttle_of_its_own() {
    let (_, api) = resources(TEMPLATE, "AWS::Serverless::HttpApi").remove(0);
    let throttled = api["Properties"]["RouteSettings"].as_mapping().unwrap();
    let throttled: BTreeSet<_> = throttled.keys().map(|it| it.as_str().unwrap()).collect();
    let routes = deployed();
    let alone = routes.keys().filter(|it| !it.starts_with("ANY "));
    let alone: BTreeSet<_> = alone.map(String::as_str).collect();
    assert!(throttled.is_superset(&alone), "{throttled:?}");
    // A setting of a route that is not there fails the deployment.
    for route in throttled {
        assert!(routes.contains_key(route), "{route}");
    }
}

/// They carry nobody's traffic, and a trial waits for a stranger.
#[test]
fn the_operators_routes_and_trials_of_webhooks_have_throttles_of_their_own() {
    let (_, api) = resources(TEMPLATE, "AWS::Serverless::HttpApi").remove(0);
    let settings = &api["Properties"]["RouteSettings"];
    let routes = deployed().into_keys();
    let is_the_operators = |key: &str| key.contains(" /admin/") || key.ends_with(" /metrics");
    let routes = routes.filter(|key| is_the_operators(key) || key.ends_with("/test"));
    let routes: Vec<_> = routes.collect();
    assert!(routes.len() > 10, "{routes:?}");
    for route in routes {
        let rate = settings[route.as_str()]["ThrottlingRateLimit"].as_u64();
        assert!(rate.is_some_and(|rate| rate <= 20), "{route}");
    }
}

/// What Lambda refuses is a 500 and an alarm, which strangers must not cause.
#[test]
fn the_gateway_lets_no_more_through_at_once_than_a_capped_function_may_run() {
    let (_, api) = resources(TEMPLATE, "AWS::Serverless::HttpApi").remove(0);
    let settings = &api["Properties"]["RouteSettings"];
    let mut bursts = BTreeMap::<String, u64>::new();
    for (route, binary) in deployed() {
        let cap = &function(&binary)["Properties"]["ReservedConcurrentExecutions"];
        if cap.is_null() {
            continue;
        }
        let burst = settings[route.as_str()]["ThrottlingBurstLimit"].as_u64();
        let burst = burst.unwrap_or_else(|| panic!("{route} has no throttle"));
        *bursts.entry(binary).or_default() += burst;
    }
    assert!(bursts.len() > 4, "{bursts:?}");
    for (binary, burst) in bursts {
        let cap = &function(&binary)["Properties"]["ReservedConcurrentExecutions"];
        let yaml_serde::Value::Tagged(cap) = cap else {
            panic!("{binary}");
        };
        assert!(burst <= cap.value[1].as_u64().unwrap(), "{binary}: {burst}");
    }
}

#[test]
fn the_first_segment_of_every_path_has_a_dialect() {
    let routes = deployed();
    let paths = routes.keys().filter_map(|route| route.split_once(" /"));
    let first: BTreeSet<_> = paths
        .map(|(_, path)| path.split('/').next().unwrap())
        .collect();
    let known = SEGMENTS.map(|(segment, _)| segment);
    assert_eq!(first, BTreeSet::from(known));
    for (segment, dialect) in SEGMENTS {
        assert_eq!(of_path(&format!("/{segment}/x")), dialect, "{segment}");
    }
}

/// One permission for each, for this API alone.
#[test]
fn every_function_that_a_route_leads_to_may_be_called_by_the_api() {
    let led_to: BTreeSet<_> = deployed().into_values().collect();
    let mut allowed = Vec::new();
    for (name, permission) in resources(TEMPLATE, "AWS::Lambda::Permission") {
        let permission = &permission["Properties"];
        let source = tagged(&permission["SourceArn"], "Sub").unwrap_or_default();
        if source.contains("${Api}") {
            assert!(source.ends_with(":${Api}/*"), "{name}");
            assert_eq!(permission["Principal"], "apigateway.amazonaws.com");
            let function = tagged(&permission["FunctionName"], "Ref").unwrap();
            allowed.push(super::binary_of_id(function));
        }
    }
    allowed.sort();
    assert_eq!(allowed, led_to.into_iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn what_no_route_takes_goes_to_the_edge() {
    assert_eq!(deployed()["$default"], "edge");
    let gateway = gateway();
    for path in ["/", "/nope", "/rooms/", "/roomsy", "/chat/", "/admin/other"] {
        let found = gateway.function("GET", path).unwrap();
        assert_eq!(found.definition().binary, "edge", "{path}");
    }
}

/// Users write paths and queries; a route's template is ours.
#[test]
fn the_access_log_is_json_without_paths_or_queries() {
    let (_, api) = resources(TEMPLATE, "AWS::Serverless::HttpApi")
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
