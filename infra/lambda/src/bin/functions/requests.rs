//! A first request for each function, which works and uses the store if the function does.

use axum::body::{Body, Bytes};
use axum::http::Request;
use parlance_lambda::Gateway;
use serde_json::{Value, json};

use crate::Outcome;
use crate::store::MASTER_KEY;

/// A tenant with a room, a message and a chat, whom requests are about.
pub(crate) struct Requests {
    tenant: String,
    key: String,
    room: String,
    chat: String,
}

/// Makes the tenant through the functions themselves.
pub(crate) async fn requests(gateway: &Gateway) -> Outcome<Requests> {
    let operator = [("x-master-key", MASTER_KEY)];
    let body = json!({ "name": "figures" });
    let tenant = sent(
        gateway,
        request("POST", "/admin/tenants", &operator, &body)?,
    )
    .await?;
    let key = text(&tenant, "api_key")?;
    let alice = [("x-api-key", key.as_str()), ("x-user-id", "alice")];
    let body = json!({ "type": "group", "members": ["alice"] });
    let room = sent(gateway, request("POST", "/rooms", &alice, &body)?).await?;
    let room = text(&room, "room_id")?;
    let path = format!("/rooms/{room}/messages");
    let body = json!({ "content": "hello" });
    sent(gateway, request("POST", &path, &alice, &body)?).await?;

    let mut requests = Requests {
        tenant: text(&tenant, "tenant_id")?,
        key,
        room,
        chat: String::new(),
    };
    let secret = requests.secret(gateway).await?;
    let body = json!({ "agentId": "chat" });
    let server = [("x-api-key", secret.as_str())];
    let chat = sent(gateway, request("POST", "/chat", &server, &body)?).await?;
    requests.chat = text(&chat, "id")?;
    Ok(requests)
}

impl Requests {
    /// A secret key with a whole budget: each process that starts takes its share of it.
    async fn secret(&self, gateway: &Gateway) -> Outcome<String> {
        let server = [("x-api-key", self.key.as_str())];
        let path = format!("/admin/tenants/{}/api-keys", self.tenant);
        let body = json!({ "kind": "secret", "name": "figures" });
        let made = sent(gateway, request("POST", &path, &server, &body)?).await?;
        text(&made, "api_key")
    }

    /// The event of the request for the function whose binary is `binary`.
    pub(crate) async fn event(&self, gateway: &Gateway, binary: &str) -> Outcome<Bytes> {
        let alice = [("x-api-key", self.key.as_str()), ("x-user-id", "alice")];
        let secret = match binary {
            "chats" | "chat-stream" | "agents" => self.secret(gateway).await?,
            _ => String::new(),
        };
        let server = [("x-api-key", secret.as_str())];
        let get = |path: &str| request("GET", path, &alice, &Value::Null);
        let messages = format!("/rooms/{}/messages", self.room);
        let request = match binary {
            "rooms" => get("/rooms")?,
            "messages" => get(&messages)?,
            "acks" => {
                let body = json!({ "room_id": self.room, "seq": 1 });
                request("POST", "/acks", &alice, &body)?
            }
            "notify" => get("/subscriptions")?,
            "webhooks" => get("/webhooks")?,
            "admin" => {
                let operator = [("x-master-key", MASTER_KEY)];
                request("GET", "/admin/tenants", &operator, &Value::Null)?
            }
            "chats" => request("GET", "/chat", &server, &Value::Null)?,
            "chat-stream" => {
                let server = [server[0], ("accept", "text/event-stream")];
                let path = format!("/chat/{}/message", self.chat);
                let body = json!({ "content": "hello", "role": "user" });
                request("POST", &path, &server, &body)?
            }
            "agents" => request("GET", "/agent", &server, &Value::Null)?,
            "keys" => {
                let server = [("x-api-key", self.key.as_str())];
                let path = format!("/admin/tenants/{}/provider-keys", self.tenant);
                request("GET", &path, &server, &Value::Null)?
            }
            "health" => get("/health")?,
            "ws-token" => request("POST", "/ws/token", &alice, &Value::Null)?,
            // What the WebSocket API sends when somebody left of whom nothing is known.
            "sockets" => {
                let event = json!({
                    "requestContext": {
                        "routeKey": "$disconnect",
                        "connectionId": "L0SM9cOFvHcCIhw=",
                        "connectedAt": 0,
                        "requestTimeEpoch": 0,
                    },
                });
                return Ok(Bytes::from(event.to_string()));
            }
            "edge" => get("/openapi.json")?,
            "hello" => get("/hello")?,
            // Not HTTP: a batch in which nothing is.
            _ => return Ok(Bytes::from_static(br#"{"Records":[]}"#)),
        };
        let event = gateway.event(request).await;
        Ok(event.ok_or("the gateway answers by itself")?.1)
    }
}

fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Outcome<Request<Body>> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = match body {
        Value::Null => Body::empty(),
        body => Body::from(body.to_string()),
    };
    Ok(request.body(body)?)
}

/// Sends a request through the gateway's function; the body of the answer.
async fn sent(gateway: &Gateway, request: Request<Body>) -> Outcome<Value> {
    let event = gateway.event(request).await;
    let (function, event) = event.ok_or("the gateway answers by itself")?;
    let answer = function.invoke(event).await?;
    check(&answer)?;
    let answer: Value = serde_json::from_slice(&answer)?;
    Ok(serde_json::from_str(
        answer["body"].as_str().unwrap_or_default(),
    )?)
}

/// An error if a function's answer is one: what fails fast would look fast. Of a streamed answer the status comes first,
/// before a NUL.
pub(crate) fn check(answer: &[u8]) -> Outcome<()> {
    let head = answer.split(|byte| *byte == 0).next().unwrap_or_default();
    let parsed: Value = serde_json::from_slice(head)?;
    match parsed["statusCode"].as_u64() {
        None | Some(200..=299) => Ok(()),
        Some(_) => Err(String::from_utf8_lossy(answer).into()),
    }
}

fn text(answer: &Value, field: &str) -> Outcome<String> {
    let text = answer[field].as_str().ok_or("an answer lacks a field")?;
    Ok(text.to_owned())
}
