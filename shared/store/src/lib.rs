//! DynamoDB: one module per table. Item shapes and conditions live here and nowhere else.
//!
//! Every key of a tenant's thing begins with the tenant, so another tenant's is not found (API keys lie
//! under their hashes, profiles under `profile`); words that users choose enter a key only through
//! [`crate::domain::text::escape`]. Every item carries `v`, the version of its
//! shape.

use parlance_domain as domain;

mod aws;
mod backoff;
mod batch;
mod item;
mod paging;
mod removal;
mod transaction;
mod turns;

pub mod agents;
pub mod api_keys;
pub mod chats;
pub mod connections;
pub mod counts;
pub mod cursors;
pub mod deliveries;
pub mod events;
pub mod guards;
pub mod keys;
pub mod listeners;
pub mod messages;
pub mod model_usage;
pub mod provider_keys;
pub mod rooms;
pub mod subscriptions;
pub mod tenants;
pub mod usage;
pub mod webhooks;

pub use backoff::Backoff;
pub use transaction::Check;

use aws_sdk_dynamodb::Client;

use self::{
    agents::AgentStore, api_keys::ApiKeyStore, chats::ChatStore, connections::ConnectionStore,
    counts::CountStore, cursors::CursorStore, deliveries::DeliveryStore, events::EventStore,
    guards::GuardStore, keys::KeyStore, listeners::ListenerStore, messages::MessageStore,
    model_usage::ModelUsageStore, provider_keys::ProviderKeyStore, rooms::RoomStore,
    subscriptions::SubscriptionStore, tenants::TenantStore, webhooks::WebhookStore,
};

/// The tables' names.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is the table of its name")]
pub struct Tables {
    pub tenants: String,
    pub keys: String,
    pub rooms: String,
    pub messages: String,
    pub events: String,
    pub deliveries: String,
    pub guards: String,
}

/// All tables.
#[derive(Debug)]
#[expect(missing_docs, reason = "each field is the store of its name")]
pub struct Stores {
    pub tenants: TenantStore,
    pub counts: CountStore,
    pub subscriptions: SubscriptionStore,
    pub webhooks: WebhookStore,
    pub agents: AgentStore,
    pub model_usage: ModelUsageStore,
    pub keys: KeyStore,
    pub api_keys: ApiKeyStore,
    pub rooms: RoomStore,
    pub chats: ChatStore,
    pub messages: MessageStore,
    pub provider_keys: ProviderKeyStore,
    pub events: EventStore,
    pub deliveries: DeliveryStore,
    pub listeners: ListenerStore,
    pub connections: ConnectionStore,
    pub cursors: CursorStore,
    pub guards: GuardStore,
}

impl Stores {
    /// The tables named `tables`, reached by `client`. `single_writer` says that no other process writes
    /// them, so that what this one has seen of a log is all there is.
    pub fn new(client: &Client, tables: &Tables, single_writer: bool) -> Self {
        let guards = GuardStore::new(client.clone(), tables.guards.clone());
        let events = EventStore::new(client.clone(), tables.events.clone());
        Self {
            tenants: TenantStore::new(client.clone(), tables.tenants.clone()),
            counts: CountStore::new(client.clone(), tables.tenants.clone()),
            subscriptions: SubscriptionStore::new(client.clone(), tables.tenants.clone()),
            webhooks: WebhookStore::new(client.clone(), tables.tenants.clone(), events.clone()),
            agents: AgentStore::new(client.clone(), tables.tenants.clone(), events.clone()),
            model_usage: ModelUsageStore::new(client.clone(), tables.tenants.clone()),
            keys: KeyStore::new(client.clone(), tables.keys.clone()),
            api_keys: ApiKeyStore::new(client.clone(), tables.tenants.clone()),
            rooms: RoomStore::new(client.clone(), tables.rooms.clone(), events.clone()),
            chats: ChatStore::new(client.clone(), tables.rooms.clone(), events.clone()),
            messages: MessageStore::new(client.clone(), tables.messages.clone(), single_writer),
            provider_keys: ProviderKeyStore::new(client.clone(), tables.tenants.clone()),
            deliveries: DeliveryStore::new(client.clone(), tables.deliveries.clone()),
            listeners: ListenerStore::new(client.clone(), tables.deliveries.clone()),
            connections: ConnectionStore::new(client.clone(), tables.deliveries.clone()),
            cursors: CursorStore::new(client.clone(), tables.deliveries.clone()),
            events,
            guards,
        }
    }
}
