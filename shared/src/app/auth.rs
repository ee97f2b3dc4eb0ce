//! Who calls. What a key opens is remembered for at most a minute; the key itself never is.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use tokio::time::Instant;

use super::App;
use crate::domain::{
    Actor, Error, Moment, Operator, TenantId, UserId, secret::SecretHash, tenant::RateLimit,
};

/// How long a warm function trusts what it has read of a key: a revoked key holds at most so long.
const REMEMBERED: Duration = Duration::from_mins(1);
/// For how long others go on with an old session while one reads it anew.
const GRACE: Duration = Duration::from_secs(2);
/// How many keys a function remembers. One is about 100 bytes.
const CAPACITY: usize = 10_000;

const BAD_KEY: Error = Error::Unauthenticated("Invalid API key");

/// What a key opens, as it was read at some time.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    /// Whose key it is.
    pub tenant: TenantId,
    /// What that tenant may use.
    pub rate_limit: RateLimit,
    expires: Option<i64>,
    read_at: Instant,
}

impl Session {
    /// This session, if its key holds at `moment`. TTL deletes days late, so expiry is read.
    fn at(self, moment: &Moment) -> Result<Self, Error> {
        match self.expires {
            Some(end) if end <= moment.now.seconds() => Err(BAD_KEY),
            Some(_) | None => Ok(self),
        }
    }
}

/// The sessions a function remembers.
#[derive(Debug, Default)]
pub(super) struct Sessions(RwLock<HashMap<SecretHash, Session>>);

impl Sessions {
    /// What is remembered of a key. Once it is old, one caller is told nothing and reads it anew, while the
    /// others go on with the old for a moment: a busy tenant must not read at once with all it has.
    fn get(&self, hash: &SecretHash) -> Option<Session> {
        let sessions = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let session = *sessions.get(hash)?;
        drop(sessions);
        if session.read_at.elapsed() < REMEMBERED {
            return Some(session);
        }
        let mut sessions = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let remembered = sessions.get_mut(hash)?;
        if remembered.read_at.elapsed() < REMEMBERED {
            return Some(*remembered);
        }
        remembered.read_at += GRACE;
        if remembered.read_at.elapsed() >= REMEMBERED {
            // Too old for any moment more.
            sessions.remove(hash);
        }
        None
    }

    fn put(&self, hash: SecretHash, session: Session) {
        let mut sessions = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= CAPACITY {
            sessions.retain(|_, session| session.read_at.elapsed() < REMEMBERED);
        }
        if sessions.len() >= CAPACITY {
            sessions.clear();
        }
        sessions.insert(hash, session);
    }

    /// What was read of a tenant is no longer true.
    pub(super) fn forget(&self, tenant: TenantId) {
        let mut sessions = self.0.write().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.tenant != tenant);
    }
}

impl App {
    /// What `key` opens at `moment`, if this function remembers it.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] if it was replaced, and its overlap is over.
    pub fn remembered(&self, key: &[u8], moment: &Moment) -> Result<Option<Session>, Error> {
        let session = self.0.sessions.get(&SecretHash::of(key));
        session.map(|session| session.at(moment)).transpose()
    }

    /// What `key` opens at `moment`, read anew.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] if there is no such key, or no longer.
    pub async fn session(&self, key: &[u8], moment: &Moment) -> Result<Session, Error> {
        let hash = SecretHash::of(key);
        let session = self.read_session(hash).await?;
        self.0.sessions.put(hash, session);
        session.at(moment)
    }

    async fn read_session(&self, hash: SecretHash) -> Result<Session, Error> {
        let record = self.stores().keys.get(hash).await?.ok_or(BAD_KEY)?;
        let tenant = self
            .stores()
            .tenants
            .get(record.tenant)
            .await?
            .ok_or(BAD_KEY)?;
        Ok(Session {
            tenant: tenant.id,
            rate_limit: tenant.rate_limit,
            expires: record.expires,
            read_at: Instant::now(),
        })
    }

    /// `user` of the tenant whose key opened `session`: a tenant's server may act for any of its users.
    pub const fn actor(&self, session: &Session, user: UserId) -> Actor {
        Actor::authenticated(session.tenant, user)
    }

    /// The holder of the master key.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] without it, or if this deployment has none.
    pub fn operator(&self, key: Option<&[u8]>) -> Result<Operator, Error> {
        let key = key.ok_or(Error::Unauthenticated(
            "Missing master key. Send it as X-Master-Key",
        ))?;
        match self.0.master {
            Some(master) if master.matches(key) => Ok(Operator::authenticated()),
            Some(_) | None => Err(Error::Unauthenticated("Invalid master key")),
        }
    }
}
