//! Where the engine is used: at once, or by the thread that works for those who have to wait.
//!
//! dynoxide serialises its calls anyway. A thread of its own, fed by a channel, costs the least
//! CPU per call of all the ways that were measured under load, and blocks no task. Where nobody waits,
//! a small write needs no thread: it is done in the task that asks, which saves two wake-ups.
//!
//! **Invariant:** requests are answered one by one, and none overtakes one that waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_types::body::SdkBody;
use dynoxide::Database;
use tokio::sync::oneshot;

use super::Answer;
use super::engine::Engine;
use super::operation::Operation;
use super::records::Trim;

/// The engine, and who waits for it.
pub(super) struct Desk {
    /// `None` once the store is closed.
    engine: Mutex<Option<Engine>>,
    /// Jobs that are queued or lent out: nobody may overtake them.
    waiting: AtomicUsize,
}

/// A place in the queue before the engine.
pub(super) struct Place(Arc<Desk>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Place")
    }
}

impl Desk {
    pub(super) fn new(engine: Engine) -> Self {
        Self {
            engine: Mutex::new(Some(engine)),
            waiting: AtomicUsize::new(0),
        }
    }

    pub(super) fn place(self: &Arc<Self>) -> Place {
        self.waiting.fetch_add(1, Relaxed);
        Place(self.clone())
    }

    /// Answers at once, in the task that asks, if nobody else is there.
    pub(super) fn serve_if_free(&self, operation: Operation, body: &[u8]) -> Option<Answer> {
        if self.waiting.load(Relaxed) > 0 {
            return None;
        }
        let mut engine = self.engine.try_lock().ok()?;
        let engine = engine.as_mut()?;
        Some(or_die(|| engine.serve(operation, body)))
    }

    /// Works until it is told to close, or nobody is left who could ask.
    pub(super) fn work(&self, jobs: &Receiver<Job>) {
        or_die(|| {
            // A caller may have gone away meanwhile: then nobody wants the answer.
            while let Ok(job) = jobs.recv() {
                let mut open = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(engine) = open.as_mut() else { return };
                match job {
                    Job::Request {
                        operation,
                        body,
                        reply,
                        place,
                    } => {
                        drop(place);
                        let answer = engine.serve(operation, body.bytes().unwrap_or_default());
                        drop(reply.send(answer));
                    }
                    Job::Trim { trim, reply } => drop(reply.send(engine.trim(&trim))),
                    Job::Lend { reply } => drop(reply.send(Lent(engine.lend()))),
                    Job::Close => {
                        open.take();
                        return;
                    }
                }
            }
        });
    }
}

/// Without its store the runner could only fail; what was acknowledged is in the file, and whoever
/// starts it again finds it there.
fn or_die<T>(work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        tracing::error!("the embedded DynamoDB died");
        std::process::exit(1)
    })
}

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    Request {
        operation: Operation,
        body: SdkBody,
        reply: oneshot::Sender<Answer>,
        place: Place,
    },
    Trim {
        trim: Trim,
        reply: oneshot::Sender<rusqlite::Result<bool>>,
    },
    Lend {
        reply: oneshot::Sender<Lent>,
    },
    Close,
}

/// A second handle on the database, for work that yields to requests by itself.
pub(super) struct Lent(pub(super) Database);

impl std::fmt::Debug for Lent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lent")
    }
}
