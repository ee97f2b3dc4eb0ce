//! What each function costs before it does anything: its size, its start, its first request, its memory.
//!
//! It prints a table and judges nothing. The bootstraps are processes as Lambda starts them; their store is the
//! embedded one on this machine, once over plain HTTP and once behind TLS, as DynamoDB is. Start and memory are
//! those of the second, which reads as many certificates as a function in Lambda does.

mod requests;
mod store;
mod tls;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use parlance_lambda::{Definition, Function, Gateway, Lambda, Route, Surroundings};

use store::Store;

/// Whatever went wrong ends it.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How often each function is started; each figure is the median.
const ROUNDS: usize = 15;
/// How long a start may take here.
const PATIENCE: Duration = Duration::from_secs(10);
const USAGE: &str = "usage: functions FOLDER, which holds the bootstraps of a release build";

#[expect(clippy::print_stderr, reason = "it says why it ended")]
fn main() -> ExitCode {
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("functions: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Outcome<()> {
    let folder = std::env::args_os().nth(1).ok_or(USAGE)?;
    let folder = PathBuf::from(folder).canonicalize()?;
    let store = Store::open().await?;
    let plain = tls::plain(store.router()).await?;
    let (behind_tls, bundle) = tls::serve(store.router(), store.folder()).await?;
    let bundle = bundle.display().to_string();
    let plain = Surroundings::default().with("AWS_ENDPOINT_URL", &plain);
    let behind_tls = Surroundings::default()
        .with("AWS_ENDPOINT_URL", &behind_tls)
        .with("SSL_CERT_FILE", &bundle);

    let mut definitions = store.definitions()?;
    let shared = definitions.first().map(|it| it.environment.clone());
    definitions.push(Definition {
        name: "hello world".to_owned(),
        binary: "hello".to_owned(),
        memory: 256,
        timeout: PATIENCE,
        environment: shared.unwrap_or_default(),
        routes: vec![Route::Path {
            method: "GET".to_owned(),
            path: "/hello".to_owned(),
        }],
    });
    let over_http = Lambda::new(definitions.clone(), &folder, &plain)?;
    let over_tls = Lambda::new(definitions, &folder, &behind_tls)?;
    let gateway = Gateway::new(&over_http)?;
    let requests = requests::requests(&gateway).await?;

    line(
        "| function | binary MB | zip MB | exec → first poll ms | CPU until then ms | first request ms | over TLS ms | resident MB |",
    );
    line("|---|---:|---:|---:|---:|---:|---:|---:|");
    for function in over_http.functions() {
        let definition = function.definition();
        let event = requests.event(&gateway, &definition.binary).await?;
        let again = over_tls.function(&definition.name).ok_or("no function")?;
        let (mut http, mut tls) = (Vec::new(), Vec::new());
        // In turns, so that both meet the same noise.
        for _ in 0..ROUNDS {
            http.push(measured(function, &event).await?);
            tls.push(measured(again, &event).await?);
        }
        let (binary, zip) = sizes(function.bootstrap())?;
        line(&format!(
            "| `{}` | {binary:.2} | {zip:.2} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} |",
            definition.binary,
            median(&tls, |it| it.first_poll),
            median(&tls, |it| it.cpu),
            median(&http, |it| it.first_request),
            median(&tls, |it| it.first_request),
            median(&tls, |it| it.resident),
        ));
    }
    over_http.stop().await;
    Ok(())
}

/// The figures of one process.
struct Figures {
    first_poll: f64,
    cpu: f64,
    first_request: f64,
    resident: f64,
}

async fn measured(function: &Function, event: &Bytes) -> Outcome<Figures> {
    let process = function.start().await?;
    let first_poll = process.ready(PATIENCE).await?;
    let id = process.id().ok_or("the process has no id")?;
    let cpu = cpu(id)?;
    let begin = Instant::now();
    let answer = process.invoke(event.clone()).await?;
    let first_request = begin.elapsed();
    requests::check(&answer)?;
    let resident = resident(id)?;
    process.stop(PATIENCE).await;
    Ok(Figures {
        first_poll: millis(first_poll),
        cpu: millis(cpu),
        first_request: millis(first_request),
        resident,
    })
}

/// What the process's one thread has run so far: on a busy machine steadier than what a clock shows.
fn cpu(process: u32) -> Outcome<Duration> {
    let statistics = std::fs::read_to_string(format!("/proc/{process}/schedstat"))?;
    let nanoseconds = statistics.split(' ').next().unwrap_or_default();
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

/// Resident memory in MB.
fn resident(process: u32) -> Outcome<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.unwrap_or_default().trim().trim_end_matches(" kB");
    Ok(kilobytes.parse::<f64>()? * 1024.0 / 1e6)
}

/// The size of a bootstrap as it is, and deflated as in a ZIP file, in MB.
fn sizes(bootstrap: &Path) -> Outcome<(f64, f64)> {
    let binary = std::fs::read(bootstrap)?;
    let mut zip = DeflateEncoder::new(Vec::new(), Compression::default());
    zip.write_all(&binary)?;
    Ok((megabytes(binary.len())?, megabytes(zip.finish()?.len())?))
}

fn megabytes(bytes: usize) -> Outcome<f64> {
    Ok(f64::from(u32::try_from(bytes)?) / 1e6)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn median(rounds: &[Figures], figure: fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<_> = rounds.iter().map(figure).collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::print_stdout, reason = "the table is what it is for")]
fn line(text: &str) {
    println!("{text}");
}
