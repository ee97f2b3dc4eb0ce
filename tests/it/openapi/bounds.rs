//! Documented bounds are enforced: requests at and beyond each of them, made from the description.

use axum::http::Method;
use parlance::domain::webhook::Targets;
use serde_json::{Map, Value, json};

use super::{described, document, members, resolved};
use crate::{
    kodey::{Team, team_in},
    support::{Client, Response, world_over},
};

/// Members that are refused for the lack of another one, or for what another one is, and not for their own value.
const NEEDS_ANOTHER: [(&str, &str); 8] = [
    // Which letters, or `all` of them.
    ("/admin/dead-letters", "/reason"),
    // A dm has two members, of whom the caller is one.
    ("/rooms", "/type"),
    // A key for all tenants is global, and so is its scope; a tenant's key is of no such scope.
    ("/admin/provider-keys", "/key_type"),
    ("/admin/provider-keys", "/scope_type"),
    ("/admin/provider-keys", "/scope_id"),
    ("/admin/tenants/{tenant_id}/provider-keys", "/scope_type"),
    ("/admin/tenants/{tenant_id}/provider-keys", "/scope_id"),
    // A provider is named with a model of it.
    ("/agent", "/provider"),
];

/// A body that holds only what it must.
fn least(document: &Value, schema: &Value) -> Value {
    let needed = |schema: &Value| {
        let names = schema["required"].as_array().into_iter().flatten();
        names
            .map(|it| it.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let resolved_schema = resolved(document, schema);
    let parts = resolved_schema["allOf"].as_array().into_iter().flatten();
    let parts = parts
        .map(|part| resolved(document, part))
        .chain([resolved_schema]);
    let needed: Vec<String> = parts.flat_map(needed).collect();
    let mut body = sample(document, schema);
    document::object(&mut body).retain(|name, _| needed.contains(name));
    body
}

/// A value that fits `schema`: its example where it has one.
fn sample(document: &Value, schema: &Value) -> Value {
    let schema = resolved(document, schema);
    if let Some(example) = schema.get("example") {
        return example.clone();
    }
    if let Some(names) = schema["enum"].as_array() {
        return names[0].clone();
    }
    let mut members = Map::new();
    for part in schema["allOf"].as_array().into_iter().flatten() {
        members.extend(
            sample(document, part)
                .as_object()
                .cloned()
                .unwrap_or_default(),
        );
    }
    for (name, part) in schema["properties"].as_object().into_iter().flatten() {
        members.insert(name.clone(), sample(document, part));
    }
    match kind(schema) {
        "string" => json!("a"),
        "integer" | "number" => json!(1),
        "boolean" => json!(true),
        "array" => json!([]),
        _ => members.into(),
    }
}

/// The type of a value of `schema` that is not `null`.
fn kind(schema: &Value) -> &str {
    let kinds = schema["type"].as_array();
    let first = kinds.and_then(|kinds| kinds.iter().find(|it| *it != "null"));
    first
        .unwrap_or(&schema["type"])
        .as_str()
        .unwrap_or("object")
}

/// Values just beyond what `schema` allows.
fn beyond(schema: &Value) -> Vec<Value> {
    let mut values = Vec::new();
    match kind(schema) {
        "string" => {
            values.push(json!(7));
            values.extend(schema["maxLength"].as_u64().map(|max| letters(max + 1)));
            values.extend(schema["minLength"].as_u64().map(|_| json!("")));
            // No pattern has room for it.
            values.extend(schema["pattern"].as_str().map(|_| json!("\0")));
            values.extend(schema["enum"].as_array().map(|_| json!("nope")));
            values.extend(schema["format"].as_str().map(|_| json!("tomorrow")));
        }
        "integer" | "number" => {
            values.push(json!("x"));
            values.extend(schema["maximum"].as_i64().map(|max| json!(max + 1)));
            values.extend(schema["minimum"].as_i64().map(|min| json!(min - 1)));
        }
        "boolean" => values.push(json!("x")),
        "array" => {
            values.push(json!("x"));
            values.extend(
                schema["maxItems"]
                    .as_u64()
                    .map(|max| json!(vec!["a"; usize::try_from(max + 1).unwrap()])),
            );
            values.extend(schema["minItems"].as_u64().map(|_| json!([])));
            values.extend(beyond(&schema["items"]).into_iter().map(|it| json!([it])));
        }
        _ => values.push(json!([])),
    }
    if !members::is_nullable(schema) {
        values.push(Value::Null);
    }
    values
}

/// Values at the bounds that `schema` draws.
fn within(schema: &Value) -> Vec<Value> {
    let mut values = Vec::new();
    // What has a form of its own has no longest text that is easily made.
    let is_free = schema["pattern"]
        .as_str()
        .is_none_or(|it| it.contains("u0000") || it == "^[!-~]+$");
    match kind(schema) {
        "string" if schema["enum"].is_array() => {
            values.extend(schema["enum"].as_array().unwrap().clone());
        }
        "string"
            if is_free
                && !schema["pattern"]
                    .as_str()
                    .unwrap_or_default()
                    .contains("https") =>
        {
            values.extend(schema["maxLength"].as_u64().map(letters));
            values.extend(schema["minLength"].as_u64().map(letters));
        }
        "integer" | "number" => {
            values.extend(
                ["minimum", "maximum"]
                    .iter()
                    .filter_map(|it| schema.get(*it).cloned()),
            );
        }
        _ => {}
    }
    values
}

fn letters(count: u64) -> Value {
    json!("a".repeat(usize::try_from(count).unwrap()))
}

/// The members of `schema`, at any depth: a pointer to each, and what it is.
fn all_members<'a>(document: &'a Value, schema: &'a Value, at: &str) -> Vec<(String, &'a Value)> {
    let schema = resolved(document, schema);
    let mut found = Vec::new();
    for part in schema["allOf"].as_array().into_iter().flatten() {
        found.extend(all_members(document, part, at));
    }
    for (name, part) in schema["properties"].as_object().into_iter().flatten() {
        let part = resolved(document, part);
        let at = format!("{at}/{name}");
        found.extend(all_members(document, part, &at));
        found.push((at, part));
    }
    found
}

/// Whoever may do an operation.
fn caller(team: &Team, operation: &Value) -> Client {
    let choices = operation["security"].to_string();
    if choices.contains("master_key") {
        // The operator pays by address.
        team.tenant.world.operator().anew()
    } else if choices.contains("secret_key") {
        team.sk.clone()
    } else {
        team.tenant.user("alice")
    }
}

/// A path whose ids have the right form and name nothing.
fn path(path: &str) -> String {
    let nothing = "00000000000000000000000000000000";
    [
        ("{room_id}", "room_"),
        ("{message_id}", "msg_"),
        ("{notification_id}", "notif_"),
        ("{subscription_id}", "sub_"),
        ("{endpoint_id}", "ep_"),
        ("{tenant_id}", "tenant_"),
        ("{chatId}", "chat_"),
        ("{agent_id}", "agent_"),
        (
            "{key_id}",
            if path.contains("/provider-keys") {
                "pkey_"
            } else if path.contains("/keys/") {
                "tkey_"
            } else {
                "key_"
            },
        ),
        ("{user_id}", "bob_"),
    ]
    .into_iter()
    .fold(path.to_owned(), |path, (name, prefix)| {
        path.replace(name, &format!("{prefix}{nothing}"))
    })
}

/// A team whose budget these requests do not use up, and whose webhooks go where those of customers may.
/// In a store of its own: provider keys that are made for all tenants would be everybody's.
async fn trial() -> Team {
    let team = team_in(&world_over(|client| client).await).await;
    team.set(json!({ "rate_limit": 1_000_000 })).await;
    let world = team.tenant.world.sending_to(Targets::Public);
    team.at(&world)
}

/// The parameters that a query must have, each with its example.
fn needed(document: &Value, operation: &Value) -> Vec<String> {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    parameters
        .map(|it| resolved(document, it))
        .filter(|it| it["in"] == "query" && it["required"] == true)
        .map(|it| format!("{}={}", text(&it["name"]), text(&it["example"])))
        .collect()
}

async fn send(team: &Team, operation: &Value, method: &str, at: &str, body: &Value) -> Response {
    let method: Method = method.to_uppercase().parse().unwrap();
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    caller(team, operation).send(method, at, body).await
}

#[tokio::test]
async fn what_is_beyond_a_documented_bound_of_a_body_is_refused() {
    let (document, team) = (document(), trial().await);
    let mut accepted = Vec::new();
    for (method, at, operation) in described(&document) {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let whole = sample(&document, schema);
        for (member, schema) in all_members(&document, schema, "") {
            for value in beyond(schema) {
                let mut body = whole.clone();
                *body.pointer_mut(&member).unwrap() = value.clone();
                let answer = send(&team, operation, &method, &path(&at), &body).await;
                // What is no id names nothing.
                let is_refused =
                    answer.status == 400 || (answer.status == 404 && names_id(&member));
                if !is_refused {
                    accepted.push(short(&format!(
                        "{method} {at}: {} for {member} = {value}",
                        answer.raw
                    )));
                }
            }
        }
    }
    assert!(accepted.is_empty(), "{accepted:#?}");
}

fn names_id(member: &str) -> bool {
    member.ends_with("_id") || member == "/agentId"
}

#[tokio::test]
async fn what_is_at_a_documented_bound_of_a_body_is_taken() {
    let (document, team) = (document(), trial().await);
    let mut refused = Vec::new();
    for (method, at, operation) in described(&document) {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        if schema.is_null() {
            continue;
        }
        let (whole, least) = (sample(&document, schema), least(&document, schema));
        for (member, schema) in all_members(&document, schema, "") {
            for value in within(schema) {
                let mut body = least.clone();
                let top = member.split('/').nth(1).unwrap();
                body[top] = whole[top].clone();
                *body.pointer_mut(&member).unwrap() = value.clone();
                let queried = format!("{}?{}", path(&at), needed(&document, operation).join("&"));
                let answer = send(&team, operation, &method, &queried, &body).await;
                let is_known = NEEDS_ANOTHER.contains(&(at.as_str(), member.as_str()));
                if answer.status == 400 && !is_known {
                    refused.push(short(&format!(
                        "{method} {at}: {} for {member} = {value}",
                        answer.raw
                    )));
                }
            }
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
}

#[tokio::test]
async fn a_parameter_beyond_its_documented_bound_is_refused_and_at_it_taken() {
    let (document, team) = (document(), trial().await);
    let mut wrong = Vec::new();
    for (method, at, operation) in described(&document) {
        let body = &operation["requestBody"];
        let body = if body["required"] == true {
            least(&document, &body["content"]["application/json"]["schema"])
        } else {
            Value::Null
        };
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let parameters: Vec<&Value> = parameters.map(|it| resolved(&document, it)).collect();
        let is_query = |it: &&Value| it["in"] == "query";
        let needed = needed(&document, operation);
        for parameter in parameters.iter().copied().filter(is_query) {
            let (name, schema) = (text(&parameter["name"]), &parameter["schema"]);
            let others = needed
                .iter()
                .filter(|it| !it.starts_with(&format!("{name}=")));
            let others: Vec<&str> = others.map(String::as_str).collect();
            let values = beyond(schema).into_iter().map(|it| (it, true));
            for (value, is_beyond) in values.chain(within(schema).into_iter().map(|it| (it, false)))
            {
                // A query holds texts alone: 7 and null are some.
                if is_beyond && (value.is_null() || (kind(schema) == "string" && value == json!(7)))
                {
                    continue;
                }
                let value = text(&value).replace('\0', "%00");
                let at = format!("{}?{}&{name}={value}", path(&at), others.join("&"));
                let answer = send(&team, operation, &method, &at, &body).await;
                if (answer.status == 400) != is_beyond {
                    wrong.push(short(&format!("{}: {method} {at}", answer.raw)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// The beginning of a long line.
fn short(line: &str) -> String {
    line.chars().take(400).collect()
}
