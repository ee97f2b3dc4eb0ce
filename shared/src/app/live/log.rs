//! A log as frames, read once for all that stand at the same place.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OnceCell;

use crate::{
    domain::{
        Error, Thread,
        message::{Range, Seq},
    },
    providers::frames,
    store::messages::MessageStore,
};

/// How many messages are read at once.
const PAGE: u64 = 50;
/// How many pages are kept. One is at most 4 MB of messages.
const PAGES: usize = 8;

/// A message as it is posted.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) seq: Seq,
    pub(super) text: String,
}

type Page = Arc<[Frame]>;
/// Read once, by whoever comes first.
type Reading = Arc<OnceCell<Page>>;

/// The log of one room.
///
/// What is read stays as it was read: use one only for leases that were taken before it was made, or a message
/// that was edited in between would be shown as it was.
#[derive(Debug)]
pub(super) struct Log<'a> {
    messages: &'a MessageStore,
    thread: Thread,
    /// What lies between two places, as far as it was read.
    pages: Mutex<HashMap<(Seq, Seq), Reading>>,
}

impl<'a> Log<'a> {
    pub(super) fn new(messages: &'a MessageStore, thread: Thread) -> Self {
        Self {
            messages,
            thread,
            pages: Mutex::default(),
        }
    }

    /// What follows `after`, not beyond `last`: some of it, ascending and without a gap; nothing only if there is
    /// nothing.
    pub(super) async fn after(&self, after: Seq, last: Seq) -> Result<Page, Error> {
        let page = {
            let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
            if pages.len() >= PAGES && !pages.contains_key(&(after, last)) {
                pages.clear();
            }
            Arc::clone(pages.entry((after, last)).or_default())
        };
        let read = page.get_or_try_init(|| self.read(after, last));
        read.await.map(Arc::clone)
    }

    async fn read(&self, after: Seq, last: Seq) -> Result<Page, Error> {
        let limit = last.since(after).clamp(1, PAGE);
        let range = Range {
            after: Some(after),
            before: None,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
        };
        let stretch = self.messages.range(self.thread, range).await?;
        let frames = stretch.messages.iter().map(|message| {
            Ok(Frame {
                seq: message.seq,
                text: frames::message(self.thread.room, message)?,
            })
        });
        frames.collect()
    }
}
