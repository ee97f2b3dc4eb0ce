//! What goes over the wire.

use parlance::{
    app::{IssuedSecret, NewEndpoint, Trial},
    domain::{
        Error, Timestamp,
        webhook::{
            Description, Endpoint, EndpointPatch, EndpointUrl, EventType, EventTypes,
            MAX_OVERLAP_SECONDS, OVERLAP_SECONDS, Secret, Status, Targets,
        },
    },
    http::{OverlapIn, OverlapQuery, not_null},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An endpoint to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointIn {
    /// Begins with `https://`; at most 2,048 bytes. Not an address of a private network.
    #[schema(example = "https://example.com/hooks", max_length = 2048)]
    url: String,
    /// What it wants to be told of: `message.created`, `message.edited`, `message.deleted`, `room.created`, `member.joined`,
    /// `member.left`, `notification`, `webhook.paused`. None, or left out: all there is and will be.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = json!(["message.created", "notification"]))]
    events: Option<Vec<String>>,
    /// At most 256 bytes.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "Push service", max_length = 256)]
    description: Option<String>,
    /// `whsec_` and 24 to 64 bytes in base64. Left out: one is made.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    secret: Option<String>,
}

impl EndpointIn {
    /// The same in domain words, with the secret `made` unless it brings one.
    pub(crate) fn parse(self, targets: Targets, made: Secret) -> Result<NewEndpoint, Error> {
        Ok(NewEndpoint {
            url: EndpointUrl::parse(self.url, targets)?,
            events: EventTypes::parse(&self.events.unwrap_or_default())?,
            description: Description::parse(self.description.unwrap_or_default())?,
            secret: self.secret.map_or(Ok(made), Secret::parse)?,
        })
    }
}

/// What to change of an endpoint.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointPatchIn {
    /// As for a new one.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "https://example.com/hooks", max_length = 2048)]
    url: Option<String>,
    /// As for a new one; `[]` for all.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = json!(["message.created"]))]
    events: Option<Vec<String>>,
    /// At most 256 bytes.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "Push service", max_length = 256)]
    description: Option<String>,
    /// `active` or `paused`.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "paused")]
    status: Option<String>,
}

impl EndpointPatchIn {
    /// The same in domain words.
    pub(crate) fn parse(self, targets: Targets) -> Result<EndpointPatch, Error> {
        let url = self.url.map(|url| EndpointUrl::parse(url, targets));
        let events = self.events.map(|events| EventTypes::parse(&events));
        Ok(EndpointPatch {
            url: url.transpose()?,
            events: events.transpose()?,
            description: self.description.map(Description::parse).transpose()?,
            active: self.status.map(|status| is_active(&status)).transpose()?,
        })
    }
}

fn is_active(status: &str) -> Result<bool, Error> {
    match status {
        "active" => Ok(true),
        "paused" => Ok(false),
        _ => Err(Error::invalid(
            "status",
            "Invalid status. Must be one of: active, paused",
        )),
    }
}

/// An endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndpointOut {
    #[schema(example = "ep_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    endpoint_id: String,
    #[schema(example = "https://example.com/hooks")]
    url: String,
    /// What it wants to be told of; empty for all.
    #[schema(example = json!(["message.created", "notification"]))]
    events: Vec<&'static str>,
    #[schema(example = "Push service")]
    description: String,
    /// `active` or `paused`.
    #[schema(example = "active")]
    status: &'static str,
    /// `by request`, or `failing for 5 days`.
    #[schema(example = json!(null))]
    paused_reason: Option<String>,
    #[schema(example = json!(null), format = "date-time")]
    paused_at: Option<String>,
    /// The time of its first failure since it last took a webhook.
    #[schema(example = json!(null), format = "date-time")]
    failing_since: Option<String>,
    #[schema(example = "2025-12-13T12:00:00.000000Z", format = "date-time")]
    created_at: String,
    /// Until when webhooks are signed with the secret before the newest too, if they are.
    #[schema(example = json!(null), format = "date-time")]
    previous_secret_expires_at: Option<String>,
}

