//! Doing an operation once however often it is sent.

use super::Error;

/// How a repetition of a request is recognised: its `Idempotency-Key` and what it asked for.
#[derive(Debug, Clone)]
pub struct Once {
    key: String,
    digest: [u8; 32],
}

impl Once {
    /// The longest key, in characters.
    pub const MAX: usize = 255;

    /// Reads the header's value; `digest` is the SHA-256 of method, path and body.
    pub fn parse(key: &str, digest: [u8; 32]) -> Result<Self, Error> {
        let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        if key.is_empty() || key.len() > Self::MAX || !visible {
            return Err(Error::invalid(
                "Idempotency-Key",
                "Invalid Idempotency-Key. It is 1 to 255 visible ASCII characters",
            ));
        }
        Ok(Self {
            key: key.to_owned(),
            digest,
        })
    }

    /// The client's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What the request asked for.
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

/// What an operation gave, and whether it was done by an earlier request.
#[derive(Debug)]
pub struct Done<T> {
    /// The result, the first one's if `replayed`.
    pub value: T,
    /// Whether an earlier request with the same [`Once`] did it.
    pub replayed: bool,
}

impl<T> Done<T> {
    /// Done by this request.
    pub const fn now(value: T) -> Self {
        Self {
            value,
            replayed: false,
        }
    }

    /// Done by an earlier request.
    pub const fn before(value: T) -> Self {
        Self {
            value,
            replayed: true,
        }
    }
}
