//! The API's description is generated from the handlers' own types, and checked in.

mod bounds;
mod document;
mod members;
mod operations;
mod parameters;
mod responses;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::{Value, json};

pub use self::document::document;
use crate::{
    kodey::team,
    support::{Response, world},
};

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../functions/edge/openapi.json"
);

/// Whether `path` is of the Kodey dialect.
pub fn is_kodey(path: &str) -> bool {
    matches!(path.split('/').nth(1), Some("chat" | "agent"))
}

#[test]
fn the_description_that_is_checked_in_is_the_one_the_code_gives() {
    let current = format!("{}\n", serde_json::to_string_pretty(&document()).unwrap());
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        fs::write(FILE, &current).unwrap();
    }
    assert!(
        fs::read_to_string(FILE).unwrap() == current,
        "functions/edge/openapi.json is stale: UPDATE_OPENAPI=1 cargo test -p parlance-local --test it openapi"
    );
}

/// The method, the path and the description of every operation.
fn described(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, operations)| {
        let operations = operations.as_object().unwrap().iter();
        operations.map(move |(method, operation)| (method.clone(), path.clone(), operation))
    });
    operations.collect()
}

/// What `value` is, or refers to.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => resolved(document, document.pointer(&reference[1..]).unwrap()),
        None => value,
    }
}

#[test]
fn every_operation_is_named_by_its_resource_and_its_verb_and_no_two_alike() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (method, path, operation) in described(&document) {
        let id = operation["operationId"].as_str().unwrap();
        let mut words = id.split('_');
        let is_word =
            |word: &str| !word.is_empty() && word.bytes().all(|it| it.is_ascii_lowercase());
        assert!(
            words.clone().count() > 1 && words.all(is_word),
            "{method} {path}: {id}"
        );
        assert!(ids.insert(id.to_owned()), "{method} {path}: {id} twice");
    }
    for expected in [
        "messages_send",
        "rooms_create",
        "webhooks_test",
        "tenants_update",
    ] {
        assert!(ids.contains(expected), "{ids:?}");
    }
}

#[test]
fn every_credential_that_an_operation_wants_is_described() {
    let document = document();
    let known = document["components"]["securitySchemes"]
        .as_object()
        .unwrap();
    let paths = document["paths"].as_object().unwrap().values();
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    for operation in paths.flat_map(|operations| operations.as_object().unwrap().values()) {
        let choices = operation["security"].as_array().into_iter().flatten();
        wanted.extend(choices.flat_map(|choice| choice.as_object().unwrap().keys().cloned()));
    }
    wanted.extend(["api_key", "user_id"].map(str::to_owned));
    assert_eq!(wanted, known.keys().cloned().collect());
}

/// What `schema` says, its references followed and its parts joined: properties, and which of them are required.
fn joined(document: &Value, schema: &Value) -> (BTreeMap<String, Value>, BTreeSet<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        return joined(document, document.pointer(&reference[1..]).unwrap());
    }
    let own = schema["properties"].as_object().into_iter().flatten();
    let mut properties: BTreeMap<_, _> = own.map(|(k, v)| (k.clone(), v.clone())).collect();
    let required = schema["required"].as_array().into_iter().flatten();
    let mut required: BTreeSet<_> = required.map(|it| it.as_str().unwrap().to_owned()).collect();
    for part in schema["allOf"].as_array().into_iter().flatten() {
        let part = joined(document, part);
        properties.extend(part.0);
        required.extend(part.1);
    }
    (properties, required)
}

/// Fails unless `value` has the members that `schema` describes, at any depth: all that are required, and no other.
fn assert_described(document: &Value, schema: &Value, value: &Value, at: &str) {
    for item in value.as_array().into_iter().flatten() {
        assert_described(document, &schema["items"], item, &format!("{at}[]"));
    }
    let (properties, required) = joined(document, schema);
    if properties.is_empty() {
        return;
    }
    let members = value.as_object();
    let members = members.unwrap_or_else(|| panic!("{at}: {value}"));
    for required in required {
        assert!(members.contains_key(&required), "{at} lacks {required}");
    }
    for (name, value) in members {
        let at = format!("{at}.{name}");
        let schema = properties.get(name);
        let schema = schema.unwrap_or_else(|| panic!("{at} is not described"));
        assert_described(document, schema, value, &at);
    }
}

