//! Use cases: what an operation does, in domain words.

mod acks;
mod audience;
pub mod auth;
mod dead_letters;
mod heads;
mod health;
mod membership;
mod messages;
mod notifications;
pub mod quota;
mod rooms;
mod settings;
mod subscriptions;
mod tenants;

use std::{sync::Arc, time::Instant};

use aws_sdk_dynamodb::Client;

use self::{auth::Sessions, health::Probe, quota::Quotas};
pub use self::{
    health::Health,
    settings::{BadSettings, Settings},
    tenants::{IssuedKey, NewTenant, ROTATION_OVERLAP_SECONDS},
};
use crate::{providers::operator_key::OperatorKey, queue::Jobs, store::Stores};

/// The service: what every function's routes are given. Cheap to clone.
#[derive(Debug, Clone)]
pub struct App(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stores: Stores,
    means: Means,
    sessions: Sessions,
    quotas: Quotas,
    probe: Probe,
    started: Instant,
}

/// What the service reaches besides its tables: each function has what its work needs, and no more.
#[derive(Debug, Default)]
pub struct Means {
    /// Who knows the operator's key; without it, whoever knows the one of the settings.
    pub master: Option<Arc<dyn OperatorKey>>,
    /// The queues that jobs are sent to.
    pub jobs: Jobs,
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
            probe: Probe::default(),
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
