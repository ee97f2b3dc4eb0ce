//! The SDK's way to `@connections`: an HTTP client that never opens a socket.

use std::time::SystemTime;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::DateTime;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use aws_smithy_types::date_time::Format;
use axum::extract::ws::{Utf8Bytes, close_code};
use axum::http::Uri;
use percent_encoding::percent_decode_str;

use super::Sockets;
use super::outbox::Post;

pub(super) fn http_client(sockets: Sockets) -> SharedHttpClient {
    let connector = SharedHttpConnector::new(Connector { sockets });
    http_client_fn(move |_, _| connector.clone())
}

#[derive(Debug)]
struct Connector {
    sockets: Sockets,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let sockets = self.sockets.clone();
        HttpConnectorFuture::new(async move { respond(&sockets, request).await })
    }
}

async fn respond(sockets: &Sockets, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let uri: Uri = request
        .uri()
        .parse()
        .map_err(|_| ConnectorError::user("the request has no URI".into()))?;
    let id = uri.path().rsplit_once("/@connections/");
    let id = id.map(|(_, id)| percent_decode_str(id).decode_utf8_lossy());
    let Some(outbox) = id.and_then(|id| sockets.outbox(&id)) else {
        return answer(410, Some("GoneException"), String::new());
    };
    match request.method() {
        "POST" => {
            // Shared with the SDK, which holds every frame in memory: one that waits for room takes it once.
            let frame = ByteStream::new(request.into_body()).collect().await;
            let frame = frame.map_err(|error| ConnectorError::user(error.into()))?;
            let frame = Utf8Bytes::try_from(frame.into_bytes());
            let frame = frame.map_err(|error| ConnectorError::user(error.into()))?;
            match sockets.post(&outbox, frame).await {
                Post::Taken => answer(200, None, String::new()),
                Post::Gone => answer(410, Some("GoneException"), String::new()),
                Post::TooLarge => answer(413, Some("PayloadTooLargeException"), String::new()),
            }
        }
        "GET" => {
            let time = |at: SystemTime| {
                let shown = DateTime::from(at).fmt(Format::DateTime);
                shown.map_err(|error| ConnectorError::other(error.into(), None))
            };
            let body = serde_json::json!({
                "connectedAt": time(outbox.connected_at)?,
                "lastActiveAt": time(outbox.last_active_at())?,
                "identity": {
                    "sourceIp": outbox.source_ip,
                    "userAgent": outbox.user_agent,
                },
            });
            answer(200, None, body.to_string())
        }
        "DELETE" => {
            outbox.close(close_code::NORMAL, "Connection Closed Normally");
            answer(204, None, String::new())
        }
        _ => answer(405, None, String::new()),
    }
}

fn answer(
    status: u16,
    error: Option<&'static str>,
    body: String,
) -> Result<HttpResponse, ConnectorError> {
    let status =
        StatusCode::try_from(status).map_err(|error| ConnectorError::other(error.into(), None))?;
    let mut response = HttpResponse::new(status, SdkBody::from(body));
    response
        .headers_mut()
        .insert("content-type", "application/json");
    if let Some(error) = error {
        response.headers_mut().insert("x-amzn-errortype", error);
    }
    Ok(response)
}