#[tokio::test]
async fn what_the_dialect_of_chats_answers_is_as_described() {
    let document = document();
    let team = team().await;
    let check = |method: &str, path: &str, answer: &Response| {
        let status = answer.status.to_string();
        let response = &document["paths"][path][method]["responses"][&status];
        let schema = &resolved(&document, response)["content"]["application/json"]["schema"];
        let at = format!("{method} {path} {status}");
        assert!(!schema.is_null(), "{at} is not described");
        assert_described(&document, schema, &answer.body, &at);
    };

    let body = json!({ "agentId": "chat", "userId": "ann", "metadata": { "a": 1 } });
    let made = team.sk.post("/chat", &body).await;
    check("post", "/chat", &made);
    let chat = format!("/chat/{}", made.text("id"));
    let log = format!("{chat}/message");
    let hello = json!({ "content": "Hello", "role": "user" });
    let said = team.sk.post(&log, &hello).await;
    check("post", "/chat/{chatId}/message", &said);
    check(
        "post",
        "/chat/{chatId}/message",
        &team.sk.post(&log, &json!({})).await,
    );
    for query in ["", "?include=meta"] {
        let shown = team.sk.get(&format!("{chat}{query}")).await;
        check("get", "/chat/{chatId}", &shown);
        let shown = team.sk.get(&format!("{log}{query}")).await;
        check("get", "/chat/{chatId}/message", &shown);
    }
    check("get", "/chat", &team.sk.get("/chat").await);
    check("get", "/chat", &team.pk.get("/chat").await);

    let agent = json!({ "name": "Guide", "systemPrompt": "Guide.", "tools": ["calculator"] });
    let agent = team.sk.post("/agent", &agent).await;
    check("post", "/agent", &agent);
    check("get", "/agent", &team.sk.get("/agent").await);
    let path = format!("/agent/{}", agent.text("id"));
    check("get", "/agent/{agent_id}", &team.sk.get(&path).await);
    check("get", "/agent/{agent_id}", &team.pk.get(&path).await);
    let changed = team.sk.put(&path, &json!({ "name": "Guide 2" })).await;
    check("put", "/agent/{agent_id}", &changed);
    let versions = team.sk.get(&format!("{path}/versions")).await;
    check("get", "/agent/{agent_id}/versions", &versions);
    let back = team
        .sk
        .put(&format!("{path}/rollback"), &json!({ "version": 1 }))
        .await;
    check("put", "/agent/{agent_id}/rollback", &back);

    let keys = "/admin/tenants/{tenant_id}/api-keys";
    let server = team.tenant.server();
    let at = keys.replace("{tenant_id}", &team.id);
    let key = server
        .post(&at, &json!({ "kind": "secret", "name": "new" }))
        .await;
    check("post", keys, &key);
    check("get", keys, &server.get(&at).await);
    let rotated = format!("{at}/{}/rotate", key.text("key_id"));
    let rotated = server
        .post(&rotated, &json!({ "overlap_seconds": 60 }))
        .await;
    check("post", &format!("{keys}/{{key_id}}/rotate"), &rotated);
    let keys = "/admin/tenants/{tenant_id}/provider-keys";
    let at = keys.replace("{tenant_id}", &team.id);
    let key = json!({ "provider": "openai", "api_key": "sk-0123456789" });
    check("post", keys, &server.post(&at, &key).await);
    check("get", keys, &server.get(&at).await);
}

#[test]
fn every_operation_has_a_summary_and_a_response() {
    for (path, operations) in document()["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let what = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{what} has no summary");
            assert!(
                !operation["responses"].as_object().unwrap().is_empty(),
                "{what}"
            );
        }
    }
}

#[test]
fn every_operation_of_browsers_tells_of_the_refusal_of_an_origin() {
    let document = document();
    let mut told = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        if path.split('/').nth(1) != Some("chat") {
            continue;
        }
        for (method, operation) in operations.as_object().unwrap() {
            let refusal = &operation["responses"]["403"]["description"];
            let is_told = refusal.as_str().is_some_and(|it| it.contains("origin"));
            assert!(is_told, "{method} {path}: {refusal}");
            told += 1;
        }
    }
    assert_eq!(told, 6);
}

