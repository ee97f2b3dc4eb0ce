//! Live delivery: what happens reaches the connections of those it is for.
//!
//! **Invariant:** a connection is sent the messages of a room in order and without a gap, from where its cursor began;
//! one may come twice, and carries its seq.

mod jobs;
mod log;
mod presence;
mod pump;
mod turns;
mod typing;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use self::pump::{Come, Pump, at_once};
pub(super) use self::{log::FrameMemory, turns::Turns};
use super::App;
use crate::{
    domain::{
        Connection, ConnectionId, Error, Log, LogId, Moment, Reach, TenantId, Timestamp, UserId,
        live::{LIFETIME_SECONDS, STUCK_SECONDS, STUCK_TRIES},
        message::Seq,
        page::Slice,
        room::Member,
    },
    providers::{
        frames,
        sockets::{Posted, Sockets},
    },
    store::{
        Backoff,
        connections::{Left, Online},
        rooms::Freshness,
    },
};

/// The most users that one call brings something to.
pub const USERS_AT_ONCE: usize = 100;
/// How many connections are posted to at the same time.
const AT_ONCE: usize = 32;
/// How many rooms of one connection are caught up with at the same time.
const ROOMS_AT_ONCE: usize = 8;
/// For how long a connection's own word on when it is ready is asked for.
const UNREADY_SECONDS: i64 = 20;
/// The most members of a room whose comings, typing and acks are told to the others.
pub const SMALL_ROOM: usize = 100;
/// How long a frame that nobody misses may take.
const IN_PASSING: Duration = Duration::from_secs(1);

impl App {
    pub(super) fn sockets(&self) -> Result<&Sockets, Error> {
        let sockets = self.0.means.sockets.as_ref();
        sockets.ok_or_else(|| Error::internal("this function reaches no connections"))
    }

    /// Brings every connection of `users`, at most [`USERS_AT_ONCE`], up to the messages `seqs` of a room's log, and
    /// says of each message, in their order, how far it came with each user. `moment` is drawn for this call: it goes
    /// on from there.
    ///
    /// A user is `Reached` if all their connections have it, `Later` if one of them has not yet: the same call must be
    /// made again after [`crate::domain::live::wait`]. Connections that began after it do not count; those that took nothing in
    /// [`STUCK_TRIES`] `tries` are ended. Who is no member, or has joined after it, is not told of it and not named.
    pub async fn pump_room(
        &self,
        log: LogId,
        seqs: &[Seq],
        users: &[UserId],
        tries: u32,
        moment: &Moment,
    ) -> Result<Vec<Vec<(UserId, Reach)>>, Error> {
        let race = Backoff::until(moment.deadline, moment.seed);
        let users = users.iter().cloned().collect();
        let members = self.stores().rooms.places(log, &users, &race).await?;
        self.pump_members(log, seqs, &members, tries, moment).await
    }

    /// The same for `members`, as they were read after the messages were written. Of their authors, who typed does so no
    /// longer.
    pub(super) async fn pump_members(
        &self,
        log: LogId,
        seqs: &[Seq],
        members: &[Member],
        tries: u32,
        moment: &Moment,
    ) -> Result<Vec<Vec<(UserId, Reach)>>, Error> {
        let sockets = self.sockets()?;
        let last = seqs.iter().copied().max().unwrap_or(Seq::ZERO);
        let there = members.iter().filter(|member| member.was_there_at(last));
        let users: BTreeSet<UserId> = there.map(|member| member.user.clone()).collect();
        let online = self.online(log.tenant, &users, moment).await?;
        let typing = self.end_typing_of_authors(log, seqs, online.typing, moment);
        let ready = self.ready_of(users, online.connections, moment);
        let (connections, pending) = ready.await?;
        let pump = Pump::new(self, sockets, log, members, tries, moment);
        // At the same time: the messages wait for no connection that is slow to take the other.
        let (come, ()) = tokio::join!(pump.all(&connections, last), in_passing(typing));
        let reached = seqs.iter().map(|seq| {
            let mut reached = pending.clone();
            for (user, come) in &come {
                reached.note(user, come.with(*seq));
            }
            for member in members.iter().filter(|member| !member.was_there_at(*seq)) {
                reached.0.remove(&member.user);
            }
            reached.of_all()
        });
        Ok(reached.collect())
    }

    /// Sends `frame` to every connection of a user. `Reached` if one took it.
    pub async fn post_to_user(
        &self,
        tenant: TenantId,
        user: &UserId,
        frame: &str,
        moment: &Moment,
    ) -> Result<Reach, Error> {
        let users = std::slice::from_ref(user);
        let (connections, pending) = self.ready_connections(tenant, users, moment).await?;
        let mut reach = Reach::Offline;
        for (_, pending) in pending.of_all() {
            reach = reach.and(pending);
        }
        for (_, posted) in self.post_each(&connections, frame, 0, moment).await? {
            match posted {
                Reach::Reached => return Ok(Reach::Reached),
                Reach::Offline | Reach::Later => reach = reach.and(posted),
            }
        }
        Ok(reach)
    }

