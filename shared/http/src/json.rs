//! JSON objects from outside: the member that could not be read, named in our own words, and the members that nobody
//! reads.
//!
//! A wire type with `#[serde(deny_unknown_fields)]` refuses unknown members with a 400 that names them: every body of a
//! route that no seed document has. Without it they are passed over and noted, as the seeds' own routes do.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::Value;
use serde_path_to_error::{Path, Segment, Track};

use super::ignored::shortened;
use crate::domain::Error;

/// Maximum number of unknown members that an error names.
const MAX_NAMED: usize = 10;

/// A JSON object within a body. By itself serde would read a list as a struct too, field by field.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }

        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// Reads a member that may be left out and must not be `null`: `null` would say nothing, and a client that sends it for
/// a filter means something else.
///
/// # Errors
///
/// If the member is `null`, or no `T`.
pub fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    member: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(member).map(Some)
}

/// Reads a JSON object, which is all that `bytes` holds. Unknown members are passed over unless `T` refuses them.
///
/// # Errors
///
/// [`Error::Invalid`] with the field at which it could not be read.
pub fn read_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    read_noting(bytes, |_| {})
}

/// As [`read_object`], and gives the path of each member that was passed over (`retry.attempt`) to `ignored`.
pub(super) fn read_noting<T: DeserializeOwned>(
    bytes: &[u8],
    mut ignored: impl FnMut(String),
) -> Result<T, Error> {
    // serde would read a list as a struct, field by field.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Error::invalid(
            "body",
            "Invalid request body. It must be a JSON object",
        ));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let mut track = Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let value = serde_ignored::deserialize(tracked, |path| ignored(member(&path)));
    let value = value.map_err(|error| fault(&error, &track.path(), bytes))?;
    json.end().map_err(|error| syntax("body".into(), &error))?;
    // serde passes over what it does not want without a look.
    std::str::from_utf8(bytes).map_err(|_| {
        Error::invalid(
            "body",
            "Invalid request body. It is not valid JSON: not UTF-8",
        )
    })?;
    Ok(value)
}

/// The path of an ignored member as errors name fields: `retry.attempt`, `targets[2].id`.
fn member(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", member(parent)),
        Path::Map { parent, key } => within(&member(parent), key),
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => member(parent),
    }
}

/// The error with the field at which reading stopped, in our own words: serde's name Rust's types.
fn fault(error: &serde_json::Error, path: &Path, bytes: &[u8]) -> Error {
    // Where it broke off before a name was read, that name is shown as `?`.
    let shown = path.to_string();
    let shown = shown.trim_end_matches('?').trim_end_matches('.');
    let at = if shown == "." { "" } else { shown };
    if error.is_syntax() || error.is_eof() {
        let field = if at.is_empty() { "body" } else { at };
        return syntax(shortened(field), error);
    }
    let text = error.to_string();
    let quoted = |prefix| {
        let rest: &str = text.strip_prefix(prefix)?;
        rest.split('`').next()
    };
    // A missing or doubled member is reported at the object that should hold it.
    if let Some(name) = quoted("missing field `") {
        let field = within(at, name);
        let reason = format!("Missing {field}");
        return Error::invalid(field, reason);
    }
    if let Some(name) = quoted("duplicate field `") {
        let field = within(at, name);
        let reason = format!("Invalid {field}. Give it once");
        return Error::invalid(field, reason);
    }
    if text.starts_with("unknown field `") {
        return unknown(&text, path, bytes);
    }
    let field = if at.is_empty() { "body" } else { at };
    let field = shortened(field);
    let reason = match rule(&text) {
        Some(rule) => format!("Invalid {field}. {rule}"),
        None => format!("Invalid {field}"),
    };
    Error::invalid(field, reason)
}

/// Not JSON.
fn syntax(field: String, error: &serde_json::Error) -> Error {
    let reason = if error.to_string().starts_with("recursion limit") {
        "It is nested more than 127 levels deep"
    } else {
        "It is not valid JSON"
    };
    Error::invalid(field, format!("Invalid request body. {reason}"))
}

