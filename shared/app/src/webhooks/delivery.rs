//! What delivery needs of endpoints: who wants to be told, telling them, and their health.
//!
//! **Invariant:** `failing_since` is the time of the first failure after a success. It is written when that changes
//! and not for each attempt, so an endpoint that works costs no write, and neither does one that keeps failing.
//! (What another process has noted is seen ten seconds later.) Only one that has failed for five days costs a write for
//! each attempt, until it is paused an hour later.

use tokio::time::{Instant, timeout_at};

use super::App;
use crate::{
    domain::{
        EndpointId, Error, EventId, Moment, TenantId, Timestamp,
        event::{Event, EventKind},
        webhook::{
            CERTAIN_SECONDS, Endpoint, EventType, FAILED_TOO_LONG, GONE, Outgoing,
            PATIENCE_SECONDS, Refused, Secret,
        },
    },
    store::{Backoff, webhooks::PauseIf},
};

/// Whose a sealed secret is.
pub(super) fn owner(tenant: TenantId, id: EndpointId) -> String {
    format!("{tenant}#{id}")
}

impl App {
    /// The endpoints of `tenant` that want to be told of `event`, those that are paused among them
    /// ([`Endpoint::is_active`]). What another process changes is seen within ten seconds, what this one changes at once.
    pub async fn endpoints_for(
        &self,
        tenant: TenantId,
        event: EventType,
    ) -> Result<Vec<Endpoint>, Error> {
        let known = &self.0.endpoints;
        let mut endpoints = match known.get(tenant) {
            Ok(endpoints) => endpoints,
            Err(began) => {
                let read = self.stores().webhooks.all(tenant).await?;
                known.put(tenant, began, read.clone());
                read
            }
        };
        endpoints.retain(|endpoint| endpoint.events.contain(event));
        Ok(endpoints)
    }

    /// The same as they are now, whatever this process remembers.
    pub(crate) async fn endpoints_now(
        &self,
        tenant: TenantId,
        event: EventType,
    ) -> Result<Vec<Endpoint>, Error> {
        self.0.endpoints.forget(tenant);
        self.endpoints_for(tenant, event).await
    }

    /// Makes one attempt to send `what` to `endpoint`, and keeps the endpoint's health: one that has failed for five days,
    /// or answers 410, is paused, of which the tenant's other endpoints are told by an event.
    ///
    /// What the receiver does is in the inner result. One that has not answered by `until` has failed; its health is
    /// noted after that, so whoever calls this must wait for longer.
    ///
    /// # Errors
    ///
    /// A fault of ours, before anything was sent: the endpoint's secret cannot be opened by `until`. Health that cannot be written
    /// fails nothing; it is logged, and the next attempt writes it.
    pub async fn post_to(
        &self,
        endpoint: &Endpoint,
        what: &Outgoing<'_>,
        until: Instant,
        moment: &Moment,
    ) -> Result<Result<(), Refused>, Error> {
        let outcome = self.send(endpoint, what, until, moment).await?.map(drop);
        let noted = match &outcome {
            Ok(()) => self.works(endpoint, moment).await,
            Err(refused) if refused.gone => self.is_gone(endpoint, moment).await,
            Err(_) => self.fails(endpoint, moment).await,
        };
        if let Err(error) = noted {
            let (endpoint, cause) = (endpoint.id, error.why());
            tracing::warn!(%endpoint, cause, "the health of an endpoint was not noted");
        }
        Ok(outcome)
    }

