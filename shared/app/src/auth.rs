//! Who calls. What a key opens is remembered for at most a minute; the key itself never is.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::time::Instant;

use super::{App, ROTATION_OVERLAP_SECONDS, quota::Refusal};
use crate::{
    domain::{
        Actor, ApiKeyId, Error, KeyHolder, Moment, Operator, SecretHolder, Sees, TenantId,
        TenantKey, Timestamp, UserId,
        api_key::{KeyText, Kind, Opens},
        rate::{Budget, Payer},
        secret::{ApiKey, SecretHash},
        tenant::{ListScope, RateLimit, TokenCap},
    },
    store::keys::Door,
};

/// How long a warm function trusts what it has read of a key. With [`GRACE`] a minute: a revoked key holds
/// no longer.
const REMEMBERED: Duration = Duration::from_secs(58);
/// For how long others go on with an old session while one reads it anew.
const GRACE: Duration = Duration::from_secs(2);
/// How many keys a function remembers. One is about 100 bytes.
const CAPACITY: usize = 10_000;

const BAD_KEY: Error = Error::Unauthenticated("Invalid API key");
/// What a key of the other door is told. Its shape says so: nothing is looked up, and nothing is said of whether it holds.
const CHATAPI_KEY: Error =
    Error::Unauthenticated("This is a ChatAPI key; chats take sk_live_… or pk_live_… keys");
const TEAM_KEY: Error = Error::Unauthenticated(
    "This is a key for chats; ChatAPI takes the tenant's key, which is sk_ and 64 hex digits",
);
const MISSPELT: Error = Error::Unauthenticated("This key is misspelt: its checksum does not match");

/// What a tenant's key opens, as it was read at some time.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    /// Whose key it is.
    pub tenant: TenantId,
    /// What that tenant may use.
    pub rate_limit: RateLimit,
    expires: Option<i64>,
}

impl Session {
    /// Who pays for its requests.
    pub fn budget(&self) -> Budget {
        Budget {
            payer: Payer::Tenant(self.tenant),
            rate: self.rate_limit.into(),
        }
    }

    /// This session, if its key holds at `moment`.
    fn at(self, moment: &Moment) -> Result<Self, Error> {
        // Only a key that was replaced has an end: one farther off than the longest overlap is from a clock that was ahead.
        let end = self
            .expires
            .map(|end| Timestamp::from_micros(0).plus_seconds(end));
        match end {
            Some(end) if !end.is_awaited(moment.now, ROTATION_OVERLAP_SECONDS.into()) => {
                Err(BAD_KEY)
            }
            Some(_) | None => Ok(self),
        }
    }
}

/// What a team's key opens, as it was read at some time.
#[derive(Debug)]
pub struct TeamSession {
    /// Whose key it is.
    pub tenant: TenantId,
    key: ApiKeyId,
    opens: Opens,
    list_scope: ListScope,
    token_cap: Option<TokenCap>,
    expires: Option<i64>,
}

impl TeamSession {
    /// What kind of key it is.
    pub const fn kind(&self) -> Kind {
        self.opens.kind()
    }

    /// Who pays for its requests.
    pub const fn budget(&self) -> Budget {
        Budget {
            payer: Payer::Key(self.tenant, self.key),
            rate: self.kind().rate(),
        }
    }

    /// Refuses a request from a page of `origin`, `None` if it does not say, where the key is not to be used from.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] with the sentence to show.
    pub fn admits(&self, origin: Option<&[u8]>) -> Result<(), Error> {
        match &self.opens {
            Opens::Publishable { origins, .. } if !origins.allow(origin) => Err(Error::Forbidden(
                "This key may not be used from this origin",
            )),
            Opens::Publishable { .. } | Opens::Secret => Ok(()),
        }
    }

    /// How much of the team's data it shows.
    fn sees(&self) -> Sees {
        match (&self.opens, self.list_scope) {
            (
                Opens::Publishable {
                    user: Some(user), ..
                },
                _,
            ) => Sees::Only(user.clone()),
            (Opens::Publishable { user: None, .. }, ListScope::User) => Sees::Named,
            (Opens::Publishable { user: None, .. }, ListScope::Team) | (Opens::Secret, _) => {
                Sees::Team
            }
        }
    }
}

