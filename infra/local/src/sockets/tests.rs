//! The gateway with a handler that notes what it is given.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lambda_events::apigw::{ApiGatewayProxyResponse, ApiGatewayWebsocketProxyRequest};
use aws_lambda_events::encodings::Body;
use aws_sdk_apigatewaymanagement::Client;
use aws_sdk_apigatewaymanagement::primitives::Blob;
use axum::Router;
use axum::routing::post;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::outbox::{Backlog, LARGEST, Outbox, Post};
use super::{Handler, Lifetimes, Sockets};
use crate::clients::embedded_sockets;
use crate::gateway::{self, Connections};

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

type Caller = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A gateway on a port.
struct Served {
    address: String,
    sockets: Sockets,
    connections: Client,
    open: Connections,
    events: Arc<Mutex<Vec<ApiGatewayWebsocketProxyRequest>>>,
    stop: watch::Sender<bool>,
}

/// Answers as it is told by the client's words: with them, slowly, or not at all.
fn answer(event: &ApiGatewayWebsocketProxyRequest) -> ApiGatewayProxyResponse {
    let mut answer = ApiGatewayProxyResponse::default();
    answer.status_code = match event.query_string_parameters.first("status") {
        Some(status) => status.parse().unwrap(),
        None => 200,
    };
    match event.body.as_deref() {
        Some("panic") => panic!("as it was told"),
        Some("fail") => answer.status_code = 500,
        Some(words) => answer.body = Some(Body::Text(words.to_owned())),
        None => {}
    }
    answer
}