    /// Sends `what` to `endpoint`, signed with its live secrets. The status of a success.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        what: &Outgoing<'_>,
        until: Instant,
        moment: &Moment,
    ) -> Result<Result<u16, Refused>, Error> {
        let secrets = timeout_at(until, self.live_secrets(endpoint, what.at, moment)).await;
        let secrets = secrets.map_err(|late| Error::Unavailable(Box::new(late)))??;
        if Instant::now() >= until {
            // The receiver would be to blame for what we have used up.
            return Err(Error::Unavailable("no time is left to send it".into()));
        }
        let sender = &self.webhooks()?.sender;
        Ok(sender.post(&endpoint.url, &secrets, what, until).await)
    }

    /// The secrets of `endpoint` that are live at `at`, the newest first.
    async fn live_secrets(
        &self,
        endpoint: &Endpoint,
        at: Timestamp,
        moment: &Moment,
    ) -> Result<Vec<Secret>, Error> {
        let sealing = &self.webhooks()?.sealing;
        let owner = owner(endpoint.tenant, endpoint.id);
        let mut opened = Vec::new();
        for sealed in endpoint.live(at) {
            match sealing.open(sealed, &owner).await {
                Ok(secret) => opened.push(secret),
                // The newest must sign. The one before it is soon over, and an endpoint that knows both takes either.
                Err(error) if opened.is_empty() => return Err(error),
                Err(error) => {
                    let (endpoint, cause) = (endpoint.id, error.why());
                    tracing::warn!(%endpoint, cause, "a previous secret does not sign any more");
                }
            }
        }
        if let Some(newest) = opened.first().filter(|newest| newest.is_stale)
            && let Err(error) = self.seal_anew(endpoint, &newest.secret, moment).await
        {
            let (endpoint, cause) = (endpoint.id, error.why());
            tracing::warn!(%endpoint, cause, "a secret was not sealed anew");
        }
        Ok(opened.into_iter().map(|opened| opened.secret).collect())
    }

    /// Seals the newest secret of `endpoint` with the current key, before the one that it was sealed with is gone. The
    /// one before it is soon over.
    async fn seal_anew(
        &self,
        endpoint: &Endpoint,
        secret: &Secret,
        moment: &Moment,
    ) -> Result<(), Error> {
        let owner = owner(endpoint.tenant, endpoint.id);
        let sealing = &self.webhooks()?.sealing;
        let sealed = sealing.seal(secret, &owner, moment).await?;
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let webhooks = &self.stores().webhooks;
        webhooks.reseal(endpoint, &sealed, &mut race).await?;
        self.0.endpoints.forget(endpoint.tenant);
        Ok(())
    }

    async fn works(&self, endpoint: &Endpoint, moment: &Moment) -> Result<(), Error> {
        if self.0.endpoints.failing_since(endpoint).is_none() {
            return Ok(());
        }
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let webhooks = &self.stores().webhooks;
        webhooks.end_failing(endpoint, &mut race).await?;
        self.0.endpoints.note(endpoint.tenant, endpoint.id, None);
        Ok(())
    }

    async fn fails(&self, endpoint: &Endpoint, moment: &Moment) -> Result<(), Error> {
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let (tenant, webhooks) = (endpoint.tenant, &self.stores().webhooks);
        let since = if let Some(since) = self.0.endpoints.failing_since(endpoint) {
            since
        } else {
            let noted = webhooks
                .begin_failing(endpoint, moment.now, &mut race)
                .await?;
            // Removed meanwhile.
            let Some(since) = noted else {
                self.0.endpoints.forget(tenant);
                return Ok(());
            };
            self.0.endpoints.note(tenant, endpoint.id, Some(since));
            since
        };
        if since > moment.now.farthest_end(0) {
            // The clock was set back. From a time to come the five days would be as much longer.
            webhooks
                .begin_failing_anew(endpoint, since, moment.now, &mut race)
                .await?;
            self.0.endpoints.forget(tenant);
            return Ok(());
        }
        if !endpoint.is_active() || moment.now < since.plus_seconds(PATIENCE_SECONDS) {
            return Ok(());
        }
        // The clock may have been set forward: then five days passed at once, and the endpoint has not failed for long.
        let overdue = webhooks
            .begin_overdue(endpoint, since, moment.now, &mut race)
            .await?;
        let is_sure = |overdue: Timestamp| moment.now >= overdue.plus_seconds(CERTAIN_SECONDS);
        if !overdue.is_some_and(is_sure) {
            return Ok(());
        }
        let failing = PauseIf::FailingSince(since);
        self.pause(endpoint, failing, FAILED_TOO_LONG, moment).await
    }

    /// It answered that there is nobody any more.
    async fn is_gone(&self, endpoint: &Endpoint, moment: &Moment) -> Result<(), Error> {
        self.pause(endpoint, PauseIf::Unmoved, GONE, moment).await
    }

    async fn pause(
        &self,
        endpoint: &Endpoint,
        condition: PauseIf,
        reason: &'static str,
        moment: &Moment,
    ) -> Result<(), Error> {
        if !endpoint.is_active() {
            return Ok(());
        }
        let tenant = endpoint.tenant;
        let event = Event {
            id: EventId::at(moment),
            at: moment.now,
            actor: None,
            room: None,
            kind: EventKind::WebhookPaused {
                endpoint: endpoint.id,
                reason,
            },
        };
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let webhooks = &self.stores().webhooks;
        let paused = webhooks
            .pause(endpoint, condition, reason, &event, &mut race)
            .await?;
        self.0.endpoints.forget(tenant);
        if paused {
            let endpoint = endpoint.id;
            tracing::info!(%tenant, %endpoint, "an endpoint was paused: {reason}");
        }
        Ok(())
    }
}
