//! Client tokens of `TransactWriteItems`.
//!
//! dynoxide keeps them too, but walks over all of the last ten minutes on every transaction, and
//! the SDK sends a token with each: a thousand transactions a second soon crawl. Here a look-up
//! and the expiry are constant time.
//!
//! **Invariant:** for ten minutes after a transaction was committed, its token answers with the
//! first answer for the same items, and with a mismatch for any others; a failed transaction
//! leaves no trace.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

const LIFETIME: Duration = Duration::from_mins(10);
/// The answer to a transaction nobody asked the capacity of, that is, nearly all of them.
const EMPTY_ANSWER: &[u8] = b"{}";

/// Sixteen bytes of SHA-256. Only fingerprints are kept, so ten busy minutes fit in memory.
type Fingerprint = [u8; 16];

/// A token and the items that came with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    token: Fingerprint,
    items: Fingerprint,
}

/// What is known of a claim.
#[derive(Debug, PartialEq)]
pub(super) enum Known {
    /// Nothing: the transaction has to run.
    Nothing,
    /// It was committed before, with this answer.
    Answered(Vec<u8>),
    /// The token was used for other items.
    Mismatch,
}

#[derive(Debug)]
struct Committed {
    items: Fingerprint,
    answer: Option<Box<[u8]>>,
}

/// The tokens of the last ten minutes.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    committed: HashMap<Fingerprint, Committed>,
    oldest_first: VecDeque<(Instant, Fingerprint)>,
}

impl Claim {
    pub(super) fn new(token: &str, items: &impl Serialize) -> Self {
        // Through a `Value` whose maps are sorted: the same items may come in another order.
        let items = serde_json::to_value(items).map(|mut items| {
            items.sort_all_objects();
            items.to_string()
        });
        Self {
            token: fingerprint(token.as_bytes()),
            items: fingerprint(items.unwrap_or_default().as_bytes()),
        }
    }
}

impl Tokens {
    pub(super) fn look_up(&mut self, claim: &Claim, now: Instant) -> Known {
        self.expire(now);
        match self.committed.get(&claim.token) {
            None => Known::Nothing,
            Some(first) if first.items != claim.items => Known::Mismatch,
            Some(first) => {
                Known::Answered(first.answer.as_deref().unwrap_or(EMPTY_ANSWER).to_vec())
            }
        }
    }

    pub(super) fn remember(&mut self, claim: Claim, answer: &[u8], now: Instant) {
        let answer = (answer != EMPTY_ANSWER).then(|| answer.into());
        self.committed.insert(
            claim.token,
            Committed {
                items: claim.items,
                answer,
            },
        );
        self.oldest_first.push_back((now, claim.token));
    }

    fn expire(&mut self, now: Instant) {
        while let Some((at, token)) = self.oldest_first.front() {
            if now.duration_since(*at) < LIFETIME {
                return;
            }
            self.committed.remove(token);
            self.oldest_first.pop_front();
        }
    }
}

fn fingerprint(bytes: &[u8]) -> Fingerprint {
    let mut short = Fingerprint::default();
    short.copy_from_slice(&Sha256::digest(bytes)[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_order_of_members_makes_no_other_items() {
        let one = Claim::new("t", &json!([{ "a": 1, "b": { "c": 1, "d": 2 } }]));
        let other = Claim::new("t", &json!([{ "b": { "d": 2, "c": 1 }, "a": 1 }]));
        assert_eq!(one.items, other.items);
    }

    #[test]
    fn a_token_answers_alike_for_ten_minutes_and_refuses_other_items() {
        let (mut tokens, start) = (Tokens::default(), Instant::now());
        let claim = Claim::new("t1", &json!([{ "a": 1 }]));
        assert_eq!(tokens.look_up(&claim, start), Known::Nothing);
        tokens.remember(claim, br#"{"first":1}"#, start);

        let almost = start + Duration::from_secs(599);
        assert_eq!(
            tokens.look_up(&claim, almost),
            Known::Answered(br#"{"first":1}"#.to_vec())
        );
        let other = Claim::new("t1", &json!([{ "a": 2 }]));
        assert_eq!(tokens.look_up(&other, almost), Known::Mismatch);
        assert_eq!(tokens.look_up(&other, start + LIFETIME), Known::Nothing);
        assert!(tokens.committed.is_empty() && tokens.oldest_first.is_empty());
    }

    #[test]
    fn the_order_of_attributes_makes_no_difference() {
        // Twenty-six entries in a `HashMap`: two maps practically never agree on an order.
        let item = || ('a'..='z').map(|c| (c, c)).collect::<HashMap<_, _>>();
        assert_eq!(
            Claim::new("t", &item()).items,
            Claim::new("t", &item()).items
        );
    }
}
