//! A JSON body, read once, with the field named at which it could not be read.

use std::{fmt, marker::PhantomData};

use axum::{
    body::{Body as RawBody, Bytes},
    extract::{FromRequest, Request as HttpRequest},
    http::{HeaderMap, Method, Uri},
};
use http_body_util::BodyExt;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};
use sha2::{Digest, Sha256};

use super::Failure;
use crate::domain::{Error, Once};

/// The largest body we read, in bytes.
pub const MAX_BODY: usize = 256 * 1024;
/// How much of a reason is shown, in bytes.
const LONGEST_REASON: usize = 200;
/// How much of a larger body is read and thrown away, so that the client hears our answer instead of a
/// broken connection. What API Gateway lets through at most.
const DRAINED: usize = 10 * 1024 * 1024;

/// The body as a `T`, and the request's `Idempotency-Key` if it has one.
#[derive(Debug)]
pub struct Body<T>(pub T, pub Option<Once>);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: HttpRequest, _: &S) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let bytes = read(body).await?;
        let once = once(&parts.headers, &parts.method, &parts.uri, &bytes)?;
        Ok(Self(read_object(&bytes)?, once))
    }
}

/// The body as a `T` all of whose fields may be left out, and so may the body.
#[derive(Debug)]
pub struct OptionalBody<T>(pub T, pub Option<Once>);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for OptionalBody<T> {
    type Rejection = Failure;

    async fn from_request(request: HttpRequest, _: &S) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let bytes = read(body).await?;
        let once = once(&parts.headers, &parts.method, &parts.uri, &bytes)?;
        let object: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        Ok(Self(read_object(object)?, once))
    }
}

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

async fn read(mut body: RawBody) -> Result<Bytes, Error> {
    let mut read = Vec::new();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Error::invalid("body", "The request body broke off"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        size += data.len();
        if size <= MAX_BODY {
            read.extend_from_slice(&data);
        } else if size > DRAINED {
            break;
        }
    }
    if size > MAX_BODY {
        return Err(Error::TooLarge { limit: MAX_BODY });
    }
    Ok(read.into())
}

fn once(
    headers: &HeaderMap,
    method: &Method,
    uri: &Uri,
    body: &[u8],
) -> Result<Option<Once>, Error> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else {
        return Ok(None);
    };
    if keys.next().is_some() {
        return Err(Error::invalid(
            "Idempotency-Key",
            "Invalid Idempotency-Key. Send it once",
        ));
    }
    let mut hash = Sha256::new();
    hash.update(method.as_str());
    hash.update(b"\n");
    hash.update(uri.path());
    hash.update(b"\n");
    hash.update(body);
    // What is not ASCII is refused by the same rule as what is not visible.
    Once::parse(key.to_str().unwrap_or_default(), hash.finalize().into()).map(Some)
}

/// Reads a JSON object, which is all that `bytes` holds.
///
/// # Errors
///
/// [`Error::Invalid`] with the field at which it could not be read.
pub fn read_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    // serde would read a list as a struct, field by field.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Error::invalid(
            "body",
            "Invalid request body. It must be a JSON object",
        ));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        // Where it broke off before a name was read, that name is shown as `?`.
        let path = error.path().to_string();
        let known = path.trim_end_matches('?').trim_end_matches('.');
        named(if known.is_empty() { "." } else { known }, error.inner())
    })?;
    json.end().map_err(|error| named(".", &error))?;
    // serde passes over what it does not want without a look.
    std::str::from_utf8(bytes).map_err(|_| {
        Error::invalid(
            "body",
            "Invalid request body. It is not valid JSON: not UTF-8",
        )
    })?;
    Ok(value)
}

/// The error with the field at which reading stopped, and without the position.
fn named(path: &str, error: &serde_json::Error) -> Error {
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text);
    // It may quote what was sent.
    let reason = &reason[..reason.floor_char_boundary(LONGEST_REASON)];
    if error.is_syntax() || error.is_eof() {
        let field = if path == "." { "body" } else { path };
        return Error::invalid(
            field.to_owned(),
            format!("Invalid request body. It is not valid JSON: {reason}"),
        );
    }
    // A missing or doubled field is reported at the object that should hold it.
    let member = reason
        .strip_prefix("missing field `")
        .or_else(|| reason.strip_prefix("duplicate field `"))
        .and_then(|rest| rest.split('`').next());
    let field = match (path, member) {
        (".", None) => "body".to_owned(),
        (".", Some(member)) => member.to_owned(),
        (path, None) => path.to_owned(),
        (path, Some(member)) => format!("{path}.{member}"),
    };
    let reason = match reason.strip_prefix("missing field ") {
        Some(_) => format!("Missing {field}"),
        None => format!("Invalid {field}: {reason}"),
    };
    Error::invalid(field, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct In {
        #[expect(dead_code, reason = "only read")]
        content: String,
    }

    fn fault(body: &str) -> (String, String) {
        match read_object::<In>(body.as_bytes()) {
            Err(Error::Invalid { field, reason }) => (field.into_owned(), reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_missing_field_is_named() {
        let fault = fault("{}");
        assert_eq!(fault, ("content".to_owned(), "Missing content".to_owned()));
    }

    #[test]
    fn a_field_of_the_wrong_type_is_named() {
        assert_eq!(fault(r#"{"content": 5}"#).0, "content");
        assert_eq!(fault(r#"{"content": null}"#).0, "content");
    }

    #[test]
    fn a_lone_surrogate_is_not_json() {
        assert_eq!(fault(r#"{"content": "\ud800"}"#).0, "content");
    }

    #[test]
    fn a_body_that_breaks_off_before_a_name_is_the_culprit_itself() {
        assert_eq!(fault("{").0, "body");
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
}