    /// Sends `frame`, which says how message `seq` of a room changed, to those connections of `users`, at most
    /// [`USERS_AT_ONCE`], that have the message. Whoever has not yet will be shown it as it is now.
    ///
    /// `Later` as [`App::pump_room`] means it: one is being sent the message just now.
    pub async fn post_change(
        &self,
        log: LogId,
        seq: Seq,
        users: &[UserId],
        frame: &str,
        tries: u32,
        moment: &Moment,
    ) -> Result<Vec<(UserId, Reach)>, Error> {
        let (connections, mut reached) = self.ready_connections(log.tenant, users, moment).await?;
        let stores = self.stores();
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let now = moment.current();
        let cursors = &stores.cursors;
        let standing = cursors.standing(&connections, log.log, now, &race);
        let standing = standing.await?;
        let mut having = Vec::new();
        for connection in connections {
            let (at, is_leased) = if let Some(cursor) = standing.get(&connection.id) {
                (cursor.seq, cursor.is_leased)
            } else {
                let start = self.start_of(&connection, log, now).await?;
                cursors
                    .begin(&connection, log.log, start, &mut race)
                    .await?;
                (start, false)
            };
            if at >= seq {
                having.push(connection);
            } else {
                // Who pumps may have read it as it was.
                let reach = if is_leased {
                    Reach::Later
                } else {
                    Reach::Reached
                };
                reached.note(&connection.user, reach);
            }
        }
        for (user, reach) in self.post_each(&having, frame, tries, moment).await? {
            reached.note(&user, reach);
        }
        Ok(reached.of_all())
    }

    /// Brings a connection up to the ends of `logs`, from where its client said it was. It may be pending
    /// for what is new until all that is put where it was said.
    ///
    /// For those in which it did not come so far the same call must be made again after
    /// [`crate::domain::live::wait`].
    pub async fn catch_up(
        &self,
        tenant: TenantId,
        id: &ConnectionId,
        logs: &[Log],
        tries: u32,
        moment: &Moment,
    ) -> Result<Behind, Error> {
        let sockets = self.sockets()?;
        let stores = self.stores();
        let Some(socket) = stores.connections.get(id, moment.now).await? else {
            return Ok(Behind::default());
        };
        if socket.connection.tenant != tenant {
            return Ok(Behind::default());
        }
        let connection = &socket.connection;
        // Who was removed since they said hello has no business in the room any more.
        let race = Backoff::until(moment.deadline, moment.seed);
        let rooms: Vec<_> = logs.iter().filter_map(|log| log.room()).collect();
        let among = stores.rooms.among(tenant, &connection.user, &rooms, &race);
        let pumping: Vec<_> = among
            .await?
            .into_iter()
            .map(|(room, place)| async move {
                let pumped = async move {
                    let log = LogId::new(tenant, room);
                    let tail = match stores.messages.tail(log).await {
                        Ok(tail) => tail,
                        Err(error) => return Come::unknown(failed(&error)),
                    };
                    let pump = Pump::new(self, sockets, log, &[place], tries, moment);
                    pump.one(connection, tail, moment.deadline).await
                };
                (room, Box::pin(pumped).await)
            })
            .collect();
        // To the end, whatever fails: who is dropped in the middle of a post leaves a lease behind.
        let pumped: Vec<_> = at_once(pumping, ROOMS_AT_ONCE).collect().await;
        let mut behind = Behind::default();
        for (room, come) in pumped {
            behind.came_on |= come.came_on;
            match come.reach {
                // It is over: there is nothing to come back to.
                Reach::Offline => return Ok(Behind::default()),
                Reach::Later => behind.logs.push(room.into()),
                Reach::Reached => {}
            }
        }
        Ok(behind)
    }

    /// Tells that a member has received a room up to `seq`: the other members of a small room, and the member's own
    /// connections but `said_by`. In passing: nobody misses it.
    pub async fn tell_acked(
        &self,
        log: LogId,
        user: &UserId,
        seq: Seq,
        said_by: Option<&ConnectionId>,
        moment: &Moment,
    ) {
        in_passing(self.try_tell_acked(log, user, seq, said_by, moment)).await;
    }

