//! Use cases: what an operation does, in domain words.

use parlance_domain as domain;
use parlance_providers as providers;
use parlance_queue as queue;
use parlance_store as store;

mod acks;
mod agents;
pub mod answering;
mod api_keys;
mod audience;
pub mod auth;
pub mod chats;
pub mod connections;
pub mod crashes;
mod dead_letters;
mod deliveries;
mod heads;
mod health;
mod listeners;
pub mod live;
mod membership;
mod messages;
mod metrics;
mod model_usage;
mod notifications;
mod provider_keys;
pub mod quota;
mod rooms;
mod settings;
mod subscriptions;
mod sweeps;
mod tenants;
mod tools;
mod uses;
mod webhooks;

use std::{sync::Arc, time::Instant};

use aws_sdk_dynamodb::Client;

pub use self::audience::Told;
use self::{
    agents::KnownAgents,
    auth::{Session, Sessions, TeamSession},
    crashes::LastBatch,
    deliveries::Schedules,
    health::Probe,
    listeners::Marks,
    live::{FrameMemory, Turns},
    metrics::Tally,
    provider_keys::KnownKeys,
    quota::Quotas,
    uses::Uses,
    webhooks::Known,
};
pub use self::{
    deliveries::{Filter, Requeued, Selected, Swept, Verdict},
    health::{Health, StoreFault, StoreFaults},
    metrics::{Keep, Metrics},
    provider_keys::{ModelKeys, ProviderKeys},
    settings::{
        BadSettings, KeySettings, ModelSettings, SealingSource, Settings, VaultSource,
        WebhookSettings,
    },
    tenants::{IssuedKey, NewTenant, ROTATION_OVERLAP_SECONDS},
    webhooks::{IssuedSecret, NewEndpoint, Trial, Webhooks},
};
use crate::{
    domain::{ApiKeyId, TenantKeyId},
    providers::{models::Models, operator_key::OperatorKey, outbound::Fetcher, sockets::Sockets},
    queue::Jobs,
    store::Stores,
};

/// The service: what every function's routes are given. Cheap to clone.
#[derive(Debug, Clone)]
pub struct App(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stores: Stores,
    means: Means,
    sessions: Sessions<Session>,
    team_sessions: Sessions<Arc<TeamSession>>,
    uses: Uses<ApiKeyId>,
    tenant_key_uses: Uses<TenantKeyId>,
    quotas: Quotas,
    endpoints: Known,
    provider_keys: KnownKeys,
    agents: KnownAgents,
    schedules: Schedules,
    probe: Probe,
    connections_per_user: usize,
    turns: Turns,
    frame_memory: FrameMemory,
    marks: Marks,
    tally: Tally,
    last_batch: LastBatch,
    started: Instant,
}

/// What the service reaches besides its tables: each function has what its work needs, and no more.
#[derive(Debug, Default)]
pub struct Means {
    /// Who knows the operator's key; without it, whoever knows the one of the settings.
    pub master: Option<Arc<dyn OperatorKey>>,
    /// The queues that jobs are sent to.
    pub jobs: Jobs,
    /// Sends webhooks; without it none is sent.
    pub webhooks: Option<Webhooks>,
    /// Clients' connections.
    pub sockets: Option<Sockets>,
    /// Asks models; without it none is asked.
    pub models: Option<Models>,
    /// What provider keys are kept with; without it none is kept or opened.
    pub provider_keys: Option<ProviderKeys>,
    /// Reads pages for agents; without it none is read.
    pub fetcher: Option<Fetcher>,
    /// The known faults of the stores within this process.
    pub store_faults: Vec<StoreFaults>,
}

impl App {
    /// The service over the tables that `settings` names, reached by `dynamodb`, with the operator's key of
    /// `settings`.
    pub fn new(settings: &Settings, dynamodb: &Client) -> Self {
        Self::with(settings, dynamodb, Means::default())
    }

    /// The same with `means`.
    pub fn with(settings: &Settings, dynamodb: &Client, mut means: Means) -> Self {
        if means.master.is_none() {
            means.master = settings.master.map(|hash| Arc::new(hash) as _);
        }
        Self(Arc::new(Inner {
            stores: Stores::new(dynamodb, &settings.tables, settings.single_writer),
            means,
            sessions: Sessions::default(),
            team_sessions: Sessions::default(),
            uses: Uses::default(),
            tenant_key_uses: Uses::default(),
            quotas: Quotas::default(),
            endpoints: Known::default(),
            provider_keys: KnownKeys::default(),
            agents: KnownAgents::default(),
            schedules: Schedules::default(),
            probe: Probe::default(),
            connections_per_user: settings.connections_per_user,
            turns: Turns::default(),
            frame_memory: FrameMemory::default(),
            marks: Marks::default(),
            tally: Tally::default(),
            last_batch: LastBatch::default(),
            started: Instant::now(),
        }))
    }

    fn stores(&self) -> &Stores {
        &self.0.stores
    }

    /// The queues that jobs are sent to.
    pub fn jobs(&self) -> &Jobs {
        &self.0.means.jobs
    }
}
