//! The people of a tenant, as the tenant names them.

use std::fmt;

use super::Error;

/// Names a user within a tenant: 1 to 128 visible ASCII characters, the tenant's own choice.
///
/// It may hold `#`, `:`, `/` and `%`: every key that contains one goes through
/// [`super::text::escape`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(String);

impl UserId {
    /// The longest user id, in characters.
    pub const MAX: usize = 128;

    /// Reads `text` from `field`.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, Error> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() > Self::MAX || !visible {
            return Err(Error::invalid(
                field,
                format!("Invalid {field}. A user id is 1 to 128 visible ASCII characters"),
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// Trusts what our own store gives back.
    pub const fn stored(text: String) -> Self {
        Self(text)
    }

    /// The id as the tenant wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
