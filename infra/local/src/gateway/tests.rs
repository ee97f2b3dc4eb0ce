//! Clients that say or read nothing, and too many of them.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::{get, post};
use futures_util::stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::connections::Refusal;
use super::*;
use crate::proxy::Proxies;

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(50);
const PATIENT: Timeouts = Timeouts {
    header: LONG,
    body: LONG,
    write: LONG,
};
const FEW: Caps = Caps {
    total: 4,
    per_address: 2,
};

struct Served {
    address: SocketAddr,
    connections: Connections,
    /// The next words of the streamed answer.
    words: mpsc::Sender<&'static str>,
    stop: watch::Sender<bool>,
}

impl Served {
    async fn new(caps: Caps, timeouts: Timeouts) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Connections::new(caps, timeouts, Proxies::default());
        let (words, said) = mpsc::channel(1);
        let said = Arc::new(Mutex::new(said));
        let streamed = async move || {
            let words = stream::unfold(said, async |said| {
                let word: Option<&str> = said.lock().await.recv().await;
                word.map(|word| (Ok::<_, Infallible>(word), said))
            });
            Body::from_stream(words)
        };
        let router = Router::new()
            .route("/", get(async || "here"))
            .route("/streamed", get(streamed))
            .route("/large", get(async || vec![b'x'; 64 << 20]))
            .route("/body", post(async |body: Bytes| body));
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(serve(listener, router, connections.clone(), stopping));
        Self {
            address,
            connections,
            words,
            stop,
        }
    }

    /// A connection over which `words` were said.
    async fn say(&self, words: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.address).await.unwrap();
        client.write_all(words.as_bytes()).await.unwrap();
        client
    }

    async fn until_open(&self, count: usize) {
        let look = async {
            while self.connections.len() != count {
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, look).await.unwrap();
    }
}

/// Reads until `words` have come.
async fn hear(client: &mut TcpStream, words: &str) {
    let mut heard = String::new();
    while !heard.contains(words) {
        let mut part = [0; 1024];
        let count = timeout(LONG, client.read(&mut part))
            .await
            .unwrap()
            .unwrap();
        assert!(count > 0, "it ended: {heard}");
        heard += std::str::from_utf8(&part[..count]).unwrap();
    }
}

/// All that comes until the end.
async fn hear_all(client: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    // One that was cut off may end in an error.
    drop(timeout(LONG, client.read_to_end(&mut heard)).await.unwrap());
    String::from_utf8(heard).unwrap()
}

const HEAD: &str = "GET / HTTP/1.1\r\nhost: x\r\n";

#[tokio::test]
async fn a_connection_ends_if_its_headers_do_not_come_in_time() {
    let timeouts = Timeouts {
        header: SHORT,
        ..PATIENT
    };
    let served = Served::new(FEW, timeouts).await;
    for words in ["", HEAD] {
        let mut client = served.say(words).await;
        assert_eq!(hear_all(&mut client).await, "", "{words:?}");
    }
    // One that is kept alive, too.
    let mut client = served.say(&format!("{HEAD}\r\n")).await;
    assert!(hear_all(&mut client).await.ends_with("here"));
    served.until_open(0).await;
}

#[tokio::test]
async fn an_answer_may_be_streamed_for_longer_than_a_request_may_take() {
    let timeouts = Timeouts {
        header: SHORT,
        body: SHORT,
        write: SHORT,
    };
    let served = Served::new(FEW, timeouts).await;
    let request = "GET /streamed HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut client = served.say(request).await;
    served.words.send("one").await.unwrap();
    hear(&mut client, "one").await;
    // When this one is closed, all of these times are over.
    hear_all(&mut served.say("").await).await;
    served.words.send("two").await.unwrap();
    hear(&mut client, "two").await;
}

