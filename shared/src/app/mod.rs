//! Use cases: what an operation does, in domain words.

mod acks;
mod audience;
pub mod auth;
pub mod connections;
mod dead_letters;
mod deliveries;
mod heads;
mod health;
mod listeners;
pub mod live;
mod membership;
mod messages;
mod metrics;
mod notifications;
pub mod quota;
mod rooms;
mod settings;
mod subscriptions;
mod tenants;
mod webhooks;

use std::{sync::Arc, time::Instant};

use aws_sdk_dynamodb::Client;

pub use self::audience::Told;
use self::{
    auth::Sessions, deliveries::Schedules, health::Probe, listeners::Marks, live::Turns,
    metrics::Tally, quota::Quotas, webhooks::Known,
};
pub use self::{
    deliveries::{Filter, Requeued, Selected, Swept, Verdict},
    health::Health,
    metrics::{Keep, Metrics},
    settings::{BadSettings, SealingSource, Settings, WebhookSettings},
    tenants::{IssuedKey, NewTenant, ROTATION_OVERLAP_SECONDS},
    webhooks::{IssuedSecret, NewEndpoint, Trial, Webhooks},
};
use crate::{
    providers::{operator_key::OperatorKey, sockets::Sockets},
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
    sessions: Sessions,
    quotas: Quotas,
    endpoints: Known,
    schedules: Schedules,
    probe: Probe,
    connections_per_user: usize,
    turns: Turns,
    marks: Marks,
    tally: Tally,
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
            quotas: Quotas::default(),
            endpoints: Known::default(),
            schedules: Schedules::default(),
            probe: Probe::default(),
            connections_per_user: settings.connections_per_user,
            turns: Turns::default(),
            marks: Marks::default(),
            tally: Tally::default(),
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
