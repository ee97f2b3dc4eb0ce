//! Parameters: what is true of one wherever it stands, and those that many operations have in common.

use parlance::domain::{
    agent::{MAX_VERSIONS, Profile},
    message::Seq,
    once::Once,
    page::Slice,
};
use serde_json::{Value, json};

use super::document::{agent_id, id, lay_over, object, user_id};

/// What a day in a query looks like.
const DAY: &str =
    "^(19[7-9][0-9]|[2-8][0-9]{3}|9[0-8][0-9]{2}|99[0-8][0-9]|999[0-8])-[01][0-9]-[0-3][0-9]$";

/// Parameters in common: the component's name, where the parameter is, its name, and what it is.
const SHARED: [(&str, &str, &str, &str); 18] = [
    ("RoomId", "path", "room_id", "The room's id"),
    ("MessageId", "path", "message_id", "The message's id"),
    ("UserId", "path", "user_id", "The member's id"),
    (
        "NotificationId",
        "path",
        "notification_id",
        "The notification's id",
    ),
    (
        "SubscriptionId",
        "path",
        "subscription_id",
        "The subscription's id",
    ),
    (
        "EndpointId",
        "path",
        "endpoint_id",
        "The webhook endpoint's id",
    ),
    ("TenantId", "path", "tenant_id", "The tenant's id"),
    ("ChatId", "path", "chatId", "The chat's id"),
    ("AgentId", "path", "agent_id", "The agent's id"),
    ("Limit", "query", "limit", "1 to 100, default 50"),
    (
        "Offset",
        "query",
        "offset",
        "How many to pass over, at most 1000",
    ),
    (
        "Cursor",
        "query",
        "cursor",
        "From the Link header of the page before",
    ),
    (
        "NextCursor",
        "query",
        "cursor",
        "The nextCursor of the page before",
    ),
    ("ChatUserId", "query", "userId", "Whose chat it must be"),
    (
        "OverlapSeconds",
        "query",
        "overlap_seconds",
        "0 to 86400, default 86400",
    ),
    (
        "IdempotencyKey",
        "header",
        "Idempotency-Key",
        "1 to 255 visible ASCII characters, remembered for 24 hours",
    ),
    (
        "ActingUser",
        "header",
        "X-User-Id",
        "The user for whom the call is made: 1 to 128 visible ASCII characters, the tenant's own choice",
    ),
    (
        "ActingUserOfTenant",
        "header",
        "X-User-Id",
        "The user for whom the call is made, with a tenant's key: 1 to 128 visible ASCII characters. The operator names none",
    ),
];

