//! One process of a function.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::body::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::runtime_api::{Event, Failure, Parts, RuntimeApi};
use crate::surroundings::Surroundings;
use crate::template::Definition;

/// How a process ended.
#[derive(Debug, Clone)]
pub struct End {
    /// Its exit status.
    pub status: ExitStatus,
    /// All that it printed, on both outputs.
    pub log: String,
}

/// A process and its Runtime API. It is killed when dropped.
#[derive(Debug)]
pub struct Instance {
    api: RuntimeApi,
    log: Log,
    pid: Option<u32>,
    signals: mpsc::UnboundedSender<Signal>,
    ended: watch::Receiver<Option<ExitStatus>>,
    outputs: Vec<JoinHandle<()>>,
    started: Instant,
    /// Whether it was killed because it took too long.
    spent: AtomicBool,
    definition: Definition,
    arn: String,
}

impl Instance {
    /// Starts `bootstrap` with the environment that Lambda would give it, and nothing else.
    ///
    /// # Errors
    ///
    /// If there is no such program, or it cannot be run.
    pub async fn start(
        bootstrap: &Path,
        definition: &Definition,
        surroundings: &Surroundings,
    ) -> io::Result<Self> {
        let api = RuntimeApi::start().await?;
        let root = bootstrap.parent().unwrap_or(bootstrap);
        let task_root = root.display().to_string();
        let environment: BTreeMap<_, _> =
            surroundings.environment(definition, &api.address, &task_root);
        let mut command = Command::new(bootstrap);
        command
            .env_clear()
            .envs(environment)
            .current_dir(root)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let started = Instant::now();
        let mut child = command.spawn()?;
        let log = Log::default();
        let mut outputs = Vec::new();
        outputs.extend(child.stdout.take().map(|pipe| log.follow(pipe)));
        outputs.extend(child.stderr.take().map(|pipe| log.follow(pipe)));
        let (signals, commands) = mpsc::unbounded_channel();
        let (end, ended) = watch::channel(None);
        let pid = child.id();
        tokio::spawn(reap(child, commands, end));
        Ok(Self {
            api,
            log,
            pid,
            signals,
            ended,
            outputs,
            started,
            spent: AtomicBool::new(false),
            definition: definition.clone(),
            arn: surroundings.arn(&definition.name),
        })
    }

    /// Waits until the process asks for its first event; how long that took from its start.
    ///
    /// # Errors
    ///
    /// If it ends before, or takes longer than `patience`.
    pub async fn ready(&self, patience: Duration) -> Result<Duration, Failure> {
        let mut polled = self.api.polled.clone();
        let asked = async { polled.wait_for(|asked| *asked).await.is_ok() };
        tokio::select! {
            _ = asked => Ok(self.started.elapsed()),
            failure = self.exited() => Err(failure),
            () = tokio::time::sleep(patience) => {
                let message = format!("no event was asked for within {patience:?}");
                Err(Failure::new("Sandbox.Timedout", message))
            }
        }
    }

    /// Has the process work on `event`.
    ///
    /// # Errors
    ///
    /// What the process says went wrong; or that it ended, or took longer than its function may. After
    /// either of these two it is of no more use.
    pub async fn invoke(&self, event: Bytes) -> Result<Bytes, Failure> {
        self.work(event, None).await
    }

    /// As [`Instance::invoke`]; of a streamed response the parts go to `parts`, and nothing is left.
    pub(crate) async fn work(&self, event: Bytes, parts: Option<Parts>) -> Result<Bytes, Failure> {
        let (answer, response) = oneshot::channel();
        let event = Event {
            id: uuid::Uuid::new_v4().to_string(),
            body: event,
            deadline: SystemTime::now() + self.definition.timeout,
            trace: trace_id(),
            arn: self.arn.clone(),
            answer,
            parts,
        };
        let answered = async {
            self.api.hand_over(event).await;
            match response.await {
                Ok(outcome) => outcome,
                Err(_) => Err(self.exited().await),
            }
        };
        tokio::select! {
            biased;
            outcome = answered => outcome,
            failure = self.exited() => Err(failure),
            () = tokio::time::sleep(self.definition.timeout) => {
                self.spent.store(true, Ordering::Relaxed);
                self.signal(Signal::KILL);
                let seconds = self.definition.timeout.as_secs_f64();
                let message = format!("Task timed out after {seconds:.2} seconds");
                Err(Failure::new("Sandbox.Timedout", message))
            }
        }
    }

