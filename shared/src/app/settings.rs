//! What a function is told by its environment.

use std::fmt;

use crate::{domain::secret::SecretHash, store::Tables};

/// A function's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The tables.
    pub tables: Tables,
    /// The hash of the master key; without it nobody is the operator.
    pub master: Option<SecretHash>,
    /// Whether this is the only process that writes the tables, as the one-machine runner is.
    pub single_writer: bool,
}

/// A setting without which the function cannot start.
#[derive(Debug)]
pub struct MissingSetting(&'static str);

impl fmt::Display for MissingSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "environment variable {} is not set", self.0)
    }
}

impl std::error::Error for MissingSetting {}

impl Settings {
    /// Reads the settings through `get`: `TENANTS_TABLE`, `KEYS_TABLE`, `ROOMS_TABLE`,
    /// `MESSAGES_TABLE`, `EVENTS_TABLE`, `DELIVERIES_TABLE`, `GUARDS_TABLE`, and optionally
    /// `MASTER_API_KEY` and `SINGLE_WRITER=1`.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, MissingSetting> {
        let need = |name| {
            get(name)
                .filter(|value| !value.is_empty())
                .ok_or(MissingSetting(name))
        };
        Ok(Self {
            tables: Tables {
                tenants: need("TENANTS_TABLE")?,
                keys: need("KEYS_TABLE")?,
                rooms: need("ROOMS_TABLE")?,
                messages: need("MESSAGES_TABLE")?,
                events: need("EVENTS_TABLE")?,
                deliveries: need("DELIVERIES_TABLE")?,
                guards: need("GUARDS_TABLE")?,
            },
            master: get("MASTER_API_KEY")
                .filter(|key| !key.is_empty())
                .map(|key| SecretHash::of(key.as_bytes())),
            single_writer: get("SINGLE_WRITER").as_deref() == Some("1"),
        })
    }
}
