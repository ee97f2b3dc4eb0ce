//! The members of schemas: what is true of one by its name, wherever it stands, with the bounds that the domain enforces.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use parlance::domain::{
    agent::{MAX_VERSIONS, Profile},
    api_key::{Origin, Origins},
    delivery::Reason,
    message::{Content, Seq},
    model::{LONGEST_NAME, Provider},
    provider_key::ModelKey,
    room::MAX_MEMBERS_PER_REQUEST,
    subscription::Topic,
    text::Name,
    tool::Tool,
    webhook::{Description, EndpointUrl, EventType},
};
use serde_json::{Map, Value, json};

use super::document::{agent_id, id, lay_over, user_id};

/// Text without U+0000.
const TEXT: &str = r"^[^\u0000]*$";
/// Text without U+0000 in which there is something to see.
const VISIBLE: &str = r"^[^\u0000]*[^\s\u0000][^\u0000]*$";
/// Text in one line: no control characters.
const LINE: &str = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$";
/// The same in which there is something to see.
const NAME: &str = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*[^\s\u0000-\u001f\u007f-\u009f\u2028\u2029][^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$";
/// Text without control characters in which there is something to see.
const PLAIN: &str = r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$";
/// An address of a server: `http` is for machines that were started so.
const URL: &str =
    r"^https://[^\s\u0000-\u001f\u007f-\u009f/?#@]+([/?][^\s\u0000-\u001f\u007f-\u009f]*)?$";
/// The same, without a query or a fragment.
const BASE_URL: &str =
    r"^https://[^\s\u0000-\u001f\u007f-\u009f/?#@]+(/[^\s\u0000-\u001f\u007f-\u009f?#]*)?$";
/// A webhook's secret: 24 to 64 bytes in base64.
const WEBHOOK_SECRET: &str = "^whsec_([A-Za-z0-9+/]{4}){8}(([A-Za-z0-9+/]{4}){0,13}([A-Za-z0-9+/][AQgw]==)?|([A-Za-z0-9+/]{4}){0,12}[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)$";
/// A model's name: neither `..` nor `::` in it.
const MODEL: &str = r"^(\.(:\.)*:?|:(\.:)*\.?)?([A-Za-z0-9_/@+-](\.(:\.)*:?|:(\.:)*\.?)?)*$";
/// A place in a list.
const CURSOR: &str = "^[A-Za-z0-9_-]*$";

/// Sentences and masks that we word ourselves: they have no bound to tell.
pub(super) const UNBOUNDED: [&str; 6] = [
    "message",
    "error",
    "field",
    "paused_reason",
    "upgradeInstructions",
    "masked_key",
];

/// Members of requests that may be `null`, which says something that leaving them out does not.
pub(super) const NULL_SAYS: [(&str, &str, &str); 8] = [
    ("RoomPatch", "name", "takes the name away"),
    ("TenantPatchIn", "monthly_token_cap", "lifts the cap"),
    ("AgentIn", "provider", "leaves it to the deployment"),
    ("AgentIn", "model", "leaves it to the deployment"),
    ("AgentIn", "temperature", "leaves it to the model"),
    ("AgentIn", "maxTokens", "is the default again"),
    (
        "ProviderKeyPatchIn",
        "base_url",
        "is where the provider usually is",
    ),
    ("ProviderKeyPatchIn", "expires_at", "is never"),
];

/// Members that a request must have although their type could do without.
const REQUIRED: [(&str, &str); 1] = [("RoomPatch", "name")];

/// What a topic may be.
pub(super) fn topic() -> Value {
    text(1, Topic::MAX, PLAIN)
}

fn text(min: usize, max: usize, pattern: &str) -> Value {
    let mut text = json!({ "maxLength": max, "pattern": pattern });
    if min > 0 {
        text["minLength"] = json!(min);
    }
    text
}

fn whole(min: u64, max: u64) -> Value {
    json!({ "minimum": min, "maximum": max })
}

fn one_of(names: &[&str]) -> Value {
    json!({ "enum": names })
}

fn events() -> Value {
    one_of(&EventType::ALL.map(EventType::name))
}

/// The providers, or those of them that have keys.
fn providers(with_key: bool) -> Value {
    let mut all = Provider::ALL.to_vec();
    all.retain(|it| it.needs_key() || !with_key);
    let names: Vec<_> = all.into_iter().map(Provider::name).collect();
    one_of(&names)
}

/// What is true of member `member` of `schema`; `Null` where its type says all.
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn truth(schema: &str, member: &str) -> Value {
    match (schema, member) {
        // Ids.
        (_, "room_id") => id("room"),
        (_, "message_id" | "inReplyTo") | ("ChatMessageOut" | "Answer", "id") => id("msg"),
        (_, "tenant_id" | "teamId") => id("tenant"),
        (_, "delivery_id") => id("dlv"),
        (_, "notification_id") => id("notif"),
        (_, "endpoint_id") => id("ep"),
        (_, "chatId") | ("ChatMade" | "ChatOut" | "ChatLog", "id") => id("chat"),
        ("SubscriptionOut", "id") => id("sub"),
        ("ProviderKeyOut", "key_id") => id("pkey"),
        ("TenantKeyOut", "key_id") => id("tkey"),
        (_, "key_id") => id("key"),
        (_, "agentId" | "agent_id" | "id") => agent_id(),
        (_, "user_id" | "userId" | "sender_id" | "subscriber_id" | "scope_id") => user_id(),
        (_, "webhooks_done") => json!({ "items": id("ep") }),
        (_, "unique_key") => json!({ "pattern": "^dm:[!-~]+:[!-~]+$" }),

        // Whom.
        ("RoomIn", "members") | ("MembersIn", "user_ids") => {
            json!({ "minItems": 1, "maxItems": MAX_MEMBERS_PER_REQUEST, "items": user_id() })
        }
        // Those named twice count once, so the list itself may be longer.
        ("TargetsIn", "user_ids") => json!({ "maxItems": null, "items": user_id() }),

        // Words.
        ("RoomIn" | "RoomOut" | "RoomCreated", "type") => one_of(&["dm", "group", "channel"]),
        ("AgentIn" | "AgentInFull", "type") => text(1, Profile::MAX_KIND, "^[a-z0-9_-]+$"),
        ("TrialIn", "type") => events(),
        ("ChatMessageOut", "role") => one_of(&["user", "assistant"]),
        ("SayIn", "role") => one_of(&["user"]),
        ("Answer", "role") => one_of(&["assistant"]),
        (_, "role") => one_of(&["member", "admin"]),
        (_, "kind") => one_of(&["publishable", "secret"]),
        ("EndpointPatchIn" | "EndpointOut", "status") => one_of(&["active", "paused"]),
        ("TenantKeyOut", "status") => one_of(&["current", "previous"]),
        ("ApiKeyOut", "status") => one_of(&["active", "expired"]),
        ("ProviderKeyPatchIn", "status") => one_of(&["active", "invalid"]),
        ("ProviderKeyOut", "status") => one_of(&["active", "invalid", "expired"]),
        ("HealthOut", "status") => one_of(&["ok", "degraded"]),
        ("DeliveryOut", "status") => one_of(&[
            "queued",
            "attempting",
            "waiting",
            "delivered",
            "dead",
            "discarded",
        ]),
        ("TrialOut", "status") => whole(100, 999),
        ("ErrorBody", "code") => json!({ "pattern": "^[A-Z]+(_[A-Z]+)*$" }),
        ("KodeyErrorOut", "error") => json!({ "pattern": "^[A-Z][A-Za-z]*( [A-Z][a-z]*)*$" }),
        (_, "allowedEndpoints") => json!({ "items": { "pattern": "^[A-Z]+ /" } }),
        (_, "publishable_list_scope") => one_of(&["user", "team"]),
        (_, "backoff") => one_of(&["fixed", "exponential"]),
        (_, "key_type") => one_of(&["byok", "global"]),
        (_, "scope_type") => one_of(&["tenant", "bot_group", "bot", "global"]),
        ("ProviderKeyIn" | "ProviderKeyOut", "provider") => providers(true),
        (_, "provider") => providers(false),
        (_, "events") => json!({ "items": events() }),
        (_, "event") => json!({ "pattern": "^[a-z]+([._][a-z]+)*$" }),
        ("AgentIn", "tools") => {
            json!({ "maxItems": Tool::MAX, "items": one_of(&Tool::ALL.map(Tool::name)) })
        }
        (_, "tools") => json!({ "items": one_of(&Tool::ALL.map(Tool::name)) }),

        // Text.
        ("ProviderKeyIn" | "ProviderKeyPatchIn" | "ProviderKeyOut", "name") => text(
            0,
            Description::MAX,
            if is_request(schema) { LINE } else { TEXT },
        ),
        (_, "name") if is_request(schema) => text(1, Name::MAX, NAME),
        (_, "name") => json!({ "maxLength": Name::MAX }),
        ("AgentIn" | "AgentInFull" | "AgentOut", "description") => {
            text(0, Profile::MAX_DESCRIPTION, TEXT)
        }
        (_, "description") if is_request(schema) => text(0, Description::MAX, LINE),
        (_, "description") => text(0, Description::MAX, TEXT),
        (_, "systemPrompt") => text(0, Profile::MAX_PROMPT, TEXT),
        (_, "topic") => topic(),
        (_, "reason") => text(1, Reason::MAX, NAME),
        ("SayIn", "content") => text(1, Content::MAX, VISIBLE),
        (_, "content") if is_request(schema) => text(1, Content::MAX, TEXT),
        ("MessageOut", "content") => text(0, Content::MAX, TEXT),
        // What an agent says is bounded by its tokens.
        ("ChatMessageOut" | "Answer", "content") => json!({ "pattern": TEXT }),
        (_, "meta" | "metadata" | "payload") => json!({ "$ref": "#/components/schemas/Meta" }),
        ("ModelUsageOut", "model") => json!({ "maxLength": LONGEST_NAME }),
        (_, "model") => text(1, LONGEST_NAME, MODEL),
        (_, "uptime") => json!({ "pattern": "^([0-9]+h)?([0-9]+m)?[0-9]+s$" }),

        // Addresses.
        (_, "url") if is_request(schema) => text(0, EndpointUrl::MAX, URL),
        (_, "base_url") if is_request(schema) => text(0, EndpointUrl::MAX, BASE_URL),
        (_, "url" | "base_url") => json!({ "maxLength": EndpointUrl::MAX }),
        ("ApiKeyIn", "allowed_origins") => {
            json!({ "maxItems": Origins::MAX, "items": text(0, Origin::MAX, "^https?://[^/\\s?#@*A-Z]+$") })
        }
        (_, "allowed_origins") => json!({ "items": { "maxLength": Origin::MAX } }),

        // Secrets.
        (_, "secret") => {
            json!({ "pattern": WEBHOOK_SECRET, "example": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" })
        }
        ("ProviderKeyIn" | "ProviderKeyPatchIn", "api_key") => {
            let mut key = text(1, ModelKey::MAX, "^[!-~]+$");
            key["example"] = json!("sk-0123456789");
            key
        }
        ("ApiKeyIssued", "api_key") => {
            json!({ "pattern": "^(pk|sk)_live_[0-9A-Za-z]{30}$", "example": format!("pk_live_{:030}", 0) })
        }
        (_, "api_key") => {
            json!({ "pattern": "^sk_[0-9a-f]{64}$", "example": format!("sk_{:064}", 0) })
        }
        (_, "token") => {
            json!({ "pattern": "^wst_[0-9a-f]{64}$", "example": format!("wst_{:064}", 0) })
        }

        // Places in lists.
        (_, "cursor" | "next_cursor" | "nextCursor") => json!({ "pattern": CURSOR }),

        // Numbers.
        (_, "seq" | "last_seq" | "unread_count") => whole(0, Seq::MAX.get()),
        (_, "version" | "agentVersion") => whole(1, MAX_VERSIONS.into()),
        ("AgentIn", "temperature") => {
            json!({ "anyOf": [{ "const": 0 }, { "minimum": Profile::MIN_TEMPERATURE }, { "type": "null" }] })
        }
        (_, "success") if schema == "ErrorOut" => json!({ "const": false }),
        (_, "success") => json!({ "const": true }),
        _ => Value::Null,
    }
}

/// Schemas of requests end so.
fn is_request(schema: &str) -> bool {
    ["In", "Patch"].iter().any(|end| schema.ends_with(end))
}

/// Says of every member of every schema what is true of it. `requests` are the schemas of what is sent to us, and `lenient` those
/// of them that pass over an explicit `null`.
pub(super) fn finish(
    schemas: &mut Map<String, Value>,
    requests: &BTreeSet<String>,
    lenient: &BTreeSet<String>,
) {
    let left_out = left_out();
    for (name, schema) in schemas {
        let mut parts: Vec<&mut Value> = Vec::new();
        if schema["allOf"].is_array() {
            parts.extend(schema["allOf"].as_array_mut().unwrap().iter_mut());
        } else {
            parts.push(schema);
        }
        for part in parts {
            let Some(members) = part.get_mut("properties").and_then(Value::as_object_mut) else {
                continue;
            };
            let mut required = Vec::new();
            for (member, schema) in members {
                let is_left_out = left_out
                    .get(name)
                    .is_some_and(|members| members.contains(member));
                let says = NULL_SAYS.iter().any(|it| (it.0, it.1) == (name, member));
                let passes = lenient.contains(name);
                if is_nullable(schema) {
                    match (requests.contains(name), is_left_out) {
                        (true, _) if says || passes => {}
                        (true, _) | (false, true) => strip_null(schema),
                        // It is always there, and `null` where there is nothing to say.
                        (false, false) => required.push(member.clone()),
                    }
                }
                if REQUIRED.contains(&(name, member)) {
                    required.push(member.clone());
                }
                tell(schema, &truth(name, member));
            }
            if !required.is_empty() {
                let all = part["required"].as_array().cloned().unwrap_or_default();
                let all = all.into_iter().chain(required.into_iter().map(Value::from));
                part["required"] = all.collect();
            }
        }
    }
}

pub(super) fn is_nullable(schema: &Value) -> bool {
    let kinds = schema["type"].as_array().into_iter().flatten();
    let parts = ["oneOf", "anyOf"].map(|it| schema[it].as_array().into_iter().flatten());
    kinds.clone().any(|kind| kind == "null")
        || parts
            .into_iter()
            .flatten()
            .any(|part| part["type"] == "null")
}

fn strip_null(schema: &mut Value) {
    if let Some(kinds) = schema["type"].as_array() {
        schema["type"] = kinds.iter().find(|it| *it != "null").unwrap().clone();
    }
    if let Some(parts) = schema["oneOf"].as_array() {
        let part = parts.iter().find(|part| part["type"] != "null").unwrap();
        let part = part.clone();
        let own = schema.as_object_mut().unwrap();
        own.remove("oneOf");
        own.extend(part.as_object().unwrap().clone());
    }
    let own = schema.as_object_mut().unwrap();
    own.retain(|name, value| name != "example" || !value.is_null());
    own.retain(|name, value| !matches!(name.as_str(), "type" | "oneOf") || !value.is_null());
}

/// Adds `truth` to `schema`.
fn tell(schema: &mut Value, truth: &Value) {
    let may_be_null = is_nullable(schema);
    if truth["$ref"].is_string() {
        let own = schema.as_object_mut().unwrap();
        own.remove("type");
        if may_be_null {
            own.insert("oneOf".to_owned(), json!([truth, { "type": "null" }]));
        } else {
            lay_over(schema, truth);
        }
        return;
    }
    if !truth.is_null() {
        lay_over(schema, truth);
    }
    if may_be_null && let Some(names) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        names.push(Value::Null);
    }
    // A bound that is not told after all.
    if let Some(own) = schema.as_object_mut() {
        own.retain(|name, value| name == "example" || !value.is_null());
    }
}

/// Members of answers that are left out where there is nothing to say, by the name of their schema: read from the source, since
/// `utoipa` describes them as it does those that are `null` then.
fn left_out() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for folder in ["functions", "shared/http/src"] {
        sources(&root.join(folder), &mut files);
    }
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let source = fs::read_to_string(file).unwrap();
        let (mut camel, mut name, mut alias, mut is_left_out) = (false, String::new(), None, false);
        for line in source.lines().map(str::trim) {
            let bare = line
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub ");
            if line.contains("rename_all = \"camelCase\"") {
                camel = true;
            } else if let Some(rest) = line.strip_prefix("#[schema(as = ") {
                alias = rest.split(')').next().map(str::to_owned);
            } else if let Some(rest) = bare.strip_prefix("struct ") {
                let own = rest.split([' ', '<', '(', ';']).next().unwrap().to_owned();
                name = alias.take().unwrap_or(own);
            } else if line == "}" {
                (camel, alias) = (false, None);
            } else if line.contains("skip_serializing_if = \"Option::is_none\"") {
                is_left_out = true;
            } else if is_left_out && !line.starts_with(['#', '/']) {
                let member = bare.split(':').next().unwrap();
                let member = if camel {
                    camel_case(member)
                } else {
                    member.to_owned()
                };
                found.entry(name.clone()).or_default().insert(member);
                is_left_out = false;
            }
        }
    }
    found
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|it| it == "rs") {
            files.push(path);
        }
    }
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap().to_owned();
    words.fold(first, |text, word| {
        text + &word[..1].to_uppercase() + &word[1..]
    })
}