/// The paths that `functions/*/src/*.rs` route, read from the source: axum does not tell.
fn routed() -> BTreeSet<String> {
    let functions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../functions");
    let mut paths = BTreeSet::new();
    for function in fs::read_dir(functions).unwrap() {
        for file in fs::read_dir(function.unwrap().path().join("src")).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(file).unwrap();
                for rest in source.split(".route(").skip(1) {
                    paths.insert(rest.split('"').nth(1).unwrap().to_owned());
                }
            }
        }
    }
    paths
}

#[test]
fn every_route_is_described() {
    let document = document();
    let described: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    let own = ["/openapi.json", "/docs"].map(str::to_owned);
    let expected: BTreeSet<String> = described.into_iter().chain(own).collect();
    assert_eq!(routed(), expected);
}

#[tokio::test]
async fn every_described_operation_is_routed() {
    let api = world().await;
    for (path, operations) in document()["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let answer = api
                .stranger()
                .send(
                    method.to_uppercase().parse().unwrap(),
                    &path.replace(['{', '}'], ""),
                    "{}",
                )
                .await;
            assert!(
                ![404, 405].contains(&answer.status),
                "{method} {path}: {}",
                answer.status
            );
        }
    }
}

#[tokio::test]
async fn the_description_is_served() {
    let api = world().await;
    let served = api.stranger().get("/openapi.json").await;
    assert_eq!((served.status, served.raw.as_str()), (200, edge::OPENAPI));
    let page = api.stranger().get("/docs").await;
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
}

#[test]
fn every_error_is_a_response_in_common() {
    let document = document();
    for (method, path, operation) in described(&document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            if status.starts_with(['4', '5']) {
                let reference = response["$ref"].as_str().unwrap_or_default();
                let is_common = reference.starts_with("#/components/responses/");
                assert!(is_common, "{method} {path} {status}");
            }
        }
    }
}

#[test]
fn every_answer_names_its_request_and_tells_of_the_budget() {
    let document = document();
    for (method, path, operation) in described(&document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let headers = resolved(&document, response)["headers"]
                .as_object()
                .unwrap();
            for header in [
                "X-Request-Id",
                "X-RateLimit-Limit",
                "X-RateLimit-Remaining",
                "X-RateLimit-Reset",
            ] {
                let header = headers.get(header).map(|it| resolved(&document, it));
                let is_told = header.is_some_and(|it| it["required"] == true);
                assert!(is_told, "{method} {path} {status}");
            }
        }
    }
}

#[test]
fn an_operation_for_a_user_takes_the_user_as_a_parameter_and_none_takes_accept() {
    let document = document();
    for (method, path, operation) in described(&document) {
        let choices = match operation["security"].as_array() {
            Some(choices) => choices.clone(),
            None => document["security"].as_array().unwrap().clone(),
        };
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let mut names = parameters.map(|it| resolved(&document, it)["name"].clone());
        let expected = choices.iter().any(|it| it["user_id"].is_array());
        let names: Vec<Value> = names.by_ref().collect();
        assert_eq!(
            names.contains(&json!("X-User-Id")),
            expected,
            "{method} {path}"
        );
        assert!(!names.contains(&json!("Accept")), "{method} {path}");
    }
}

#[test]
fn an_answer_of_two_types_has_a_shape_for_each() {
    let document = document();
    let content = |path: &str, method: &str| {
        document["paths"][path][method]["responses"]["200"]["content"].clone()
    };
    let shape =
        |name: &str| json!({ "schema": { "$ref": format!("#/components/schemas/{name}") } });
    assert_eq!(
        content("/chat/{chatId}/message", "post"),
        json!({ "application/json": shape("Answer"), "text/event-stream": shape("AnswerEvents") })
    );
    assert_eq!(
        content("/metrics", "get"),
        json!({ "application/json": shape("MetricsOut"), "text/plain": shape("MetricsText") })
    );
}

#[test]
fn a_body_that_may_be_left_out_may_not_be_null() {
    let document = document();
    let body = &document["paths"]["/webhooks/{endpoint_id}/test"]["post"]["requestBody"];
    let schema = &body["content"]["application/json"]["schema"];
    let expected = json!({ "$ref": "#/components/schemas/TrialIn" });
    assert_eq!((&body["required"], schema), (&json!(false), &expected));
}