    /// Asks the process to end, and kills it if it has not ended within `patience`.
    pub async fn stop(mut self, patience: Duration) -> End {
        self.signal(Signal::TERM);
        let mut ended = self.ended.clone();
        if timeout(patience, ended.wait_for(Option::is_some))
            .await
            .is_err()
        {
            self.signal(Signal::KILL);
        }
        self.end().await
    }

    /// Waits for the process to end by itself.
    pub async fn end(&mut self) -> End {
        let status = status(&mut self.ended).await;
        for output in self.outputs.drain(..) {
            // It ended, so its outputs did.
            drop(output.await);
        }
        End {
            status,
            log: self.log.text(),
        }
    }

    /// Whether the process can be given another event.
    pub(crate) fn is_alive(&self) -> bool {
        self.ended.borrow().is_none() && !self.spent.load(Ordering::Relaxed)
    }

    /// All that the process has printed so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    pub(crate) fn log_handle(&self) -> Log {
        self.log.clone()
    }

    /// The id of its process, which is another's once it has ended.
    pub fn id(&self) -> Option<u32> {
        self.pid
    }

    fn signal(&self, signal: Signal) {
        // Nobody listens once it has ended.
        let _ = self.signals.send(signal);
    }

    /// Waits for the end of the process, which nobody asked for.
    async fn exited(&self) -> Failure {
        let status = status(&mut self.ended.clone()).await;
        let message = format!("Runtime exited: {status}. {}", self.log.text().trim_end());
        Failure::new("Runtime.ExitError", message)
    }
}

async fn status(ended: &mut watch::Receiver<Option<ExitStatus>>) -> ExitStatus {
    match ended.wait_for(Option::is_some).await.map(|status| *status) {
        Ok(Some(status)) => status,
        // Only with the Tokio runtime does the one who knows go away.
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

/// Waits for a process, and sends it signals until it has ended: only so long is its id its own.
async fn reap(
    mut child: Child,
    mut commands: mpsc::UnboundedReceiver<Signal>,
    end: watch::Sender<Option<ExitStatus>>,
) {
    loop {
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        tokio::select! {
            status = child.wait() => {
                if let Ok(status) = status {
                    end.send_replace(Some(status));
                }
                return;
            }
            command = commands.recv() => {
                // `None`: its instance was dropped.
                let signal = command.unwrap_or(Signal::KILL);
                if let Some(pid) = pid {
                    // It may have ended just now.
                    let _ = kill_process(pid, signal);
                }
            }
        }
    }
}

/// What a process has printed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn follow(&self, mut pipe: impl AsyncRead + Unpin + Send + 'static) -> JoinHandle<()> {
        let log = self.clone();
        tokio::spawn(async move {
            let mut part = vec![0; 8192];
            while let Ok(count @ 1..) = pipe.read(&mut part).await {
                let mut text = log.0.lock().unwrap_or_else(PoisonError::into_inner);
                text.extend_from_slice(&part[..count]);
            }
        })
    }

    pub(crate) fn text(&self) -> String {
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// `Root=1-…;Parent=…;Sampled=0`
fn trace_id() -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    let parent = uuid::Uuid::new_v4().simple().to_string();
    let root = format!("1-{}-{}", &random[..8], &random[8..]);
    format!("Root={root};Parent={};Sampled=0", &parent[..16])
}
