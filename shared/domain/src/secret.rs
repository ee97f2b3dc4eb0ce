//! Secrets: shown once, kept as hashes, compared in constant time.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::tenant_key::SHOWN;

/// The SHA-256 of a secret. High-entropy keys need no slow hash; passwords do and are not kept here.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// The hash of `secret` as a client sent it.
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Whether `secret` hashes to this. Takes the same time whatever the answer.
    pub fn matches(&self, secret: &[u8]) -> bool {
        Self::of(secret).0.ct_eq(&self.0).into()
    }

    /// The hash itself, to derive a key from that is never stored.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 hex digits: the key under which an API key is stored.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// Reads what [`SecretHash::to_hex`] wrote.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).ok()?;
        Some(Self(hash))
    }
}

/// Even a hash stays out of logs.
impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

/// A tenant's API key in the clear: exists only between its making and the one answer that shows it.
pub struct ApiKey(String);

impl ApiKey {
    /// What it begins with.
    const PREFIX: &str = "sk_";
    /// How many hex digits follow.
    const DIGITS: usize = 64;

    /// A key of 256 random bits: `sk_` and 64 hex digits, which cannot begin with `sk_live_`.
    pub fn from_entropy(entropy: [u8; 32]) -> Self {
        Self(format!("{}{}", Self::PREFIX, hex::encode(entropy)))
    }

    /// Whether `text` has the shape of such a key. Nothing tells from it whether there is this one.
    pub fn is_shape_of(text: &[u8]) -> bool {
        text.strip_prefix(Self::PREFIX.as_bytes())
            .is_some_and(|digits| {
                digits.len() == Self::DIGITS
                    && digits
                        .iter()
                        .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            })
    }

    /// For the one answer that shows it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored of it.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(self.0.as_bytes())
    }

    /// Its last characters, by which people know it again.
    pub fn last4(&self) -> &str {
        &self.0[self.0.len() - SHOWN..]
    }
}

/// What opens one connection, once and soon, for a browser that must not know the API key.
pub struct SocketToken(String);

impl SocketToken {
    /// For how long it holds, in seconds.
    pub const SECONDS: i64 = 60;

    /// A token of 256 random bits: `wst_` and 64 hex digits.
    pub fn from_entropy(entropy: [u8; 32]) -> Self {
        Self(format!("wst_{}", hex::encode(entropy)))
    }

    /// Whether `text` looks like one.
    pub fn may_be(text: &[u8]) -> bool {
        let digits = text.strip_prefix(b"wst_");
        digits.is_some_and(|it| it.len() == 64 && it.iter().all(u8::is_ascii_hexdigit))
    }

    /// For the one answer that shows it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored of it.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(self.0.as_bytes())
    }
}

impl fmt::Debug for SocketToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SocketToken(…)")
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown_by_debug() {
        let key = ApiKey::from_entropy([7; 32]);
        assert_eq!(
            format!("{key:?} {:?}", key.hash()),
            "ApiKey(…) SecretHash(…)"
        );
    }

    #[test]
    fn a_tenants_key_is_known_by_its_shape() {
        let key = ApiKey::from_entropy([7; 32]);
        let text = key.expose();
        assert!(ApiKey::is_shape_of(text.as_bytes()));
        for other in [
            "",
            "sk_",
            &text[..text.len() - 1],
            &format!("{text}0"),
            &text.to_uppercase(),
            &text.replace("sk_", "pk_"),
            "sk_live_000000000000000000000000000000",
        ] {
            assert!(!ApiKey::is_shape_of(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn only_the_same_secret_matches() {
        let hash = SecretHash::of(b"right");
        assert!(hash.matches(b"right"));
        assert!(!hash.matches(b"wrong"));
    }
}