    async fn try_tell_acked(
        &self,
        log: LogId,
        user: &UserId,
        seq: Seq,
        said_by: Option<&ConnectionId>,
        moment: &Moment,
    ) -> Result<(), Error> {
        let tenants = BTreeSet::from([log.tenant]);
        if self.listened(&tenants, moment).await?.is_empty() {
            return Ok(());
        }
        let mut users = self.few_members(log).await?.unwrap_or_default();
        users.insert(user.clone());
        let mut online = self.online(log.tenant, &users, moment).await?;
        online.connections.retain(|it| Some(&it.id) != said_by);
        let frame = frames::ack_received(log.log, seq, user)?;
        self.post_each(&online.connections, &frame, 0, moment)
            .await
            .map(drop)
    }

    /// Sends `frame` to those of `users` who are online.
    async fn tell_online(
        &self,
        tenant: TenantId,
        users: BTreeSet<UserId>,
        frame: &str,
        moment: &Moment,
    ) -> Result<(), Error> {
        let online = self.online(tenant, &users, moment).await?;
        self.post_each(&online.connections, frame, 0, moment)
            .await
            .map(drop)
    }

    /// Which of `users` are there.
    async fn online(
        &self,
        tenant: TenantId,
        users: &BTreeSet<UserId>,
        moment: &Moment,
    ) -> Result<Online, Error> {
        let race = Backoff::until(moment.deadline, moment.seed);
        let now = moment.current();
        let connections = &self.stores().connections;
        connections.online(tenant, users, now, &race).await
    }

    /// The members of a room; `None` if the room is not small.
    pub(super) async fn few_members(&self, log: LogId) -> Result<Option<BTreeSet<UserId>>, Error> {
        let rooms = &self.stores().rooms;
        let slice = Slice::first(SMALL_ROOM);
        let (head, members) = tokio::try_join!(
            rooms.head(log, Freshness::Eventual),
            rooms.members(log, &slice),
        )?;
        if head.is_none_or(|head| head.room.members > SMALL_ROOM) {
            return Ok(None);
        }
        let members = members.items.into_iter().map(|member| member.user);
        Ok(Some(members.collect()))
    }

    /// Posts `frame` to each of `connections`, without an order. What fails for one is said, and fails no other.
    async fn post_each(
        &self,
        connections: &[Connection],
        frame: &str,
        tries: u32,
        moment: &Moment,
    ) -> Result<Vec<(UserId, Reach)>, Error> {
        let sockets = self.sockets()?;
        let posting = connections.iter().map(|connection| async move {
            let post = async move {
                let mut race = Backoff::until(moment.deadline, moment.seed);
                let posted = sockets.post(&connection.id, frame).await;
                let posted = posted.unwrap_or_else(|error| {
                    failed(&error);
                    Posted::Busy
                });
                match posted {
                    Posted::Taken => Reach::Reached,
                    Posted::Busy => {
                        let now = moment.current();
                        self.refused(connection, tries, now, &mut race).await
                    }
                    Posted::Gone if connection.is_young(moment.current()) => Reach::Later,
                    Posted::Gone => {
                        match self.forget(connection, moment.current(), &mut race).await {
                            Ok(()) => Reach::Offline,
                            Err(error) => failed(&error),
                        }
                    }
                }
            };
            (connection.user.clone(), Box::pin(post).await)
        });
        Ok(at_once(posting.collect(), AT_ONCE).collect().await)
    }

    /// The connections of `users` that may be posted to, and what is known of the others.
    async fn ready_connections(
        &self,
        tenant: TenantId,
        users: &[UserId],
        moment: &Moment,
    ) -> Result<(Vec<Connection>, Reached), Error> {
        let users: BTreeSet<UserId> = users.iter().cloned().collect();
        let online = self.online(tenant, &users, moment).await?;
        self.ready_of(users, online.connections, moment).await
    }

    /// Those of the `connections` of `users` that may be posted to, and what is known of the others.
    async fn ready_of(
        &self,
        users: BTreeSet<UserId>,
        connections: Vec<Connection>,
        moment: &Moment,
    ) -> Result<(Vec<Connection>, Reached), Error> {
        let race = Backoff::until(moment.deadline, moment.seed);
        let now = moment.current();
        let store = &self.stores().connections;
        let mut reached = Reached::none(users);
        let is_new = |it: &Connection| it.is_younger_than(UNREADY_SECONDS, now);
        let new: Vec<_> = connections.iter().filter(|it| is_new(it)).collect();
        if new.is_empty() {
            return Ok((connections, reached));
        }
        let ids: Vec<_> = new.iter().map(|it| &it.id).collect();
        let times = store.ready_times(&ids, &race).await?;
        let mut ready = Vec::with_capacity(connections.len());
        for connection in connections {
            match times.get(&connection.id) {
                Some(at) if at.is_awaited(now, UNREADY_SECONDS) => {
                    reached.note(&connection.user, Reach::Later);
                }
                // It ended between two reads.
                None if is_new(&connection) => {}
                Some(_) | None => ready.push(connection),
            }
        }
        Ok((ready, reached))
    }

