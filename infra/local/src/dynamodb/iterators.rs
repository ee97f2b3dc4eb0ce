//! Shard iterators as AWS models them, for clients that come over the port: each is of one stream, and good for 15 minutes.
//!
//! dynoxide's own name a table, its shard and a position, and are good for ever.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

/// How long one may be used (AWS, `GetShardIterator`).
const GOOD_FOR: Duration = Duration::from_mins(15);

/// Where a client reads on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Iterator {
    /// The stream, as the client has named it.
    pub(super) arn: String,
    /// The number after which its records follow.
    position: u64,
    /// When it was made, in milliseconds since 1970.
    made_at: u64,
}

/// The part of an iterator that follows the ARN of its stream, as a client sees it.
#[derive(Serialize, Deserialize)]
struct Place {
    position: u64,
    made_at: u64,
}

/// An iterator as dynoxide makes it.
#[derive(Serialize, Deserialize)]
struct Stored {
    table_name: String,
    shard_id: String,
    position: u64,
}

/// Milliseconds since 1970, by the wall clock.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

impl Iterator {
    /// The iterator that dynoxide has given for the stream `arn` at `now`; `None` for what is none of its.
    pub(super) fn given(arn: &str, stored: &str, now: u64) -> Option<Self> {
        let stored: Stored = serde_json::from_slice(&STANDARD.decode(stored).ok()?).ok()?;
        Some(Self {
            arn: arn.to_owned(),
            position: stored.position,
            made_at: now,
        })
    }

    /// Reads what a client sends; `None` for what nobody was given.
    pub(super) fn parse(shown: &str) -> Option<Self> {
        let (arn, place) = shown.split_once("|1|")?;
        let place: Place = serde_json::from_slice(&STANDARD.decode(place).ok()?).ok()?;
        Some(Self {
            arn: arn.to_owned(),
            position: place.position,
            made_at: place.made_at,
        })
    }

    /// As the client is shown it.
    pub(super) fn shown(&self) -> String {
        let place = Place {
            position: self.position,
            made_at: self.made_at,
        };
        // Numbers always have a JSON form.
        let place = serde_json::to_vec(&place).unwrap_or_default();
        format!("{}|1|{}", self.arn, STANDARD.encode(place))
    }

    /// As dynoxide takes it, for the shard `shard` of `table`.
    pub(super) fn stored(&self, table: &str, shard: String) -> String {
        let stored = Stored {
            table_name: table.to_owned(),
            shard_id: shard,
            position: self.position,
        };
        STANDARD.encode(serde_json::to_vec(&stored).unwrap_or_default())
    }

    /// Whether it may no longer be used at `now`. One that was made long after that is of a clock that was set back.
    pub(super) fn is_expired(&self, now: u64) -> bool {
        u128::from(self.made_at.abs_diff(now)) > GOOD_FOR.as_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:dynamodb:us-east-1:000000000000:table/Log/stream/1";

    fn iterator(made_at: u64) -> Iterator {
        let stored = r#"{"table_name":"Log","shard_id":"shardId-00000001-Log","position":7}"#;
        Iterator::given(ARN, &STANDARD.encode(stored), made_at).unwrap()
    }

    #[test]
    fn an_iterator_is_read_back_as_it_was_shown_and_leads_to_the_same_place() {
        let iterator = iterator(1_765_627_200_000);
        assert_eq!(Iterator::parse(&iterator.shown()), Some(iterator.clone()));
        let stored = iterator.stored("Log", "shardId-00000001-Log".to_owned());
        assert_eq!(
            Iterator::given(ARN, &stored, iterator.made_at),
            Some(iterator)
        );
    }

    #[test]
    fn an_iterator_is_good_for_fifteen_minutes() {
        let (made, minute) = (1_765_627_200_000, 60_000);
        assert!(!iterator(made).is_expired(made + 15 * minute));
        assert!(iterator(made).is_expired(made + 15 * minute + 1));
        assert!(iterator(made).is_expired(made - 16 * minute));
    }

    #[test]
    fn what_nobody_was_given_is_no_iterator() {
        let negative = STANDARD.encode(r#"{"position":-5,"made_at":1}"#);
        for bad in [
            String::new(),
            ARN.to_owned(),
            format!("{ARN}|1|"),
            format!("{ARN}|1|{negative}"),
            STANDARD.encode(r#"{"table_name":"Log","shard_id":"x","position":0}"#),
        ] {
            assert_eq!(Iterator::parse(&bad), None, "{bad}");
        }
    }
}
