//! Starts the runner as a user does, reads what it prints, and sees to its end.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::json;
use tempfile::TempDir;

use super::http::{Client, address};
use super::wait::until;

/// The operator's key where several runners share one.
pub const MASTER_KEY: &str = "mk_the_operators_key_of_the_processes";

/// A way to start a runner.
pub struct Start {
    command: Command,
    port: u16,
    /// Where it starts and keeps its temporary files, so that what it leaves behind can be seen.
    home: Arc<TempDir>,
}

/// A runner that printed its banner. It is killed when dropped.
pub struct Runner {
    /// Where the API is.
    pub base_url: String,
    /// All that it printed.
    pub banner: String,
    process: Process,
    home: Arc<TempDir>,
}

/// Who the first start handed a key to.
#[derive(Debug, Clone)]
pub struct Tenant {
    pub id: String,
    pub key: String,
}

/// How a runner ended.
#[derive(Debug)]
pub struct End {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Start {
    /// On free ports, in a new home.
    pub fn new() -> Self {
        Self::at(&Arc::new(tempfile::tempdir().unwrap()))
    }

    fn at(home: &Arc<TempDir>) -> Self {
        Self::program_at(Path::new(env!("CARGO_BIN_EXE_parlance-local")), home)
    }

    fn program_at(program: &Path, home: &Arc<TempDir>) -> Self {
        let mut command = Command::new(program);
        command
            .current_dir(home.path())
            .env("TMPDIR", home.path())
            .env_remove("MASTER_API_KEY")
            .env_remove("SEALING_KEY")
            .env_remove("RUST_LOG")
            .env_remove("AWS_PROFILE")
            .env_remove("AWS_ACCESS_KEY_ID")
            .stdin(Stdio::null());
        Self {
            command,
            port: 0,
            home: Arc::clone(home),
        }
    }

    /// Another one in the same home.
    pub fn again(&self) -> Self {
        Self::at(&self.home)
    }

    /// Another runner than the one that was built with these tests. Give it before all else.
    pub fn program(self, program: &Path) -> Self {
        Self::program_at(program, &self.home)
    }

    /// As a process for which a shell has run `commands` first. Give it before all else.
    pub fn after(self, commands: &str) -> Self {
        let shell = format!("{commands} && exec \"$0\" \"$@\"");
        let runner = env!("CARGO_BIN_EXE_parlance-local");
        self.program(Path::new("/bin/sh"))
            .with(["-c", &shell, runner])
    }

    /// On this port.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// With more arguments.
    pub fn with<S: AsRef<std::ffi::OsStr>>(
        mut self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        self.command.args(arguments);
        self
    }

    /// With the operator's key in the environment.
    pub fn master_key(mut self, key: &str) -> Self {
        self.command.env("MASTER_API_KEY", key);
        self
    }

    /// With a variable in its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Keeping nothing, and serving its store to [`Start::guest_of`] it.
    pub fn sharing(self) -> Self {
        let shared = self.master_key(MASTER_KEY);
        shared.with(["--memory", "--aws-port", "0"])
    }

    /// Without a store of its own: on that of `owner`.
    pub fn guest_of(self, owner: &Runner) -> Self {
        let url = owner.aws_url();
        let endpoints = ["--dynamodb-endpoint", &url, "--sqs-endpoint", &url];
        self.master_key(MASTER_KEY)
            .with(["--memory"])
            .with(endpoints)
    }

    /// The folder it starts in.
    pub fn home(&self) -> PathBuf {
        self.home.path().to_owned()
    }

    /// As another user, if this one may choose.
    pub fn user(mut self, id: u32) -> Self {
        use std::os::unix::process::CommandExt as _;
        self.command.uid(id).gid(id);
        self
    }

    fn process(&mut self) -> std::io::Result<Process> {
        Process::start(self.command.args(["--port", &self.port.to_string()]))
    }

    /// Starts it and waits for its banner.
    pub fn run(mut self) -> Runner {
        let mut process = self.process().unwrap();
        let banner = until("the banner", || {
            let printed = process.stdout.text();
            // The last lines of a banner are a curl and an empty one.
            if printed.contains("curl -s") && printed.ends_with("\n\n") {
                return Some(printed);
            }
            let ended = process.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", process.stderr.text());
            None
        });
        Runner {
            base_url: word_after(&banner, "Parlance is ready: ").unwrap(),
            banner,
            process,
            home: self.home,
        }
    }

    /// Starts it and waits for its end.
    pub fn end(self) -> End {
        self.try_end().unwrap()
    }

    /// As [`Start::end`], unless it cannot even be started.
    pub fn try_end(mut self) -> std::io::Result<End> {
        Ok(self.process()?.ended())
    }

