//! What goes over the wire about keys of model providers.

use parlance::domain::{
    Error, Timestamp,
    address::Targets,
    api_key::NewKey,
    provider_key::{
        KeyType, ModelKey, NewProviderKey, Owner, ProviderKey, ProviderKeyPatch, Scope,
    },
    webhook::{Description, EndpointUrl},
};
use parlance::http::not_null;
use serde::{Deserialize, Deserializer, Serialize, de::IgnoredAny};
use utoipa::ToSchema;

/// A key to keep.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderKeyIn {
    /// `openai`, `anthropic` or `google`.
    #[schema(example = "openai")]
    provider: String,
    /// The key as the provider gave it: 1 to 512 visible ASCII characters.
    #[schema(example = "sk-…", max_length = 512)]
    api_key: String,
    /// Where the provider is, if not where it usually is: what its paths are put after.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "https://models.example/v1/", max_length = 2048)]
    base_url: Option<String>,
    /// `tenant` (as without it), `bot_group` or `bot`; for a key for all tenants `global`.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "tenant")]
    scope_type: Option<String>,
    /// Which bot, or which group of them.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = json!(null), max_length = 128)]
    scope_id: Option<String>,
    /// `byok` (as without it) or `global`, which only the operator writes; for a key for all tenants it is `global`.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "byok")]
    key_type: Option<String>,
    /// At most 256 bytes.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "Production", max_length = 256)]
    name: Option<String>,
    /// When it stops to be used. Left out: never.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = json!(null), format = "date-time")]
    expires_at: Option<String>,
}

impl ProviderKeyIn {
    /// The same in domain words, for `owner` and providers at `targets`, as it is `now`.
    pub(crate) fn parse(
        self,
        owner: Owner,
        targets: Targets,
        now: Timestamp,
    ) -> Result<NewProviderKey, Error> {
        let usual = match owner {
            Owner::Operator => KeyType::Global,
            Owner::Tenant(_) => KeyType::Byok,
        };
        let key_type = match self.key_type {
            Some(name) => KeyType::parse(&name)?,
            None => usual,
        };
        if owner == Owner::Operator && key_type != KeyType::Global {
            let reason = "Invalid key_type. A key for all tenants is global";
            return Err(Error::invalid("key_type", reason));
        }
        Ok(NewProviderKey {
            provider: NewProviderKey::provider(&self.provider)?,
            key: ModelKey::parse(self.api_key)?,
            base_url: base_url(self.base_url, targets)?,
            scope: Scope::parse(owner, self.scope_type.as_deref(), self.scope_id)?,
            key_type,
            name: name(self.name.unwrap_or_default())?,
            expires_at: NewKey::expiry(self.expires_at.as_deref(), now)?,
        })
    }
}

fn base_url(text: Option<String>, targets: Targets) -> Result<Option<EndpointUrl>, Error> {
    text.map(|text| NewProviderKey::base_url(text, targets))
        .transpose()
}

fn name(text: String) -> Result<Description, Error> {
    Description::parse_as("name", text)
}

/// What to change of a key. What is left out stays; `provider`, `scope_type`, `scope_id` and `key_type` cannot be changed, and
/// are refused.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::option_option,
    reason = "absent, null and given are three things"
)]
pub(crate) struct ProviderKeyPatchIn {
    /// Another key.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "sk-…", max_length = 512)]
    api_key: Option<String>,
    /// Where the provider of that key is, `null` for where it usually is. Only together with `api_key`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, example = json!(null), max_length = 2048)]
    base_url: Option<Option<String>>,
    /// At most 256 bytes.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "Production", max_length = 256)]
    name: Option<String>,
    /// When it stops to be used, `null` for never.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, example = json!(null), format = "date-time")]
    expires_at: Option<Option<String>>,
    /// `active` to use it again, `invalid` not to.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(example = "active")]
    status: Option<String>,
    #[serde(default, deserialize_with = "named")]
    #[schema(ignore)]
    provider: Option<Named>,
    #[serde(default, deserialize_with = "named")]
    #[schema(ignore)]
    scope_type: Option<Named>,
    #[serde(default, deserialize_with = "named")]
    #[schema(ignore)]
    scope_id: Option<Named>,
    #[serde(default, deserialize_with = "named")]
    #[schema(ignore)]
    key_type: Option<Named>,
}

