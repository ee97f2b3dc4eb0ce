//! `cargo run --release`: Parlance on one machine.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use parlance::http::telemetry;
use parlance_local::{FirstTenant, Log, Options, Running, StartError, start};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A quarter less CPU per send than with the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is logged if nobody says: of requests and batches, only those that failed.
const QUIET: &str = "info,parlance::request=warn,parlance::batch=warn";

fn main() -> ExitCode {
    let mut options = Options::parse();
    let key = |variable| std::env::var(variable).ok().filter(|key| !key.is_empty());
    options.master_key = key("MASTER_API_KEY");
    options.sealing_key = key("SEALING_KEY");
    match options.log {
        Log::Text => log_as_text(),
        Log::Json => telemetry::start_on_one_machine(),
    }
    // One worker would let a long computation delay every other request.
    let workers = std::thread::available_parallelism().map_or(2, |count| count.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(options)),
        Err(error) => Err(error.to_string()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            drop(writeln!(io::stderr(), "parlance-local: {reason}"));
            ExitCode::FAILURE
        }
    }
}

fn log_as_text() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(QUIET));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

async fn run(options: Options) -> Result<(), String> {
    // Listened to before anything starts, so that an early signal stops it in good order too.
    let (mut interrupt, mut terminate) = signals().map_err(|error| error.to_string())?;
    let running = start(options).await.map_err(|error| error.to_string())?;
    let greeted = greet(&running).await.map_err(|error| error.to_string());
    if greeted.is_ok() {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
    running.stop().await;
    greeted
}

fn signals() -> io::Result<(Signal, Signal)> {
    Ok((
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    ))
}

/// Says where everything is, and hands out the first tenant's key.
async fn greet(running: &Running) -> Result<(), StartError> {
    let tenant = running.first_tenant().await?;
    // Who closes standard output does not want to read this.
    drop(io::stdout().write_all(banner(running, tenant.as_ref()).as_bytes()));
    Ok(())
}

fn banner(running: &Running, tenant: Option<&FirstTenant>) -> String {
    let url = &running.base_url;
    let mut lines = vec![
        String::new(),
        format!("Parlance is ready: {url}"),
        format!("  documentation  {url}/docs"),
        format!("  connections    {}/ws", url.replacen("http", "ws", 1)),
    ];
    if let Some(aws_url) = &running.aws_url {
        lines.push(format!(
            "  aws CLI        aws --endpoint-url {aws_url} dynamodb list-tables"
        ));
    }
    lines.push(match &running.master_key.file {
        Some(file) => format!("  master key     in {}", file.display()),
        None => "  master key     the one in MASTER_API_KEY".to_owned(),
    });
    match tenant {
        Some(FirstTenant { tenant_id, api_key }) => lines.extend([
            format!("  tenant         {tenant_id}"),
            format!("  API key        {api_key}   (shown this once)"),
            String::new(),
            "Create a room:".to_owned(),
            String::new(),
            format!(
                "  curl -s {url}/rooms -H 'X-API-Key: {api_key}' -H 'X-User-Id: alice' \
                 -H 'Content-Type: application/json' \
                 -d '{{\"type\":\"group\",\"name\":\"Team\",\"members\":[\"alice\",\"bob\"]}}'"
            ),
        ]),
        None => lines.extend([
            String::new(),
            "API keys are stored hashed and cannot be shown again. For a new one:".to_owned(),
            String::new(),
            format!(
                "  curl -s -X POST {url}/admin/tenants/TENANT_ID/keys/rotate \
                 -H \"X-Master-Key: {}\"",
                running.master_key.file.as_ref().map_or_else(
                    || "$MASTER_API_KEY".to_owned(),
                    // A quote ends what a shell takes as it is.
                    |file| format!(
                        "$(cat '{}')",
                        file.display().to_string().replace('\'', r"'\''")
                    ),
                )
            ),
            format!("  (GET {url}/admin/tenants lists the tenants.)"),
        ]),
    }
    lines.push("\n".to_owned());
    lines.join("\n")
}