/// The rule that a member of the wrong type or size breaks. serde says which type was expected, in Rust's words.
fn rule(text: &str) -> Option<&'static str> {
    let text = text.split(" at line ").next().unwrap_or(text);
    if text.starts_with("invalid value: integer") {
        return Some("The number is out of range");
    }
    let (_, expected) = text.rsplit_once("expected ")?;
    Some(match expected {
        "a string" | "a borrowed string" => "It must be a string",
        "a boolean" => "It must be true or false",
        "a sequence" => "It must be a list",
        "i8" | "i16" | "i32" | "i64" | "isize" | "u8" | "u16" | "u32" | "u64" | "usize" => {
            "It must be a whole number"
        }
        "f32" | "f64" => "It must be a number",
        "an object" | "a map" => "It must be an object",
        other if other.starts_with("struct ") => "It must be an object",
        _ => return None,
    })
}

/// Names all unknown members of the object that refused the one at `path`.
fn unknown(text: &str, path: &Path, bytes: &[u8]) -> Error {
    // ``unknown field `a`, expected one of `b`, `c` at line 1 column 4``. The name that was sent may hold anything; those
    // that are known are ours.
    let known = text
        .rsplit_once("`, expected ")
        .map_or("", |(_, known)| known);
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    let whole: Value = match serde_json::from_slice(bytes) {
        Ok(whole) => whole,
        Err(error) => return syntax("body".to_owned(), &error),
    };
    let (mut at, mut object) = (String::new(), Some(&whole));
    // The last one is the unknown member itself.
    let depth = path.iter().count().saturating_sub(1);
    for segment in path.iter().take(depth) {
        object = match segment {
            Segment::Map { key } => {
                at = within(&at, key);
                object.and_then(|object| object.get(key))
            }
            Segment::Seq { index } => {
                at = format!("{at}[{index}]");
                object.and_then(|object| object.get(index))
            }
            Segment::Enum { .. } | Segment::Unknown => break,
        };
    }
    let members = object.and_then(Value::as_object).into_iter().flatten();
    let unknown = members.map(|(name, _)| name.as_str());
    let unknown = unknown.filter(|name| !known.contains(name));
    let unknown = unknown.map(|name| within(&at, &shortened(name)));
    let mut unknown: Vec<_> = unknown.take(MAX_NAMED).collect();
    let plural = if unknown.len() == 1 { "" } else { "s" };
    let known = match known.as_slice() {
        [] => "This object has none".to_owned(),
        known => format!("Known: {}", known.join(", ")),
    };
    let reason = format!("Unknown member{plural} {}. {known}", unknown.join(", "));
    let first = if unknown.is_empty() {
        "body".to_owned()
    } else {
        unknown.swap_remove(0)
    };
    Error::invalid(first, reason)
}