/// TTL deletes days late, so expiry is read.
fn holds(expires: Option<i64>, moment: &Moment) -> Result<(), Error> {
    match expires {
        Some(end) if end <= moment.now.seconds() => Err(BAD_KEY),
        Some(_) | None => Ok(()),
    }
}

/// A session that a function remembers.
#[derive(Debug, Clone, Copy)]
struct Kept<T> {
    session: T,
    tenant: TenantId,
    read_at: Instant,
    /// Whether somebody was sent to read it anew.
    refreshing: bool,
}

/// The sessions a function remembers.
#[derive(Debug)]
pub(super) struct Sessions<T>(RwLock<Memory<T>>);

#[derive(Debug)]
struct Memory<T> {
    kept: HashMap<SecretHash, Kept<T>>,
    /// How many changes there were: what was read before one is not remembered after it.
    changes: u64,
}

/// The beginning of a reading.
#[derive(Debug, Clone, Copy)]
struct Reading(u64);

impl<T> Default for Sessions<T> {
    fn default() -> Self {
        Self(RwLock::new(Memory {
            kept: HashMap::new(),
            changes: 0,
        }))
    }
}

impl<T: Clone> Sessions<T> {
    /// What is remembered of a key. Once it is old, one caller is told nothing and reads it anew, while the
    /// others go on with the old for a moment: a busy tenant must not read at once with all it has.
    fn get(&self, hash: &SecretHash) -> Option<T> {
        let memory = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let kept = memory.kept.get(hash)?;
        if kept.read_at.elapsed() < REMEMBERED {
            return Some(kept.session.clone());
        }
        drop(memory);
        let mut memory = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let kept = memory.kept.get_mut(hash)?;
        let age = kept.read_at.elapsed();
        // Whatever comes of that one reading, nobody goes on with the old for longer than this.
        let may_wait = age < REMEMBERED || (kept.refreshing && age < REMEMBERED + GRACE);
        kept.refreshing = true;
        may_wait.then(|| kept.session.clone())
    }

    /// Whether a key held when it was last read, however long ago that is: whoever sends it does not guess.
    fn knows(&self, hash: &SecretHash) -> bool {
        let memory = self.0.read().unwrap_or_else(PoisonError::into_inner);
        memory.kept.contains_key(hash)
    }

    /// A key was read and opens nothing: whoever sends it may guess.
    fn drop(&self, hash: &SecretHash) {
        let mut memory = self.0.write().unwrap_or_else(PoisonError::into_inner);
        memory.kept.remove(hash);
    }

    /// A reading that begins now.
    fn read(&self) -> Reading {
        let memory = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Reading(memory.changes)
    }

    /// Remembers what `reading` has found, unless it may be no longer true.
    fn put(&self, reading: Reading, hash: SecretHash, tenant: TenantId, session: T) {
        let mut memory = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if memory.changes != reading.0 {
            return;
        }
        let sessions = &mut memory.kept;
        if sessions.len() >= CAPACITY {
            sessions.retain(|_, kept| kept.read_at.elapsed() < REMEMBERED);
        }
        if sessions.len() >= CAPACITY {
            sessions.clear();
        }
        let kept = Kept {
            session,
            tenant,
            read_at: Instant::now(),
            refreshing: false,
        };
        sessions.insert(hash, kept);
    }

    /// What was read of a tenant is no longer true.
    pub(super) fn forget(&self, tenant: TenantId) {
        let mut memory = self.0.write().unwrap_or_else(PoisonError::into_inner);
        memory.changes += 1;
        memory.kept.retain(|_, kept| kept.tenant != tenant);
    }
}

impl App {
    /// What `key`, sent from `address`, opens at `moment`: as far as this function remembers, or read anew.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] if there is no such key, or no longer; [`Error::RateLimited`] if this function knows
    /// nothing of it, and the address had too many such looked up that were wrong.
    pub async fn open_tenant(
        &self,
        key: &[u8],
        address: Option<IpAddr>,
        moment: &Moment,
    ) -> Result<Session, Refusal> {
        if let Some(session) = self.remembered(key, moment)? {
            return Ok(session);
        }
        let reading = self.session(key, moment);
        if self.0.sessions.knows(&SecretHash::of(key)) {
            return Ok(reading.await?);
        }
        self.look_up(address, moment, reading).await
    }