    /// Starts it and leaves it to itself.
    pub fn launch(mut self) -> Process {
        self.process().unwrap()
    }
}

impl Runner {
    /// The tenant that a first start shows.
    pub fn tenant(&self) -> Tenant {
        Tenant {
            id: self.word("  tenant         "),
            key: self.word("  API key        "),
        }
    }

    /// The word after `label` in the banner.
    pub fn word(&self, label: &str) -> String {
        let found = word_after(&self.banner, label);
        found.unwrap_or_else(|| panic!("no {label:?} in {}", self.banner))
    }

    /// Where it serves its stores.
    pub fn aws_url(&self) -> String {
        self.word("aws --endpoint-url ")
    }

    /// The curl line, whole.
    pub fn curl(&self) -> String {
        let mut lines = self.banner.lines();
        let line = lines.find(|line| line.starts_with("  curl "));
        line.unwrap().trim().to_owned()
    }

    /// The operator.
    pub fn operator(&self) -> Client {
        let key = match word_after(&self.banner, "master key     in ") {
            Some(file) => std::fs::read_to_string(file).unwrap().trim().to_owned(),
            None => MASTER_KEY.to_owned(),
        };
        Client::new(&self.base_url, &[("x-master-key", &key)])
    }

    /// The tenant's server, acting for `user`.
    pub fn user(&self, tenant: &Tenant, user: &str) -> Client {
        let headers = [("x-api-key", &*tenant.key), ("x-user-id", user)];
        Client::new(&self.base_url, &headers)
    }

    /// The tenant of the first start, with a rate limit that no test reaches.
    pub fn busy_tenant(&self) -> Tenant {
        let tenant = self.tenant();
        let path = format!("/admin/tenants/{}", tenant.id);
        let limit = json!({ "rate_limit": 1_000_000 });
        self.operator().patch(&path, &limit).assert(200);
        tenant
    }

    /// `127.0.0.1:8080`
    pub fn address(&self) -> String {
        address(&self.base_url)
    }

    /// Its data folder, if it was not told one.
    pub fn data(&self) -> PathBuf {
        self.home.path().join(".parlance")
    }

    /// Kills it with `kill -9`.
    pub fn kill(mut self) -> Start {
        self.process.kill();
        Start::at(&self.home)
    }

    /// Sends it a signal, such as `TERM`.
    pub fn signal(&self, signal: &str) {
        let pid = self.process.child.id().to_string();
        let mut kill = Command::new("kill");
        let kill = kill.args([&format!("-{signal}"), &pid]);
        assert!(kill.status().unwrap().success());
    }

    /// Waits for its end; how to start it again, too.
    pub fn ended(self) -> (End, Start) {
        (self.process.ended(), Start::at(&self.home))
    }

    /// Asks it to end, and waits.
    pub fn stop(self) -> (End, Start) {
        self.signal("TERM");
        self.ended()
    }

    /// What it has logged so far.
    pub fn logged(&self) -> String {
        self.process.stderr.text()
    }
}

/// A child that does not outlive its test.
pub struct Process {
    child: Child,
    stdout: Pipe,
    stderr: Pipe,
}

impl Process {
    fn start(command: &mut Command) -> std::io::Result<Self> {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        Ok(Self {
            stdout: Pipe::drain(child.stdout.take().unwrap()),
            stderr: Pipe::drain(child.stderr.take().unwrap()),
            child,
        })
    }

    fn ended(mut self) -> End {
        let status = until("its end", || self.child.try_wait().unwrap());
        End {
            status,
            stdout: self.stdout.all(),
            stderr: self.stderr.all(),
        }
    }

    /// Waits until it has `count` files open, or is ready: somewhere in its start.
    pub fn started_as_far_as(&self, count: usize) {
        let files = format!("/proc/{}/fd", self.child.id());
        until("a start under way", || {
            // Where there is no such folder, the beginning is far enough.
            let open = std::fs::read_dir(&files).map_or(usize::MAX, Iterator::count);
            (open >= count || self.stdout.text().contains("curl -s")).then_some(())
        });
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "shown with a test that fails")]
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("a runner said: {}", self.stderr.all());
        }
    }
}

/// One of its outputs, read all the time so that it never blocks.
struct Pipe {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Pipe {
    fn drain(mut pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut part) {
                written.lock().unwrap().extend_from_slice(&part[..count]);
            }
        });
        Self {
            text,
            reader: Some(reader),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }

    /// The text after the process ended.
    fn all(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.text()
    }
}

fn word_after(text: &str, label: &str) -> Option<String> {
    let (_, rest) = text.split_once(label)?;
    Some(rest.split_whitespace().next()?.to_owned())
}

/// What is in a folder, by name.
pub fn listing(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}