/// The path of member `name` of the object at `at`.
fn within(at: &str, name: &str) -> String {
    if at.is_empty() {
        name.to_owned()
    } else {
        format!("{at}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct In {
        #[expect(dead_code, reason = "only read")]
        content: String,
        #[serde(default)]
        #[expect(dead_code, reason = "only read")]
        retry: Option<Object<Retry>>,
    }

    #[derive(Debug, Deserialize)]
    struct Retry {
        #[expect(dead_code, reason = "only read")]
        attempts: Option<i64>,
        #[expect(dead_code, reason = "only read")]
        wait: Option<u32>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[serde(default, deserialize_with = "not_null")]
        #[expect(dead_code, reason = "only read")]
        topic: Option<String>,
        #[serde(default)]
        #[expect(dead_code, reason = "only read")]
        retry: Option<Object<StrictRetry>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct StrictRetry {
        #[expect(dead_code, reason = "only read")]
        attempts: Option<i64>,
    }

    #[track_caller]
    fn refused<T: DeserializeOwned + fmt::Debug>(body: &str) -> (String, String) {
        match read_object::<T>(body.as_bytes()) {
            Err(Error::Invalid { field, reason }) => (field.into_owned(), reason),
            other => panic!("{other:?}"),
        }
    }

    fn fault(body: &str) -> (String, String) {
        refused::<In>(body)
    }

    fn said(field: &str, reason: &str) -> (String, String) {
        (field.to_owned(), reason.to_owned())
    }

    #[test]
    fn a_missing_field_is_named() {
        assert_eq!(fault("{}"), said("content", "Missing content"));
    }

    #[test]
    fn a_doubled_field_is_named() {
        assert_eq!(
            fault(r#"{"content": "a", "content": "b"}"#),
            said("content", "Invalid content. Give it once")
        );
    }

    #[test]
    fn a_field_of_the_wrong_type_is_named_with_the_rule_it_breaks() {
        for (body, field, rule) in [
            (r#"{"content": 5}"#, "content", "It must be a string"),
            (r#"{"content": 5.5}"#, "content", "It must be a string"),
            (r#"{"content": null}"#, "content", "It must be a string"),
            (
                r#"{"content": "a", "retry": []}"#,
                "retry",
                "It must be an object",
            ),
            (
                r#"{"content": "a", "retry": {"attempts": 1.5}}"#,
                "retry.attempts",
                "It must be a whole number",
            ),
            (
                r#"{"content": "a", "retry": {"wait": -1}}"#,
                "retry.wait",
                "The number is out of range",
            ),
        ] {
            assert_eq!(
                fault(body),
                said(field, &format!("Invalid {field}. {rule}"))
            );
        }
    }

    #[test]
    fn a_lone_surrogate_is_not_json() {
        assert_eq!(fault(r#"{"content": "\ud800"}"#).0, "content");
    }

    #[test]
    fn a_body_that_breaks_off_before_a_name_is_the_culprit_itself() {
        assert_eq!(
            fault("{"),
            said("body", "Invalid request body. It is not valid JSON")
        );
        assert_eq!(fault(r#"{"content": "a","#).0, "body");
    }

    #[test]
    fn a_list_is_no_object_within_a_body() {
        let read = serde_json::from_str::<Object<In>>;
        assert!(read(r#"{"content": "a"}"#).is_ok());
        let error = read(r#"["a"]"#).unwrap_err().to_string();
        assert!(
            error.starts_with("invalid type: sequence, expected an object"),
            "{error}"
        );
    }

    #[test]
    fn only_an_object_is_a_body() {
        for bad in ["[\"hi\"]", "\"hi\"", "", "null", "7"] {
            assert_eq!(fault(bad).0, "body");
        }
        assert_eq!(fault(r#"{"content": "a"} x"#).0, "body");
    }

    #[test]
    fn a_member_that_is_passed_over_is_noted_with_its_path() {
        let mut ignored = Vec::new();
        let body = r#"{"content": "a", "x": {"y": 1}, "retry": {"attempt": 9, "attempts": 1}}"#;
        read_noting::<In>(body.as_bytes(), |path| ignored.push(path)).unwrap();
        assert_eq!(ignored, ["x", "retry.attempt"]);
    }

    #[test]
    fn all_unknown_members_of_an_object_are_named() {
        assert_eq!(
            refused::<Strict>(r#"{"deliveryId": null, "topic": "a", "toppic": "t3"}"#),
            said(
                "deliveryId",
                "Unknown members deliveryId, toppic. Known: topic, retry"
            )
        );
        assert_eq!(
            refused::<Strict>(r#"{"a`, expected `b": {"c": 1}}"#).0,
            "a`, expected `b"
        );
        assert_eq!(
            refused::<Strict>(r#"{"retry": {"attempts": 1, "attempt": 9, "x": 1}}"#),
            said(
                "retry.attempt",
                "Unknown members retry.attempt, retry.x. Known: attempts"
            )
        );
    }

    #[test]
    fn a_null_that_narrows_nothing_is_refused() {
        assert_eq!(
            refused::<Strict>(r#"{"topic": null}"#),
            said("topic", "Invalid topic. It must be a string")
        );
        assert!(read_object::<Strict>(b"{}").is_ok());
    }
}
