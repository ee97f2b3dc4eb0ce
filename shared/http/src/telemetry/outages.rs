//! The `ERROR` lines of requests that were answered 503.
//!
//! On AWS each of these requests is an `ERROR` line of its function. A process that serves everything would write hundreds a
//! second that all say the same, perhaps to the very disk that is full. After [`limit`] there is one line at once for each
//! kind, then one every ten seconds at most that tells how many there were; all others are `INFO`, with the cause.
//!
//! The kind is the dependency that failed, as its error is worded without what caused it: `table Messages`.

use std::{
    collections::HashMap,
    sync::{Mutex, OnceLock, PoisonError},
};

use super::Warning;
use crate::domain::Error;

/// How many kinds are told apart. Those beyond share one, or errors that are worded anew each time would have no limit.
const KINDS: usize = 64;
/// The kind of what is beyond.
const OTHERS: &str = "others";

static LIMITED: OnceLock<Outages> = OnceLock::new();

/// Limits the lines of this process from now on.
pub fn limit() {
    LIMITED.get_or_init(Outages::default);
}

/// Says how many requests failed that no line has counted yet, if it is time. For whoever called [`limit`], every few seconds: what
/// came just before the end of an outage would not be said otherwise.
pub fn tell() {
    let Some(outages) = LIMITED.get() else {
        return;
    };
    for (kind, times) in outages.rest() {
        tracing::error!(kind, times, "more requests failed in the same way");
    }
}

/// Counts a request that was answered 503 because of `error`, or of the health probe. If an `ERROR` line is due: of how many
/// requests, this one included.
pub(super) fn due(error: Option<&Error>) -> Option<u64> {
    match LIMITED.get() {
        Some(outages) => outages.due(kind(error)),
        None => Some(1),
    }
}

fn kind(error: Option<&Error>) -> String {
    match error {
        Some(error) => match error.cause() {
            Some(cause) => cause.to_string(),
            None => error.to_string(),
        },
        None => "health".to_owned(),
    }
}

/// How often each kind has happened.
#[derive(Debug, Default)]
struct Outages(Mutex<HashMap<String, Warning>>);

impl Outages {
    fn due(&self, kind: String) -> Option<u64> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = if kinds.len() < KINDS || kinds.contains_key(&kind) {
            kind
        } else {
            OTHERS.to_owned()
        };
        kinds.entry(kind).or_default().due()
    }

    fn rest(&self) -> Vec<(String, u64)> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = kinds.iter_mut().filter_map(|(kind, warning)| {
            let times = warning.due_after(0)?;
            Some((kind.clone(), times))
        });
        due.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    fn down(table: &str) -> Error {
        Error::Unavailable(format!("table {table}").into())
    }

    fn due(outages: &Outages, error: Option<&Error>) -> Option<u64> {
        outages.due(kind(error))
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_told_at_once_and_then_as_a_count_by_kind() {
        let outages = Outages::default();
        let (messages, rooms) = (down("Messages"), down("Rooms"));
        assert_eq!(due(&outages, Some(&messages)), Some(1));
        assert_eq!(due(&outages, Some(&rooms)), Some(1));
        assert_eq!(due(&outages, Some(&Error::Busy)), Some(1));
        assert_eq!(due(&outages, None), Some(1));
        assert!((0..1_000).all(|_| due(&outages, Some(&messages)).is_none()));
        advance(Duration::from_secs(10)).await;
        assert_eq!(due(&outages, Some(&messages)), Some(1_001));
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_an_outage_is_told_after_its_end() {
        let outages = Outages::default();
        let messages = down("Messages");
        assert!(due(&outages, Some(&messages)).is_some());
        assert!((0..10).all(|_| due(&outages, Some(&messages)).is_none()));
        assert_eq!(outages.rest(), []);
        advance(Duration::from_secs(10)).await;
        assert_eq!(outages.rest(), [("table Messages".to_owned(), 10)]);
        assert_eq!(outages.rest(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn errors_that_are_worded_anew_each_time_are_limited_too() {
        let outages = Outages::default();
        let lines = (0..1_000).filter(|number| {
            let error = down(&number.to_string());
            due(&outages, Some(&error)).is_some()
        });
        assert_eq!(lines.count(), KINDS + 1);
    }
}
