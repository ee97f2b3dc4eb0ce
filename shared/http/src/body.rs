//! A request's body: its media type, its size, its JSON, and the `Idempotency-Key` that came with it.

use axum::{
    body::{Body as RawBody, Bytes},
    extract::{FromRequest, Request as HttpRequest},
    http::{HeaderMap, header, request::Parts},
};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use super::{Failure, json::read_noting, request::Request, same};
use crate::domain::{Error, Once};

/// The largest body we read, in bytes.
pub const MAX_BODY: usize = 256 * 1024;
/// How much of a larger body is read and thrown away, so that the client hears our answer instead of a
/// broken connection. What API Gateway lets through at most.
const DRAINED: usize = 10 * 1024 * 1024;
/// Some clients begin JSON with a byte order mark. RFC 8259, section 8.1, lets a reader pass over it.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The body as a `T`, and the request's `Idempotency-Key` if it has one.
///
/// Members that `T` does not know are named in `X-Ignored`, or refused if `T` denies unknown fields.
#[derive(Debug)]
pub struct Body<T>(pub T, pub Option<Once>);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(http: HttpRequest, _: &S) -> Result<Self, Failure> {
        let sent = Sent::read(http).await?;
        let once = sent.once()?;
        Ok(Self(sent.object(&sent.bytes)?, once))
    }
}

/// The body as a `T` all of whose fields may be left out, and so may the body.
#[derive(Debug)]
pub struct OptionalBody<T>(pub T, pub Option<Once>);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for OptionalBody<T> {
    type Rejection = Failure;

    async fn from_request(http: HttpRequest, _: &S) -> Result<Self, Failure> {
        let sent = Sent::read(http).await?;
        let once = sent.once()?;
        let object: &[u8] = if sent.bytes.is_empty() {
            b"{}"
        } else {
            &sent.bytes
        };
        Ok(Self(sent.object(object)?, once))
    }
}

/// A request that takes no body, and has none but an empty object.
pub type NoBody = OptionalBody<Nothing>;

/// An object without members.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// A request whose body was read.
struct Sent {
    parts: Parts,
    request: Request,
    bytes: Bytes,
}

impl Sent {
    async fn read(http: HttpRequest) -> Result<Self, Failure> {
        let (parts, body) = http.into_parts();
        let request = Request::of(&parts)?;
        decoded(&parts.headers)?;
        let bytes = read(body).await?;
        if !bytes.is_empty() {
            json(&parts.headers)?;
        }
        Ok(Self {
            parts,
            request,
            bytes,
        })
    }

    fn object<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Error> {
        let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        read_noting(bytes, |path| self.request.ignored.add(&path))
    }

    fn once(&self) -> Result<Option<Once>, Error> {
        let mut keys = self.parts.headers.get_all("idempotency-key").iter();
        let Some(key) = keys.next() else {
            return Ok(None);
        };
        if keys.next().is_some() {
            return Err(Error::invalid(
                "Idempotency-Key",
                "Invalid Idempotency-Key. Send it once",
            ));
        }
        let (method, path) = (&self.parts.method, self.parts.uri.path());
        let request = same::digests(
            &format!("{method}\n{path}\n"),
            self.parts.uri.query(),
            &self.bytes,
        );
        // What is not ASCII is refused by the same rule as what is not visible.
        Once::parse(key.to_str().unwrap_or_default(), request).map(Some)
    }
}

/// Refuses a body that was compressed: nothing here reads one.
fn decoded(headers: &HeaderMap) -> Result<(), Error> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let plain = encodings.all(|encoding| {
        let encoding = encoding.as_bytes().trim_ascii();
        encoding.is_empty() || encoding.eq_ignore_ascii_case(b"identity")
    });
    if plain {
        return Ok(());
    }
    Err(Error::UnsupportedMedia(
        "Unsupported Content-Encoding. Send the body uncompressed",
    ))
}

/// Refuses a body that says it is something else than JSON. One that says nothing is taken for JSON.
fn json(headers: &HeaderMap) -> Result<(), Error> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let is_json = types.all(|kind| {
        let essence = kind.as_bytes().split(|byte| *byte == b';').next();
        let essence = essence.unwrap_or_default().trim_ascii();
        essence.eq_ignore_ascii_case(b"application/json")
    });
    if is_json {
        return Ok(());
    }
    Err(Error::UnsupportedMedia(
        "Unsupported Content-Type. Send application/json",
    ))
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
