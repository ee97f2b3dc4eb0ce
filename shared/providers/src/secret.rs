//! A secret in AWS Secrets Manager.

use std::{error::Error as StdError, fmt};

use aws_sdk_secretsmanager::{Client, operation::get_secret_value::GetSecretValueError};

use crate::domain::{Error, Timestamp, secret::SecretHash};

/// A shorter one could be guessed.
const SHORTEST: usize = 24;

/// One secret.
#[derive(Debug)]
pub(super) struct Secret {
    client: Client,
    id: String,
}

/// The version of a secret at some stage.
#[derive(Debug, Clone, Copy)]
pub(super) struct Version {
    pub(super) hash: SecretHash,
    pub(super) made_at: Timestamp,
}

/// Which version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Current,
    /// The one before it, once it was rotated.
    Previous,
}

/// A secret could not be read.
#[derive(Debug)]
struct Unread {
    id: String,
    cause: Box<dyn StdError + Send + Sync>,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "secret {}", self.id)
    }
}

impl StdError for Unread {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.cause)
    }
}

impl Secret {
    pub(super) const fn new(client: Client, id: String) -> Self {
        Self { client, id }
    }

    /// The version at `stage`; `None` if there is no previous one that was a key. Only its hash is kept.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if it is absent, denied, or not a string of at least 24 characters, or if
    /// Secrets Manager does not answer: all of it heals without a deploy.
    pub(super) async fn version(&self, stage: Stage) -> Result<Option<Version>, Error> {
        let asked = self.client.get_secret_value().secret_id(&self.id);
        let asked = match stage {
            Stage::Current => asked.version_stage("AWSCURRENT"),
            Stage::Previous => asked.version_stage("AWSPREVIOUS"),
        };
        let value = match asked.send().await {
            Ok(value) => value,
            Err(error) => {
                let is_absent = error
                    .as_service_error()
                    .is_some_and(GetSecretValueError::is_resource_not_found_exception);
                if is_absent && stage == Stage::Previous {
                    return Ok(None);
                }
                return Err(self.unread(error));
            }
        };
        // Whoever wrote it with an editor ended the line.
        let secret = value.secret_string().unwrap_or_default().trim();
        if secret.len() < SHORTEST {
            if stage == Stage::Previous {
                // It never opened anything, and must not keep the one after it from doing so.
                return Ok(None);
            }
            return Err(self.unread(format!("has fewer than {SHORTEST} characters")));
        }
        let made_at = value.created_date();
        let made_at = made_at.and_then(|at| i64::try_from(at.as_nanos() / 1_000).ok());
        Ok(Some(Version {
            hash: SecretHash::of(secret.as_bytes()),
            made_at: Timestamp::from_micros(made_at.unwrap_or_default()),
        }))
    }

    fn unread(&self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        Error::Unavailable(Box::new(Unread {
            id: self.id.clone(),
            cause: cause.into(),
        }))
    }
}
