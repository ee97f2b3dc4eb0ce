//! The Kodey dialect: keys, chats and agents, as browsers and servers use them.

mod agent_faults;
mod agent_removal;
mod agents;
mod answers;
pub mod chats;
mod cors;
mod credentials;
pub mod deletion;
mod idempotency_of_sends;
mod keys;
mod limits;
mod lists;
mod messages;
pub mod models;
mod origins;
mod sends;
pub mod streaming;
mod tools;
mod usage;

use axum::{
    Router,
    extract::State,
    routing::{get, post, put},
};
use parlance::{
    app::App,
    domain::{KeyHolder, Sees},
    http::{
        Caller, Reply, Show,
        credentials::{SecretKey, TeamKey},
        dialects::Kodey,
        edge::edge,
    },
};
use serde_json::{Value, json};

use crate::support::{Client, Response, Tenant, World, tenant, tenant_of};

/// A tenant with a secret and a publishable key.
#[derive(Clone)]
pub struct Team {
    /// The tenant's id: what the dialect calls `teamId`.
    pub id: String,
    /// The tenant.
    pub tenant: Tenant,
    /// The team's server.
    pub sk: Client,
    /// A browser.
    pub pk: Client,
    /// The server's key.
    pub secret: String,
    /// The browser's key.
    pub publishable: String,
}

/// A fresh team of the shared service.
pub async fn team() -> Team {
    team_of(tenant().await).await
}

/// A fresh team of `world`.
pub async fn team_in(world: &World) -> Team {
    team_of(tenant_of(world).await).await
}

async fn team_of(tenant: Tenant) -> Team {
    let secret = key_of(&tenant, json!({ "kind": "secret", "name": "server" })).await;
    let body = json!({ "kind": "publishable", "name": "browser" });
    let publishable = key_of(&tenant, body).await;
    Team {
        id: tenant.id.clone(),
        sk: client(&tenant.world, &secret),
        pk: client(&tenant.world, &publishable),
        tenant,
        secret,
        publishable,
    }
}

impl Team {
    /// A browser with another key, which `body` describes.
    pub async fn with_key(&self, body: Value) -> Client {
        client(&self.tenant.world, &key_of(&self.tenant, body).await)
    }

    /// A browser with a key made for `user`.
    pub async fn browser_of(&self, user: &str) -> Client {
        let body = json!({ "kind": "publishable", "name": user, "user_id": user });
        self.with_key(body).await
    }

    /// Changes what the operator sets of a tenant.
    pub async fn set(&self, change: Value) {
        let operator = self.tenant.world.operator().anew();
        let path = format!("/admin/tenants/{}", self.id);
        let patched = operator.patch(&path, &change).await;
        assert_eq!(patched.status, 200, "{}", patched.raw);
    }

    /// The same team, served by another process.
    pub fn at(&self, world: &World) -> Self {
        Self {
            tenant: self.tenant.at(world),
            sk: client(world, &self.secret),
            pk: client(world, &self.publishable),
            ..self.clone()
        }
    }
}

/// Somebody who holds `key`.
pub fn client(world: &World, key: &str) -> Client {
    Client::new(world.api.clone()).with("x-api-key", key)
}

/// Where a tenant's keys are kept.
fn keys_of(tenant: &Tenant) -> String {
    format!("/admin/tenants/{}/api-keys", tenant.id)
}

/// Makes the key that `body` describes, as the tenant's server does, and gives its text.
async fn key_of(tenant: &Tenant, body: Value) -> String {
    let made = tenant.server().post(&keys_of(tenant), &body).await;
    assert_eq!(made.status, 201, "{}", made.raw);
    made.text("api_key")
}

/// Fails unless this is what a request without a valid key is answered.
#[track_caller]
pub fn assert_unknown(answer: &Response) {
    answer.assert(401, json!({ "message": "Unauthorized: Invalid API key." }));
}

/// Fails unless this is what a publishable key is answered where a secret one is needed.
#[track_caller]
pub fn assert_needs_secret(answer: &Response) {
    answer.assert(
        403,
        json!({
            "error": "Forbidden",
            "message": "This endpoint requires a secret key",
            "allowedEndpoints": [
                "POST /chat",
                "GET /chat",
                "GET /chat/:chatId",
                "DELETE /chat/:chatId",
                "POST /chat/:chatId/message",
                "GET /chat/:chatId/message",
            ],
            "upgradeInstructions": "Send this request from your server with a secret key (sk_live_*). Never use a secret key in a browser",
        }),
    );
}

/// Fails unless this is an error with `status`, in the dialect's shape, about `field`.
#[track_caller]
pub fn assert_error(answer: &Response, status: u16, error: &str, field: Option<&str>) {
    assert_eq!(answer.status, status, "{}", answer.raw);
    assert_eq!(answer.body["error"], error, "{}", answer.raw);
    assert_eq!(answer.body["field"].as_str(), field, "{}", answer.raw);
    assert!(answer.body["message"].is_string(), "{}", answer.raw);
}

/// `world` with routes of the surface that only say who calls: what is tested here is who is let in.
pub fn door(world: &World) -> World {
    async fn who(State(_): State<App>, Caller(caller): Caller<TeamKey>) -> Reply<Value> {
        Ok(Show::ok(shown(&caller)))
    }
    async fn secret(State(_): State<App>, Caller(caller): Caller<SecretKey>) -> Reply<Value> {
        Ok(Show::ok(json!({ "tenant": caller.tenant().to_string() })))
    }
    let routes = Router::new()
        .route("/chat", get(who).post(who).put(who))
        .route("/chat/{chat_id}", get(who).delete(who).put(who))
        .route("/chat/{chat_id}/message", get(who).post(who).delete(who))
        .route("/agent", post(secret).get(secret))
        .route("/agent/{agent_id}/rollback", put(secret));
    let routes = edge::<Kodey>(routes, &world.app);
    world.behind(world.app.clone(), routes)
}

fn shown(caller: &KeyHolder) -> Value {
    let sees = match caller.sees() {
        Sees::Team => "team".to_owned(),
        Sees::Only(user) => format!("only {user}"),
        Sees::Named => "named".to_owned(),
    };
    json!({
        "tenant": caller.tenant().to_string(),
        "sees": sees,
        "token_cap": caller.token_cap(),
    })
}
