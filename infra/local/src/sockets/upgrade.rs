//! One connection from its handshake to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_lambda_events::apigw::{ApiGatewayProxyResponse, ApiGatewayWebsocketProxyRequest};
use aws_lambda_events::encodings::Body as EventBody;
use axum::Router;
use axum::body::Body;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{ConnectInfo, FromRequestParts as _, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use futures_util::StreamExt as _;
use futures_util::stream::SplitStream;
use parlance::http::{
    dialects::{ChatApi, Dialect as _},
    names_one_host,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tower::ServiceExt as _;

use super::event::{self, Origin};
use super::outbox::Outbox;
use super::{Handler, Sockets};
use crate::gateway::Slot;

/// API Gateway's limits of a frame and of a message.
const LARGEST_FRAME: usize = 32 * 1024;
const LARGEST_MESSAGE: usize = 128 * 1024;
/// Bytes read at once. Each connection keeps such a buffer, and the library's own choice is 128 KB.
const READ_BUFFER: usize = 4 * 1024;
/// How long the function behind it may take.
const INTEGRATION: Duration = Duration::from_secs(29);
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// How many messages of a client are read ahead of the one that is handled.
const AHEAD: usize = 16;

#[derive(Clone)]
struct Gateway {
    sockets: Sockets,
    handler: Handler,
    api: Router,
}

pub(super) fn router(sockets: Sockets, handler: Handler, api: Router) -> Router {
    let gateway = Gateway {
        sockets,
        handler,
        api: api.clone(),
    };
    Router::new()
        .route("/ws", any(serve))
        .with_state(gateway)
        .fallback_service(api)
}

/// Other methods are the API's: they are not found there.
async fn serve(State(gateway): State<Gateway>, request: Request) -> Response {
    if request.method() != Method::GET {
        return match gateway.api.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
    }
    let (mut parts, _) = request.into_parts();
    if !names_one_host(&parts.headers, parts.version) {
        return refusal(StatusCode::BAD_REQUEST, None);
    }
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_frame_size(LARGEST_FRAME)
            .max_message_size(LARGEST_MESSAGE),
        Err(refused) => return refusal(refused.into_response().status(), None),
    };
    let sockets = gateway.sockets;
    let alive = sockets
        .0
        .alive
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let (Some(alive), Ok(connection_id)) = (alive, event::connection_id()) else {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, None);
    };
    let text = |name| {
        let value = parts.headers.get(name);
        let value = value.and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let origin = Origin {
        connection_id,
        host: text(header::HOST),
    };
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let source_ip = peer.map_or_else(String::new, |peer| peer.ip().to_string());
    let slot = parts.extensions.get::<Arc<Slot>>().cloned();
    let (outbox, waiting) = Outbox::new(
        source_ip,
        text(header::USER_AGENT),
        Arc::clone(&sockets.0.backlog),
    );
    let connect = event::connect(&origin, &outbox, &parts.uri, &parts.headers);
    let answer = handle(&gateway.handler, connect).await;
    let status = answer
        .and_then(|answer| u16::try_from(answer.status_code).ok())
        .and_then(|status| StatusCode::from_u16(status).ok())
        .unwrap_or(StatusCode::BAD_GATEWAY);
    if !status.is_success() {
        return refusal(status, Some(&origin));
    }
    let handler = gateway.handler;
    upgrade.on_upgrade(move |socket| async move {
        let outbox = Arc::new(outbox);
        let id = origin.connection_id.clone();
        sockets.outboxes().insert(id.clone(), Arc::clone(&outbox));
        if sockets.0.is_closing.load(Ordering::Acquire) {
            outbox.say_goodbye();
        }
        let (sink, stream) = socket.split();
        let (heard, to_handle) = mpsc::channel(AHEAD);
        tokio::join!(
            outbox.send_all(waiting, sink),
            listen(&sockets, &outbox, stream, heard),
            take(&sockets, &handler, &origin, &outbox, to_handle),
        );
        sockets.outboxes().remove(&id);
        let end = outbox.ended().await;
        handle(&handler, event::disconnect(&origin, &outbox, &end)).await;
        drop(alive);
        drop(slot);
    })
}

/// As API Gateway words it: it hands over the status of a refusal, and nothing else. With the headers that all answers have.
fn refusal(status: StatusCode, origin: Option<&Origin>) -> Response {
    let message = status.canonical_reason().unwrap_or_default();
    let id = origin.map(|origin| origin.connection_id.as_str());
    let body = serde_json::json!({ "message": message, "connectionId": id });
    let mut headers = HeaderMap::from_iter([
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ]);
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static(ChatApi::CHALLENGE),
        );
    }
    (status, headers, Body::from(body.to_string())).into_response()
}

