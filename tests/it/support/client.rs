//! A client of the API, in process.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering},
};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderMap, Method, Request},
};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use super::World;

/// Somebody who sends requests.
#[derive(Clone)]
pub struct Client {
    api: Router,
    headers: Vec<(String, String)>,
    kind: String,
    host: Option<&'static str>,
    address: IpAddr,
}

/// What came back.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub raw: String,
    /// The body as JSON; `Null` if it is empty.
    pub body: Value,
}

impl Client {
    /// Somebody without a credential, from an address of their own.
    pub fn new(api: Router) -> Self {
        Self {
            api,
            headers: Vec::new(),
            kind: "application/json".to_owned(),
            host: Some("parlance.test"),
            address: anywhere(),
        }
    }

    /// With a header on every request. A header given twice is sent twice.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Whose bodies are of another type than JSON, or say so.
    pub fn of_type(self, kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            ..self
        }
    }

    /// Whose requests name no host.
    pub fn without_host(self) -> Self {
        Self { host: None, ..self }
    }

    /// The same, asking another service.
    pub fn at(self, world: &World) -> Self {
        Self {
            api: world.api.clone(),
            ..self
        }
    }

    /// From the same address as `other`.
    pub fn beside(mut self, other: &Self) -> Self {
        self.address = other.address;
        self
    }

    /// Where it sends from.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// From an address that nobody else has.
    pub fn anew(mut self) -> Self {
        self.address = anywhere();
        self
    }

    pub async fn get(&self, path: &str) -> Response {
        self.send(Method::GET, path, String::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.send(Method::POST, path, body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Response {
        self.send(Method::PUT, path, body.to_string()).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Response {
        self.send(Method::PATCH, path, body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Response {
        self.send(Method::DELETE, path, String::new()).await
    }

    /// Any request, its body as it is.
    pub async fn send(&self, method: Method, path: &str, body: impl Into<Body>) -> Response {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", &self.kind)
            .extension(ConnectInfo(SocketAddr::new(self.address, 1)));
        if let Some(host) = self.host {
            request = request.header("host", host);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value.as_bytes());
        }
        let request = request.body(body.into()).unwrap();
        let Ok(response) = self.api.clone().oneshot(request).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let raw = String::from_utf8(bytes.to_vec()).unwrap();
        Response {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: serde_json::from_str(&raw).unwrap_or(Value::Null),
            raw,
        }
    }
}

impl Response {
    /// Fails unless status and whole body are these.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "`json!` at call sites")]
    pub fn assert(&self, status: u16, body: Value) {
        assert_eq!((self.status, &self.body), (status, &body));
    }

    /// Fails unless this is `code` with `status`, in the ChatAPI shape, about `field`.
    #[track_caller]
    pub fn assert_error(&self, status: u16, code: &str, field: Option<&str>) {
        assert_eq!(self.status, status, "{}", self.raw);
        assert_eq!(self.body["success"], false, "{}", self.raw);
        assert_eq!(self.body["error"]["code"], code, "{}", self.raw);
        assert_eq!(self.body["error"]["field"].as_str(), field, "{}", self.raw);
        assert!(self.body["error"]["message"].is_string(), "{}", self.raw);
    }

    /// The string `name` of the body.
    #[track_caller]
    pub fn text(&self, name: &str) -> String {
        let text = self.body[name].as_str();
        text.unwrap_or_else(|| panic!("no {name} in {}", self.raw))
            .to_owned()
    }

    /// The header `name`, if there is one.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Where `Link: rel="next"` leads.
    pub fn next(&self) -> Option<String> {
        let link = self.header("link")?;
        let (target, rest) = link.strip_prefix('<')?.split_once('>')?;
        assert_eq!(rest, "; rel=\"next\"");
        Some(target.to_owned())
    }
}

fn anywhere() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0x0a00_0000);
    Ipv4Addr::from(NEXT.fetch_add(1, Ordering::Relaxed)).into()
}
