//! What the one-machine runner costs, as tables: nothing here passes or fails.
//!
//! It starts a release build of the runner on a temporary folder and loads it over keep-alive
//! connections from one thread. CPU per request is the steadiest figure on a shared machine, and
//! the ratio of two builds under `--against` is steadier still: they take turns within a round.

mod chats;
mod connection;
mod delivery;
mod figures;
mod fill;
mod load;
mod report;
mod server;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use load::Load;

/// Whatever went wrong ends the benchmark.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measures a release build of the runner. Without a mode: the throughput table.
#[derive(Debug, Parser)]
#[command(name = "parlance-bench")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
struct Options {
    /// The runner to measure; by default the one built beside this program.
    runner: Option<PathBuf>,

    /// A second build, measured in turns with the first. Adds the ratios first / second.
    #[arg(long, value_name = "RUNNER")]
    against: Option<PathBuf>,

    /// What to measure.
    #[arg(
        long,
        value_delimiter = ',',
        value_enum,
        default_value = "send-hot,send-spread,read,ack"
    )]
    loads: Vec<Load>,

    /// Numbers of connections.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    connections: Vec<usize>,

    /// Measured seconds per cell and round; a sixth of it more is warm-up.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,

    /// Rounds; each figure is their median.
    #[arg(long, default_value_t = 3)]
    rounds: usize,

    /// Instead: sends into rooms of 100, 10,000 and 1,000,000 messages.
    #[arg(long, conflicts_with_all = ["idle", "against"])]
    log_length: bool,

    /// Instead: start-up time, idle CPU and memory.
    #[arg(long, conflicts_with = "against")]
    idle: bool,

    /// Instead: sends to their receipts on sockets, webhooks, and messages to large rooms.
    #[arg(long, conflicts_with_all = ["idle", "log_length", "against"])]
    delivery: bool,

    /// Instead: answers of agents whose model answers at once, and their first words.
    #[arg(long, conflicts_with_all = ["idle", "log_length", "delivery", "against"])]
    chats: bool,
}

impl Options {
    fn runner(&self) -> Outcome<PathBuf> {
        match &self.runner {
            Some(runner) => Ok(runner.clone()),
            None => Ok(std::env::current_exe()?.with_file_name("parlance-local")),
        }
    }

    fn time(&self) -> Outcome<Duration> {
        Ok(Duration::try_from_secs_f64(self.seconds)?)
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    // One thread: the load must leave the machine to the server.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run(&options)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::line(&format!("parlance-bench: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Outcome<()> {
    let runner = options.runner()?;
    if options.log_length {
        return report::log_length(&runner, options.time()?, options.rounds).await;
    }
    if options.idle {
        return report::idle(&runner).await;
    }
    if options.delivery {
        return delivery::tell(&runner).await;
    }
    if options.chats {
        return chats::answer(&runner).await;
    }
    let mut runners = vec![runner];
    runners.extend(options.against.clone());
    report::throughput(
        &runners,
        &options.loads,
        &options.connections,
        options.time()?,
        options.rounds,
    )
    .await
}
