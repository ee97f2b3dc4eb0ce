//! The runner under measurement: a child process on a temporary folder.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::sleep;

use crate::Outcome;
use crate::connection::Connection;

/// The operator's key of every runner started here.
pub(crate) const MASTER_KEY: &str = "benchmark-master-key-benchmark";
/// What Linux counts CPU time in, whatever the kernel's own clock.
const TICK: Duration = Duration::from_millis(10);
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// A folder of data, and the runner that serves it between [`Server::start`] and [`Server::stop`].
#[derive(Debug)]
pub(crate) struct Server {
    runner: PathBuf,
    folder: TempDir,
    child: Option<Child>,
    pub(crate) port: u16,
    arguments: &'static [&'static str],
}

impl Server {
    pub(crate) fn new(runner: &Path) -> Outcome<Self> {
        Ok(Self {
            runner: runner.to_owned(),
            folder: tempfile::tempdir()?,
            child: None,
            port: 0,
            arguments: &[],
        })
    }

    /// With more `arguments`.
    pub(crate) const fn with(mut self, arguments: &'static [&'static str]) -> Self {
        self.arguments = arguments;
        self
    }

    /// The file of the embedded DynamoDB.
    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("data/dynamodb.db")
    }

    /// Starts the runner; how long until its first answer.
    pub(crate) async fn start(&mut self) -> Outcome<Duration> {
        // Free now, and nobody else is likely to take it within a millisecond.
        self.port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let log = File::create(self.folder.path().join("log"))?;
        let begin = Instant::now();
        let child = Command::new(&self.runner)
            .args(["--sync", "normal", "--port", &self.port.to_string()])
            .args(self.arguments)
            .args([
                OsStr::new("--data"),
                self.folder.path().join("data").as_ref(),
            ])
            .env("MASTER_API_KEY", MASTER_KEY)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.runner.display()))?;
        self.child = Some(child);
        while begin.elapsed() < STARTS_WITHIN {
            if let Ok(mut connection) = Connection::open(self.port).await {
                let request = "GET /health HTTP/1.1\r\nHost: bench\r\n\r\n";
                connection.exchange(request).await?;
                return Ok(begin.elapsed());
            }
            sleep(Duration::from_millis(1)).await;
        }
        let log = fs::read_to_string(self.folder.path().join("log"))?;
        Err(format!("the runner did not start: {log}").into())
    }

    /// Ends the runner in good order.
    pub(crate) fn stop(&mut self) -> Outcome<()> {
        if let Some(mut child) = self.child.take() {
            Command::new("kill").arg(child.id().to_string()).status()?;
            child.wait()?;
        }
        Ok(())
    }

    /// User and system time so far.
    pub(crate) fn cpu(&self) -> Outcome<Duration> {
        let stat = self.proc("stat")?;
        // After the name, which may contain anything, come the fields from the third on.
        let (_, fields) = stat.rsplit_once(") ").ok_or("no /proc/…/stat")?;
        let mut fields = fields.split(' ').skip(11);
        let mut ticks = || -> Outcome<u32> { Ok(fields.next().unwrap_or_default().parse()?) };
        Ok(TICK * (ticks()? + ticks()?))
    }

    /// Resident memory in MB.
    pub(crate) fn resident(&self) -> Outcome<f64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.unwrap_or_default().trim().trim_end_matches(" kB");
        Ok(kilobytes.parse::<f64>()? / 1024.0)
    }

    fn proc(&self, file: &str) -> Outcome<String> {
        let child = self.child.as_ref().ok_or("the runner is not running")?;
        Ok(fs::read_to_string(format!("/proc/{}/{file}", child.id()))?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
