//! Use cases: what an operation does, in domain words.

mod acks;
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
use crate::{providers::operator_key::OperatorKey, store::Stores};

/// The service: what every function's routes are given. Cheap to clone.
#[derive(Debug, Clone)]
pub struct App(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stores: Stores,
    master: Option<Arc<dyn OperatorKey>>,
    sessions: Sessions,
    quotas: Quotas,
    probe: Probe,
    started: Instant,
}

impl App {
    /// The service over the tables that `settings` names, reached by `dynamodb`, with the operator's key of
    /// `settings`.
    pub fn new(settings: &Settings, dynamodb: &Client) -> Self {
        let master = settings.master.map(|hash| Arc::new(hash) as _);
        Self::with_operator(settings, dynamodb, master)
    }

    /// The same, where `master` knows the operator's key.
    pub fn with_operator(
        settings: &Settings,
        dynamodb: &Client,
        master: Option<Arc<dyn OperatorKey>>,
    ) -> Self {
        Self(Arc::new(Inner {
            stores: Stores::new(dynamodb, &settings.tables, settings.single_writer),
            master,
            sessions: Sessions::default(),
            quotas: Quotas::default(),
            probe: Probe::default(),
            started: Instant::now(),
        }))
    }

    fn stores(&self) -> &Stores {
        &self.0.stores
    }
}