/// What a value of parameter `name` of `path` may be.
fn truth(path: &str, place: &str, name: &str) -> Value {
    let whole = |min: u64, max: u64| json!({ "type": "integer", "format": "int64", "minimum": min, "maximum": max });
    let with_default = |mut schema: Value, default: u64| {
        schema["default"] = json!(default);
        schema
    };
    let (max_limit, default_limit) = (Slice::MAX_LIMIT as u64, Slice::DEFAULT_LIMIT as u64);
    match (place, name) {
        (_, "room_id") => id("room"),
        (_, "message_id") => id("msg"),
        (_, "notification_id") => id("notif"),
        (_, "subscription_id") => id("sub"),
        (_, "endpoint_id") => id("ep"),
        (_, "tenant_id") => id("tenant"),
        (_, "delivery_id") => id("dlv"),
        (_, "chatId") => id("chat"),
        (_, "agent_id") => agent_id(),
        (_, "key_id") if path.contains("/provider-keys") => id("pkey"),
        (_, "key_id") if path.contains("/keys/") => id("tkey"),
        (_, "key_id") => id("key"),
        // Such an id is not for paths: gateways hand over what they decode.
        ("path", "user_id") => {
            json!({ "minLength": 1, "maxLength": 128, "pattern": r#"^[!"$&-.0->@-\[\]-~]+$"# })
        }
        (_, "user_id" | "userId" | "X-User-Id") => user_id(),
        (_, "Idempotency-Key") => {
            json!({ "minLength": 1, "maxLength": Once::MAX, "pattern": "^[!-~]+$" })
        }
        (_, "limit") if path == "/admin/dead-letters" => {
            with_default(whole(1, 1_000), default_limit)
        }
        (_, "limit") if path.starts_with("/chat") => whole(1, max_limit),
        (_, "limit") => with_default(whole(1, max_limit), default_limit),
        (_, "offset") => with_default(whole(0, Slice::MAX_OFFSET as u64), 0),
        (_, "cursor") => json!({ "pattern": "^[A-Za-z0-9_-]*$" }),
        (_, "after_seq" | "before_seq") => whole(0, Seq::MAX.get()),
        (_, "overlap_seconds") if path.starts_with("/webhooks") => {
            with_default(whole(0, 604_800), 86_400)
        }
        (_, "overlap_seconds") => with_default(whole(0, 86_400), 86_400),
        (_, "version") => whole(1, MAX_VERSIONS.into()),
        (_, "from" | "to") => json!({ "format": "date", "pattern": DAY }),
        (_, "older_than" | "newer_than") => json!({ "format": "date-time" }),
        (_, "agentType") => json!({ "maxLength": Profile::MAX_KIND, "pattern": r"^[^\u0000]*$" }),
        (_, "topic") => super::members::topic(),
        (_, "order") => json!({ "enum": ["asc", "desc"], "default": "asc" }),
        (_, "include") => json!({ "enum": ["meta"] }),
        (place, name) => panic!("{path}: say what {name} in the {place} may be"),
    }
}

/// Says of an operation's parameters what is true of them, and refers to those in common.
pub(super) fn finish(path: &str, operation: &mut Value) {
    let operation = object(operation);
    let own = operation.remove("parameters").unwrap_or_default();
    let own = own.as_array().cloned().unwrap_or_default();
    let mut all: Vec<Value> = own.into_iter().map(|it| finished(path, it)).collect();
    all.extend(acting_user(operation.get("security")));
    if !all.is_empty() {
        operation.insert("parameters".to_owned(), json!(all));
    }
}

fn finished(path: &str, mut parameter: Value) -> Value {
    let (place, name) = (text(&parameter, "in"), text(&parameter, "name"));
    let shared = SHARED.iter().filter(|it| (it.1, it.2) == (&place, &name));
    let mut shared = shared.filter(|it| {
        parameter["description"]
            .as_str()
            .is_none_or(|own| own == it.3)
    });
    if let Some((component, ..)) = shared.next() {
        let differs = match name.as_str() {
            "limit" => path == "/admin/dead-letters" || path.starts_with("/chat"),
            "tenant_id" => place != "path",
            _ => false,
        };
        if !differs {
            return json!({ "$ref": format!("#/components/parameters/{component}") });
        }
    }
    let schema = &mut parameter["schema"];
    // A parameter that may be left out is described as one that may be `null`, which no query can say.
    if let Some(kinds) = schema["type"].as_array() {
        schema["type"] = kinds[0].clone();
    }
    lay_over(schema, &truth(path, &place, &name));
    parameter
}

fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap().to_owned()
}

/// `X-User-Id` where a user may be named: a credential that is not secret, so clients see it as a parameter too.
fn acting_user(security: Option<&Value>) -> Option<Value> {
    let component = match security.and_then(Value::as_array) {
        None => "ActingUser",
        Some(choices) => {
            let named = choices.iter().filter(|it| it["user_id"].is_array()).count();
            match named {
                0 => return None,
                _ if named == choices.len() => "ActingUser",
                _ => "ActingUserOfTenant",
            }
        }
    };
    Some(json!({ "$ref": format!("#/components/parameters/{component}") }))
}

/// Adds those parameters in common that are referred to.
pub(super) fn add_components(document: &mut Value) {
    let paths = document["paths"].to_string();
    let used = SHARED
        .iter()
        .filter(|it| paths.contains(&format!("/parameters/{}\"", it.0)));
    let components = used.map(|(component, place, name, description)| {
        let mut schema = json!({ "type": "string" });
        lay_over(&mut schema, &truth("", place, name));
        let required = *place == "path" || *component == "ActingUser";
        let parameter = json!({
            "name": name, "in": place, "required": required, "description": description, "schema": schema,
        });
        ((*component).to_owned(), parameter)
    });
    document["components"]["parameters"] = components.collect::<serde_json::Map<_, _>>().into();
}
