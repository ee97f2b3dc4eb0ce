//! Who calls. What a key opens is remembered for at most a minute; the key itself never is.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use tokio::time::Instant;

use super::App;
use crate::domain::{
    Actor, Error, Moment, Operator, TenantId, TenantKey, UserId, secret::SecretHash,
    tenant::RateLimit,
};

/// How long a warm function trusts what it has read of a key. With [`GRACE`] a minute: a revoked key holds
/// no longer.
const REMEMBERED: Duration = Duration::from_secs(58);
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
    /// Whether somebody was sent to read it anew.
    refreshing: bool,
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
        let session = sessions.get_mut(hash)?;
        let age = session.read_at.elapsed();
        // Whatever comes of that one reading, nobody goes on with the old for longer than this.
        let may_wait = age < REMEMBERED || (session.refreshing && age < REMEMBERED + GRACE);
        session.refreshing = true;
        may_wait.then_some(*session)
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

    /// What the key that hashes to `hash` opens at `moment`, as far as this function remembers, or read anew.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] if there is no such key, or no longer.
    pub async fn session_of(&self, hash: SecretHash, moment: &Moment) -> Result<Session, Error> {
        let session = if let Some(session) = self.0.sessions.get(&hash) {
            session
        } else {
            let session = self.read_session(hash).await?;
            self.0.sessions.put(hash, session);
            session
        };
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
            refreshing: false,
        })
    }

    /// `user` of the tenant whose key opened `session`: a tenant's server may act for any of its users.
    pub const fn actor(&self, session: &Session, user: UserId) -> Actor {
        Actor::authenticated(session.tenant, user)
    }

    /// The tenant whose key opened `session`.
    pub const fn tenant_key(&self, session: &Session) -> TenantKey {
        TenantKey::authenticated(session.tenant)
    }

    /// The holder of the master key.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] without it, or if this deployment has none; [`Error::Unavailable`] if where
    /// it is kept does not answer.
    pub async fn operator(&self, key: Option<&[u8]>, moment: &Moment) -> Result<Operator, Error> {
        let key = key.ok_or(Error::Unauthenticated(
            "Missing master key. Send it as X-Master-Key",
        ))?;
        match &self.0.means.master {
            Some(master) if master.opens(key, moment.now).await? => Ok(Operator::authenticated()),
            Some(_) | None => Err(Error::Unauthenticated("Invalid master key")),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::domain::{Moment, Timestamp};

    fn remembered() -> (Sessions, SecretHash) {
        let moment = Moment {
            now: Timestamp::from_micros(0),
            deadline: Instant::now(),
            seed: 1,
        };
        let session = Session {
            tenant: TenantId::at(&moment),
            rate_limit: RateLimit::DEFAULT,
            expires: None,
            read_at: Instant::now(),
            refreshing: false,
        };
        let (sessions, hash) = (Sessions::default(), SecretHash::of(b"key"));
        sessions.put(hash, session);
        (sessions, hash)
    }

    #[tokio::test(start_paused = true)]
    async fn one_caller_reads_an_old_session_anew_while_the_others_go_on() {
        let (sessions, hash) = remembered();
        assert!(sessions.get(&hash).is_some());
        advance(REMEMBERED).await;
        assert!(sessions.get(&hash).is_none());
        assert!(sessions.get(&hash).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_is_not_read_anew_ends_within_a_minute() {
        let (sessions, hash) = remembered();
        for _ in 0..120 {
            advance(Duration::from_millis(500)).await;
            sessions.get(&hash);
        }
        assert!(sessions.get(&hash).is_none());
        assert!(sessions.get(&hash).is_none());
    }
}
