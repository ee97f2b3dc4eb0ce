//! What a handler shows.

use axum::{
    Json,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;

use super::Failure;
use crate::domain::{Cursor, Error};

/// What a handler gives back.
pub type Reply<T> = Result<Show<T>, Failure>;

/// A success to show.
#[derive(Debug)]
pub struct Show<T> {
    status: StatusCode,
    body: Option<T>,
    headers: HeaderMap,
}

impl<T> Show<T> {
    fn new(status: StatusCode, body: Option<T>) -> Self {
        Self {
            status,
            body,
            headers: HeaderMap::new(),
        }
    }

    /// 200 with `body`.
    pub fn ok(body: T) -> Self {
        Self::new(StatusCode::OK, Some(body))
    }

    /// 201 with `body`.
    pub fn created(body: T) -> Self {
        Self::new(StatusCode::CREATED, Some(body))
    }

    /// 202 with `body`.
    pub fn accepted(body: T) -> Self {
        Self::new(StatusCode::ACCEPTED, Some(body))
    }

    /// 503 with `body`: the one answer that is a failure and has a success's body (`/health`).
    pub fn unavailable(body: T) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Some(body))
    }

    /// Says so if an earlier request did it.
    #[must_use]
    pub fn replayed(mut self, replayed: bool) -> Self {
        if replayed {
            self.headers
                .insert("idempotent-replayed", HeaderValue::from_static("true"));
        }
        self
    }

    /// Points to the next page, if there is one: `path`, its parameters, and the cursor.
    #[must_use]
    pub fn next(self, path: &str, params: &[(&str, String)], next: Option<&Cursor>) -> Self {
        let Some(next) = next else {
            return self;
        };
        let cursor = shown(next);
        let mut params = params.to_vec();
        params.push(("cursor", cursor));
        self.link(path, &params)
    }

    /// Points to the next page at `path` with `params`, whose values need no escaping.
    #[must_use]
    pub fn link(mut self, path: &str, params: &[(&str, String)]) -> Self {
        let query: Vec<_> = params
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let link = format!("<{path}?{}>; rel=\"next\"", query.join("&"));
        if let Ok(link) = HeaderValue::try_from(link) {
            self.headers.insert(header::LINK, link);
        }
        self
    }
}

impl Show<()> {
    /// 204.
    pub fn nothing() -> Self {
        Self::new(StatusCode::NO_CONTENT, None)
    }
}

impl<T: Serialize> IntoResponse for Show<T> {
    fn into_response(self) -> Response {
        match self.body {
            Some(body) => (self.status, self.headers, Json(body)).into_response(),
            None => (self.status, self.headers).into_response(),
        }
    }
}

/// A cursor as a client sees it.
pub fn shown(Cursor(cursor): &Cursor) -> String {
    URL_SAFE_NO_PAD.encode(cursor)
}

/// Reads the cursor that a client was shown back.
pub fn cursor(text: &str) -> Result<Cursor, Error> {
    URL_SAFE_NO_PAD
        .decode(text)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .map(Cursor)
        .ok_or_else(Cursor::invalid)
}