    /// The same for a team's key.
    ///
    /// # Errors
    ///
    /// As [`App::open_tenant`].
    pub async fn open_team(
        &self,
        key: &[u8],
        address: Option<IpAddr>,
        moment: &Moment,
    ) -> Result<Arc<TeamSession>, Refusal> {
        if let Some(session) = self.remembered_team(key, moment)? {
            return Ok(session);
        }
        let reading = self.team_session(key, moment);
        if self.0.team_sessions.knows(&SecretHash::of(key)) {
            return Ok(reading.await?);
        }
        self.look_up(address, moment, reading).await
    }

    /// What `key` opens at `moment`, if this function remembers it.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] if it was replaced, and its overlap is over, or if it is a key for chats by its shape.
    pub fn remembered(&self, key: &[u8], moment: &Moment) -> Result<Option<Session>, Error> {
        if KeyText::is_meant_by(key) {
            return Err(TEAM_KEY);
        }
        let session = self.0.sessions.get(&SecretHash::of(key));
        session.map(|session| session.at(moment)).transpose()
    }

    /// What `key` opens at `moment`, read anew. Notes that it is used.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] if there is no such key, or no longer.
    pub async fn session(&self, key: &[u8], moment: &Moment) -> Result<Session, Error> {
        self.read_session(SecretHash::of(key), moment).await
    }

    /// What the key that hashes to `hash` opens at `moment`, as far as this function remembers, or read anew: a connection
    /// that was opened with it uses it.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] if there is no such key, or no longer.
    pub async fn session_of(&self, hash: SecretHash, moment: &Moment) -> Result<Session, Error> {
        match self.0.sessions.get(&hash) {
            Some(session) => session.at(moment),
            None => self.read_session(hash, moment).await,
        }
    }

    async fn read_session(&self, hash: SecretHash, moment: &Moment) -> Result<Session, Error> {
        let found = self.find_session(hash).await;
        if let Err(Error::Unauthenticated(_)) = &found {
            self.0.sessions.drop(&hash);
        }
        let session = found?.at(moment)?;
        self.note_tenant_key(session.tenant, hash, moment).await;
        Ok(session)
    }

    async fn find_session(&self, hash: SecretHash) -> Result<Session, Error> {
        let reading = self.0.sessions.read();
        let record = self.stores().keys.get(hash).await?.ok_or(BAD_KEY)?;
        match record.door {
            Door::Tenant(_) => {}
            Door::Team(..) => return Err(BAD_KEY),
        }
        let tenant = self.stores().tenants.get(record.tenant).await?;
        let tenant = tenant.ok_or(BAD_KEY)?;
        if !tenant.keys.admit(hash, record.created_at) {
            return Err(BAD_KEY);
        }
        let session = Session {
            tenant: tenant.id,
            rate_limit: tenant.rate_limit,
            expires: record.expires,
        };
        self.0.sessions.put(reading, hash, session.tenant, session);
        Ok(session)
    }

    /// What the team's key `key` opens at `moment`, if this function remembers it.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] if it cannot be a key, or no longer holds.
    pub fn remembered_team(
        &self,
        key: &[u8],
        moment: &Moment,
    ) -> Result<Option<Arc<TeamSession>>, Error> {
        // Mistyped, made up or of the other door: known without a look.
        if KeyText::kind_of(key).is_none() {
            return Err(if KeyText::is_meant_by(key) {
                MISSPELT
            } else if ApiKey::is_shape_of(key) {
                CHATAPI_KEY
            } else {
                BAD_KEY
            });
        }
        let session = self.0.team_sessions.get(&SecretHash::of(key));
        if let Some(session) = &session {
            holds(session.expires, moment)?;
        }
        Ok(session)
    }

