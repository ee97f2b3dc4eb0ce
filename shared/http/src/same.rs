//! Which requests are the same request: what an `Idempotency-Key` is compared with.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::body::BYTE_ORDER_MARK;
use crate::domain::RequestDigests;

/// Maximum depth of JSON that is brought into one spelling. A body that is read as an object is no deeper.
const MAX_DEPTH: usize = 128;

/// The digests of a request: `operation` says what is asked for, one line each for method and path, `query` and `body`
/// with what. A body that is no JSON has no other spelling than its own. The exact digest leaves the query out, since the
/// version before did.
pub fn digests(operation: &str, query: Option<&str>, body: &[u8]) -> RequestDigests {
    let digest = |query: &str, body: &[u8]| {
        let mut hash = Sha256::new();
        hash.update(operation);
        hash.update(query);
        hash.update(body);
        hash.finalize().into()
    };
    let query = query.map_or_else(String::new, |query| format!("?{query}\n"));
    let text = canonical(body);
    RequestDigests {
        exact: digest("", body),
        canonical: digest(&query, text.as_deref().map_or(body, str::as_bytes)),
    }
}

/// `body` without white space, members in the order of their names. Numbers and strings stay as they are written.
/// `None` if it is no JSON, or deeper than [`MAX_DEPTH`].
fn canonical(body: &[u8]) -> Option<String> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    // Each level is read anew below, so what is deep is left alone before that.
    if depth(body) > MAX_DEPTH {
        return None;
    }
    let raw: &RawValue = serde_json::from_slice(body).ok()?;
    let mut text = String::with_capacity(body.len());
    write(raw, MAX_DEPTH, &mut text)?;
    Some(text)
}

/// How deep the lists and objects of `json` are nested.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b'{' | b'[' if !is_quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !is_quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn write(raw: &RawValue, depth: usize, text: &mut String) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    let raw = raw.get();
    match raw.as_bytes().first() {
        Some(b'{') => {
            let Members(mut members) = serde_json::from_str(raw).ok()?;
            // Members of one name keep their order: which one counts is not ours to say.
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            text.push('{');
            for (name, value) in members {
                text.push_str(&serde_json::to_string(&name).ok()?);
                text.push(':');
                write(value, depth, text)?;
                text.push(',');
            }
            text.push('}');
        }
        Some(b'[') => {
            let values: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
            text.push('[');
            for value in values {
                write(value, depth, text)?;
                text.push(',');
            }
            text.push(']');
        }
        Some(_) | None => text.push_str(raw),
    }
    Some(())
}

/// An object's members as they came.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> RequestDigests {
        digests("POST\n/rooms\n", None, body.as_bytes())
    }

    #[test]
    fn white_space_and_the_order_of_members_make_no_other_request() {
        let first = of(r#"{"a": {"c": [1, {"e": 1, "d": 2}], "b": "x y"}, "f": 1.0}"#);
        let second = of("{\"f\":1.0,\n\"a\":{\"b\":\"x y\",\"c\":[1,{\"d\":2,\"e\":1}]}}");
        assert_ne!(first.exact, second.exact);
        assert_eq!(first.canonical, second.canonical);
    }

    #[test]
    fn another_value_makes_another_request() {
        let first = of(r#"{"a": [1, 2], "b": "x y"}"#);
        for other in [
            r#"{"a": [2, 1], "b": "x y"}"#,
            r#"{"a": [1, 2], "b": "xy"}"#,
            r#"{"a": [1, 2]}"#,
            r#"{"a": [1, 2], "b": "x y", "b": "z"}"#,
            r#"{"a": [12], "b": "x y"}"#,
        ] {
            assert_ne!(first.canonical, of(other).canonical, "{other}");
        }
        let large = of(r#"{"a": 18446744073709551617}"#);
        assert_ne!(
            large.canonical,
            of(r#"{"a": 18446744073709551618}"#).canonical
        );
    }

    #[test]
    fn another_path_or_method_makes_another_request() {
        let first = of("{}").canonical;
        assert_ne!(first, digests("POST\n/notify\n", None, b"{}").canonical);
        assert_ne!(first, digests("PUT\n/rooms\n", None, b"{}").canonical);
        let query = digests("POST\n/rooms\n", Some("overlap_seconds=0"), b"{}");
        assert_ne!(first, query.canonical);
    }

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        assert_eq!(depth(br#"{"a": [1, {}], "[[\"[": "\\"}"#), 3);
        assert_eq!(depth(b"]]["), 1);
        assert_eq!(depth(b"7"), 0);
    }

    #[test]
    fn json_of_any_depth_is_digested() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let digests = of(&deep);
        assert_eq!(digests.exact, digests.canonical);
    }
}
