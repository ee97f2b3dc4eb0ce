//! Connections: how one is made, what its client says over it, and its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};

use super::{App, auth::Session, listeners::Mark, membership::log_of, quota::Refusal};
use crate::{
    domain::{
        Actor, Connection, ConnectionId, Error, Log, LogId, Moment, RoomId, Timestamp, UserId,
        live::{GRACE_SECONDS, Socket},
        message::Seq,
        secret::{SecretHash, SocketToken},
    },
    store::{Backoff, connections::Admission, guards::Opens},
};

/// How many connections a user may have, unless the operator says otherwise.
pub const CONNECTIONS_PER_USER: usize = 5;
/// The most rooms that a `hello` names.
pub const MAX_HELLO_ROOMS: usize = 500;
/// How long a `hello` may take until what comes meanwhile is pumped, in seconds.
const HELLO_SECONDS: i64 = 10;
/// How many cursors are put at the same time.
const AT_ONCE: usize = 32;

const BAD_TOKEN: Error = Error::Unauthenticated("Invalid token. Get a new one from POST /ws/token");

/// What a `hello` came to.
#[derive(Debug)]
pub struct Greeted {
    /// The rooms the connection is brought up to date with.
    pub rooms: usize,
    /// The rooms the user is not in.
    pub refused: Vec<RoomId>,
}

impl App {
    /// A token that opens one connection for the caller within a minute, made of 256 random bits. `key` is the API
    /// key that the caller showed.
    pub async fn socket_token(
        &self,
        actor: &Actor,
        key: SecretHash,
        entropy: [u8; 32],
        moment: &Moment,
    ) -> Result<SocketToken, Error> {
        let token = SocketToken::from_entropy(entropy);
        let opens = Opens {
            tenant: actor.tenant(),
            user: actor.user().clone(),
            key,
        };
        let expires = moment.now.plus_seconds(SocketToken::SECONDS);
        let guards = &self.stores().guards;
        guards.keep_token(token.hash(), &opens, expires).await?;
        Ok(token)
    }

    /// Uses a token up: gives whom it lets connect, and the API key it was made with.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] if there is no such token, if it was used, or if its minute is over.
    pub async fn open_with_token(
        &self,
        token: &[u8],
        moment: &Moment,
    ) -> Result<(Session, SecretHash, Actor), Error> {
        let guards = &self.stores().guards;
        let opened = guards.take_token(SecretHash::of(token), moment.now).await?;
        let opened = opened.ok_or(BAD_TOKEN)?;
        let session = self.session_of(opened.key, moment).await?;
        let actor = self.actor(&session, opened.user);
        Ok((session, opened.key, actor))
    }

    /// The same for a token that was sent from `address`.
    ///
    /// # Errors
    ///
    /// As [`App::open_with_token`]; [`Error::RateLimited`] if the address had too many looked up that were wrong.
    pub async fn open_with_token_from(
        &self,
        token: &[u8],
        address: Option<IpAddr>,
        moment: &Moment,
    ) -> Result<(Session, SecretHash, Actor), Refusal> {
        // Mistyped or made up: known without a look.
        if !SocketToken::may_be(token) {
            return Err(BAD_TOKEN.into());
        }
        self.look_up(address, moment, self.open_with_token(token, moment))
            .await
    }

    /// Lets a connection in.
    ///
    /// # Errors
    ///
    /// [`Error::RateLimited`] if the user has as many as they may, all of them open.
    pub async fn connect(
        &self,
        actor: &Actor,
        key: SecretHash,
        id: ConnectionId,
        moment: &Moment,
    ) -> Result<(), Error> {
        self.listen(actor.tenant(), Mark::ForAConnection, moment)
            .await?;
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let limit = self.0.connections_per_user;
        let store = &self.stores().connections;
        let mut connection = Connection {
            id,
            tenant: actor.tenant(),
            user: actor.user().clone(),
            // It is young, and pending, from when others see it: whatever came before may have taken a while.
            connected_at: moment.current(),
        };
        let mut admission = store.connect(&connection, key, limit, &mut race).await?;
        if let Admission::Full(others) = &admission {
            // Whoever vanished without a word makes room.
            let gone = self.gone_among(others, moment.now).await?;
            for connection in &gone {
                store.leave(connection, moment.now, &mut race).await?;
            }
            if !gone.is_empty() {
                connection.connected_at = moment.current();
                admission = store.connect(&connection, key, limit, &mut race).await?;
            }
        }
        match admission {
            Admission::Full(_) => Err(Error::RateLimited { retry_after: 1 }),
            Admission::In { first, left_at } => {
                let is_back = |left: Timestamp| {
                    let grace_ends = left.plus_seconds(GRACE_SECONDS);
                    grace_ends.is_awaited(moment.now, GRACE_SECONDS)
                };
                if first && !left_at.is_some_and(is_back) {
                    let telling = self.tell_presence_soon(actor.tenant(), actor.user());
                    if let Err(error) = telling.await {
                        // Whom we answer with an error the gateway does not let in.
                        store
                            .leave(&connection, moment.current(), &mut race)
                            .await?;
                        return Err(error);
                    }
                }
                Ok(())
            }
        }
    }

