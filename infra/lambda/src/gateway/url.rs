//! A function's URL, which hands over what the function streams as it comes.
//!
//! The event is of payload format 2.0, as an HTTP API's: <https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html>.
//! What is streamed begins with the status and the headers as JSON, and eight NULs:
//! <https://docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html>.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Response, StatusCode};
use futures_util::stream;
use serde_json::Value;
use tokio::sync::mpsc;

use super::answer;
use super::event::{Origin, event};
use super::routes::Found;
use crate::Function;

/// The most bytes of a request.
const LARGEST_BODY: usize = 6 << 20;
/// What ends the status and the headers.
const END: [u8; 8] = [0; 8];

/// A URL of its own, whatever the path.
#[derive(Debug, Clone)]
pub struct FunctionUrl(Function);

impl FunctionUrl {
    /// The URL of `function`.
    pub const fn new(function: Function) -> Self {
        Self(function)
    }

    /// It as a service. Where a request comes from is in its extension `ConnectInfo<SocketAddr>`.
    pub fn router(&self) -> Router {
        Router::new().fallback(handle).with_state(self.0.clone())
    }
}

async fn handle(State(function): State<Function>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST_BODY).await else {
        return answer::own(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large");
    };
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let origin = Origin::new(&parts, peer.map(|peer| peer.0.ip()));
    let found = Found {
        function: &function,
        key: "$default".to_owned(),
        parameters: BTreeMap::new(),
    };
    let mut coming = function.stream(event(&parts, &body, &origin, &found));
    let mut head = Vec::new();
    while let Some(part) = coming.recv().await {
        head.extend_from_slice(&part);
        if let Some(at) = head.windows(END.len()).position(|window| window == END) {
            let rest = Bytes::copy_from_slice(&head[at + END.len()..]);
            let described: Value = serde_json::from_slice(&head[..at]).unwrap_or_default();
            return answer::begun(&described, flowing(rest, coming))
                .unwrap_or_else(|| answer::own(StatusCode::BAD_GATEWAY, "Internal Server Error"));
        }
    }
    answer::own(StatusCode::BAD_GATEWAY, "Internal Server Error")
}

/// What has come of a body, and what will.
fn flowing(first: Bytes, coming: mpsc::Receiver<Bytes>) -> Body {
    let parts = stream::unfold((Some(first), coming), |(first, mut coming)| async move {
        let part = match first {
            Some(first) => first,
            None => coming.recv().await?,
        };
        Some((Ok::<_, Infallible>(part), (None, coming)))
    });
    Body::from_stream(parts)
}
