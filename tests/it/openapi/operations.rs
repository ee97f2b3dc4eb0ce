//! The operations' names, and which of them are the seeds' own.

/// Collections, by path: what their operations are named after.
const RESOURCES: [(&str, &str); 23] = [
    ("/rooms", "rooms"),
    ("/rooms/{room_id}/members", "room_members"),
    ("/rooms/{room_id}/messages", "messages"),
    (
        "/rooms/{room_id}/messages/{message_id}/deliveries",
        "message_deliveries",
    ),
    ("/acks", "acks"),
    ("/notify", "notifications"),
    ("/notifications", "notifications"),
    ("/subscriptions", "subscriptions"),
    ("/webhooks", "webhooks"),
    ("/ws/token", "socket_tokens"),
    ("/health", "health"),
    ("/metrics", "metrics"),
    ("/chat", "chats"),
    ("/chat/{chatId}/message", "chat_messages"),
    ("/agent", "agents"),
    ("/agent/{agent_id}/versions", "agent_versions"),
    ("/admin/dead-letters", "dead_letters"),
    ("/admin/tenants", "tenants"),
    ("/admin/tenants/{tenant_id}/keys", "tenant_keys"),
    ("/admin/tenants/{tenant_id}/api-keys", "api_keys"),
    ("/admin/tenants/{tenant_id}/provider-keys", "provider_keys"),
    ("/admin/tenants/{tenant_id}/model-usage", "model_usage"),
    ("/admin/provider-keys", "shared_provider_keys"),
];

/// Operations whose verb is not the one of their method.
const VERBS: [(&str, &str, &str); 9] = [
    ("post", "/rooms/{room_id}/messages", "send"),
    ("post", "/rooms/{room_id}/members", "add"),
    ("patch", "/rooms/{room_id}/members", "update_by_query"),
    ("delete", "/rooms/{room_id}/members/{user_id}", "remove"),
    ("delete", "/rooms/{room_id}/members", "remove_by_query"),
    ("post", "/notify", "send"),
    ("post", "/chat/{chatId}/message", "send"),
    ("get", "/health", "check"),
    ("get", "/metrics", "get"),
];

/// The operation's name in generated clients: `resource_verb`.
pub(super) fn name(method: &str, path: &str) -> String {
    let begins = |resource: &&(&str, &str)| {
        let rest = path.strip_prefix(resource.0);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let resource = RESOURCES.iter().filter(begins).max_by_key(|it| it.0.len());
    let (collection, resource) =
        resource.unwrap_or_else(|| panic!("{path}: name its resource in RESOURCES"));
    let known = VERBS.iter().find(|it| (it.0, it.1) == (method, path));
    if let Some((_, _, verb)) = known {
        return format!("{resource}_{verb}");
    }
    let rest = path[collection.len()..].split('/').skip(1);
    let (ids, mut words): (Vec<&str>, Vec<&str>) = rest.partition(|it| it.starts_with('{'));
    // `…/secret/rotate` is `rotate_secret`.
    words.reverse();
    let verb = match (method, ids.is_empty(), words.is_empty()) {
        (_, _, false) => words.join("_"),
        ("get", true, true) => "list".to_owned(),
        ("get", false, true) => "get".to_owned(),
        ("post", _, true) => "create".to_owned(),
        ("put" | "patch", _, true) => "update".to_owned(),
        ("delete", true, true) if *resource == "dead_letters" => "discard".to_owned(),
        ("delete", _, true) => "delete".to_owned(),
        (method, _, true) => panic!("{method} {path}: name it in VERBS"),
    };
    format!("{resource}_{verb}")
}

/// The seeds' own routes: as the originals do, they pass over members and parameters that they do not know, and over an explicit
/// `null`.
const LENIENT: [(&str, &str); 15] = [
    ("post", "/rooms"),
    ("get", "/rooms/{room_id}"),
    ("get", "/rooms/{room_id}/members"),
    ("post", "/rooms/{room_id}/messages"),
    ("get", "/rooms/{room_id}/messages"),
    ("post", "/acks"),
    ("post", "/notify"),
    ("get", "/health"),
    ("get", "/admin/dead-letters"),
    ("post", "/chat"),
    ("get", "/chat"),
    ("get", "/chat/{chatId}"),
    ("delete", "/chat/{chatId}"),
    ("post", "/chat/{chatId}/message"),
    ("get", "/chat/{chatId}/message"),
];

/// Whether an operation is one of the seeds' own.
pub(super) fn is_lenient(method: &str, path: &str) -> bool {
    LENIENT.contains(&(method, path))
}
