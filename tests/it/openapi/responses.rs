//! Responses: what every operation may answer besides its own, and the headers of all of them.
//!
//! An operation refers to a response in common, and says beside the reference what is particular: OpenAPI 3.1 lets a
//! `description` stand there. 405 is not among them: a path answers it to methods that no operation describes.

use serde_json::{Map, Value, json};

use super::{document::object, is_kodey, operations};

/// Errors: the status, the component's name, what it means where an operation says nothing, and ChatAPI's code and sentence.
const ERRORS: [(&str, &str, &str, &str, &str); 11] = [
    (
        "400",
        "BadRequest",
        "A field, a parameter or a header breaks a rule",
        "VALIDATION_ERROR",
        "Invalid request body. It must be a JSON object",
    ),
    (
        "401",
        "Unauthorized",
        "No credential, or one that does not hold",
        "AUTHENTICATION_ERROR",
        "Invalid API key",
    ),
    (
        "403",
        "Forbidden",
        "The caller is known and may not do this",
        "AUTHORIZATION_ERROR",
        "You are not a member of this room",
    ),
    (
        "404",
        "NotFound",
        "It does not exist, or not for this caller",
        "NOT_FOUND",
        "Room not found",
    ),
    (
        "409",
        "Conflict",
        "It exists already, or changed meanwhile",
        "CONFLICT",
        "This Idempotency-Key was used for another request",
    ),
    (
        "413",
        "PayloadTooLarge",
        "The body is larger than 256 KB",
        "PAYLOAD_TOO_LARGE",
        "Request body is larger than 256 KB",
    ),
    (
        "415",
        "UnsupportedMediaType",
        "The body is not JSON, or encoded in a way that is not read",
        "UNSUPPORTED_MEDIA_TYPE",
        "Unsupported Content-Type. Send application/json",
    ),
    (
        "429",
        "TooManyRequests",
        "Too many requests; `Retry-After` says when to go on",
        "RATE_LIMIT_EXCEEDED",
        "Rate limit exceeded. Try again in 60 seconds",
    ),
    (
        "500",
        "InternalError",
        "A fault of ours, which our log explains",
        "INTERNAL_ERROR",
        "Internal error",
    ),
    (
        "502",
        "BadGateway",
        "Somebody else whose answer is needed did not give one that can be used",
        "UPSTREAM_ERROR",
        "The model did not answer",
    ),
    (
        "503",
        "ServiceUnavailable",
        "Too much contention or an outage; `Retry-After` says when to send the same request again",
        "SERVICE_UNAVAILABLE",
        "Service temporarily unavailable. Send the same request again",
    ),
];

/// Headers: the component's name, the header, and what it says.
const HEADERS: [(&str, &str, &str); 9] = [
    (
        "RateLimitLimit",
        "X-RateLimit-Limit",
        "How many requests the caller may make in a second, or in a minute with a team's key",
    ),
    (
        "RateLimitRemaining",
        "X-RateLimit-Remaining",
        "How many of them are left",
    ),
    (
        "RateLimitReset",
        "X-RateLimit-Reset",
        "When all of them are there again, in seconds since 1970",
    ),
    ("RequestId", "X-Request-Id", "The request's name in our log"),
    (
        "RetryAfter",
        "Retry-After",
        "In how many seconds the same request may succeed",
    ),
    (
        "IdempotentReplayed",
        "Idempotent-Replayed",
        "`true` if an earlier request with the same Idempotency-Key gave this answer",
    ),
    (
        "Link",
        "Link",
        "`<…>; rel=\"next\"` leads to the next page, if there is one",
    ),
    (
        "Ignored",
        "X-Ignored",
        "Members and parameters that were passed over because nothing is known of them: `retry.attempt, after`",
    ),
    (
        "Authenticate",
        "WWW-Authenticate",
        "Which credential is wanted",
    ),
];

/// On every answer.
const ALWAYS: [&str; 4] = [
    "RateLimitLimit",
    "RateLimitRemaining",
    "RateLimitReset",
    "RequestId",
];

/// Says of an operation's responses what is true of them, and adds those that every operation may give.
pub(super) fn finish(method: &str, path: &str, operation: &mut Value, schemas: &Value) {
    let has_body = operation["requestBody"].is_object();
    let is_public = path == "/health";
    let names_parameter = |name: &str| {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let mut parameters = parameters.map(Value::to_string);
        parameters.any(|it| it.contains(name))
    };
    let is_paged = method == "get"
        && (names_parameter("/Limit\"")
            || names_parameter("\"limit\"")
            || path == "/chat/{chatId}");
    let is_repeatable = names_parameter("IdempotencyKey") || names_parameter("Idempotency-Key");
    let responses = object(&mut operation["responses"]);
    for (status, _, _, _, _) in ERRORS {
        let applies = match status {
            "401" => !is_public,
            "413" | "415" => has_body,
            "400" | "429" | "500" | "503" => true,
            _ => false,
        };
        if applies {
            responses.entry(status).or_insert(Value::Null);
        }
    }
    for (status, response) in responses {
        if status.starts_with(['4', '5']) {
            *response = error(path, status, response);
            continue;
        }
        let mut headers = always();
        let mut also = |component: &str| {
            headers.insert(
                header(component),
                json!({ "$ref": format!("#/components/headers/{component}") }),
            );
        };
        if is_paged {
            also("Link");
        }
        if is_repeatable && !shows_secret(&response["content"], schemas) {
            also("IdempotentReplayed");
        }
        if operations::is_lenient(method, path) {
            also("Ignored");
        }
        response["headers"] = headers.into();
        // Two types that one handler answers, each with a shape of its own.
        for (kind, shape) in [
            ("text/event-stream", "AnswerEvents"),
            ("text/plain", "MetricsText"),
        ] {
            let content = response.get_mut("content");
            if let Some(content) = content.and_then(|content| content.get_mut(kind)) {
                *content = json!({ "schema": { "$ref": format!("#/components/schemas/{shape}") } });
            }
        }
    }
}