#[tokio::test]
async fn a_request_fails_if_its_body_does_not_come_in_time() {
    let timeouts = Timeouts {
        body: SHORT,
        ..PATIENT
    };
    let served = Served::new(FEW, timeouts).await;
    let request = "POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nab";
    let mut client = served.say(request).await;
    let answer = hear_all(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    served.until_open(0).await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_off() {
    let timeouts = Timeouts {
        write: SHORT,
        ..PATIENT
    };
    let served = Served::new(FEW, timeouts).await;
    let request = "GET /large HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut client = served.say(request).await;
    hear(&mut client, "xxx").await;
    served.until_open(0).await;
}

#[tokio::test]
async fn connections_without_a_request_are_closed_for_new_ones() {
    let served = Served::new(FEW, PATIENT).await;
    let mut silent = Vec::new();
    for open in 1..=FEW.total {
        silent.push(served.say("").await);
        served.until_open(open).await;
    }
    let mut client = served.say(&format!("{HEAD}\r\n")).await;
    hear(&mut client, "here").await;
    // The first is the one that waited longest.
    assert_eq!(hear_all(&mut silent[0]).await, "");
    assert_eq!(served.connections.len(), FEW.total);
}

#[tokio::test]
async fn a_connection_is_refused_where_all_are_in_use() {
    let served = Served::new(FEW, PATIENT).await;
    let mut clients = Vec::new();
    for _ in 0..FEW.total {
        let mut client = served
            .say("GET /streamed HTTP/1.1\r\nhost: x\r\n\r\n")
            .await;
        hear(&mut client, "HTTP/1.1 200 OK").await;
        clients.push(client);
    }
    let mut refused = served.say("").await;
    let answer = hear_all(&mut refused).await;
    let status = StatusCode::SERVICE_UNAVAILABLE;
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")));
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(body, r#"{"message":"Service Unavailable"}"#);
    drop(clients.pop());
    served.until_open(FEW.total - 1).await;
    hear(&mut served.say(&format!("{HEAD}\r\n")).await, "here").await;
}

#[tokio::test]
async fn a_stop_waits_for_no_request_whose_headers_are_incomplete() {
    let served = Served::new(FEW, PATIENT).await;
    let mut clients = [served.say("").await, served.say(HEAD).await];
    let mut streamed = served
        .say("GET /streamed HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    hear(&mut streamed, "HTTP/1.1 200 OK").await;
    served.until_open(3).await;
    served.stop.send_replace(true);
    for client in &mut clients {
        assert_eq!(hear_all(client).await, "");
    }
    served.words.send("last").await.unwrap();
    drop(served.words);
    assert!(hear_all(&mut streamed).await.contains("last"));
}

#[tokio::test]
async fn an_address_has_a_limit_of_its_own_unless_it_may_carry_many_clients() {
    let proxies = Proxies::new(&["10.0.0.0/8".parse().unwrap()]);
    let total = 100;
    let connections = Connections::new(Caps { total, ..FEW }, PATIENT, proxies);
    let admit = |address: &str| connections.admit(address.parse().unwrap()).map(Arc::new);
    let busy = |address: &str| admit(address).map(|slot| slot.busy());

    let first = busy("203.0.113.9").unwrap();
    let mapped = busy("::ffff:203.0.113.9").unwrap();
    assert_eq!(busy("203.0.113.9").unwrap_err(), Refusal::AddressFull);
    let networks = [busy("2001:db8::1").unwrap(), busy("2001:db8::2").unwrap()];
    assert_eq!(busy("2001:db8::3").unwrap_err(), Refusal::AddressFull);
    let other = busy("2001:db8:0:1::1").unwrap();
    for many in ["127.0.0.1", "::1", "10.0.0.1", "::ffff:10.0.0.1"] {
        let of_one: Vec<_> = (0..10).map(|_| busy(many).unwrap()).collect();
        drop(of_one);
    }

    // One without a request makes room.
    drop(first);
    let waiting = admit("203.0.113.9").unwrap();
    let new = admit("203.0.113.9").unwrap();
    waiting.closed().await;
    drop((waiting, new, mapped, networks, other));
    assert_eq!(connections.len(), 0);
}

#[tokio::test]
async fn one_address_has_half_of_the_connections_where_descriptors_are_few() {
    let caps = Caps {
        total: 10_000,
        per_address: 1_000,
    };
    let connections = Connections::new(caps.within(8), PATIENT, Proxies::default());
    let busy = |address: &str| {
        let slot = connections.admit(address.parse().unwrap()).map(Arc::new);
        slot.map(|slot| slot.busy())
    };

    let of_one: Vec<_> = (0..4).map(|_| busy("203.0.113.9").unwrap()).collect();

    assert_eq!(busy("203.0.113.9").unwrap_err(), Refusal::AddressFull);
    let of_other: Vec<_> = (0..4).map(|_| busy("203.0.113.10").unwrap()).collect();
    assert_eq!(of_one.len() + of_other.len(), connections.len());
}

#[test]
fn one_address_has_what_the_options_say_where_descriptors_are_many() {
    let caps = Caps {
        total: 10_000,
        per_address: 1_000,
    };
    assert_eq!(caps.within(1 << 20), caps);
    // One descriptor is one connection.
    assert_eq!(caps.within(1).per_address, 1);
}

#[tokio::test]
async fn the_kernel_takes_little_for_a_client_that_does_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Connections have the buffers of the socket that accepts them.
    let same = listener.as_fd().try_clone_to_owned().unwrap();
    let connections = Connections::new(FEW, PATIENT, Proxies::default());
    let (_stop, stopping) = watch::channel(false);
    tokio::spawn(serve(listener, Router::new(), connections, stopping));
    let bounded = async {
        while sockopt::socket_send_buffer_size(&same).unwrap() > 2 * SEND_BUFFER {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, bounded).await.unwrap();
}
