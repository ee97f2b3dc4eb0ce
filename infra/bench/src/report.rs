//! The tables.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::Outcome;
use crate::figures::{Figures, median, millis};
use crate::load::{Load, Scene, drive};
use crate::server::Server;
use crate::world::World;

/// Messages in a room before the sends are measured.
const LENGTHS: [u64; 3] = [100, 10_000, 1_000_000];
/// How long a runner that nobody uses is watched.
const IDLE: Duration = Duration::from_secs(10);
/// What a fresh runner is given to end what its start left to do.
const SETTLE: Duration = Duration::from_secs(3);

#[expect(clippy::print_stdout, reason = "a table is what this program is for")]
pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// Rate, latency and CPU of every load; with a second runner, ratios of the first to it.
pub(crate) async fn throughput(
    runners: &[PathBuf],
    loads: &[Load],
    connections: &[usize],
    time: Duration,
    rounds: usize,
) -> Outcome<()> {
    let mut scenes = Vec::new();
    for runner in runners {
        scenes.push(Scene::new(runner).await?);
    }
    sleep(SETTLE).await;
    let compared = runners.len() > 1;
    let ratios =
        ["rate ratio | CPU ratio |", "---:|---:|"].map(|it| if compared { it } else { "" });
    line(&format!(
        "| load | connections | requests/s | p50 ms | p99 ms | CPU ms |{}",
        ratios[0]
    ));
    line(&format!("|---|---:|---:|---:|---:|---:|{}", ratios[1]));
    for &load in loads {
        for &connections in connections {
            let mut measured = vec![Vec::new(); scenes.len()];
            for _ in 0..rounds {
                // Each scene goes to the end of the row and comes back as the first.
                for figures in &mut measured {
                    let scene = scenes.remove(0);
                    let (scene, round) = scene.run(load, connections, time).await?;
                    scenes.push(scene);
                    figures.push(round);
                }
            }
            let row = format!("| {} | {connections} |{}", load.name(), cells(&measured[0]));
            match measured.get(1) {
                Some(other) => line(&format!("{row}{}", ratio(&measured[0], other))),
                None => line(&row),
            }
        }
    }
    Ok(())
}

fn cells(rounds: &[Figures]) -> String {
    let Figures {
        per_second,
        p50,
        p99,
        cpu,
    } = Figures::median(rounds);
    format!(" {per_second:.0} | {p50:.2} | {p99:.1} | {cpu:.3} |")
}

/// The medians of the ratios of each round.
fn ratio(first: &[Figures], second: &[Figures]) -> String {
    let of = |figure: fn(&Figures) -> f64| {
        let pairs = first.iter().zip(second);
        median(pairs.map(|(a, b)| figure(a) / figure(b)).collect())
    };
    format!(" {:.2} | {:.2} |", of(|it| it.per_second), of(|it| it.cpu))
}

/// Sends into rooms of several lengths.
pub(crate) async fn log_length(runner: &Path, time: Duration, rounds: usize) -> Outcome<()> {
    line(
        "| messages in the room | connections | requests/s | p50 ms | p99 ms | CPU ms | resident MB |",
    );
    line("|---:|---:|---:|---:|---:|---:|---:|");
    for length in LENGTHS {
        let mut world = World::new(runner).await?;
        let room = world.room().await?;
        world.fill(&[(&room, length)]).await?;
        sleep(SETTLE).await;
        let world = Arc::new(world);
        for connections in [1, 16] {
            let mut measured = Vec::new();
            for _ in 0..rounds {
                let (room, sender) = (room.clone(), Arc::clone(&world));
                let request = Arc::new(move |user, _| sender.send(user, &room));
                let (figures, _) = drive(&world, request, connections, time).await?;
                measured.push(figures);
            }
            let resident = world.server.resident()?;
            line(&format!(
                "| {length} | {connections} |{} {resident:.0} |",
                cells(&measured)
            ));
        }
    }
    Ok(())
}

/// What a runner costs that nobody uses.
pub(crate) async fn idle(runner: &Path) -> Outcome<()> {
    let mut server = Server::new(runner)?;
    let first = server.start().await?;
    server.stop()?;
    let second = server.start().await?;
    sleep(SETTLE).await;
    let before = server.cpu()?;
    sleep(IDLE).await;
    let cpu = server.cpu()?.saturating_sub(before);
    let share = cpu.as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    line("| first start to first answer | second start | idle CPU | idle memory |");
    line("|---:|---:|---:|---:|");
    line(&format!(
        "| {:.0} ms | {:.0} ms | {share:.2} % | {:.0} MB |",
        millis(first),
        millis(second),
        server.resident()?
    ));
    server.stop()
}
