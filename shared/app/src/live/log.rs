//! A log as frames, read once for all that stand at the same place.
//!
//! **Invariant:** the frames that all calls of this process have read and not yet posted weigh at most
//! [`FrameMemory::LIMIT`]. Nobody who holds a page waits for another one, so those who wait are served in turn.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use crate::{
    domain::{
        Error, LogId,
        message::{Range, Seq},
    },
    providers::{frames, sockets::LARGEST_FRAME},
    store::messages::MessageStore,
};

/// How many messages are read at once.
const PAGE: u64 = 50;
/// How many pages are kept.
const PAGES: usize = 8;
/// How much a kept page may weigh. A heavier one is held only by those who post it.
const KEPT: usize = 256 * 1024;

/// Room for the frames that are held in memory, of all rooms.
#[derive(Debug)]
pub(crate) struct FrameMemory(Arc<Semaphore>);

impl FrameMemory {
    /// Enough for five of the heaviest pages; an eighth of the memory of the function.
    const LIMIT: usize = 32 * 1024 * 1024;

    /// Room for `messages` of unknown weight; `None` if there is none until `until`. Calls `free` before it waits.
    async fn room(
        &self,
        messages: usize,
        until: Instant,
        free: impl FnOnce(),
    ) -> Option<OwnedSemaphorePermit> {
        let most = messages.saturating_mul(LARGEST_FRAME).min(Self::LIMIT);
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        if let Ok(room) = Arc::clone(&self.0).try_acquire_many_owned(most) {
            return Some(room);
        }
        free();
        let room = Arc::clone(&self.0).acquire_many_owned(most);
        // It is never closed.
        timeout_at(until, room).await.ok()?.ok()
    }
}

impl Default for FrameMemory {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(Self::LIMIT)))
    }
}

/// A message as it is posted.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) seq: Seq,
    pub(super) text: String,
}

/// Adjacent messages, and the room that they take.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) frames: Vec<Frame>,
    _room: OwnedSemaphorePermit,
}

/// Read once, by whoever comes first.
type Reading = Arc<OnceCell<Arc<Page>>>;

/// The log of one room.
///
/// What is read stays as it was read: use one only for leases that were taken before it was made, or a message
/// that was edited in between would be shown as it was.
#[derive(Debug)]
pub(super) struct FramedLog<'a> {
    messages: &'a MessageStore,
    memory: &'a FrameMemory,
    log_id: LogId,
    /// What lies between two places, as far as it was read.
    pages: Mutex<HashMap<(Seq, Seq), Reading>>,
}

impl<'a> FramedLog<'a> {
    pub(super) fn new(messages: &'a MessageStore, memory: &'a FrameMemory, log_id: LogId) -> Self {
        Self {
            messages,
            memory,
            log_id,
            pages: Mutex::default(),
        }
    }

    /// What follows `after`, not beyond `last`: some of it, ascending and without a gap; nothing only if there is
    /// nothing. `None` if there is no room for it in memory until `until`.
    pub(super) async fn after(
        &self,
        after: Seq,
        last: Seq,
        until: Instant,
    ) -> Result<Option<Arc<Page>>, Error> {
        let place = (after, last);
        let reading = {
            let mut pages = self.pages();
            if pages.len() >= PAGES && !pages.contains_key(&place) {
                pages.clear();
            }
            Arc::clone(pages.entry(place).or_default())
        };
        let page = reading.get_or_try_init(|| async {
            let limit = last.since(after).clamp(1, PAGE);
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            // Pages that are kept for later are not worth waiting for.
            let free = || self.pages().clear();
            match self.memory.room(limit, until, free).await {
                Some(room) => self.read(after, limit, room).await.map_err(Some),
                None => Err(None),
            }
        });
        match page.await {
            Ok(page) => {
                let page = Arc::clone(page);
                if weight(&page.frames) > KEPT {
                    self.forget(place, &reading);
                }
                Ok(Some(page))
            }
            Err(None) => Ok(None),
            Err(Some(error)) => Err(error),
        }
    }

    /// Reads one page, which takes no more of `room` than it weighs.
    async fn read(
        &self,
        after: Seq,
        limit: usize,
        mut room: OwnedSemaphorePermit,
    ) -> Result<Arc<Page>, Error> {
        let range = Range {
            after: Some(after),
            before: None,
            limit,
        };
        let stretch = self.messages.range(self.log_id, range).await?;
        let frames = stretch.messages.iter().map(|message| {
            Ok(Frame {
                seq: message.seq,
                text: frames::message(self.log_id.log, message)?,
            })
        });
        let frames: Vec<_> = frames.collect::<Result<_, Error>>()?;
        let spare = room.num_permits().saturating_sub(weight(&frames));
        drop(room.split(spare));
        Ok(Arc::new(Page {
            frames,
            _room: room,
        }))
    }

    /// A panic elsewhere leaves the map whole: every change to it is one call.
    fn pages(&self) -> MutexGuard<'_, HashMap<(Seq, Seq), Reading>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps `reading` for nobody else.
    fn forget(&self, place: (Seq, Seq), reading: &Reading) {
        let mut pages = self.pages();
        if pages.get(&place).is_some_and(|it| Arc::ptr_eq(it, reading)) {
            pages.remove(&place);
        }
    }
}

fn weight(frames: &[Frame]) -> usize {
    frames.iter().map(|frame| frame.text.len()).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pages_of_all_rooms_wait_for_room_in_memory_and_free_what_they_keep_first() {
        let memory = FrameMemory::default();
        let page = usize::try_from(PAGE).unwrap();
        let soon = || Instant::now() + Duration::from_secs(2);
        let mut held = Vec::new();
        let is_waited_for = std::cell::Cell::new(false);
        while !is_waited_for.get() {
            let room = memory.room(page, soon(), || is_waited_for.set(true)).await;
            held.extend(room);
        }
        // Nobody let go of any, so the last one came in vain.
        assert!(held.len() * page * LARGEST_FRAME <= FrameMemory::LIMIT);
        assert!((held.len() + 1) * page * LARGEST_FRAME > FrameMemory::LIMIT);
        // A page that turns out to be light makes room for others.
        let mut light = held.pop().unwrap();
        drop(light.split(light.num_permits() - 1));
        assert!(memory.room(1, soon(), || ()).await.is_some());
        drop(light);
        assert!(memory.room(page, soon(), || ()).await.is_some());
    }
}
