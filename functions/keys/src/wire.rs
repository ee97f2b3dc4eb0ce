//! What goes over the wire.

use parlance::{
    domain::{
        Error, Timestamp, UserId,
        api_key::{Key, KeyText, Kind, NewKey, Opens},
        text::Name,
    },
    http::not_null,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A key to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiKeyIn {
    /// `publishable`, for browsers, or `secret`, for servers.
    #[schema(example = "publishable")]
    kind: String,
    /// 1 to 256 bytes.
    #[schema(example = "Web shop", max_length = 256)]
    name: String,
    /// When it stops to hold. Left out: never.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "2026-12-13T12:00:00Z", format = "date-time")]
    expires_at: Option<String>,
    /// The origins of the pages that may use a publishable key, at most 20, spelled as browsers do. Left out or empty: any.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = json!(["https://shop.example"]), max_items = 20)]
    allowed_origins: Option<Vec<String>>,
    /// The one user whose chats a publishable key shows and makes. Left out: it is for all.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "user1", max_length = 128)]
    user_id: Option<String>,
}

impl ApiKeyIn {
    /// The same in domain words, as it is `now`.
    pub(crate) fn parse(self, now: Timestamp) -> Result<NewKey, Error> {
        let kind = Kind::parse(&self.kind)?;
        Ok(NewKey {
            name: Name::parse(self.name)?,
            expires_at: NewKey::expiry(self.expires_at.as_deref(), now)?,
            opens: Opens::parse(
                kind,
                self.allowed_origins.unwrap_or_default(),
                self.user_id.as_deref(),
            )?,
        })
    }
}

/// A key.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApiKeyOut {
    #[schema(example = "key_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    key_id: String,
    /// `publishable` or `secret`.
    #[schema(example = "publishable")]
    kind: &'static str,
    #[schema(example = "Web shop")]
    name: String,
    /// What its text begins and ends with.
    #[schema(example = "pk_live_…4aZ9")]
    masked_key: String,
    /// `active` or `expired`.
    #[schema(example = "active")]
    status: &'static str,
    /// The origins of the pages that may use it; empty for any.
    #[schema(example = json!(["https://shop.example"]))]
    allowed_origins: Vec<String>,
    /// The one user whose chats it shows, if it was made for one.
    #[schema(example = json!(null))]
    user_id: Option<String>,
    #[schema(example = "2025-12-13T12:00:00.000000Z", format = "date-time")]
    created_at: String,
    #[schema(example = json!(null), format = "date-time")]
    expires_at: Option<String>,
    /// When it was last used, to about an hour.
    #[schema(example = json!(null), format = "date-time")]
    last_used_at: Option<String>,
    /// Until when the text before the last rotation holds too, if it does.
    #[schema(example = json!(null), format = "date-time")]
    previous_key_expires_at: Option<String>,
}

impl ApiKeyOut {
    /// `key` as it is `now`.
    pub(crate) fn new(key: &Key, now: Timestamp) -> Self {
        let shown = |at: Option<Timestamp>| at.map(|at| at.to_string());
        let (origins, user) = match &key.opens {
            Opens::Publishable { origins, user } => (
                origins.named().map(|it| it.as_str().to_owned()).collect(),
                user.as_ref().map(UserId::to_string),
            ),
            Opens::Secret => (Vec::new(), None),
        };
        Self {
            key_id: key.id.to_string(),
            kind: key.opens.kind().name(),
            name: key.name.as_str().to_owned(),
            masked_key: key.masked(),
            status: if key.is_expired(now) {
                "expired"
            } else {
                "active"
            },
            allowed_origins: origins,
            user_id: user,
            created_at: key.created_at.to_string(),
            expires_at: shown(key.expires_at),
            last_used_at: shown(key.last_used_at),
            previous_key_expires_at: shown(key.previous_expires_at(now)),
        }
    }
}

/// A key, and the one sight of its text.
#[derive(Serialize, ToSchema)]
pub(crate) struct ApiKeyIssued {
    #[serde(flatten)]
    key: ApiKeyOut,
    /// Shown once: `pk_live_` or `sk_live_` and 30 letters and digits.
    #[schema(example = "pk_live_…")]
    api_key: String,
}

impl ApiKeyIssued {
    pub(crate) fn new(key: &Key, text: &KeyText, now: Timestamp) -> Self {
        Self {
            key: ApiKeyOut::new(key, now),
            api_key: text.expose().to_owned(),
        }
    }
}
