//! Where the operator's key is kept: given at the start on one machine, in Secrets Manager on AWS.
//!
//! **Invariant:** a key that cannot be read opens nothing and refuses nothing: the answer is that the service
//! is unavailable, never that the key is wrong.

use std::{
    fmt,
    pin::Pin,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use tokio::{sync::Mutex, time::Instant};

use super::secret::{Secret, Stage, Version};
use crate::domain::{Error, Timestamp, secret::SecretHash};

/// For how long what was read is taken as it is.
const TRUSTED: Duration = Duration::from_mins(5);
/// For how long it holds if it cannot be read anew.
const HELD: Duration = Duration::from_hours(1);
/// The least time between two readings, whoever asks with whatever key.
const PAUSE: Duration = Duration::from_secs(5);
/// For how long the key before the current one holds, counted from when the current one was made. As for
/// tenants' keys.
pub const OVERLAP_SECONDS: i64 = 24 * 3600;

/// The answer to whether a key is the operator's.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<bool, Error>> + Send + 'a>>;

/// Knows the operator's key.
pub trait OperatorKey: fmt::Debug + Send + Sync {
    /// Whether `key` is it at `now`.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if that cannot be known.
    fn opens<'a>(&'a self, key: &'a [u8], now: Timestamp) -> Answer<'a>;
}

/// A key that was given at the start.
impl OperatorKey for SecretHash {
    fn opens<'a>(&'a self, key: &'a [u8], _: Timestamp) -> Answer<'a> {
        let matches = self.matches(key);
        Box::pin(async move { Ok(matches) })
    }
}

/// A key that Secrets Manager keeps, and may rotate.
///
/// A key that does not match may be new, so it makes us look, at most once in five seconds: a rotated key
/// works at once, and nobody makes us ask for each of his guesses.
#[derive(Debug)]
pub struct RotatingKey {
    secret: Secret,
    /// One reads, the others wait for what it finds.
    known: Mutex<Known>,
    /// The same keys, for who need not wait.
    latest: RwLock<Option<Keys>>,
}

/// What was read, and when.
#[derive(Debug, Default)]
struct Known {
    keys: Option<Keys>,
    tried_at: Option<Instant>,
    /// Why the last reading failed, if it did.
    failure: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Keys {
    current: Version,
    previous: Option<Version>,
    read_at: Instant,
}

impl Keys {
    fn are_old(&self) -> bool {
        self.read_at.elapsed() >= TRUSTED
    }

    fn open(&self, key: &[u8], now: Timestamp) -> bool {
        let overlap = now < self.current.made_at.plus_seconds(OVERLAP_SECONDS);
        let previous = self.previous.filter(|_| overlap);
        // Both are compared, so that the time tells nothing of which one it was.
        let is_previous = previous.is_some_and(|version| version.hash.matches(key));
        self.current.hash.matches(key) | is_previous
    }
}

impl Known {
    /// The keys, unless they are too old to hold.
    fn holding(&self) -> Option<&Keys> {
        let keys = self.keys.as_ref();
        keys.filter(|keys| keys.read_at.elapsed() < HELD)
    }

    fn is_old(&self) -> bool {
        self.keys.as_ref().is_none_or(Keys::are_old)
    }

    fn may_try(&self) -> bool {
        self.tried_at.is_none_or(|at| at.elapsed() >= PAUSE)
    }

    fn unavailable(&self) -> Error {
        let failure = self.failure.clone();
        Error::Unavailable(failure.unwrap_or_default().into())
    }
}

impl RotatingKey {
    pub(super) fn new(secret: Secret) -> Self {
        Self {
            secret,
            known: Mutex::default(),
            latest: RwLock::default(),
        }
    }

    async fn opens(&self, key: &[u8], now: Timestamp) -> Result<bool, Error> {
        // Whoever has the right key does not wait while somebody else's guess makes us look.
        let latest = *self.latest.read().unwrap_or_else(PoisonError::into_inner);
        if latest.is_some_and(|keys| !keys.are_old() && keys.open(key, now)) {
            return Ok(true);
        }
        let mut known = self.known.lock().await;
        if known.is_old() && known.may_try() {
            self.read(&mut known, now).await;
        }
        if known.holding().is_some_and(|keys| keys.open(key, now)) {
            return Ok(true);
        }
        if known.may_try() {
            self.read(&mut known, now).await;
        }
        match known.holding() {
            Some(keys) if keys.open(key, now) => Ok(true),
            // It may be the new key, which we could not read.
            Some(_) if known.failure.is_none() => Ok(false),
            Some(_) | None => Err(known.unavailable()),
        }
    }

    /// Reads the secret. What was known stays if that fails.
    async fn read(&self, known: &mut Known, now: Timestamp) {
        known.tried_at = Some(Instant::now());
        match self.keys(now).await {
            Ok(keys) => {
                known.keys = Some(keys);
                *self.latest.write().unwrap_or_else(PoisonError::into_inner) = Some(keys);
                known.failure = None;
            }
            Err(error) => {
                let cause = error.why().unwrap_or_default();
                if known.holding().is_some() {
                    tracing::warn!(cause, "the master key could not be read anew");
                }
                known.failure = Some(cause);
            }
        }
    }

    async fn keys(&self, now: Timestamp) -> Result<Keys, Error> {
        let current = self.secret.version(Stage::Current).await?;
        let current = current.ok_or_else(|| Error::internal("a secret without a version"))?;
        let overlap = now < current.made_at.plus_seconds(OVERLAP_SECONDS);
        let previous = if overlap {
            self.secret.version(Stage::Previous).await?
        } else {
            None
        };
        Ok(Keys {
            current,
            previous,
            read_at: Instant::now(),
        })
    }
}

impl OperatorKey for RotatingKey {
    fn opens<'a>(&'a self, key: &'a [u8], now: Timestamp) -> Answer<'a> {
        Box::pin(self.opens(key, now))
    }
}
