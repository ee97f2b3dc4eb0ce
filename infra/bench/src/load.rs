//! Loads: what is asked for, by how many connections, for how long.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::Outcome;
use crate::connection::Connection;
use crate::figures::Figures;
use crate::world::World;

/// The rooms among which sends are spread.
const ROOMS: usize = 100;
/// Messages in the room of reads and acks; more than one user acknowledges in a run.
const LONG: u64 = 300_000;

/// What is measured.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Load {
    /// Sends into one room.
    SendHot,
    /// Sends into 100 rooms in turn.
    SendSpread,
    /// Reads of 50 messages somewhere in a long log.
    Read,
    /// Acks, each one message further than the one before.
    Ack,
}

impl Load {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::SendHot => "send, one hot room",
            Self::SendSpread => "send, 100 rooms",
            Self::Read => "read 50",
            Self::Ack => "ack",
        }
    }
}

/// A runner and the rooms that the loads use.
#[derive(Debug)]
pub(crate) struct Scene {
    world: World,
    hot: String,
    rooms: Vec<String>,
    long: String,
    /// How often the acks ran: each run goes on where the last one stopped.
    acked: Vec<u64>,
}

impl Scene {
    pub(crate) async fn new(runner: &Path) -> Outcome<Self> {
        let mut world = World::new(runner).await?;
        let hot = world.room().await?;
        let long = world.room().await?;
        let mut rooms = Vec::new();
        for _ in 0..ROOMS {
            rooms.push(world.room().await?);
        }
        world.fill(&[(&long, LONG)]).await?;
        Ok(Self {
            world,
            hot,
            rooms,
            long,
            acked: Vec::new(),
        })
    }

    /// Runs `load` over `connections` for `time`, after a warm-up.
    pub(crate) async fn run(
        mut self,
        load: Load,
        connections: usize,
        time: Duration,
    ) -> Outcome<(Self, Figures)> {
        self.acked.resize(connections.max(self.acked.len()), 0);
        let acked = self.acked.clone();
        let scene = Arc::new(self);
        let request = {
            let scene = Arc::clone(&scene);
            move |user, nth| scene.request(load, user, nth + acked[user] * u64::from(load.is_ack()))
        };
        let (figures, counts) = drive(&scene.world, Arc::new(request), connections, time).await?;
        let mut scene = Arc::into_inner(scene).ok_or("a connection is still in use")?;
        if load.is_ack() {
            for (acked, count) in scene.acked.iter_mut().zip(counts) {
                *acked += count;
            }
        }
        Ok((scene, figures))
    }

    fn request(&self, load: Load, user: usize, nth: u64) -> String {
        let spread = |count: usize| {
            let nth = usize::try_from(nth).unwrap_or_default();
            (user * 37 + nth) % count
        };
        match load {
            Load::SendHot => self.world.send(user, &self.hot),
            Load::SendSpread => self.world.send(user, &self.rooms[spread(ROOMS)]),
            // Anywhere in the log, in steps that share no page.
            Load::Read => {
                let after = (user as u64 * 7_919 + nth * 6_151) % (LONG - 50);
                self.world.read(user, &self.long, after)
            }
            Load::Ack => self.world.ack(user, &self.long, nth + 1),
        }
    }
}

impl Load {
    const fn is_ack(self) -> bool {
        matches!(self, Self::Ack)
    }
}

/// Has each connection send what `request` gives for it and its nth turn; also how many it sent.
pub(crate) async fn drive<R>(
    world: &World,
    request: Arc<R>,
    connections: usize,
    time: Duration,
) -> Outcome<(Figures, Vec<u64>)>
where
    R: Fn(usize, u64) -> String + Send + Sync + 'static,
{
    let begin = Instant::now() + time / 6;
    let end = begin + time;
    let mut workers = JoinSet::new();
    for user in 0..connections {
        let request = Arc::clone(&request);
        let mut connection = Connection::open(world.server.port).await?;
        workers.spawn(async move {
            let (mut latencies, mut count) = (Vec::new(), 0);
            loop {
                let request = request(user, count);
                let sent = Instant::now();
                if sent >= end {
                    return Outcome::Ok((user, latencies, count));
                }
                connection.exchange(&request).await?;
                count += 1;
                if sent >= begin {
                    latencies.push(sent.elapsed());
                }
            }
        });
    }
    sleep_until(begin.into()).await;
    let before = world.server.cpu()?;
    sleep_until(end.into()).await;
    let cpu = world.server.cpu()?.saturating_sub(before);
    let (mut latencies, mut counts) = (Vec::new(), vec![0; connections]);
    while let Some(ended) = workers.join_next().await {
        let (user, of_one, count) = ended??;
        latencies.extend(of_one);
        counts[user] = count;
    }
    Ok((Figures::of(latencies, cpu, time), counts))
}
