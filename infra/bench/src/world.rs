//! A tenant with rooms, and the requests of its users.

use std::path::Path;

use serde_json::{Value, json};

use crate::Outcome;
use crate::connection::Connection;
use crate::fill::fill;
use crate::server::{MASTER_KEY, Server};

/// What every message says: 64 bytes.
pub(crate) const CONTENT: &str = "The quick brown fox jumps over the lazy dog, and then naps a bit";
/// Users of the tenant; all of them are in every room.
const USERS: usize = 64;
/// The most members that one request names.
const AT_ONCE: usize = 1_000;

/// A runner with a tenant whose limits are out of the way.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) server: Server,
    tenant: String,
    key: String,
}

impl World {
    /// Starts a runner on an empty folder and makes a tenant.
    pub(crate) async fn new(runner: &Path) -> Outcome<Self> {
        Self::with(runner, &[]).await
    }

    /// The same, with more `arguments`.
    pub(crate) async fn with(runner: &Path, arguments: &'static [&'static str]) -> Outcome<Self> {
        let mut server = Server::new(runner)?.with(arguments);
        server.start().await?;
        let operator = format!("X-Master-Key: {MASTER_KEY}");
        let mut connection = Connection::open(server.port).await?;
        let created = request(
            "POST",
            "/admin/tenants",
            &operator,
            &json!({ "name": "Bench" }),
        );
        let created: Value = serde_json::from_slice(connection.exchange(&created).await?)?;
        let tenant = text(&created, "tenant_id")?;
        let patch = request(
            "PATCH",
            &format!("/admin/tenants/{tenant}"),
            &operator,
            &json!({ "rate_limit": 1_000_000 }),
        );
        connection.exchange(&patch).await?;
        Ok(Self {
            key: text(&created, "api_key")?,
            server,
            tenant,
        })
    }

    /// A room with all users in it.
    pub(crate) async fn room(&self) -> Outcome<String> {
        let members: Vec<_> = (0..USERS).map(|user| format!("user{user}")).collect();
        let members: Vec<_> = members.iter().map(String::as_str).collect();
        self.room_of("user0", &members).await
    }

    /// A room of `members`, made by `creator`.
    pub(crate) async fn room_of(&self, creator: &str, members: &[&str]) -> Outcome<String> {
        let (first, others) = members.split_at(members.len().min(AT_ONCE));
        let body = json!({ "type": "group", "name": "Bench", "members": first });
        let created = self.request_of(creator, "POST", "/rooms", &body);
        let mut connection = Connection::open(self.server.port).await?;
        let created: Value = serde_json::from_slice(connection.exchange(&created).await?)?;
        let room = text(&created, "room_id")?;
        for joining in others.chunks(AT_ONCE) {
            let path = format!("/rooms/{room}/members");
            let join = self.request_of(creator, "POST", &path, &json!({ "user_ids": joining }));
            connection.exchange(&join).await?;
        }
        Ok(room)
    }

    /// Writes messages into rooms that have none, and starts the runner anew.
    pub(crate) async fn fill(&mut self, rooms: &[(&str, u64)]) -> Outcome<()> {
        self.server.stop()?;
        for (room, count) in rooms {
            let partition = format!("{}#{room}", self.tenant);
            fill(&self.server.database(), &partition, *count)?;
        }
        self.server.start().await.map(|_| ())
    }

    pub(crate) fn send(&self, user: usize, room: &str) -> String {
        let path = format!("/rooms/{room}/messages");
        let body = json!({ "content": CONTENT });
        request("POST", &path, &self.credentials(user), &body)
    }

    pub(crate) fn read(&self, user: usize, room: &str, after: u64) -> String {
        let path = format!("/rooms/{room}/messages?after_seq={after}&limit=50");
        format!(
            "GET {path} HTTP/1.1\r\nHost: bench\r\n{}\r\n\r\n",
            self.credentials(user)
        )
    }

    pub(crate) fn ack(&self, user: usize, room: &str, seq: u64) -> String {
        let body = json!({ "room_id": room, "seq": seq });
        request("POST", "/acks", &self.credentials(user), &body)
    }

    fn credentials(&self, user: usize) -> String {
        self.credentials_of(&format!("user{}", user % USERS))
    }

    fn credentials_of(&self, user: &str) -> String {
        format!("X-API-Key: {}\r\nX-User-Id: {user}", self.key)
    }

    /// The tenant's id.
    pub(crate) fn tenant(&self) -> &str {
        &self.tenant
    }

    /// What the operator is answered.
    pub(crate) async fn operator(&self, method: &str, path: &str, body: &Value) -> Outcome<Value> {
        let operator = format!("X-Master-Key: {MASTER_KEY}");
        self.ask(method, path, &operator, body).await
    }

    /// What whoever has `credentials` is answered.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        credentials: &str,
        body: &Value,
    ) -> Outcome<Value> {
        let mut connection = Connection::open(self.server.port).await?;
        let asked = request(method, path, credentials, body);
        Ok(serde_json::from_slice(connection.exchange(&asked).await?)?)
    }

    /// The tenant's key.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// A message of `sender`'s.
    pub(crate) fn say(&self, sender: &str, room: &str, content: &str) -> String {
        let body = json!({ "content": content });
        self.request_of(sender, "POST", &format!("/rooms/{room}/messages"), &body)
    }

    /// A request of `user`'s.
    pub(crate) fn request_of(&self, user: &str, method: &str, path: &str, body: &Value) -> String {
        request(method, path, &self.credentials_of(user), body)
    }
}

pub(crate) fn request(method: &str, path: &str, credentials: &str, body: &Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: bench\r\n{credentials}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn text(answer: &Value, field: &str) -> Outcome<String> {
    let text = answer[field].as_str();
    Ok(text.ok_or(format!("no {field} in {answer}"))?.to_owned())
}