/// An error as an operation refers to it.
fn error(path: &str, status: &str, own: &Value) -> Value {
    let known = ERRORS.iter().find(|it| it.0 == status);
    let (_, name, usual, ..) = known.unwrap_or_else(|| panic!("{path}: name {status} in ERRORS"));
    let name = match (path, status) {
        ("/health", "503") => "Degraded".to_owned(),
        _ if is_kodey(path) => format!("Kodey{name}"),
        _ => (*name).to_owned(),
    };
    let mut reference = json!({ "$ref": format!("#/components/responses/{name}") });
    let particular = own["description"].as_str().filter(|own| own != usual);
    if let Some(description) = particular {
        reference["description"] = json!(description);
    }
    reference
}

/// Whether an answer shows a secret: one that does is given once, and a repeated request is refused.
fn shows_secret(content: &Value, schemas: &Value) -> bool {
    let reference = content["application/json"]["schema"]["$ref"].as_str();
    let name = reference.and_then(|it| it.rsplit('/').next());
    let schema = name.map_or(&Value::Null, |name| &schemas[name]);
    let parts = schema["allOf"].as_array().into_iter().flatten();
    let mut parts = parts.chain([schema]);
    parts.any(|part| {
        ["secret", "api_key"]
            .iter()
            .any(|it| part["properties"][it].is_object())
    })
}

fn header(component: &str) -> String {
    let known = HEADERS.iter().find(|it| it.0 == component);
    known.unwrap().1.to_owned()
}

fn always() -> Map<String, Value> {
    let references = ALWAYS.map(|component| {
        (
            header(component),
            json!({ "$ref": format!("#/components/headers/{component}") }),
        )
    });
    references.into_iter().collect()
}

/// Adds those responses and headers in common that are referred to.
pub(super) fn add_components(document: &mut Value) {
    let paths = document["paths"].to_string();
    let mut responses = Map::new();
    for (status, name, description, code, message) in ERRORS {
        let chatapi = (name.to_owned(), "ErrorOut", chatapi(status, code, message));
        let kodey = (
            format!("Kodey{name}"),
            "KodeyErrorOut",
            kodey(status, message),
        );
        for (name, schema, example) in [chatapi, kodey] {
            if !paths.contains(&format!("/responses/{name}\"")) {
                continue;
            }
            let mut headers = always();
            let mut also = |component: &str| {
                headers.insert(
                    header(component),
                    json!({ "$ref": format!("#/components/headers/{component}") }),
                );
            };
            match status {
                "401" => also("Authenticate"),
                "409" | "429" | "502" | "503" => also("RetryAfter"),
                _ => {}
            }
            responses.insert(
                name,
                json!({
                    "description": description,
                    "headers": headers,
                    "content": { "application/json": {
                        "schema": { "$ref": format!("#/components/schemas/{schema}") },
                        "example": example,
                    } },
                }),
            );
        }
    }
    responses.insert(
        "Degraded".to_owned(),
        json!({
            "description": "The service cannot write",
            "headers": always(),
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/HealthOut" } } },
        }),
    );
    document["components"]["responses"] = responses.into();
    let headers = HEADERS.map(|(component, name, description)| {
        let schema = match name {
            "X-RateLimit-Limit" | "X-RateLimit-Remaining" | "X-RateLimit-Reset" => {
                json!({ "type": "integer", "minimum": 0 })
            }
            "Retry-After" => json!({ "type": "integer", "minimum": 1 }),
            "Idempotent-Replayed" => json!({ "type": "string", "enum": ["true"] }),
            _ => json!({ "type": "string" }),
        };
        let required = ALWAYS.contains(&component) || component == "Authenticate";
        let header = json!({ "description": description, "required": required, "schema": schema });
        (component.to_owned(), header)
    });
    document["components"]["headers"] = headers.into_iter().collect::<Map<_, _>>().into();
}

/// An error of ChatAPI.
fn chatapi(status: &str, code: &str, message: &str) -> Value {
    let mut error = json!({ "code": code, "message": message });
    if matches!(status, "400" | "413") {
        error["field"] = json!("body");
    }
    json!({ "success": false, "error": error })
}

/// An error of the Kodey dialect with `status`, in whose place ChatAPI says `message`.
fn kodey(status: &str, message: &str) -> Value {
    match status {
        "400" => json!({ "error": "Bad Request", "message": message, "field": "body" }),
        "401" => json!({ "message": "Unauthorized: Invalid API key." }),
        "403" => json!({ "error": "Forbidden", "message": "This endpoint requires a secret key" }),
        "404" => json!({ "error": "Not Found", "message": "Chat not found" }),
        "409" => json!({ "error": "Conflict", "message": message }),
        "413" => json!({ "error": "Payload Too Large", "message": message, "field": "body" }),
        "415" => json!({ "error": "Unsupported Media Type", "message": message }),
        "429" => json!({
            "error": "Too Many Requests",
            "message": "Rate limit exceeded. Please retry after 60 seconds.",
            "retryAfter": 60,
        }),
        "502" => json!({ "error": "Bad Gateway", "message": message, "retryable": true }),
        "503" => json!({ "error": "Service Unavailable", "message": message }),
        _ => json!({ "error": "Internal Server Error", "message": message }),
    }
}
