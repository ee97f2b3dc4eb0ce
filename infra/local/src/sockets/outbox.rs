//! What waits to be sent to one connection.
//!
//! **Invariant:** the frames of all outboxes together, and those of posts that wait for room in one, weigh at most
//! [`Backlog::LIMIT`]: beyond it, the connections whose clients have not read for longest are cut off.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use futures_util::SinkExt as _;
use futures_util::stream::SplitSink;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};

/// How many frames may wait, and how many bytes.
const FRAMES: usize = 256;
const BYTES: usize = 1 << 20;
/// The largest frame that is taken: API Gateway's limit.
pub(super) const LARGEST: usize = 128 * 1024;
/// How long a post waits for room.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a farewell may take to be sent.
const FAREWELL: Duration = Duration::from_secs(1);
/// Clients come back over this time, not all at once.
const SPREAD_MS: u64 = 4_000;
const SOONEST_MS: u64 = 1_000;

/// One connection as the rest of the world sees it.
#[derive(Debug)]
pub(super) struct Outbox {
    frames: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    backlog: Arc<Backlog>,
    /// Bytes that wait here, or for room here, the frame that is being sent among them.
    waiting: Arc<AtomicUsize>,
    /// When a frame was sent last, or the first of those that wait was posted.
    moved: Mutex<Instant>,
    end: watch::Sender<Option<End>>,
    last_active: Mutex<Instant>,
    /// For those who ask. How long a connection is silent is counted by a clock that nobody sets.
    pub(super) connected_at: SystemTime,
    pub(super) source_ip: String,
    pub(super) user_agent: String,
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) code: u16,
    pub(super) reason: &'static str,
}

/// A frame that is to be put into an outbox. Its bytes count while it waits for room there.
#[derive(Debug)]
pub(super) struct Posting {
    frame: Utf8Bytes,
    weight: Weight,
}

/// What became of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Post {
    Taken,
    Gone,
    TooLarge,
}

/// A frame, and its room; or the end, after all that was posted before it.
#[derive(Debug)]
pub(super) enum Waiting {
    Frame(Utf8Bytes, Option<Room>),
    End(End),
}

/// Bytes that wait in the outboxes of all connections, or for room there.
#[derive(Debug)]
pub(super) struct Backlog {
    bytes: AtomicUsize,
    limit: usize,
}

impl Backlog {
    /// Far more than clients that read ever leave, and little beside what a machine has.
    pub(super) const LIMIT: usize = 64 << 20;

    pub(super) fn new(limit: usize) -> Self {
        Self {
            bytes: AtomicUsize::new(0),
            limit,
        }
    }

    /// By how much it is too large.
    pub(super) fn excess(&self) -> usize {
        self.bytes.load(Relaxed).saturating_sub(self.limit)
    }
}

/// The room that a frame takes in an outbox until it is dropped.
#[derive(Debug)]
pub(super) struct Room {
    _weight: Weight,
    _of_outbox: OwnedSemaphorePermit,
}

/// Bytes of a frame, counted until this is dropped.
#[derive(Debug)]
struct Weight {
    bytes: usize,
    waiting: Arc<AtomicUsize>,
    backlog: Arc<Backlog>,
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Relaxed);
        self.backlog.bytes.fetch_sub(self.bytes, Relaxed);
    }
}

impl Outbox {
    pub(super) fn new(
        source_ip: String,
        user_agent: String,
        backlog: Arc<Backlog>,
    ) -> (Self, mpsc::Receiver<Waiting>) {
        let (frames, waiting) = mpsc::channel(FRAMES);
        let outbox = Self {
            frames,
            room: Arc::new(Semaphore::new(BYTES)),
            backlog,
            waiting: Arc::default(),
            moved: Mutex::new(Instant::now()),
            end: watch::Sender::new(None),
            last_active: Mutex::new(Instant::now()),
            connected_at: SystemTime::now(),
            source_ip,
            user_agent,
        };
        (outbox, waiting)
    }

    /// Counts a frame that is to be put into the outbox. `None` if it is too large.
    pub(super) fn posting(&self, frame: Utf8Bytes) -> Option<Posting> {
        let bytes = frame.len();
        if bytes > LARGEST {
            return None;
        }
        if self.waiting.fetch_add(bytes, Relaxed) == 0 {
            self.note_moved();
        }
        self.backlog.bytes.fetch_add(bytes, Relaxed);
        let weight = Weight {
            bytes,
            waiting: Arc::clone(&self.waiting),
            backlog: Arc::clone(&self.backlog),
        };
        Some(Posting { frame, weight })
    }

