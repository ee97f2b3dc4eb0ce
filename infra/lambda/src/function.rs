//! A function: its processes, and who of them works on an event.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::instance::{Instance, Log};
use crate::runtime_api::{Failure, Parts};
use crate::surroundings::Surroundings;
use crate::template::Definition;

/// How long a process has to end after SIGTERM: what Lambda gives one with an internal extension.
/// <https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-shutdown>
const GRACE: Duration = Duration::from_millis(500);

/// A function with as many processes as it needs, up to a limit.
#[derive(Debug, Clone)]
pub struct Function(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    definition: Definition,
    bootstrap: PathBuf,
    surroundings: Surroundings,
    /// One place for each process that may work at the same time.
    places: Semaphore,
    /// The processes that wait for an event, the last used one last.
    idle: Mutex<Vec<Instance>>,
    logs: Mutex<Vec<Log>>,
    runtime: Handle,
}

impl Function {
    pub(crate) fn new(
        definition: Definition,
        bootstrap: PathBuf,
        surroundings: Surroundings,
    ) -> Self {
        Self(Arc::new(Inner {
            definition,
            bootstrap,
            places: Semaphore::new(surroundings.instances),
            surroundings,
            idle: Mutex::default(),
            logs: Mutex::default(),
            runtime: Handle::current(),
        }))
    }

    /// What the template says of it.
    pub fn definition(&self) -> &Definition {
        &self.0.definition
    }

    /// Its binary.
    pub fn bootstrap(&self) -> &Path {
        &self.0.bootstrap
    }

    /// Has one of its processes work on `event`, and starts one if all are busy. At the limit it waits.
    ///
    /// # Errors
    ///
    /// Why there is no response. A process that failed by ending is replaced at the next event.
    pub async fn invoke(&self, event: impl Into<Bytes>) -> Result<Bytes, Failure> {
        let function = Arc::clone(&self.0);
        let event = event.into();
        self.on_its_runtime(async move { function.work(event, None).await })
            .await
            .unwrap_or_else(|lost| Err(Failure::new("Sandbox.Failure", lost)))
    }

    /// As [`Function::invoke`] in the mode `RESPONSE_STREAM`: the parts of the response as they come. It ends early if the
    /// function fails, and has no part at all if it failed before the first.
    pub fn stream(&self, event: impl Into<Bytes>) -> mpsc::Receiver<Bytes> {
        let (function, event) = (Arc::clone(&self.0), event.into());
        let (parts, coming) = mpsc::channel(1);
        self.0.runtime.spawn(async move {
            // Whoever listens sees that it ends.
            drop(function.work(event, Some(parts)).await);
        });
        coming
    }

    /// As [`Function::invoke`], by a caller who waits no longer than `patience`; `None` then. The invocation
    /// goes on, as in Lambda.
    pub(crate) async fn invoke_within(
        &self,
        patience: Duration,
        event: Bytes,
    ) -> Option<Result<Bytes, Failure>> {
        let function = self.clone();
        self.on_its_runtime(async move { timeout(patience, function.invoke(event)).await.ok() })
            .await
            .unwrap_or_else(|lost| Some(Err(Failure::new("Sandbox.Failure", lost))))
    }

    /// Does `work` where its processes and their servers live, whichever runtime and clock the caller has. A
    /// caller that goes away ends nothing.
    async fn on_its_runtime<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, String> {
        let done = self.0.runtime.spawn(work).await;
        done.map_err(|lost| lost.to_string())
    }

    /// Starts a process of its own, to which no event goes but those that its owner hands it.
    ///
    /// # Errors
    ///
    /// If the bootstrap cannot be run.
    pub async fn start(&self) -> std::io::Result<Instance> {
        let function = Arc::clone(&self.0);
        let started = self.on_its_runtime(async move {
            Instance::start(
                &function.bootstrap,
                &function.definition,
                &function.surroundings,
            )
            .await
        });
        started
            .await
            .unwrap_or_else(|lost| Err(std::io::Error::other(lost)))
    }

    /// All that its processes have printed so far.
    pub fn log(&self) -> String {
        locked(&self.0.logs).iter().map(Log::text).collect()
    }

    /// How many processes have been started for its events.
    pub fn starts(&self) -> usize {
        locked(&self.0.logs).len()
    }

    /// How many of its processes wait for an event.
    pub fn idle(&self) -> usize {
        locked(&self.0.idle).len()
    }

    /// Ends the processes that wait for an event.
    pub(crate) async fn stop(&self) {
        let idle = std::mem::take(&mut *locked(&self.0.idle));
        let ends = async move {
            for instance in idle {
                instance.stop(GRACE).await;
            }
        };
        // It fails if the runtime is gone, and the processes with it.
        drop(self.on_its_runtime(ends).await);
    }
}

impl Inner {
    async fn work(&self, event: Bytes, parts: Option<Parts>) -> Result<Bytes, Failure> {
        // It is never closed.
        let place = self.places.acquire().await;
        let waiting = locked(&self.idle).pop();
        let instance = match waiting {
            Some(instance) if instance.is_alive() => instance,
            Some(_) | None => self.start().await?,
        };
        let outcome = instance.work(event, parts).await;
        if instance.is_alive() {
            locked(&self.idle).push(instance);
        }
        drop(place);
        outcome
    }

    async fn start(&self) -> Result<Instance, Failure> {
        let started = Instance::start(&self.bootstrap, &self.definition, &self.surroundings).await;
        let instance = started
            .map_err(|error| Failure::new("Runtime.InvalidEntrypoint", error.to_string()))?;
        locked(&self.logs).push(instance.log_handle());
        instance.ready(self.surroundings.init).await?;
        Ok(instance)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