    /// Those of `connections` that have ended.
    async fn gone_among(
        &self,
        connections: &[Connection],
        now: Timestamp,
    ) -> Result<Vec<Connection>, Error> {
        let sockets = self.sockets()?;
        let asked = connections.iter().filter(|it| !it.is_young(now));
        let asked = asked.map(|connection| async move {
            let is_open = sockets.is_open(&connection.id).await?;
            Ok::<_, Error>((!is_open).then(|| connection.clone()))
        });
        let found: Vec<Option<Connection>> = try_join_all(asked).await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// A connection as its own frames find it.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] if it was not let in, or is over.
    pub async fn socket(&self, id: &ConnectionId, moment: &Moment) -> Result<Socket, Error> {
        let socket = self.stores().connections.get(id, moment.now).await?;
        socket.ok_or(Error::Unauthenticated("This connection has ended"))
    }

    /// Lets what happens be pumped to a connection: its client has spoken. Not if a `hello` of theirs, which may be
    /// heard at the same time, has asked for more time.
    pub async fn make_ready(&self, socket: &Socket, moment: &Moment) -> Result<(), Error> {
        if socket.ready_at <= moment.now {
            return Ok(());
        }
        let mut race = Backoff::until(moment.deadline, moment.seed);
        let store = &self.stores().connections;
        let id = &socket.connection.id;
        store
            .ready_as_read(id, socket.ready_at, moment.now, &mut race)
            .await
    }

    /// A connection ended.
    pub async fn disconnect(&self, id: &ConnectionId, moment: &Moment) -> Result<(), Error> {
        let Some(socket) = self.stores().connections.get(id, moment.now).await? else {
            return Ok(());
        };
        let mut race = Backoff::until(moment.deadline, moment.seed);
        self.forget(&socket.connection, moment.now, &mut race).await
    }

    /// Tells a client why, with `frame`, and ends its connection.
    pub async fn dismiss(&self, id: &ConnectionId, frame: &str) -> Result<(), Error> {
        let sockets = self.sockets()?;
        let told = sockets.post(id, frame).await;
        // Whether it heard why or not.
        sockets.close(id).await?;
        told.map(drop)
    }

    /// Brings a connection up to date with rooms, from the seqs that its client has, before anything new is pumped.
    /// At most [`MAX_HELLO_ROOMS`].
    pub async fn hello(
        &self,
        socket: &Socket,
        after: BTreeMap<RoomId, Seq>,
        moment: &Moment,
    ) -> Result<Greeted, Error> {
        let connection = &socket.connection;
        let (tenant, id) = (connection.tenant, &connection.id);
        let stores = self.stores();
        let mut race = Backoff::until(moment.deadline, moment.seed);
        if moment.now < socket.ready_at {
            let until = moment.now.plus_seconds(HELLO_SECONDS);
            stores.connections.ready(id, until, &mut race).await?;
        }
        let rooms: Vec<_> = after.keys().copied().collect();
        let among = stores
            .rooms
            .among(tenant, &connection.user, &rooms, &race)
            .await?;
        let placing: Vec<_> = after
            .into_iter()
            .filter(|(room, _)| among.contains_key(room))
            .map(|(room, seq)| {
                let mut race = race.clone();
                async move {
                    let tail = stores.messages.tail(LogId::new(tenant, room)).await?;
                    // Nobody has what is not there.
                    let at = seq.min(tail);
                    stores
                        .cursors
                        .set(connection, room.into(), at, &mut race)
                        .await?;
                    Ok::<_, Error>((at < tail).then_some(Log::Room(room)))
                }
            })
            .collect();
        let placed: Vec<Option<Log>> = stream::iter(placing)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let behind: Vec<Log> = placed.into_iter().flatten().collect();
        // Before anything is pumped: a process that dies in between has promised nothing.
        if !behind.is_empty() {
            self.catch_up_soon(tenant, id, &behind).await?;
        }
        stores.connections.ready(id, moment.now, &mut race).await?;
        Ok(Greeted {
            rooms: among.len(),
            refused: rooms
                .into_iter()
                .filter(|it| !among.contains_key(it))
                .collect(),
        })
    }

    /// Who of a room is online; `None` if the room has more than [`super::live::SMALL_ROOM`] members.
    pub async fn online_in(
        &self,
        actor: &Actor,
        room: RoomId,
        moment: &Moment,
    ) -> Result<Option<BTreeSet<UserId>>, Error> {
        self.member(actor, room, moment).await?;
        let Some(members) = self.few_members(log_of(actor, room)).await? else {
            return Ok(None);
        };
        let race = Backoff::until(moment.deadline, moment.seed);
        let store = &self.stores().connections;
        let online = store
            .online(actor.tenant(), &members, moment.now, &race)
            .await?;
        let online = online.connections.into_iter();
        Ok(Some(online.map(|it| it.user).collect()))
    }
}