/// Reads what the client says, until the end.
async fn listen(
    sockets: &Sockets,
    outbox: &Outbox,
    mut stream: SplitStream<WebSocket>,
    heard: mpsc::Sender<String>,
) {
    let lifetimes = sockets.0.lifetimes;
    let last = Instant::now() + lifetimes.whole;
    loop {
        let silent_until = Instant::now() + lifetimes.idle.saturating_sub(outbox.silence());
        let message = tokio::select! {
            message = stream.next() => message,
            () = sleep_until(silent_until.min(last)) => {
                if Instant::now() >= last || outbox.silence() >= lifetimes.idle {
                    outbox.end(close_code::AWAY, "Going away");
                }
                continue;
            }
            end = outbox.ended() => {
                if end.code != close_code::ABNORMAL {
                    // Whoever closes waits for the other to close too, or what it said last may be lost.
                    drop(timeout(FAREWELL, async { while let Some(Ok(_)) = stream.next().await {} }).await);
                }
                return;
            }
        };
        outbox.touch();
        match message {
            Some(Ok(Message::Text(text))) => {
                tokio::select! {
                    // It is taken as long as this task reads.
                    _ = heard.send(text.to_string()) => {}
                    _ = outbox.ended() => {}
                }
            }
            Some(Ok(Message::Binary(_))) => {
                outbox.end(close_code::UNSUPPORTED, "Binary frames are not supported");
            }
            // The protocol answers pings by itself.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(_))) => {
                // Sends the answer to it.
                drop(timeout(FAREWELL, stream.next()).await);
                outbox.end(close_code::NORMAL, "Connection Closed Normally");
            }
            Some(Err(error)) => {
                // What the protocol's library says of sizes is all that tells them apart.
                if error.to_string().contains("too long") {
                    outbox.end(close_code::SIZE, "Message too long");
                } else {
                    outbox.end(close_code::ABNORMAL, "Connection lost");
                }
            }
            None => outbox.end(close_code::ABNORMAL, "Connection lost"),
        }
    }
}

/// Hands over what the client said, one after the other, and sends back what it is answered.
async fn take(
    sockets: &Sockets,
    handler: &Handler,
    origin: &Origin,
    outbox: &Outbox,
    mut to_handle: mpsc::Receiver<String>,
) {
    while let Some(message) = to_handle.recv().await {
        let event = event::said(origin, outbox, message);
        let request_id = event.request_context.request_id.clone();
        let answer = handle(handler, event).await;
        let body = match answer {
            Some(answer) if answer.status_code < 500 => match answer.body {
                Some(EventBody::Text(body)) => Some(body),
                _ => None,
            },
            Some(_) | None => {
                let error = serde_json::json!({
                    "message": "Internal server error",
                    "connectionId": origin.connection_id,
                    "requestId": request_id,
                });
                Some(error.to_string())
            }
        };
        if let Some(body) = body {
            sockets.post(outbox, body.into()).await;
        }
    }
}

/// What the function answers; nothing if it takes too long, or panics.
async fn handle(
    handler: &Handler,
    event: ApiGatewayWebsocketProxyRequest,
) -> Option<ApiGatewayProxyResponse> {
    // A task of its own: a panic is its own too.
    let work = tokio::spawn(handler.0(event));
    match timeout(INTEGRATION, work).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            tracing::error!(%error, "the handler of a connection's event ended");
            None
        }
        Err(_) => {
            tracing::error!("the handler of a connection's event takes too long");
            None
        }
    }
}
