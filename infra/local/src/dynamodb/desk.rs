//! Where requests queue for the engine.
//!
//! dynoxide serialises its calls anyway. Whoever asks and finds the engine free works for all that are
//! queued, so that nobody has to be woken up to do it. What may take longer than a small write is left
//! to a thread of its own, and so is all of it where a write waits for the disk: no task is held up for long.
//!
//! **Invariant:** what is queued is done one by one in the order it came, and nothing is forgotten: whoever
//! lets go of the engine looks at the queue once more.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use aws_smithy_types::body::SdkBody;
use dynoxide::Database;
use tokio::sync::oneshot;

use super::engine::Engine;
use super::operation::Operation;
use super::records::Trim;
use super::{Answer, Sync};

/// How many requests a task answers before it leaves the others to the thread: about 3 ms of work.
const AT_ONCE: usize = 32;

/// What is asked of the engine.
#[derive(Debug)]
pub(super) enum Job {
    Request {
        operation: Operation,
        body: SdkBody,
        reply: oneshot::Sender<Answer>,
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

impl Job {
    /// Whether this takes a tenth of a millisecond or so.
    fn is_small(&self) -> bool {
        match self {
            Self::Request { operation, .. } => operation.writes_one_item(),
            Self::Trim { .. } | Self::Lend { .. } | Self::Close => false,
        }
    }
}

/// The desk, and the thread behind it.
pub(super) struct Desk {
    shared: Arc<Shared>,
    sync: Sync,
    thread: Mutex<Option<JoinHandle<()>>>,
    unpark: std::thread::Thread,
}

struct Shared {
    /// `None` once the store is closed.
    engine: Mutex<Option<Engine>>,
    /// `None` once the store is closed: then a job is dropped, and its reply with it.
    queue: Mutex<Option<VecDeque<Job>>>,
    /// How many use the database beside the engine, for whose sake a task could have to wait.
    lent: AtomicUsize,
}

/// A second handle on the database, for work that yields to requests by itself.
pub(super) struct Lent {
    pub(super) database: Database,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Lent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lent")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.shared.lent.fetch_sub(1, Relaxed);
    }
}

impl Desk {
    pub(super) fn new(engine: Engine, sync: Sync) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            engine: Mutex::new(Some(engine)),
            queue: Mutex::new(Some(VecDeque::new())),
            lent: AtomicUsize::new(0),
        });
        let worker = shared.clone();
        let thread = std::thread::Builder::new()
            .name("dynamodb".to_owned())
            .spawn(move || worker.work())?;
        Ok(Self {
            shared,
            sync,
            unpark: thread.thread().clone(),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Sees to it that a job is done. It is dropped if the store is closed.
    pub(super) fn submit(&self, job: Job) {
        let may_help = self.may_help(&job);
        if let Some(queue) = self.shared.queue().as_mut() {
            queue.push_back(job);
        }
        if !may_help || !self.shared.help() {
            self.unpark.unpark();
        }
    }

    /// Whether who asks for this may work for it, since it holds up no task.
    fn may_help(&self, job: &Job) -> bool {
        job.is_small() && self.sync == Sync::Normal && self.shared.lent.load(Relaxed) == 0
    }

    /// Does what is queued, closes the file, and returns when that is done.
    pub(super) fn close(&self) {
        self.submit(Job::Close);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the database thread had died");
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.submit(Job::Close);
    }
}

impl Shared {
    /// Does what is queued, in the task that asks. False if something is left for the thread.
    fn help(self: &Arc<Self>) -> bool {
        let mut left = AT_ONCE;
        loop {
            // Who holds it will see our job.
            let Ok(mut engine) = self.engine.try_lock() else {
                return true;
            };
            while left > 0
                && let Some(job) = self.next(Job::is_small)
            {
                self.run(&mut engine, job);
                left -= 1;
            }
            drop(engine);
            match self.queue().as_ref().and_then(VecDeque::front) {
                None => return true,
                Some(job) if left > 0 && job.is_small() => {}
                Some(_) => return false,
            }
        }
    }

    /// Works until the store is closed.
    fn work(self: &Arc<Self>) {
        loop {
            let mut engine = self.engine();
            while let Some(job) = self.next(|_| true) {
                self.run(&mut engine, job);
            }
            drop(engine);
            while match self.queue().as_ref() {
                None => return,
                Some(queue) => queue.is_empty(),
            } {
                std::thread::park();
            }
        }
    }

    fn run(self: &Arc<Self>, engine: &mut Option<Engine>, job: Job) {
        let Some(open) = engine else { return };
        // A caller may have gone away meanwhile: then nobody wants the answer.
        match job {
            Job::Request {
                operation,
                body,
                reply,
            } => {
                let bytes = body.bytes().unwrap_or_default();
                drop(reply.send(or_die(|| open.serve(operation, bytes))));
            }
            Job::Trim { trim, reply } => drop(reply.send(or_die(|| open.trim(&trim)))),
            Job::Lend { reply } => {
                self.lent.fetch_add(1, Relaxed);
                let (database, shared) = (open.lend(), self.clone());
                drop(reply.send(Lent { database, shared }));
            }
            Job::Close => {
                self.queue().take();
                engine.take();
            }
        }
    }

    /// The next job, if it is such a one.
    fn next(&self, is_wanted: impl FnOnce(&Job) -> bool) -> Option<Job> {
        let mut queue = self.queue();
        let queue = queue.as_mut()?;
        if queue.front().is_some_and(is_wanted) {
            queue.pop_front()
        } else {
            None
        }
    }

    fn queue(&self) -> MutexGuard<'_, Option<VecDeque<Job>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn engine(&self) -> MutexGuard<'_, Option<Engine>> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::super::DynamoDb;
    use super::*;

    fn store(sync: Sync) -> (tempfile::TempDir, DynamoDb) {
        let folder = tempfile::tempdir().unwrap();
        let store = DynamoDb::open(&folder.path().join("d.db"), sync).unwrap();
        (folder, store)
    }

    /// A write, whose answer is an error, since it names no table.
    fn write() -> (Job, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        let (operation, body) = (Operation::PutItem, SdkBody::from("{}"));
        let job = Job::Request {
            operation,
            body,
            reply,
        };
        (job, answer)
    }

    #[test]
    fn who_asks_works_for_all_that_are_queued() {
        let (_folder, store) = store(Sync::Normal);
        let desk = &store.desk;
        let busy = desk.shared.engine();
        let ((first, mut first_answer), (second, mut second_answer)) = (write(), write());
        desk.submit(first);
        assert!(first_answer.try_recv().is_err());
        drop(busy);
        desk.submit(second);
        assert_eq!(first_answer.try_recv().unwrap().status, 400);
        assert_eq!(second_answer.try_recv().unwrap().status, 400);
    }

    #[tokio::test]
    async fn a_task_works_for_nothing_that_could_hold_it_up() {
        let (reply, borrowed) = oneshot::channel();
        let lend = Job::Lend { reply };
        let (_folder, store) = store(Sync::Normal);
        assert!(!store.desk.may_help(&lend));
        assert!(store.desk.may_help(&write().0));
        store.desk.submit(lend);
        let borrowed = borrowed.await.unwrap();
        assert!(!store.desk.may_help(&write().0));
        drop(borrowed);
        assert!(store.desk.may_help(&write().0));
    }

    #[test]
    fn a_task_does_not_wait_for_the_disk() {
        let (_folder, store) = store(Sync::Full);
        assert!(!store.desk.may_help(&write().0));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn nobody_is_forgotten() {
        let (_folder, store) = store(Sync::Normal);
        let crowd = (0..16).map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                for turn in 0..300 {
                    // Some are for the thread.
                    let name = if (number + turn) % 7 == 0 {
                        "ListTables"
                    } else {
                        "PutItem"
                    };
                    let target = format!("DynamoDB_20120810.{name}");
                    store.handle(&target, b"{}".to_vec()).await;
                }
            })
        });
        for somebody in crowd.collect::<Vec<_>>() {
            let done = timeout(Duration::from_mins(1), somebody).await;
            done.expect("an answer").unwrap();
        }
    }
}
