//! A tenant's webhook endpoints: their making, changing and trying out. What delivery needs of them is in
//! [`delivery`].

mod delivery;
mod known;
mod sample;

use std::time::Duration;

use tokio::time::Instant;

pub(super) use self::known::Known;
use super::{App, listeners::Mark};
use crate::{
    domain::{
        EndpointId, Error, EventId, Moment, Once, Page, TenantKey, Timestamp,
        page::Slice,
        webhook::{
            Description, Endpoint, EndpointPatch, EndpointUrl, EventType, EventTypes, Outgoing,
            Secret, Status, Targets,
        },
    },
    providers::{
        sealing::{Sealing, is_unopened},
        webhook::Sender,
    },
    store::{Backoff, webhooks::SecretRotation},
};

const TRIED: Error = Error::Conflict(
    "A test of a webhook endpoint of this tenant is under way. Send this again when it has ended",
);
const UNOPENED: Error = Error::Conflict(
    "The endpoint's secret cannot be opened with the sealing key, so nothing can be signed. Give it a new one with \
     POST /webhooks/{endpoint_id}/secret/rotate, or have the operator restore the sealing key",
);
const NO_ENDPOINT: Error = Error::NotFound("Webhook endpoint");

/// What webhooks are sent with. Only the functions that send have it.
#[derive(Debug)]
pub struct Webhooks {
    sealing: Sealing,
    sender: Sender,
}

impl Webhooks {
    /// Secrets are sealed with `sealing`, webhooks sent by `sender`.
    pub const fn new(sealing: Sealing, sender: Sender) -> Self {
        Self { sealing, sender }
    }
}

/// An endpoint that does not exist yet.
#[derive(Debug)]
pub struct NewEndpoint {
    /// Where it is.
    pub url: EndpointUrl,
    /// What people call it.
    pub description: Description,
    /// What it wants to be told of.
    pub events: EventTypes,
    /// What its webhooks are signed with.
    pub secret: Secret,
}

/// The one sight of an endpoint's next secret.
#[derive(Debug)]
pub struct IssuedSecret {
    /// Whose it is.
    pub endpoint: EndpointId,
    /// The secret.
    pub secret: Secret,
    /// Until when the one before it holds too.
    pub previous_expires_at: Timestamp,
}

/// What came of trying an endpoint out.
#[derive(Debug)]
pub struct Trial {
    /// The status of its answer, if there was one.
    pub status: Option<u16>,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// How long it took.
    pub took: Duration,
}

impl App {
    /// What webhooks are sent with.
    pub(super) fn webhooks(&self) -> Result<&Webhooks, Error> {
        let webhooks = self.0.means.webhooks.as_ref();
        webhooks.ok_or_else(|| Error::internal("this function sends no webhooks"))
    }

    /// Where this deployment's webhooks may go.
    pub fn webhook_targets(&self) -> Result<Targets, Error> {
        Ok(self.webhooks()?.sender.targets())
    }

    /// Makes an endpoint. It is told what happens from now on; warm functions follow within ten seconds.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the tenant has as many as it may have, or for a repeated request.
    pub async fn create_endpoint(
        &self,
        key: &TenantKey,
        new: NewEndpoint,
        once: Option<&Once>,
        moment: &Moment,
    ) -> Result<(Endpoint, Secret), Error> {
        let tenant = key.tenant();
        self.listen(tenant, Mark::ForEver, moment).await?;
        let (id, secret) = (EndpointId::at(moment), new.secret);
        let sealing = &self.webhooks()?.sealing;
        let endpoint = Endpoint {
            id,
            tenant,
            url: new.url,
            description: new.description,
            events: new.events,
            status: Status::Active,
            failing_since: None,
            created_at: moment.now,
            secret: sealing
                .seal(&secret, &delivery::owner(tenant, id), moment)
                .await?,
            previous: None,
        };
        let stores = self.stores();
        let claim = once.map(|once| {
            let guards = &stores.guards;
            guards.tenant_claim(tenant, "create_webhook", once, moment.now)
        });
        let mut race = Backoff::until(moment.deadline, moment.seed);
        stores
            .webhooks
            .create(&endpoint, claim.as_ref(), &mut race)
            .await?;
        self.0.endpoints.forget(tenant);
        Ok((endpoint, secret))
    }

    /// The tenant's endpoints, oldest first.
    pub async fn endpoints(&self, key: &TenantKey, slice: &Slice) -> Result<Page<Endpoint>, Error> {
        self.stores().webhooks.list(key.tenant(), slice).await
    }

    /// One of the tenant's endpoints.
    pub async fn endpoint(&self, key: &TenantKey, id: EndpointId) -> Result<Endpoint, Error> {
        let endpoint = self.stores().webhooks.get(key.tenant(), id).await?;
        endpoint.ok_or(NO_ENDPOINT)
    }

