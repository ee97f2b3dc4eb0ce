//! What goes over the wire.

use parlance::{
    app::{IssuedKey, NewTenant},
    domain::{
        Error,
        delivery::{DeadLetter, Letter},
        tenant::{RateLimit, Tenant, TenantPatch},
        text::Name,
    },
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A tenant to create.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct TenantIn {
    /// 1 to 256 bytes.
    #[schema(example = "Acme", max_length = 256)]
    name: String,
}

impl TenantIn {
    /// The same in domain words.
    pub(crate) fn parse(self) -> Result<Name, Error> {
        Name::parse(self.name)
    }
}

/// A tenant, and the one sight of its key.
#[derive(Serialize, ToSchema)]
pub(crate) struct TenantCreated {
    #[schema(example = "tenant_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    tenant_id: String,
    /// Shown once.
    #[schema(example = "sk_…")]
    api_key: String,
    #[schema(example = "Acme")]
    name: String,
    /// Requests per second.
    #[schema(example = 100)]
    rate_limit: u32,
    #[schema(example = "2025-12-13T12:00:00.000000Z", format = "date-time")]
    created_at: String,
}

impl From<&NewTenant> for TenantCreated {
    fn from(new: &NewTenant) -> Self {
        Self {
            tenant_id: new.tenant.id.to_string(),
            api_key: new.key.expose().to_owned(),
            name: new.tenant.name.as_str().to_owned(),
            rate_limit: new.tenant.rate_limit.per_second(),
            created_at: new.tenant.created_at.to_string(),
        }
    }
}

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantOut {
    #[schema(example = "tenant_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    tenant_id: String,
    #[schema(example = "Acme")]
    name: String,
    /// Requests per second.
    #[schema(example = 100)]
    rate_limit: u32,
    #[schema(example = "2025-12-13T12:00:00.000000Z", format = "date-time")]
    created_at: String,
}

impl From<&Tenant> for TenantOut {
    fn from(tenant: &Tenant) -> Self {
        Self {
            tenant_id: tenant.id.to_string(),
            name: tenant.name.as_str().to_owned(),
            rate_limit: tenant.rate_limit.per_second(),
            created_at: tenant.created_at.to_string(),
        }
    }
}

/// What to change of a tenant.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct TenantPatchIn {
    /// 1 to 256 bytes.
    #[schema(example = "Acme", max_length = 256)]
    name: Option<String>,
    /// Requests per second, 1 to 1,000,000.
    #[schema(example = 100, minimum = 1, maximum = 1_000_000)]
    rate_limit: Option<i64>,
}

impl TenantPatchIn {
    /// The same in domain words.
    pub(crate) fn parse(self) -> Result<TenantPatch, Error> {
        Ok(TenantPatch {
            name: self.name.map(Name::parse).transpose()?,
            rate_limit: self.rate_limit.map(RateLimit::parse).transpose()?,
        })
    }
}

/// The one sight of a tenant's next key.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeyIssued {
    #[schema(example = "tenant_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    tenant_id: String,
    /// Shown once.
    #[schema(example = "sk_…")]
    api_key: String,
    #[schema(example = "2025-12-13T12:00:00.000000Z", format = "date-time")]
    created_at: String,
    /// Until when the key before it holds.
    #[schema(example = "2025-12-14T12:00:00.000000Z", format = "date-time")]
    previous_key_expires_at: String,
}

impl From<&IssuedKey> for KeyIssued {
    fn from(issued: &IssuedKey) -> Self {
        Self {
            tenant_id: issued.tenant.to_string(),
            api_key: issued.key.expose().to_owned(),
            created_at: issued.created_at.to_string(),
            previous_key_expires_at: issued.previous_expires_at.to_string(),
        }
    }
}

/// What could not be delivered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetters {
    failed_messages: Vec<FailedMessage>,
    failed_notifications: Vec<FailedNotification>,
}

/// A message that did not reach a member.
#[derive(Debug, Serialize, ToSchema)]
struct FailedMessage {
    #[schema(example = "msg_00000000002b8d1f9c3e5a7b9d1f3c5e")]
    message_id: String,
    #[schema(example = "user1")]
    user_id: String,
    #[schema(example = "room_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    room_id: String,
    #[schema(example = 5)]
    attempts: u32,
    #[schema(example = "2025-12-13T12:20:00.000000Z", format = "date-time")]
    last_attempt_at: String,
    #[schema(example = "connection timeout")]
    error: String,
}

/// A notification that did not reach someone.
#[derive(Debug, Serialize, ToSchema)]
struct FailedNotification {
    #[schema(example = "notif_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    notification_id: String,
    #[schema(example = "order.shipped")]
    topic: String,
    #[schema(example = 3)]
    attempts: u32,
    #[schema(example = "2025-12-13T12:25:00.000000Z", format = "date-time")]
    last_attempt_at: String,
    #[schema(example = "user offline")]
    error: String,
}

impl From<&[DeadLetter]> for DeadLetters {
    fn from(letters: &[DeadLetter]) -> Self {
        let mut shown = Self {
            failed_messages: Vec::new(),
            failed_notifications: Vec::new(),
        };
        for letter in letters {
            let (attempts, error) = (letter.attempts, letter.error.clone());
            let last_attempt_at = letter.last_attempt_at.to_string();
            match &letter.subject {
                Letter::Message { id, user, room } => shown.failed_messages.push(FailedMessage {
                    message_id: id.to_string(),
                    user_id: user.to_string(),
                    room_id: room.to_string(),
                    attempts,
                    last_attempt_at,
                    error,
                }),
                Letter::Notification { id, topic } => {
                    shown.failed_notifications.push(FailedNotification {
                        notification_id: id.to_string(),
                        topic: topic.as_str().to_owned(),
                        attempts,
                        last_attempt_at,
                        error,
                    });
                }
            }
        }
        shown
    }
}
