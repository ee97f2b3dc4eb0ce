//! Clients of a runner that all these tests share, over real sockets.

use std::{
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use parlance_local::{Options, start};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        http::{HeaderName, HeaderValue},
        protocol::CloseFrame,
    },
};

use crate::process::{
    http::{Answer, Connection},
    wait::LONG,
};

/// A runner.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    address: String,
    master_key: String,
}

/// The runner of all tests. It ends with them.
pub(crate) fn service() -> Service {
    static SERVICE: OnceLock<Service> = OnceLock::new();
    SERVICE
        .get_or_init(|| {
            let (started, starting) = mpsc::channel();
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let running = start(Options::ephemeral()).await.unwrap();
                    let service = Service::of(&running.base_url, &running.master_key.secret);
                    started.send(service).unwrap();
                    std::future::pending::<()>().await;
                });
            });
            starting.recv().unwrap()
        })
        .clone()
}

impl Service {
    pub(crate) fn of(base_url: &str, master_key: &str) -> Self {
        Self {
            address: base_url.strip_prefix("http://").unwrap().to_owned(),
            master_key: master_key.to_owned(),
        }
    }

    /// A tenant that nobody else has, with a rate limit that no test reaches by accident.
    pub(crate) fn tenant(&self) -> Tenant {
        let made = self.admin("POST", "/admin/tenants", &json!({ "name": "test" }));
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        let tenant = Tenant {
            service: self.clone(),
            id: text("tenant_id"),
            key: text("api_key"),
        };
        let path = format!("/admin/tenants/{}", tenant.id);
        self.admin("PATCH", &path, &json!({ "rate_limit": 1_000_000 }));
        tenant
    }

    pub(crate) fn admin(&self, method: &str, path: &str, body: &Value) -> Value {
        let headers = [("x-master-key", self.master_key.as_str())];
        let mut connection = Connection::open(&self.address).unwrap();
        let answer = connection.send(method, path, &headers, &body.to_string());
        let answer = answer.unwrap();
        assert!(answer.status < 300, "{}", answer.body);
        answer.body
    }

    /// Opens a connection; the status of a refusal.
    pub(crate) async fn open(&self, query: &str, headers: &[(&str, &str)]) -> Result<Socket, u16> {
        let url = format!("ws://{}/ws{query}", self.address);
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            request
                .headers_mut()
                .append(name, HeaderValue::from_str(value).unwrap());
        }
        match connect_async(request).await {
            Ok((stream, _)) => Ok(Socket(stream)),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A tenant of a runner.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) service: Service,
    pub(crate) id: String,
    pub(crate) key: String,
}

impl Tenant {
    /// A request of the tenant's server, acting for `user`.
    pub(crate) fn ask(&self, user: &str, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [("x-api-key", self.key.as_str()), ("x-user-id", user)];
        let mut connection = Connection::open(&self.service.address).unwrap();
        connection
            .send(method, path, &headers, &body.to_string())
            .unwrap()
    }

    /// A group of `members`, whose admin is the first of them.
    pub(crate) fn group(&self, members: &[&str]) -> String {
        let body = json!({ "type": "group", "members": members });
        let made = self.ask(members[0], "POST", "/rooms", &body);
        let made = made.assert(201);
        made["room_id"].as_str().unwrap().to_owned()
    }

    /// What was stored of a message.
    pub(crate) fn say(&self, user: &str, room: &str, content: &str) -> Value {
        let path = format!("/rooms/{room}/messages");
        let body = json!({ "content": content });
        self.ask(user, "POST", &path, &body).assert(200)
    }

    pub(crate) async fn try_open(&self, user: &str) -> Result<Socket, u16> {
        let headers = [("x-api-key", self.key.as_str()), ("x-user-id", user)];
        self.service.open("", &headers).await
    }

    /// A connection of `user`, which has spoken: what happens from now on is sent to it.
    pub(crate) async fn open(&self, user: &str) -> Socket {
        let mut socket = self.try_open(user).await.unwrap();
        socket.say(&json!({ "type": "ping" })).await;
        socket.hear("pong").await;
        socket
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub(crate) async fn say(&mut self, frame: &Value) {
        self.send(Message::text(frame.to_string())).await;
    }

    pub(crate) async fn send(&mut self, message: Message) {
        self.0.send(message).await.unwrap();
    }

    /// What comes next, if it is no ping.
    pub(crate) async fn next(&mut self) -> Message {
        loop {
            let message = timeout(LONG, self.0.next()).await;
            let message = message.expect("something comes");
            match message.expect("the connection is open").unwrap() {
                Message::Ping(_) => {}
                other => return other,
            }
        }
    }

    /// The next frame of type `kind`. Frames of presence are passed over, unless they are asked for: they come
    /// when they come.
    pub(crate) async fn hear(&mut self, kind: &str) -> Value {
        let frame = if kind == "presence.update" {
            self.frame().await
        } else {
            self.one_of_the_others().await
        };
        assert_eq!(frame["type"], kind, "{frame}");
        frame
    }

    /// The next frame that is not of presence.
    pub(crate) async fn one_of_the_others(&mut self) -> Value {
        loop {
            let frame = self.frame().await;
            if frame["type"] != "presence.update" {
                return frame;
            }
        }
    }

    async fn frame(&mut self) -> Value {
        let message = self.next().await;
        serde_json::from_str(message.to_text().unwrap()).unwrap()
    }

    /// Fails unless nothing but presence comes before the answer to a ping.
    pub(crate) async fn hear_nothing(&mut self) {
        self.say(&json!({ "type": "ping", "request_id": "nothing" }))
            .await;
        let pong = self.hear("pong").await;
        assert_eq!(pong["request_id"], "nothing");
    }

    /// Says `frame` and gives the next frame of type `kind`.
    pub(crate) async fn ask(&mut self, frame: Value, kind: &str) -> Value {
        self.say(&frame).await;
        self.hear(kind).await
    }

    /// Why the connection was closed, once it is.
    pub(crate) async fn closed(&mut self) -> CloseFrame {
        loop {
            if let Message::Close(frame) = self.next().await {
                return frame.expect("a reason");
            }
        }
    }

    /// Leaves, and waits until the other side has too.
    pub(crate) async fn leave(mut self) {
        self.0.close(None).await.unwrap();
        let ended = async { while let Some(Ok(_)) = self.0.next().await {} };
        timeout(Duration::from_secs(30), ended).await.unwrap();
    }
}