/// The members of every schema: its name, the member's, what it is, and whether it is always there.
fn members(document: &Value) -> Vec<(String, String, Value, bool)> {
    let mut found = Vec::new();
    for (schema, description) in document["components"]["schemas"].as_object().unwrap() {
        let parts = description["allOf"].as_array().into_iter().flatten();
        for part in parts.chain([description]) {
            let required = part["required"].as_array().cloned().unwrap_or_default();
            for (member, description) in part["properties"].as_object().into_iter().flatten() {
                let is_required = required.contains(&json!(member));
                found.push((
                    schema.clone(),
                    member.clone(),
                    description.clone(),
                    is_required,
                ));
            }
        }
    }
    found
}

#[test]
fn every_text_has_a_bound() {
    let is_bound = |schema: &Value| {
        let bounds = ["enum", "const", "format", "pattern", "maxLength"];
        let is_text = schema["type"] == "string"
            || schema["type"]
                .as_array()
                .is_some_and(|kinds| kinds.contains(&json!("string")));
        !is_text || bounds.iter().any(|it| !schema[it].is_null())
    };
    for (schema, member, description, _) in members(&document()) {
        if members::UNBOUNDED.contains(&member.as_str()) {
            continue;
        }
        assert!(is_bound(&description), "{schema}.{member}");
        assert!(is_bound(&description["items"]), "{schema}.{member}[]");
    }
}

#[test]
fn a_member_may_be_left_out_or_be_null_but_not_both_unless_null_says_something() {
    let document = document();
    let mut lenient = BTreeSet::new();
    for (method, path, operation) in described(&document) {
        if operations::is_lenient(&method, &path) {
            document::reach(&document, &operation["requestBody"], &mut lenient);
        }
    }
    let says = |schema: &str, member: &str| {
        let mut known = members::NULL_SAYS.iter();
        known.any(|it| (it.0, it.1) == (schema, member))
    };
    for (schema, member, description, is_required) in members(&document) {
        if members::is_nullable(&description) && !is_required {
            // The seeds' own routes pass over `null`.
            let is_right = says(&schema, &member) || lenient.contains(&schema);
            assert!(is_right, "{schema}.{member}");
        }
    }
}

#[test]
fn free_objects_are_called_meta() {
    let document = document();
    let meta = &document["components"]["schemas"]["Meta"];
    assert_eq!(
        (&meta["type"], &meta["additionalProperties"]),
        (&json!("object"), &json!(true))
    );
    for (schema, member, description, _) in members(&document) {
        let is_free = description["type"] == "object" && description["properties"].is_null();
        assert!(!is_free, "{schema}.{member}");
        if ["meta", "metadata", "payload"].contains(&member.as_str()) {
            let text = description.to_string();
            assert!(
                text.contains("#/components/schemas/Meta"),
                "{schema}.{member}"
            );
        }
    }
}

#[test]
fn every_tag_says_what_it_is_about_and_the_server_is_the_one_that_shows_the_description() {
    let document = document();
    assert_eq!(document["servers"][0]["url"], "/");
    let tags = document["tags"].as_array().unwrap();
    assert!(tags.iter().all(|tag| tag["description"].is_string()));
    let known: Vec<&Value> = tags.iter().map(|tag| &tag["name"]).collect();
    for (method, path, operation) in described(&document) {
        let used = operation["tags"].as_array().unwrap();
        assert!(
            used.iter().all(|tag| known.contains(&tag)),
            "{method} {path}"
        );
    }
}

#[test]
fn a_body_refuses_unknown_members_unless_a_seeds_own_route_takes_it() {
    let document = document();
    for (method, path, operation) in described(&document) {
        let mut schemas = BTreeSet::new();
        document::reach(&document, &operation["requestBody"], &mut schemas);
        schemas.remove("Meta");
        for schema in schemas {
            let unknown = &document["components"]["schemas"][&schema]["additionalProperties"];
            let refuses = *unknown == json!(false);
            let expected = !operations::is_lenient(&method, &path);
            assert_eq!(refuses, expected, "{method} {path}: {schema}");
        }
    }
}