    /// Changes an endpoint. Warm functions follow within ten seconds, this process at once. What is held for one that
    /// was paused goes on within a minute or two if it is active now, or wants other events.
    pub async fn patch_endpoint(
        &self,
        key: &TenantKey,
        id: EndpointId,
        patch: &EndpointPatch,
        moment: &Moment,
    ) -> Result<Endpoint, Error> {
        let tenant = key.tenant();
        if patch.active == Some(true) || patch.events.is_some() {
            self.resume_paused(key, id, moment).await?;
        }
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let webhooks = &self.stores().webhooks;
        let endpoint = webhooks
            .patch(tenant, id, patch, moment.now, &mut race)
            .await?;
        self.0.endpoints.forget(tenant);
        endpoint.ok_or(NO_ENDPOINT)
    }

    /// Gives an endpoint the new secret `secret`. For `overlap` seconds more its webhooks are signed with the one before
    /// it too: none, if that one leaked.
    pub async fn rotate_secret(
        &self,
        key: &TenantKey,
        id: EndpointId,
        secret: Secret,
        overlap: u32,
        once: Option<&Once>,
        moment: &Moment,
    ) -> Result<IssuedSecret, Error> {
        let tenant = key.tenant();
        let endpoint = self.endpoint(key, id).await?;
        let previous_expires_at = moment.now.plus_seconds(overlap.into());
        let sealing = &self.webhooks()?.sealing;
        let owner = delivery::owner(tenant, id);
        let rotation = SecretRotation {
            secret: sealing.seal(&secret, &owner, moment).await?,
            overlap_ends: (overlap > 0).then_some(previous_expires_at),
        };
        let stores = self.stores();
        let claim = once.map(|once| {
            let guards = &stores.guards;
            guards.tenant_claim(tenant, "rotate_webhook_secret", once, moment.now)
        });
        let mut race = Backoff::until(moment.deadline, moment.seed);
        stores
            .webhooks
            .rotate(&endpoint, &rotation, claim.as_ref(), &mut race)
            .await?;
        self.0.endpoints.forget(tenant);
        Ok(IssuedSecret {
            endpoint: id,
            secret,
            previous_expires_at,
        })
    }

    /// Removes an endpoint. What is held for it goes to those that are left.
    pub async fn delete_endpoint(
        &self,
        key: &TenantKey,
        id: EndpointId,
        moment: &Moment,
    ) -> Result<(), Error> {
        let tenant = key.tenant();
        self.resume_paused(key, id, moment).await?;
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let removed = self.stores().webhooks.delete(tenant, id, &mut race).await?;
        self.0.endpoints.forget(tenant);
        if removed { Ok(()) } else { Err(NO_ENDPOINT) }
    }

    /// Notes that an endpoint is about to go on, or to be gone, if it is paused: nothing is held for any other.
    async fn resume_paused(
        &self,
        key: &TenantKey,
        id: EndpointId,
        moment: &Moment,
    ) -> Result<(), Error> {
        if self.endpoint(key, id).await?.is_active() {
            return Ok(());
        }
        self.resume(key.tenant(), id, moment).await
    }

    /// Sends an endpoint a sample of `event` now, whatever it wants to be told of and even while it is paused. Its
    /// health stays as it is. A tenant has one trial at a time: each holds a process for as long as a stranger likes.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if another one is under way, or if no sealing key opens the endpoint's secret.
    pub async fn try_endpoint(
        &self,
        key: &TenantKey,
        id: EndpointId,
        event: EventType,
        moment: &Moment,
    ) -> Result<Trial, Error> {
        let endpoint = self.endpoint(key, id).await?;
        let (tenant, holder) = (key.tenant(), moment.seed);
        let guards = &self.stores().guards;
        if !guards.begin_trial(tenant, holder, moment.now).await? {
            return Err(TRIED);
        }
        let trial = self.send_sample(key, &endpoint, event, moment).await;
        if let Err(error) = guards.end_trial(tenant, holder).await {
            tracing::warn!(cause = error.why(), %error, "a trial ends when its time is over");
        }
        trial
    }

    async fn send_sample(
        &self,
        key: &TenantKey,
        endpoint: &Endpoint,
        event: EventType,
        moment: &Moment,
    ) -> Result<Trial, Error> {
        let body = sample::body(event, key.tenant(), moment);
        let (name, begun) = (EventId::at(moment).to_string(), Instant::now());
        let what = Outgoing {
            id: &name,
            at: moment.now,
            event,
            body: &body,
        };
        let (status, error) = match self.send(endpoint, &what, moment.deadline, moment).await {
            Ok(Ok(status)) => (Some(status), None),
            Ok(Err(refused)) => (refused.status, Some(refused.reason)),
            Err(error) if is_unopened(&error) => {
                let (endpoint, cause) = (endpoint.id, error.why());
                tracing::warn!(%endpoint, cause, "a test was not sent");
                return Err(UNOPENED);
            }
            Err(error) => return Err(error),
        };
        Ok(Trial {
            status,
            error,
            took: begun.elapsed(),
        })
    }
}
