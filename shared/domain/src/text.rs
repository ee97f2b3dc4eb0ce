//! Text from outside: bounded, never holding NUL.

use super::Error;

/// Refuses text that is longer than `max` bytes or holds U+0000, which several clients, terminals and
/// queues cut or refuse.
pub fn check(field: &'static str, text: &str, max: usize) -> Result<(), Error> {
    if text.len() > max {
        return Err(Error::invalid(
            field,
            format!("Invalid {field}. At most {max} bytes of UTF-8"),
        ));
    }
    if text.contains('\0') {
        return Err(Error::invalid(
            field,
            format!("Invalid {field}. It must not contain U+0000"),
        ));
    }
    Ok(())
}

/// As [`check`], for text that is shown in one line: a name or a label. It must not hold control characters, which move a
/// terminal's cursor and break lines of logs and tables.
pub fn check_line(field: &'static str, text: &str, max: usize) -> Result<(), Error> {
    check(field, text, max)?;
    // U+2028 and U+2029 end lines too, and are no control characters in Unicode's sense.
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if text.chars().any(breaks) {
        return Err(Error::invalid(
            field,
            format!("Invalid {field}. It must not contain control characters"),
        ));
    }
    Ok(())
}

/// A name that people read: 1 to 256 bytes with something to see in it, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// The longest name, in bytes of UTF-8.
    pub const MAX: usize = 256;

    /// Reads `text`, kept byte for byte.
    pub fn parse(text: String) -> Result<Self, Error> {
        check_line("name", &text, Self::MAX)?;
        if text.trim().is_empty() {
            return Err(Error::invalid("name", "Invalid name. It must not be empty"));
        }
        Ok(Self(text))
    }

    /// Trusts what our own store gives back.
    pub const fn stored(text: String) -> Self {
        Self(text)
    }

    /// The name as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `text` without `#` and `:`, reversibly: the one way in which words that users choose enter a key.
pub fn escape(text: &str) -> String {
    text.replace('%', "%25")
        .replace('#', "%23")
        .replace(':', "%3A")
}
