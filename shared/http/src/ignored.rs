//! Members and parameters that were passed over, named in `X-Ignored`: the routes of the seed documents take them, as the
//! originals do, and a client should see that they did nothing.

use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderName, HeaderValue, Uri};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use url::form_urlencoded;

/// The header's name.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-ignored");
/// Maximum number of names in the header.
const MAX_NAMES: usize = 20;
/// Maximum length of one name, in bytes; the rest is cut off.
const MAX_NAME: usize = 64;
/// All that would end a name in a list, or may not be in a header.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b',').add(b'"').add(b'%');

/// The names that one request has sent and nobody has read.
#[derive(Debug, Clone, Default)]
pub(super) struct Ignored(Arc<Mutex<Vec<String>>>);

impl Ignored {
    /// All parameters of `uri`: each is ignored until it is [read](Ignored::read).
    pub(super) fn parameters_of(uri: &Uri) -> Self {
        let ignored = Self::default();
        let query = uri.query().unwrap_or_default();
        for (name, _) in form_urlencoded::parse(query.as_bytes()).take(MAX_NAMES) {
            ignored.add(&name);
        }
        ignored
    }

    /// Notes that `name` is passed over.
    pub(super) fn add(&self, name: &str) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() < MAX_NAMES && !names.iter().any(|known| known == name) {
            names.push(shortened(name));
        }
    }

    /// Notes that the parameter `name` is read, if it was sent.
    pub(super) fn read(&self, name: &str) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.retain(|ignored| ignored != name);
    }

    /// `retry.attempt, after`; `None` if all was read.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.is_empty() {
            return None;
        }
        let names: Vec<_> = names
            .iter()
            .map(|name| match name.as_str() {
                "" => "\"\"".to_owned(),
                name => utf8_percent_encode(name, ESCAPED).to_string(),
            })
            .collect();
        HeaderValue::try_from(names.join(", ")).ok()
    }
}

/// The beginning of a name that a client made up.
pub(super) fn shortened(name: &str) -> String {
    name[..name.floor_char_boundary(MAX_NAME)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_the_header() {
        let ignored = Ignored::default();
        for name in ["a,b", "c\r\nd: e", "ü", "100%", ""] {
            ignored.add(name);
        }
        assert_eq!(
            ignored.header().unwrap(),
            "a%2Cb, c%0D%0Ad:%20e, %C3%BC, 100%25, \"\""
        );
    }

    #[test]
    fn the_header_is_bounded() {
        let ignored = Ignored::default();
        for number in 0..1_000 {
            ignored.add(&format!("{number}{}", "x".repeat(1_000)));
        }
        assert!(ignored.header().unwrap().len() <= MAX_NAMES * (MAX_NAME + 2));
    }

    #[test]
    fn a_parameter_that_is_read_is_not_ignored() {
        let uri = Uri::from_static("/x?after=1&limit=5&after_seq=0");
        let ignored = Ignored::parameters_of(&uri);
        ignored.read("limit");
        ignored.read("after_seq");
        assert_eq!(ignored.header().unwrap(), "after");
    }
}