    /// What the team's key `key` opens at `moment`, read anew. Notes that it is used.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] if there is no such key, or no longer.
    pub async fn team_session(
        &self,
        key: &[u8],
        moment: &Moment,
    ) -> Result<Arc<TeamSession>, Error> {
        let hash = SecretHash::of(key);
        let found = self.find_team_session(hash).await;
        if let Err(Error::Unauthenticated(_)) = &found {
            self.0.team_sessions.drop(&hash);
        }
        let session = found?;
        holds(session.expires, moment)?;
        self.note_use(session.tenant, session.key, moment).await;
        Ok(session)
    }

    async fn find_team_session(&self, hash: SecretHash) -> Result<Arc<TeamSession>, Error> {
        let reading = self.0.team_sessions.read();
        let record = self.stores().keys.get(hash).await?.ok_or(BAD_KEY)?;
        let (key, opens) = match record.door {
            Door::Team(key, opens) => (key, opens),
            Door::Tenant(_) => return Err(BAD_KEY),
        };
        let tenant = self.stores().tenants.get(record.tenant).await?;
        let tenant = tenant.ok_or(BAD_KEY)?;
        let session = Arc::new(TeamSession {
            tenant: tenant.id,
            key,
            opens,
            list_scope: tenant.list_scope,
            token_cap: tenant.token_cap,
            expires: record.expires,
        });
        self.0
            .team_sessions
            .put(reading, hash, tenant.id, Arc::clone(&session));
        Ok(session)
    }

    /// Whoever holds the key that opened `session`.
    pub fn key_holder(&self, session: &TeamSession) -> KeyHolder {
        KeyHolder::authenticated(
            session.tenant,
            session.key,
            session.kind(),
            session.sees(),
            session.token_cap.map(TokenCap::tokens),
        )
    }

    /// Whoever holds the key that opened `session`, if it is a secret one.
    ///
    /// # Errors
    ///
    /// [`Error::SecretKeyOnly`] if it is not.
    pub fn secret_holder(&self, session: &TeamSession) -> Result<SecretHolder, Error> {
        match session.kind() {
            Kind::Secret => Ok(SecretHolder::authenticated(session.tenant, session.key)),
            Kind::Publishable => Err(Error::SecretKeyOnly),
        }
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
    use crate::domain::Moment;

    fn remembered() -> (Sessions<Session>, SecretHash) {
        let moment = Moment::new(Timestamp::from_micros(0), Instant::now(), Duration::ZERO, 1);
        let session = Session {
            tenant: TenantId::at(&moment),
            rate_limit: RateLimit::DEFAULT,
            expires: None,
        };
        let (sessions, hash) = (Sessions::default(), SecretHash::of(b"key"));
        sessions.put(sessions.read(), hash, session.tenant, session);
        (sessions, hash)
    }

    #[test]
    fn a_replaced_key_holds_for_the_longest_overlap_at_most_whatever_clock_set_its_end() {
        let moment = Moment::new(Timestamp::from_micros(0), Instant::now(), Duration::ZERO, 1);
        let ends = |seconds: i64| {
            let session = Session {
                tenant: TenantId::at(&moment),
                rate_limit: RateLimit::DEFAULT,
                expires: Some(seconds),
            };
            session.at(&moment).is_err()
        };
        let longest = i64::from(ROTATION_OVERLAP_SECONDS);
        assert!(ends(0) && ends(longest + 60));
        assert!(!ends(1) && !ends(longest));
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
    async fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let (sessions, hash) = remembered();
        let session = sessions.get(&hash).unwrap();
        let reading = sessions.read();
        sessions.forget(session.tenant);
        assert!(sessions.get(&hash).is_none());
        sessions.put(reading, hash, session.tenant, session);
        assert!(sessions.get(&hash).is_none());
        sessions.put(sessions.read(), hash, session.tenant, session);
        assert!(sessions.get(&hash).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_held_is_known_until_it_is_found_to_hold_no_longer() {
        let (sessions, hash) = remembered();
        assert!(sessions.knows(&hash));
        advance(REMEMBERED * 60).await;
        assert!(sessions.get(&hash).is_none());
        assert!(sessions.knows(&hash));
        sessions.drop(&hash);
        assert!(!sessions.knows(&hash));
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
