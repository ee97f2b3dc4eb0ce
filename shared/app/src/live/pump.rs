//! The pump: brings connections up to a place in a room's log, in order.
//!
//! It takes the lease of a cursor, reads the log after it, posts one message after the other, and lets go. Nothing is
//! posted before what precedes it was taken, so a message never overtakes another and none is left out, whoever else
//! pumps; the lease keeps two from posting the same. After a post of which nobody knows what became, its message is
//! posted again.
//!
//! A user is posted what was said since they last joined the room. A connection whose cursor is before that, since its user
//! was removed and added again, is posted `messages.skipped` in place of what was said meanwhile.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use tokio::time::Instant;

use super::{AT_ONCE, failed, log::FramedLog, turns::Turn};
use crate::{
    App,
    domain::{
        Connection, Error, LogId, Moment, Reach, Timestamp, UserId, message::Seq, room::Member,
    },
    providers::{
        frames,
        sockets::{Posted, Sockets},
    },
    store::{
        Backoff,
        cursors::{Asked, LEASE_SECONDS, Lease, LetGo},
        rooms::Freshness,
    },
};

/// So much of it must be left when something is posted: longer than a post lasts.
const MARGIN_SECONDS: i64 = 5;
/// How long others who are told by the same job wait for a connection that is slow, or that somebody else pumps to.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a lease is asked for that was neither held nor free.
const TRIES: usize = 5;

/// One call's pumping of one room.
#[derive(Debug)]
pub(super) struct Pump<'a> {
    pub(super) app: &'a App,
    pub(super) sockets: &'a Sockets,
    pub(super) log_id: LogId,
    /// For each user, the last seq that was said before they joined.
    pub(super) joined: BTreeMap<UserId, Seq>,
    /// How often that was tried before.
    pub(super) tries: u32,
    pub(super) moment: Moment,
}

/// How far a connection came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Come {
    pub(super) reach: Reach,
    /// Whether it took anything just now.
    pub(super) came_on: bool,
    /// It is not sent what is up to here: that was there before it.
    began: Seq,
}

impl Come {
    /// From a place nobody knows.
    pub(super) const fn unknown(reach: Reach) -> Self {
        Self::since(Seq::ZERO, reach)
    }

    /// It took nothing just now.
    const fn since(began: Seq, reach: Reach) -> Self {
        Self {
            reach,
            came_on: false,
            began,
        }
    }

    /// How far it came with regard to the message `seq`. Who has no other connection was offline when that was sent.
    pub(super) fn with(self, seq: Seq) -> Reach {
        if seq <= self.began {
            Reach::Offline
        } else {
            self.reach
        }
    }
}

/// The right to post to a connection.
#[derive(Debug)]
struct Right<'a> {
    connection: &'a Connection,
    lease: Lease,
    /// What the connection has.
    at: Seq,
    /// But for what is up to here.
    began: Seq,
    /// The last seq that was said before the connection's user joined.
    joined: Seq,
    _turn: Turn<'a>,
}

/// How large a future of [`at_once`] may be, in bytes.
const LARGEST_FUTURE: usize = 1_024;