    /// Puts a frame into the outbox that was counted for it. If there is no room for it within two seconds, the connection
    /// is cut off.
    pub(super) async fn put(&self, posting: Posting) -> Post {
        let Posting { frame, weight } = posting;
        let deadline = Instant::now() + PATIENCE;
        let bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let taken = timeout_at(deadline, async {
            let room = Arc::clone(&self.room).acquire_many_owned(bytes).await;
            let place = self.frames.reserve().await;
            match (room, place) {
                (Ok(permit), Ok(place)) => {
                    let room = Room {
                        _weight: weight,
                        _of_outbox: permit,
                    };
                    place.send(Waiting::Frame(frame, Some(room)));
                    Post::Taken
                }
                (Err(_), _) | (_, Err(_)) => Post::Gone,
            }
        });
        tokio::select! {
            biased;
            // There may be room in a connection that is over; whoever waits for it need not.
            _ = self.ended() => Post::Gone,
            taken = taken => taken.unwrap_or_else(|_| {
                self.cut_off();
                Post::Gone
            }),
        }
    }

    fn note_moved(&self) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Bytes that wait here, or for room here.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Since when its client has read nothing of what waits. `None` if the connection is over: what waits is dropped
    /// then.
    pub(super) fn stuck_since(&self) -> Option<Instant> {
        let moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        self.end.borrow().is_none().then_some(*moved)
    }

    /// Ends the connection at once, since its client reads too slowly.
    pub(super) fn cut_off(&self) {
        self.end(close_code::POLICY, "Too slow");
    }

    /// Tells the client to come back, after all that waits.
    pub(super) fn say_goodbye(&self) {
        let mut random = [0; 8];
        // Without randomness all come back at once: that is bearable.
        let _ = getrandom::fill(&mut random);
        let wait = SOONEST_MS + u64::from_ne_bytes(random) % SPREAD_MS;
        let frame = format!(r#"{{"type":"server.shutdown","reconnect_after_ms":{wait}}}"#);
        // Who has no room for it is not told.
        let _ = self.frames.try_send(Waiting::Frame(frame.into(), None));
        self.close(close_code::AWAY, "Going away");
    }

    /// Ends the connection after all that waits.
    pub(super) fn close(&self, code: u16, reason: &'static str) {
        let end = End { code, reason };
        if self.frames.try_send(Waiting::End(end)).is_err() {
            self.end(code, reason);
        }
    }

    /// Ends the connection at once. The first reason stands.
    pub(super) fn end(&self, code: u16, reason: &'static str) {
        self.end.send_if_modified(|end| {
            let is_first = end.is_none();
            if is_first {
                *end = Some(End { code, reason });
            }
            is_first
        });
    }

    /// Waits for the end.
    pub(super) async fn ended(&self) -> End {
        let mut end = self.end.subscribe();
        let reason = match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone(),
            // The sender is ours: it cannot be gone.
            Err(_) => None,
        };
        reason.unwrap_or(End {
            code: close_code::ABNORMAL,
            reason: "",
        })
    }

    /// Something was said in one direction or the other.
    pub(super) fn touch(&self) {
        *self
            .last_active
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// When something was said last, as the clock is set now.
    pub(super) fn last_active_at(&self) -> SystemTime {
        let at = SystemTime::now().checked_sub(self.silence());
        at.map_or(self.connected_at, |at| at.max(self.connected_at))
    }

    /// For how long nothing was said.
    pub(super) fn silence(&self) -> Duration {
        let last_active = self.last_active.lock();
        last_active
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed()
    }

    /// Sends what waits, until the end.
    pub(super) async fn send_all(
        &self,
        mut waiting: mpsc::Receiver<Waiting>,
        mut sink: SplitSink<WebSocket, Message>,
    ) {
        let end = loop {
            let next = tokio::select! {
                biased;
                end = self.ended() => break end,
                next = waiting.recv() => next,
            };
            let (frame, room) = match next {
                Some(Waiting::Frame(frame, room)) => (frame, room),
                Some(Waiting::End(end)) => {
                    self.end(end.code, end.reason);
                    continue;
                }
                // The sender is ours: it cannot be gone.
                None => break self.ended().await,
            };
            let sent = tokio::select! {
                sent = sink.send(Message::Text(frame)) => sent.is_ok(),
                end = self.ended() => break end,
            };
            drop(room);
            if sent {
                self.note_moved();
                self.touch();
            } else {
                self.end(close_code::ABNORMAL, "Connection lost");
            }
        };
        // What comes now is not taken.
        waiting.close();
        while waiting.try_recv().is_ok() {}
        if end.code == close_code::ABNORMAL {
            return;
        }
        let close = Message::Close(Some(CloseFrame {
            code: end.code,
            reason: Utf8Bytes::from_static(end.reason),
        }));
        // Who does not read is not waited for.
        let farewell = timeout(FAREWELL, async {
            sink.send(close).await?;
            sink.close().await
        });
        if !matches!(farewell.await, Ok(Ok(()))) {
            tracing::debug!("a connection ended without a farewell");
        }
    }
}