impl EndpointOut {
    /// `endpoint` as it is `now`.
    pub(crate) fn new(endpoint: &Endpoint, now: Timestamp) -> Self {
        let (status, reason, at) = match &endpoint.status {
            Status::Active => ("active", None, None),
            Status::Paused { reason, at } => ("paused", Some(reason), Some(at)),
        };
        Self {
            endpoint_id: endpoint.id.to_string(),
            url: endpoint.url.as_str().to_owned(),
            events: endpoint.events.named().map(EventType::name).collect(),
            description: endpoint.description.as_str().to_owned(),
            status,
            paused_reason: reason.cloned(),
            paused_at: at.map(ToString::to_string),
            failing_since: endpoint.failing_since.map(|at| at.to_string()),
            created_at: endpoint.created_at.to_string(),
            previous_secret_expires_at: endpoint.previous_expires_at(now).map(|at| at.to_string()),
        }
    }
}

/// An endpoint, and the one sight of its secret.
#[derive(Serialize, ToSchema)]
pub(crate) struct EndpointCreated {
    #[serde(flatten)]
    endpoint: EndpointOut,
    /// Shown once.
    #[schema(example = "whsec_…")]
    secret: String,
}

impl EndpointCreated {
    pub(crate) fn new(endpoint: &Endpoint, secret: &Secret, now: Timestamp) -> Self {
        Self {
            endpoint: EndpointOut::new(endpoint, now),
            secret: secret.expose().to_owned(),
        }
    }
}

/// How to rotate a secret.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotationIn {
    /// `whsec_` and 24 to 64 bytes in base64. Left out: one is made.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    secret: Option<String>,
    /// For how long the secret before it holds too: 0 to 604,800, default 86,400.
    #[serde(default)]
    #[schema(value_type = Option<i64>, nullable = false, example = 86400, minimum = 0, maximum = 604_800)]
    overlap_seconds: OverlapIn,
}

impl RotationIn {
    /// The new secret, which is `made` unless one is brought, and the overlap in seconds, which `query` may say too.
    pub(crate) fn parse(self, made: Secret, query: &OverlapQuery) -> Result<(Secret, u32), Error> {
        let secret = self.secret.map_or(Ok(made), Secret::parse)?;
        let overlap = self.overlap_seconds;
        let overlap = overlap.parse(query, MAX_OVERLAP_SECONDS, OVERLAP_SECONDS)?;
        Ok((secret, overlap))
    }
}

/// The one sight of an endpoint's next secret.
#[derive(Serialize, ToSchema)]
pub(crate) struct SecretIssued {
    #[schema(example = "ep_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    endpoint_id: String,
    /// Shown once.
    #[schema(example = "whsec_…")]
    secret: String,
    /// Until when webhooks are signed with the secret before it too.
    #[schema(example = "2025-12-14T12:00:00.000000Z", format = "date-time")]
    previous_secret_expires_at: String,
}

impl From<&IssuedSecret> for SecretIssued {
    fn from(issued: &IssuedSecret) -> Self {
        Self {
            endpoint_id: issued.endpoint.to_string(),
            secret: issued.secret.expose().to_owned(),
            previous_secret_expires_at: issued.previous_expires_at.to_string(),
        }
    }
}

/// What to try an endpoint out with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrialIn {
    /// A type of event; default `message.created`.
    #[serde(rename = "type", default, deserialize_with = "not_null")]
    #[schema(example = "message.created")]
    event: Option<String>,
}

impl TrialIn {
    /// The same in domain words.
    pub(crate) fn parse(self) -> Result<EventType, Error> {
        let event = self.event.map(|event| EventType::parse("type", &event));
        Ok(event.transpose()?.unwrap_or(EventType::MessageCreated))
    }
}

/// What came of trying an endpoint out.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TrialOut {
    /// Whether it answered with a 2xx.
    delivered: bool,
    /// The status of its answer, if there was one.
    #[schema(example = 200)]
    status: Option<u16>,
    /// Why it failed, if it did.
    #[schema(example = json!(null))]
    error: Option<String>,
    #[schema(example = 42)]
    duration_ms: u64,
}

impl From<Trial> for TrialOut {
    fn from(trial: Trial) -> Self {
        Self {
            delivered: trial.error.is_none(),
            status: trial.status,
            error: trial.error,
            duration_ms: u64::try_from(trial.took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}