/// Does all of `work`, `most` of it at the same time.
///
/// All of its futures are there from the beginning to the end, most of them waiting, and a call of the SDK alone takes
/// kilobytes: with 500 connections, and hundreds of calls for clients that do not read, that was ten times what waits for
/// these. So the build fails where they are not small; what is large is boxed when it begins.
pub(super) fn at_once<F: Future>(work: Vec<F>, most: usize) -> impl Stream<Item = F::Output> {
    const { assert!(size_of::<F>() <= LARGEST_FUTURE) };
    stream::iter(work).buffer_unordered(most)
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        app: &'a App,
        sockets: &'a Sockets,
        log_id: LogId,
        members: &[Member],
        tries: u32,
        moment: &Moment,
    ) -> Self {
        let joined = members
            .iter()
            .filter_map(|member| Some((member.user.clone(), member.joined_seq?)));
        Self {
            app,
            sockets,
            log_id,
            joined: joined.collect(),
            tries,
            moment: *moment,
        }
    }

    /// Brings each of `connections` up to `seq`. What fails for one of them is said, and fails no other; nor is one that
    /// is slow, or far behind, waited for.
    pub(super) async fn all(&self, connections: &[Connection], seq: Seq) -> Vec<(UserId, Come)> {
        let mut reached = Vec::with_capacity(connections.len());
        let mut rights = Vec::new();
        let mut taken = Vec::new();
        // All leases first: then one reading of the log serves all.
        let asking: Vec<_> = connections
            .iter()
            .map(|connection| async move {
                let turns = &self.app.0.turns;
                match turns.at_once(&connection.id, self.log_id.log) {
                    Some(turn) => {
                        let asked = Box::pin(self.ask(connection, turn, seq)).await;
                        (connection, Some(asked))
                    }
                    None => (connection, None),
                }
            })
            .collect();
        let mut asked = at_once(asking, AT_ONCE);
        while let Some((connection, answer)) = asked.next().await {
            match answer {
                None => taken.push(connection),
                Some(Ok(Ok(right))) => rights.push(right),
                Some(Ok(Err(come))) => reached.push((connection.user.clone(), come)),
                Some(Err(error)) => {
                    let come = Come::unknown(failed(&error));
                    reached.push((connection.user.clone(), come));
                }
            }
        }
        let until = self.moment.deadline.min(Instant::now() + PATIENCE);
        let log = self.log();
        let log = &log;
        let posting: Vec<_> = rights
            .into_iter()
            .map(|right| async move {
                let user = right.connection.user.clone();
                (user, Box::pin(self.post(right, log, seq, until)).await)
            })
            .collect();
        let waiting: Vec<_> = taken
            .into_iter()
            .map(|connection| async move {
                let user = connection.user.clone();
                (user, self.one(connection, seq, until).await)
            })
            .collect();
        let (posted, waited): (Vec<_>, Vec<_>) = tokio::join!(
            at_once(posting, AT_ONCE).collect(),
            at_once(waiting, AT_ONCE).collect(),
        );
        reached.extend(posted);
        reached.extend(waited);
        reached
    }

    /// Brings one connection up to `seq`, once nobody else in this process pumps there, or as far as it comes until
    /// `until`.
    pub(super) async fn one(&self, connection: &Connection, seq: Seq, until: Instant) -> Come {
        let turns = &self.app.0.turns;
        let turn = turns.wait(&connection.id, self.log_id.log, until);
        let asked = match turn.await {
            Some(turn) => Box::pin(self.ask(connection, turn, seq)).await,
            None => Box::pin(self.leave_it(connection, seq)).await.map(Err),
        };
        match asked {
            Ok(Ok(right)) => {
                let log = self.log();
                Box::pin(self.post(right, &log, seq, until)).await
            }
            Ok(Err(come)) => come,
            Err(error) => Come::unknown(failed(&error)),
        }
    }

    /// Leaves a connection to whoever is pumping there, and tells them how far it is to come.
    async fn leave_it(&self, connection: &Connection, seq: Seq) -> Result<Come, Error> {
        let cursors = &self.app.stores().cursors;
        let (log, now) = (self.log_id.log, self.moment.current());
        let mut race = self.race();
        // Who has let go meanwhile hears nothing: the job comes back in any case.
        cursors.want(connection, log, seq, now, &mut race).await?;
        Ok(Come::unknown(Reach::Later))
    }

    fn log(&self) -> FramedLog<'_> {
        let memory = &self.app.0.frame_memory;
        FramedLog::new(&self.app.stores().messages, memory, self.log_id)
    }

    fn race(&self) -> Backoff {
        Backoff::until(self.moment.deadline, self.moment.seed)
    }

    fn lease_until(&self) -> Timestamp {
        self.moment.current().plus_seconds(LEASE_SECONDS)
    }

    /// Asks for the right to post, or says how far the connection has come without it.
    async fn ask<'c>(
        &'c self,
        connection: &'c Connection,
        turn: Turn<'c>,
        seq: Seq,
    ) -> Result<Result<Right<'c>, Come>, Error> {
        /// Makes an owner unlike any other of this process; the seed does that between processes.
        static OWNERS: AtomicU64 = AtomicU64::new(0);
        let cursors = &self.app.stores().cursors;
        let log = self.log_id.log;
        let lease = Lease {
            owner: format!(
                "{:032x}{:x}",
                self.moment.seed,
                OWNERS.fetch_add(1, Relaxed)
            ),
            until: self.lease_until(),
        };
        let mut race = self.race();
        for _ in 0..TRIES {
            let now = self.moment.current();
            let asked = cursors.acquire(connection, log, seq, &lease, now, &mut race);
            match asked.await? {
                Asked::Leased { at, began } => {
                    let joined = self.joined.get(&connection.user);
                    return Ok(Ok(Right {
                        connection,
                        lease,
                        at,
                        began,
                        joined: joined.copied().unwrap_or(Seq::ZERO),
                        _turn: turn,
                    }));
                }
                Asked::Passed { began } => {
                    return Ok(Err(Come::since(began, Reach::Reached)));
                }
                Asked::Absent => {
                    let start = self
                        .app
                        .start_of(connection, self.log_id, self.moment.current())
                        .await?;
                    cursors.begin(connection, log, start, &mut race).await?;
                }
                Asked::Held { began } => {
                    let now = self.moment.current();
                    if cursors.want(connection, log, seq, now, &mut race).await? {
                        return Ok(Err(Come::since(began, Reach::Later)));
                    }
                }
            }
        }
        Ok(Err(Come::unknown(Reach::Later)))
    }

    async fn post(
        &self,
        mut right: Right<'_>,
        log: &FramedLog<'_>,
        seq: Seq,
        until: Instant,
    ) -> Come {
        let first = right.at;
        let reach = match self.post_up_to(&mut right, log, seq, until).await {
            Ok(reach) => reach,
            Err(error) => {
                let reach = failed(&error);
                self.give_up(&right).await;
                reach
            }
        };
        Come {
            reach,
            came_on: right.at > first,
            began: right.began,
        }
    }

    /// Posts until the connection has `last`, and whatever else is wanted meanwhile; at `until` one message at least,
    /// so that however slow it is, it comes on.
    async fn post_up_to(
        &self,
        right: &mut Right<'_>,
        log: &FramedLog<'_>,
        mut last: Seq,
        until: Instant,
    ) -> Result<Reach, Error> {
        let cursors = &self.app.stores().cursors;
        let first = right.at;
        let (connection, id) = (right.connection, self.log_id.log);
        loop {
            if right.at < right.joined {
                let skipped = frames::skipped(id, right.joined)?;
                let seq = right.joined;
                if let Some(reach) = self.post_one(right, &skipped, seq, first, until).await? {
                    return Ok(reach);
                }
            }
            // A log that ends before what is wanted is not waited for.
            let mut heeds = right.at >= last;
            if !heeds {
                let Some(page) = log.after(right.at, last, until).await? else {
                    self.give_up(right).await;
                    return Ok(Reach::Later);
                };
                for frame in &page.frames {
                    let posted = self.post_one(right, &frame.text, frame.seq, first, until);
                    if let Some(reach) = posted.await? {
                        return Ok(reach);
                    }
                }
                let is_empty = page.frames.is_empty();
                if right.at < last && !is_empty {
                    continue;
                }
                heeds = !is_empty;
            }
            let mut race = self.race();
            let let_go = cursors.let_go(connection, id, right.at, &right.lease, heeds, &mut race);
            match let_go.await? {
                LetGo::Wanted(more) => {
                    // The user may have been removed and added again since the lease was taken.
                    let rooms = &self.app.stores().rooms;
                    let place = rooms.member(self.log_id, &connection.user, Freshness::Strong);
                    let Some(place) = place.await? else {
                        self.give_up(right).await;
                        return Ok(Reach::Reached);
                    };
                    right.joined = place.joined_seq.unwrap_or(right.joined);
                    last = last.max(more);
                }
                // Whoever took it over may begin before where we are: then it is shown twice.
                LetGo::Done | LetGo::Lost => return Ok(Reach::Reached),
            }
        }
    }

    /// Posts one frame, after which the connection has everything up to `seq`. Says how far it came if it did not take it,
    /// or if there is no time for that.
    async fn post_one(
        &self,
        right: &mut Right<'_>,
        frame: &str,
        seq: Seq,
        first: Seq,
        until: Instant,
    ) -> Result<Option<Reach>, Error> {
        let connection = right.connection;
        if !self.holds(right).await? {
            return Ok(Some(Reach::Later));
        }
        let now = Instant::now();
        if now >= self.moment.deadline || (now >= until && right.at > first) {
            self.give_up(right).await;
            return Ok(Some(Reach::Later));
        }
        let posted = self.sockets.post(&connection.id, frame).await;
        let posted = posted.unwrap_or_else(|error| {
            failed(&error);
            Posted::Busy
        });
        match posted {
            Posted::Taken => {
                right.at = seq;
                Ok(None)
            }
            Posted::Busy => {
                self.give_up(right).await;
                if right.at > first {
                    return Ok(Some(Reach::Later));
                }
                let (now, mut race) = (self.moment.current(), self.race());
                let refused = self.app.refused(connection, self.tries, now, &mut race);
                Ok(Some(refused.await))
            }
            Posted::Gone if connection.is_young(self.moment.current()) => {
                self.give_up(right).await;
                Ok(Some(Reach::Later))
            }
            Posted::Gone => {
                self.app
                    .forget(connection, self.moment.current(), &mut self.race())
                    .await?;
                Ok(Some(Reach::Offline))
            }
        }
    }

    /// Whether the lease holds for one more post. It is kept longer if it ends soon.
    async fn holds(&self, right: &mut Right<'_>) -> Result<bool, Error> {
        let soon = self.moment.current().plus_seconds(MARGIN_SECONDS);
        if soon < right.lease.until {
            return Ok(true);
        }
        right.lease.until = self.lease_until();
        let cursors = &self.app.stores().cursors;
        let log = self.log_id.log;
        cursors
            .keep(
                right.connection,
                log,
                right.at,
                &right.lease,
                &mut self.race(),
            )
            .await
    }

    /// Notes how far it came, for whoever comes next. If that cannot be noted, the lease runs out, and what was
    /// posted is posted again.
    async fn give_up(&self, right: &Right<'_>) {
        let cursors = &self.app.stores().cursors;
        let log = self.log_id.log;
        let mut race = self.race();
        let let_go = cursors.let_go(
            right.connection,
            log,
            right.at,
            &right.lease,
            false,
            &mut race,
        );
        if let Err(error) = let_go.await {
            failed(&error);
        }
    }
}