/// Something that is there, whatever it is.
struct Named;

fn named<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Named>, D::Error> {
    IgnoredAny::deserialize(value).map(|_| Some(Named))
}

/// Tells `null` from absent.
#[expect(
    clippy::option_option,
    reason = "absent, null and given are three things"
)]
fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(value).map(Some)
}

impl ProviderKeyPatchIn {
    /// The same in domain words, for providers at `targets`, as it is `now`.
    pub(crate) fn parse(self, targets: Targets, now: Timestamp) -> Result<ProviderKeyPatch, Error> {
        let fixed = [
            ("provider", self.provider),
            ("scope_type", self.scope_type),
            ("scope_id", self.scope_id),
            ("key_type", self.key_type),
        ];
        if let Some((field, _)) = fixed.into_iter().find(|(_, named)| named.is_some()) {
            let reason = format!("Invalid {field}. It cannot be changed: create another key");
            return Err(Error::invalid(field, reason));
        }
        let is_valid = match self.status.as_deref() {
            None => None,
            Some("active") => Some(true),
            Some("invalid") => Some(false),
            Some(_) => {
                let reason = "Invalid status. Must be one of: active, invalid";
                return Err(Error::invalid("status", reason));
            }
        };
        let base = |text| base_url(text, targets);
        let expiry = |text: Option<String>| NewKey::expiry(text.as_deref(), now);
        Ok(ProviderKeyPatch {
            key: self.api_key.map(ModelKey::parse).transpose()?,
            base_url: self.base_url.map(base).transpose()?,
            name: self.name.map(name).transpose()?,
            expires_at: self.expires_at.map(expiry).transpose()?,
            is_valid,
        })
    }
}

/// A key of a provider, masked.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProviderKeyOut {
    #[schema(example = "pkey_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    key_id: String,
    #[schema(example = "openai")]
    provider: &'static str,
    /// How the key begins and ends, if it is long enough not to be known by that; else `(short key, hidden)`.
    #[schema(example = "sk-...abcd")]
    masked_key: String,
    /// `global`, `tenant`, `bot_group` or `bot`.
    #[schema(example = "tenant")]
    scope_type: &'static str,
    #[schema(example = json!(null))]
    scope_id: Option<String>,
    /// `byok` or `global`.
    #[schema(example = "byok")]
    key_type: &'static str,
    #[schema(example = json!(null))]
    base_url: Option<String>,
    #[schema(example = "Production")]
    name: String,
    /// `active`, `invalid` once the provider did not take it, or `expired`.
    #[schema(example = "active")]
    status: &'static str,
    #[schema(example = json!(null), format = "date-time")]
    expires_at: Option<String>,
    /// When the provider last took it, to about an hour.
    #[schema(example = json!(null), format = "date-time")]
    last_used_at: Option<String>,
    #[schema(example = "2025-12-13T12:00:00.000000Z", format = "date-time")]
    created_at: String,
    #[schema(example = "2025-12-13T12:00:00.000000Z", format = "date-time")]
    updated_at: String,
}

impl ProviderKeyOut {
    /// `key` as it is `now`.
    pub(crate) fn new(key: &ProviderKey, now: Timestamp) -> Self {
        let shown = |at: Option<Timestamp>| at.map(|at| at.to_string());
        Self {
            key_id: key.id.to_string(),
            provider: key.provider.name(),
            masked_key: key.masked.clone(),
            scope_type: key.scope.kind(),
            scope_id: key.scope.id().map(|id| id.as_str().to_owned()),
            key_type: key.key_type.name(),
            base_url: key.base_url.as_ref().map(|url| url.as_str().to_owned()),
            name: key.name.as_str().to_owned(),
            status: key.status(now).name(),
            expires_at: shown(key.expires_at),
            last_used_at: shown(key.last_used_at),
            created_at: key.created_at.to_string(),
            updated_at: key.updated_at.to_string(),
        }
    }
}
