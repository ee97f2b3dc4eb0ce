//! Texts that are part of the binary, shown with what a browser needs to keep them and to distrust them.

use std::sync::OnceLock;

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

/// A text that changes with the binary alone.
pub(crate) struct Page {
    text: &'static str,
    media_type: &'static str,
    is_html: bool,
    headers: OnceLock<[(header::HeaderName, HeaderValue); 3]>,
}

impl Page {
    /// JSON.
    pub(crate) const fn json(text: &'static str) -> Self {
        Self::new(text, "application/json", false)
    }

    /// A page that loads nothing, but may fetch from its own origin.
    pub(crate) const fn html(text: &'static str) -> Self {
        Self::new(text, "text/html; charset=utf-8", true)
    }

    const fn new(text: &'static str, media_type: &'static str, is_html: bool) -> Self {
        Self {
            text,
            media_type,
            is_html,
            headers: OnceLock::new(),
        }
    }

    /// The text, or 304 for a browser that has it. A browser asks each time, since a deploy may have changed it.
    pub(crate) fn show(&self, asked: &HeaderMap) -> Response {
        let headers = self.headers.get_or_init(|| {
            let digest = STANDARD.encode(Sha256::digest(self.text));
            let policy = if self.is_html {
                policy(self.text)
            } else {
                "default-src 'none'; frame-ancestors 'none'".to_owned()
            };
            // Base64 and the words above are visible ASCII.
            let value = |text| HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
            [
                (header::ETAG, value(format!("\"{digest}\""))),
                (
                    header::CACHE_CONTROL,
                    HeaderValue::from_static("private, no-cache"),
                ),
                (header::CONTENT_SECURITY_POLICY, value(policy)),
            ]
        });
        let [(_, tag), ..] = headers;
        let known = asked.get_all(header::IF_NONE_MATCH).iter();
        let is_known = known
            .filter_map(|tags| tags.to_str().ok())
            .flat_map(|tags| tags.split(','))
            .map(|known| known.trim().trim_start_matches("W/"))
            .any(|known| known == "*" || known.as_bytes() == tag.as_bytes());
        if is_known {
            return (StatusCode::NOT_MODIFIED, headers.clone()).into_response();
        }
        let media_type = [(header::CONTENT_TYPE, self.media_type)];
        (media_type, headers.clone(), self.text).into_response()
    }
}

/// The policy of a page whose script and style are in it: they run because of their digests, and nothing else does.
fn policy(page: &str) -> String {
    let digests = |element: &str| {
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        let contents = page.split(&open).skip(1).filter_map(|rest| {
            let content = rest.split(&close).next()?;
            Some(format!(
                "'sha256-{}'",
                STANDARD.encode(Sha256::digest(content))
            ))
        });
        contents.collect::<Vec<_>>().join(" ")
    };
    format!(
        "default-src 'none'; connect-src 'self'; script-src {}; style-src {}; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        digests("script"),
        digests("style"),
    )
}
