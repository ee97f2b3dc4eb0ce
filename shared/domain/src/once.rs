//! Doing an operation once however often it is sent.

use super::Error;

/// How a repetition of a request is recognised: its `Idempotency-Key` and what it asked for.
#[derive(Debug, Clone)]
pub struct Once {
    key: String,
    request: RequestDigests,
}

/// Two SHA-256 digests of one request. Requests are the same if the canonical ones are, or, where a version before this has
/// stored the exact one alone, if that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestDigests {
    /// Of method, path and the body's bytes as they came. The only one that versions before this knew.
    pub exact: [u8; 32],
    /// Of method, path, query and the body's JSON in one spelling: no white space, members in the order of their names.
    pub canonical: [u8; 32],
}

impl Once {
    /// The longest key, in characters.
    pub const MAX: usize = 255;

    /// Reads the header's value, sent with `request`.
    pub fn parse(key: &str, request: RequestDigests) -> Result<Self, Error> {
        if !Self::is_key(key) {
            return Err(Error::invalid(
                "Idempotency-Key",
                "Invalid Idempotency-Key. It is 1 to 255 visible ASCII characters",
            ));
        }
        Ok(Self {
            key: key.to_owned(),
            request,
        })
    }

    /// Whether `text` may be a key: 1 to 255 visible ASCII characters.
    pub fn is_key(text: &str) -> bool {
        (1..=Self::MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    }

    /// The client's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What the request asked for.
    pub const fn request(&self) -> &RequestDigests {
        &self.request
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