/// Sends a handshake with these lines, and gives the head of the answer.
async fn shake(served: &Served, lines: &[&str]) -> String {
    let mut stream = TcpStream::connect(&served.address).await.unwrap();
    let head = format!(
        "GET /ws?status=401 HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n",
        lines.concat()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(LONG, stream.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(answer).unwrap().to_lowercase()
}

#[tokio::test]
async fn a_handshake_names_its_host_once() {
    let served = Served::new(Lifetimes::default()).await;
    for lines in [&[][..], &["host: a\r\n", "host: b\r\n"][..]] {
        let answer = shake(&served, lines).await;
        assert!(answer.starts_with("http/1.1 400 "), "{answer}");
    }
    assert!(served.events.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_refused_handshake_has_the_headers_of_every_answer() {
    let served = Served::new(Lifetimes::default()).await;
    let answer = shake(&served, &["host: a\r\n"]).await;
    assert!(answer.starts_with("http/1.1 401 "), "{answer}");
    for header in [
        "cache-control: no-store\r\n",
        "x-content-type-options: nosniff\r\n",
        "www-authenticate: apikey realm=\"chatapi\"\r\n",
    ] {
        assert!(answer.contains(header), "{answer}");
    }
}

impl Served {
    async fn new(lifetimes: Lifetimes) -> Self {
        let sockets = Sockets::new(lifetimes);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let events: Arc<Mutex<Vec<_>>> = Arc::default();
        let noted = Arc::clone(&events);
        let handler = Handler::new(move |event| {
            noted.lock().unwrap().push(event.clone());
            Box::pin(async move { answer(&event) })
        });
        let api = Router::new().route("/ws", post(async || "the API's"));
        let router = sockets.router(handler, api);
        let (stop, stopping) = watch::channel(false);
        let open = Connections::default();
        tokio::spawn(gateway::serve(listener, router, open.clone(), stopping));
        Self {
            address,
            connections: embedded_sockets(sockets.http_client()),
            sockets,
            open,
            events,
            stop,
        }
    }

    async fn usual() -> Self {
        Self::new(Lifetimes::default()).await
    }

    async fn open(&self) -> Caller {
        let (client, _) = connect_async(format!("ws://{}/ws", self.address))
            .await
            .unwrap();
        client
    }

    fn events(&self) -> Vec<ApiGatewayWebsocketProxyRequest> {
        self.events.lock().unwrap().clone()
    }

    fn routes(&self) -> Vec<String> {
        let events = self.events();
        let routes = events.iter().map(|it| it.request_context.route_key.clone());
        routes.map(Option::unwrap).collect()
    }

    fn connection(&self) -> String {
        let events = self.events();
        let last = events.last().unwrap();
        last.request_context.connection_id.clone().unwrap()
    }

    /// The status that a post to a connection is answered with.
    async fn post(&self, id: &str, frame: &str) -> u16 {
        let post = self.connections.post_to_connection().connection_id(id);
        match post.data(Blob::new(frame)).send().await {
            Ok(_) => 200,
            Err(error) => error.raw_response().unwrap().status().as_u16(),
        }
    }

    /// The same, once the connection is there.
    async fn post_once_open(&self, id: &str, frame: &str) {
        let deadline = Instant::now() + LONG;
        while self.post(id, frame).await == 410 {
            assert!(Instant::now() < deadline, "it is never there");
            tokio::task::yield_now().await;
        }
    }

    /// Waits until every connection has ended, its `$disconnect` included.
    async fn end(self) -> Vec<String> {
        self.sockets.shut_down().await;
        self.stop.send_replace(true);
        self.routes()
    }
}

async fn hear(client: &mut Caller) -> Message {
    let message = timeout(LONG, client.next()).await.unwrap();
    message.unwrap().unwrap()
}

async fn closed(client: &mut Caller) -> u16 {
    loop {
        if let Message::Close(frame) = hear(client).await {
            return frame.unwrap().code.into();
        }
    }
}

#[tokio::test]
async fn events_come_in_order_and_the_last_one_once() {
    let served = Served::usual().await;
    let mut client = served.open().await;
    for words in ["one", "two"] {
        client.send(Message::text(words)).await.unwrap();
        assert_eq!(hear(&mut client).await, Message::text(words));
    }
    client.close(None).await.unwrap();
    while let Some(Ok(_)) = client.next().await {}
    let events = ["$connect", "$default", "$default", "$disconnect"];
    assert_eq!(served.end().await, events);
}

#[tokio::test]
async fn a_client_that_vanishes_is_disconnected_too() {
    let served = Served::usual().await;
    drop(served.open().await);
    assert_eq!(served.end().await, ["$connect", "$disconnect"]);
}

#[tokio::test]
async fn a_refusal_is_the_handshakes_status() {
    let served = Served::usual().await;
    for status in [401, 403, 429, 500] {
        let url = format!("ws://{}/ws?status={status}", served.address);
        match connect_async(url).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), status),
            other => panic!("{other:?}"),
        }
    }
    assert!(served.sockets.is_empty());
}

#[tokio::test]
async fn another_method_is_the_apis() {
    let served = Served::usual().await;
    let mut stream = TcpStream::connect(&served.address).await.unwrap();
    let request = "POST /ws HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer)
        .await
        .unwrap();
    assert!(answer.ends_with("the API's"), "{answer}");
}

#[tokio::test]
async fn a_handler_that_fails_is_told_to_the_client_as_api_gateway_does() {
    let served = Served::usual().await;
    let mut client = served.open().await;
    for words in ["fail", "panic"] {
        client.send(Message::text(words)).await.unwrap();
        let answer = hear(&mut client).await;
        let answer: serde_json::Value = serde_json::from_str(answer.to_text().unwrap()).unwrap();
        assert_eq!(answer["message"], "Internal server error");
        assert_eq!(answer["connectionId"], served.connection());
    }
    client.send(Message::text("still here")).await.unwrap();
    assert_eq!(hear(&mut client).await, Message::text("still here"));
}

#[tokio::test]
async fn what_is_posted_arrives_in_order() {
    let served = Served::usual().await;
    let mut client = served.open().await;
    let id = served.connection();
    served.post_once_open(&id, "0").await;
    for number in 1..100 {
        assert_eq!(served.post(&id, &number.to_string()).await, 200);
    }
    for number in 0..100 {
        assert_eq!(hear(&mut client).await, Message::text(number.to_string()));
    }
}

#[tokio::test]
async fn nobody_is_found_who_is_not_there() {
    let served = Served::usual().await;
    assert_eq!(served.post("nobody", "hi").await, 410);
    let gone = served.connections.get_connection().connection_id("nobody");
    let gone = gone.send().await.unwrap_err().into_service_error();
    assert!(gone.is_gone_exception());
}

#[tokio::test]
async fn a_frame_that_is_too_large_is_refused() {
    let served = Served::usual().await;
    let _client = served.open().await;
    let id = served.connection();
    served.post_once_open(&id, "hi").await;
    assert_eq!(served.post(&id, &"x".repeat(128 * 1024)).await, 200);
    assert_eq!(served.post(&id, &"x".repeat(128 * 1024 + 1)).await, 413);
}

#[tokio::test]
async fn a_connection_tells_who_is_at_its_other_end() {
    let served = Served::usual().await;
    let _client = served.open().await;
    let id = served.connection();
    served.post_once_open(&id, "hi").await;
    let found = served.connections.get_connection().connection_id(&id);
    let found = found.send().await.unwrap();
    assert_eq!(found.identity().unwrap().source_ip(), Some("127.0.0.1"));
    assert!(found.last_active_at() >= found.connected_at());
}

#[tokio::test]
async fn a_websocket_counts_as_a_connection_until_it_ends() {
    let served = Served::usual().await;
    let mut client = served.open().await;
    client.send(Message::text("hi")).await.unwrap();
    assert_eq!(hear(&mut client).await, Message::text("hi"));
    assert_eq!(served.open.len(), 1);
    drop(client);
    let look = async {
        while served.open.len() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, look).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_is_deleted_is_closed() {
    let served = Served::usual().await;
    let mut client = served.open().await;
    let id = served.connection();
    served.post_once_open(&id, "hi").await;
    let deleted = served.connections.delete_connection().connection_id(&id);
    deleted.send().await.unwrap();
    assert_eq!(closed(&mut client).await, 1000);
}

#[tokio::test]
async fn who_does_not_read_is_cut_off() {
    let served = Served::usual().await;
    let _deaf = served.open().await;
    let id = served.connection();
    served.post_once_open(&id, "hi").await;
    let frame = "x".repeat(100 * 1024);
    let deadline = Instant::now() + LONG;
    while served.post(&id, &frame).await == 200 {
        assert!(Instant::now() < deadline, "there is always room");
    }
    assert_eq!(served.post(&id, "hi").await, 410);
    assert_eq!(served.end().await, ["$connect", "$disconnect"]);
}

#[tokio::test(start_paused = true)]
async fn the_client_that_has_not_read_for_longest_is_cut_off_when_too_much_waits_for_all() {
    const FRAME: usize = 100;
    let sockets = Sockets::with(Lifetimes::default(), 3 * FRAME);
    let mut unread = Vec::new();
    for id in ["reader", "slowest", "slow"] {
        let backlog = Arc::clone(&sockets.0.backlog);
        let (outbox, waiting) = Outbox::new(String::new(), String::new(), backlog);
        sockets.outboxes().insert(id.to_owned(), Arc::new(outbox));
        unread.push(waiting);
    }
    let post = async |id: &str| {
        let outbox = sockets.outbox(id).unwrap();
        let posted = sockets.post(&outbox, "x".repeat(FRAME).into()).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        posted
    };
    for id in ["reader", "slowest", "slow"] {
        assert_eq!(post(id).await, Post::Taken);
    }
    // A client that has read everything has not been slow.
    drop(unread[0].recv().await.unwrap());
    for _ in 0..2 {
        assert_eq!(post("reader").await, Post::Taken);
    }

    assert_eq!(post("slowest").await, Post::Gone);
    // Its frames are as good as gone: nobody else is cut off for them.
    let end = sockets.outbox("slowest").unwrap().ended().await;
    assert_eq!((end.code, end.reason), (1008, "Too slow"));
    for id in ["slow", "reader"] {
        let outbox = sockets.outbox(id).unwrap();
        assert!(outbox.stuck_since().is_some(), "{id} is cut off");
    }
    // It is not gone yet, and not cut off again.
    assert!(sockets.0.backlog.excess() > 0);
    assert_eq!(sockets.cut_slowest(), 0);
    drop(unread.remove(1));
    assert_eq!(sockets.0.backlog.excess(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_post_that_waits_for_room_counts_among_all_that_waits() {
    let frame = "x".repeat(LARGEST);
    // An outbox takes 1 MB: the post after that waits, and is more than may wait.
    let sockets = Sockets::with(Lifetimes::default(), 8 * LARGEST);
    let backlog = Arc::clone(&sockets.0.backlog);
    let (outbox, _unread) = Outbox::new(String::new(), String::new(), backlog);
    let outbox = Arc::new(outbox);
    sockets
        .outboxes()
        .insert("slow".to_owned(), Arc::clone(&outbox));
    for _ in 0..8 {
        let posted = sockets.post(&outbox, frame.as_str().into()).await;
        assert_eq!(posted, Post::Taken);
    }
    let before = Instant::now();

    let posted = sockets.post(&outbox, frame.as_str().into()).await;

    assert_eq!(posted, Post::Gone);
    assert_eq!(before.elapsed(), Duration::ZERO, "it has waited");
    assert_eq!(sockets.0.backlog.excess(), 0, "it still counts");
}

#[tokio::test]
async fn silence_ends_a_connection() {
    let served = Served::new(Lifetimes {
        idle: Duration::from_millis(50),
        ..Lifetimes::default()
    })
    .await;
    let mut client = served.open().await;
    assert_eq!(closed(&mut client).await, 1001);
}

#[tokio::test]
async fn a_connection_ends_after_its_lifetime_whatever_is_said() {
    let served = Served::new(Lifetimes {
        whole: Duration::from_millis(200),
        ..Lifetimes::default()
    })
    .await;
    let mut client = served.open().await;
    loop {
        // Once it is closing, nothing can be said.
        drop(client.send(Message::text("hi")).await);
        if let Message::Close(frame) = hear(&mut client).await {
            assert_eq!(u16::from(frame.unwrap().code), 1001);
            return;
        }
    }
}

#[tokio::test]
async fn all_are_told_when_it_shuts_down() {
    let served = Served::usual().await;
    let mut clients = [served.open().await, served.open().await];
    let sockets = served.sockets.clone();
    let closing = tokio::spawn(async move { sockets.shut_down().await });
    for client in &mut clients {
        let goodbye = hear(client).await;
        assert!(goodbye.to_text().unwrap().contains("server.shutdown"));
        assert_eq!(closed(client).await, 1001);
    }
    closing.await.unwrap();
    let left = served.routes();
    assert_eq!(left.iter().filter(|it| *it == "$disconnect").count(), 2);
}

#[tokio::test]
async fn a_connection_that_is_over_takes_nothing() {
    let (outbox, _waiting) = Outbox::new(String::new(), String::new(), Arc::new(Backlog::new(0)));
    outbox.end(1001, "Going away");
    for _ in 0..64 {
        let posting = outbox.posting("{}".into()).unwrap();
        assert_eq!(outbox.put(posting).await, Post::Gone);
    }
}
