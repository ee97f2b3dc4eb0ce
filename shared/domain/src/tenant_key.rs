//! A tenant's own keys: which of them hold.
//!
//! **Invariant:** at most two hold, the current one and, while a rotation overlaps, the one before it. A rotation ends all
//! others by what it writes, so nothing has to find them.
//!
//! | the profile | keys that hold, unless their time is over |
//! |---|---|
//! | was never rotated by a version that names the previous key | all that were not ended |
//! | names the rotation that made its current key | that key, and the previous one that the rotation names |
//! | names a rotation before the one that made its current key | the current one, the one before, and what was made since |
//!
//! The third is left by the version before this one, which writes only the current key: it ends nothing but by time.

use super::{TenantKeyId, Timestamp, secret::SecretHash};

/// How many characters of a key lists show.
pub const SHOWN: usize = 4;

/// A tenant's keys as its profile names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantKeys {
    /// The newest.
    pub current: SecretHash,
    /// The last rotation that named the previous key; `None` before the first.
    pub rotation: Option<LastRotation>,
}

/// The last change of a tenant's keys by a version that names the previous key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRotation {
    /// The current key after it.
    pub current: SecretHash,
    /// Its time.
    pub at: Timestamp,
    /// The key before, if it was left to hold for a while.
    pub previous: Option<SecretHash>,
}

/// Whether a key is its tenant's newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Current,
    /// A rotation has replaced it.
    Previous,
}

impl Standing {
    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Previous => "previous",
        }
    }
}

impl TenantKeys {
    /// The keys of a tenant whose first one hashes to `first`.
    pub const fn of(first: SecretHash) -> Self {
        Self {
            current: first,
            rotation: None,
        }
    }

    /// Whether the key that hashes to `hash` and was made at `made_at` may hold. Its own end is read besides.
    pub fn admit(&self, hash: SecretHash, made_at: Timestamp) -> bool {
        let Some(last) = &self.rotation else {
            return true;
        };
        if hash == self.current {
            true
        } else if last.current == self.current {
            last.previous == Some(hash)
        } else {
            last.current == hash || made_at > last.at
        }
    }

    /// The key before the current one that is known to hold, unless its time is over.
    pub fn previous(&self) -> Option<SecretHash> {
        let last = self.rotation.as_ref()?;
        if last.current == self.current {
            last.previous
        } else {
            Some(last.current)
        }
    }

    /// The keys that are known, the current one aside, without one of them named twice.
    pub fn replaced(&self) -> Vec<SecretHash> {
        let mut replaced = Vec::new();
        if let Some(last) = &self.rotation {
            for hash in last.previous.into_iter().chain([last.current]) {
                if hash != self.current && !replaced.contains(&hash) {
                    replaced.push(hash);
                }
            }
        }
        replaced
    }
}

/// A tenant's key as lists show it: never its text.
#[derive(Debug, Clone)]
pub struct ListedKey {
    /// Its id, which is computed from its hash.
    pub id: TenantKeyId,
    /// Whether it is the newest.
    pub standing: Standing,
    /// The last characters of its text, if they were kept.
    pub last4: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops to hold; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to about an hour.
    pub last_used_at: Option<Timestamp>,
}

impl ListedKey {
    /// What lists show of its text.
    pub fn masked(&self) -> String {
        format!("sk_…{}", self.last4.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u8) -> SecretHash {
        SecretHash::of(&[number])
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(0).plus_seconds(second)
    }

    /// The keys 1 to 5, made at the second of their number, that `keys` admits.
    fn admitted(keys: &TenantKeys) -> Vec<u8> {
        let numbers = (1..=5).filter(|number| keys.admit(hash(*number), at((*number).into())));
        numbers.collect()
    }

    fn rotated(current: u8, last: u8, previous: Option<u8>) -> TenantKeys {
        TenantKeys {
            current: hash(current),
            rotation: Some(LastRotation {
                current: hash(last),
                at: at(last.into()),
                previous: previous.map(hash),
            }),
        }
    }

    #[test]
    fn a_rotation_leaves_the_newest_key_and_the_one_it_names() {
        assert_eq!(admitted(&rotated(4, 4, Some(3))), [3, 4]);
        assert_eq!(admitted(&rotated(4, 4, None)), [4]);
    }

    #[test]
    fn a_profile_that_no_rotation_of_this_version_wrote_admits_all_that_were_not_ended() {
        assert_eq!(admitted(&TenantKeys::of(hash(3))), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_rotation_by_the_version_before_ends_the_key_that_was_previous() {
        assert_eq!(admitted(&rotated(4, 3, Some(2))), [3, 4, 5]);
        assert_eq!(admitted(&rotated(5, 3, None)), [3, 4, 5]);
    }

    #[test]
    fn the_current_key_holds_though_a_clock_has_stepped_back() {
        let keys = rotated(4, 4, None);
        assert!(keys.admit(hash(4), at(-100)));
        let keys = rotated(5, 4, None);
        assert!(keys.admit(hash(5), at(-100)));
    }

    #[test]
    fn the_previous_key_is_the_one_that_the_last_rotation_replaced() {
        assert_eq!(rotated(4, 4, Some(3)).previous(), Some(hash(3)));
        assert_eq!(rotated(4, 4, None).previous(), None);
        assert_eq!(rotated(5, 4, Some(3)).previous(), Some(hash(4)));
        assert_eq!(TenantKeys::of(hash(1)).previous(), None);
    }

    #[test]
    fn each_replaced_key_is_named_once() {
        assert_eq!(rotated(4, 4, Some(3)).replaced(), [hash(3)]);
        assert_eq!(rotated(5, 4, Some(3)).replaced(), [hash(3), hash(4)]);
        assert_eq!(rotated(5, 4, Some(4)).replaced(), [hash(4)]);
        assert_eq!(TenantKeys::of(hash(1)).replaced(), []);
    }

    #[test]
    fn a_key_shows_its_end_if_that_was_kept() {
        let shown = |last4: Option<&str>| {
            let key = ListedKey {
                id: TenantKeyId::of(hash(1)),
                standing: Standing::Current,
                last4: last4.map(str::to_owned),
                created_at: at(0),
                expires_at: None,
                last_used_at: None,
            };
            key.masked()
        };
        assert_eq!(shown(Some("12ef")), "sk_…12ef");
        assert_eq!(shown(None), "sk_…");
    }
}