    /// Where the cursor of a connection begins that its client did not put anywhere: after the last message before
    /// the connection was made, and before its user came into the room.
    ///
    /// A time to come is from before the clock was set back, and says nothing of what came first. Then it begins before
    /// all that may have been sent since: what comes twice carries its seq.
    async fn start_of(
        &self,
        connection: &Connection,
        log: LogId,
        now: Timestamp,
    ) -> Result<Seq, Error> {
        let stores = self.stores();
        let connected_at = passed(connection.connected_at, now);
        let place = stores
            .rooms
            .member(log, &connection.user, Freshness::Strong);
        match place.await? {
            Some(place) => {
                let since = match place.joined_seq {
                    Some(joined) if place.joined_at >= connection.connected_at => {
                        return Ok(joined);
                    }
                    Some(_) => connected_at,
                    None => passed(place.joined_at, now).max(connected_at),
                };
                let before = stores.messages.last_before(log, since).await?;
                Ok(before.max(place.joined_seq.unwrap_or(Seq::ZERO)))
            }
            // They have left meanwhile.
            None => stores.messages.tail(log).await,
        }
    }

    /// A connection took nothing. It is ended if that was so in many `tries`: its client comes back, and says where it
    /// is; and until then it is offline.
    async fn refused(
        &self,
        connection: &Connection,
        tries: u32,
        now: Timestamp,
        race: &mut Backoff,
    ) -> Reach {
        let is_new = connection.is_younger_than(STUCK_SECONDS, now);
        if tries < STUCK_TRIES || is_new {
            return Reach::Later;
        }
        let ended = async {
            // Who is not told that it ended would wait for what never comes.
            self.sockets()?.close(&connection.id).await?;
            self.forget(connection, now, race).await
        };
        match ended.await {
            Ok(()) => Reach::Offline,
            Err(error) => failed(&error),
        }
    }

    /// A connection is gone: nothing is posted to it any more.
    pub(super) async fn forget(
        &self,
        connection: &Connection,
        at: Timestamp,
        race: &mut Backoff,
    ) -> Result<(), Error> {
        let store = &self.stores().connections;
        let found = store.presence(connection.tenant, &connection.user, at);
        let found = found.await?;
        let typing = found
            .typing
            .iter()
            .find(|it| it.connection == connection.id);
        if let Some(typing) = typing.filter(|it| it.lasts(at)) {
            in_passing(self.end_typing_after(connection.tenant, typing, 0)).await;
        }
        let found = found.connections;
        let is_last = found.iter().all(|it| it.id == connection.id);
        // Before it is forgotten: a process that dies in between leaves a check too many, not one too few.
        if is_last {
            self.check_presence_later(connection, at).await?;
        }
        let left = store.leave(connection, at, race).await?;
        if left == Left::Nobody && !is_last {
            self.check_presence_later(connection, at).await?;
        }
        Ok(())
    }
}

/// Does what nobody misses: it may take a second, and fail, which is logged.
pub(super) async fn in_passing(telling: impl Future<Output = Result<(), Error>>) {
    match timeout_at(Instant::now() + IN_PASSING, telling).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(cause = error.why(), "the others were not told: {error}"),
        Err(_) => tracing::warn!("the others were not told: there was no time"),
    }
}

/// A time `at` which something of a connection began, if it is not to come: then it may have been at any time of its life, or
/// within a moment, if clocks only differ.
fn passed(at: Timestamp, now: Timestamp) -> Timestamp {
    if at <= now {
        at
    } else if at <= now.farthest_end(0) {
        now.earliest_elsewhere()
    } else {
        now.plus_seconds(-LIFETIME_SECONDS)
    }
}

/// What a connection that is being caught up is behind in.
#[derive(Debug, Default)]
pub struct Behind {
    /// The logs that it was not brought to the end of.
    pub logs: Vec<Log>,
    /// Whether it took anything.
    pub came_on: bool,
}

/// How far each of some users was reached.
#[derive(Debug, Clone)]
struct Reached(BTreeMap<UserId, Reach>);

impl Reached {
    fn none(users: BTreeSet<UserId>) -> Self {
        Self(users.into_iter().map(|it| (it, Reach::Offline)).collect())
    }

    fn note(&mut self, user: &UserId, reach: Reach) {
        if let Some(so_far) = self.0.get_mut(user) {
            *so_far = so_far.and(reach);
        }
    }

    fn of_all(self) -> Vec<(UserId, Reach)> {
        self.0.into_iter().collect()
    }
}

/// Says why a connection was not reached. It is tried again.
fn failed(error: &Error) -> Reach {
    tracing::warn!(cause = error.why(), "a connection was not reached: {error}");
    Reach::Later
}
