//! The sender against receivers of every kind, over sockets.

use std::{future::pending, sync::Arc};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    domain::{Timestamp, webhook::EventType},
    outbound::LONGEST_HEAD,
};

const BODY: &str = r#"{"type":"message.created"}"#;

fn what() -> Outgoing<'static> {
    Outgoing {
        id: "dlv_1",
        // Sun, 06 Nov 1994 08:49:37 GMT
        at: Timestamp::from_micros(784_111_777_000_000),
        event: EventType::MessageCreated,
        body: BODY,
    }
}

fn url(text: impl Into<String>) -> EndpointUrl {
    EndpointUrl::parse(text.into(), Targets::Any).unwrap()
}

/// Trusts nobody, and waits no longer than a test should.
fn sender(targets: Targets) -> Sender {
    Sender::trusting(RootCertStore::empty(), targets, Patience::default())
}

/// Later than any patience ends.
fn far() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

async fn post(to: &EndpointUrl) -> Result<u16, Refused> {
    sender(Targets::Any).post(to, &[], &what(), far()).await
}

/// Reads a whole request.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut read = Vec::new();
    while !read.ends_with(BODY.as_bytes()) {
        let byte = stream.read_u8().await.unwrap();
        read.push(byte);
    }
    String::from_utf8(read).unwrap()
}

/// Serves one connection as `serve` does, on a port of this machine.
async fn receiver<F, T>(
    serve: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> (String, JoinHandle<T>)
where
    F: Future<Output = T> + Send,
    T: Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let authority = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
    let served = tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await });
    (authority, served)
}

/// A receiver that gives `answer`, and the request it got.
async fn answering(answer: impl Into<String>) -> (EndpointUrl, JoinHandle<String>) {
    let answer = answer.into();
    let (authority, served) = receiver(|mut stream| async move {
        let request = request(&mut stream).await;
        stream.write_all(answer.as_bytes()).await.unwrap();
        request
    })
    .await;
    (url(format!("http://{authority}/hooks?a=b")), served)
}

fn head(status: &str, headers: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: 0\r\n\r\n")
}

async fn answered(status: &str, headers: &str) -> Result<u16, Refused> {
    let (url, _served) = answering(head(status, headers)).await;
    post(&url).await
}

#[tokio::test]
async fn a_2xx_is_a_success() {
    assert_eq!(answered("200 OK", "").await, Ok(200));
    assert_eq!(answered("202 Accepted", "").await, Ok(202));
    let (url, _served) = answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(post(&url).await, Ok(204));
}

#[tokio::test]
async fn a_webhook_is_a_signed_post() {
    let (url, served) = answering(head("200 OK", "")).await;
    let secrets = [[1; 32], [2; 32]].map(Secret::from_entropy);
    let sent = sender(Targets::Any)
        .post(&url, &secrets, &what(), far())
        .await;
    assert_eq!(sent, Ok(200));

    let request = served.await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, BODY);
    let mut lines = head.lines();
    assert_eq!(lines.next(), Some("POST /hooks?a=b HTTP/1.1"));
    let mut headers: Vec<_> = lines.map(|line| line.split_once(": ").unwrap()).collect();
    headers.sort_unstable();
    let host = url.as_str()["http://".len()..].split('/').next().unwrap();
    let (both, newest) = (
        sign::standard(&secrets, &what()),
        sign::chatapi(&secrets[0], BODY),
    );
    let expected = [
        ("content-length", "26"),
        ("content-type", "application/json"),
        ("host", host),
        ("user-agent", AGENT),
        ("webhook-id", "dlv_1"),
        ("webhook-signature", both.as_str()),
        ("webhook-timestamp", "784111777"),
        ("x-chatapi-event", "message.created"),
        ("x-chatapi-signature", newest.as_str()),
    ];
    assert_eq!(headers, expected);
    assert_eq!(both.split(' ').count(), 2);
}

fn refused(status: u16) -> Refused {
    Refused {
        status: Some(status),
        ..Refused::new(format!("HTTP {status}"))
    }
}

#[tokio::test]
async fn another_answer_is_a_failure_with_its_status() {
    assert_eq!(answered("500 Oops", "").await, Err(refused(500)));
    assert_eq!(answered("404 Not Found", "").await, Err(refused(404)));
    let gone = Refused {
        gone: true,
        ..refused(410)
    };
    assert_eq!(answered("410 Gone", "").await, Err(gone));
}

#[tokio::test]
async fn a_receiver_that_asks_to_be_left_alone_says_for_how_long() {
    let asked = |status, seconds| {
        Err(Refused {
            retry_after: Some(seconds),
            ..refused(status)
        })
    };
    let seconds = "retry-after: 17\r\n";
    assert_eq!(answered("429 Slow", seconds).await, asked(429, 17));
    assert_eq!(answered("503 Busy", seconds).await, asked(503, 17));
    let date = "retry-after: Sun, 06 Nov 1994 08:50:37 GMT\r\n";
    assert_eq!(answered("429 Slow", date).await, asked(429, 60));
    // It means something else elsewhere.
    assert_eq!(answered("500 Oops", seconds).await, Err(refused(500)));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let location = format!("location: http://{}/\r\n", elsewhere.local_addr().unwrap());
    for status in [301, 302, 307, 308] {
        let error = answered(&format!("{status} Moved"), &location)
            .await
            .unwrap_err();
        assert_eq!(error.reason, format!("HTTP {status} is not followed"));
    }
    // Nobody has come by.
    let visitor = std::future::poll_fn(|cx| elsewhere.poll_accept(cx).map(drop));
    tokio::select! {
        biased;
        () = visitor => panic!("somebody came"),
        () = std::future::ready(()) => {}
    }
}

#[tokio::test]
async fn a_huge_answer_is_not_read() {
    const HUGE: usize = 1 << 30;
    let (authority, served) = receiver(|mut stream| async move {
        request(&mut stream).await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {HUGE}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut written = 0;
        while let Ok(more) = stream.write(&[b'x'; 16 * 1024]).await {
            written += more;
        }
        written
    })
    .await;
    assert_eq!(post(&url(format!("http://{authority}/"))).await, Ok(200));
    // What was written is in buffers on the way.
    assert!(served.await.unwrap() < HUGE / 16);
}

#[tokio::test]
async fn an_answer_that_never_ends_ends_here() {
    let (authority, served) = receiver(|mut stream| async move {
        request(&mut stream).await;
        let head = "HTTP/1.1 500 Oops\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        // Until the other side hangs up.
        stream.read_u8().await.unwrap_err();
    })
    .await;
    let patience = Patience {
        total: Duration::from_hours(1),
        rest: Duration::from_millis(10),
        ..Patience::default()
    };
    let sender = Sender::trusting(RootCertStore::empty(), Targets::Any, patience);
    let url = url(format!("http://{authority}/"));
    assert_eq!(
        sender.post(&url, &[], &what(), far()).await,
        Err(refused(500))
    );
    served.await.unwrap();
}

/// What is said of a receiver that does `serve`, within a short time.
async fn reason<F, T>(scheme: &str, serve: impl FnOnce(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = T> + Send,
    T: Send + 'static,
{
    let (authority, _served) = receiver(serve).await;
    let patience = Patience {
        total: Duration::from_millis(200),
        ..Patience::default()
    };
    let sender = Sender::trusting(RootCertStore::empty(), Targets::Any, patience);
    let url = url(format!("{scheme}://{authority}/"));
    let refused = sender.post(&url, &[], &what(), far()).await.unwrap_err();
    assert_eq!(refused, Refused::new(refused.reason.clone()));
    refused.reason
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_is_given_up() {
    let silent = |mut stream: TcpStream| async move {
        request(&mut stream).await;
        pending::<()>().await;
    };
    assert_eq!(reason("http", silent).await, "connection timeout");
    let no_handshake = |stream: TcpStream| async move {
        pending::<()>().await;
        drop(stream);
    };
    assert_eq!(reason("https", no_handshake).await, "connection timeout");
    let slow_head = |mut stream: TcpStream| async move {
        request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        pending::<()>().await;
    };
    assert_eq!(reason("http", slow_head).await, "connection timeout");
}

#[tokio::test]
async fn a_receiver_that_does_not_take_the_connection_is_given_up() {
    // Nobody accepts, and there is room for few in its queue.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(connected) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        queue.push(connected.unwrap());
    }
    let patience = Patience {
        connect: Duration::from_millis(50),
        total: Duration::from_hours(1),
        ..Patience::default()
    };
    let sender = Sender::trusting(RootCertStore::empty(), Targets::Any, patience);
    let sent = sender
        .post(&url(format!("http://{address}/")), &[], &what(), far())
        .await;
    assert_eq!(sent, Err(Refused::new("connection timeout")));
}

#[tokio::test]
async fn a_receiver_that_hangs_up_has_reset_the_connection() {
    let at_once = |stream: TcpStream| async move { drop(stream) };
    assert_eq!(reason("http", at_once).await, "connection reset");
    let later = |mut stream: TcpStream| async move {
        request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
    };
    assert_eq!(reason("http", later).await, "connection reset");
}

#[tokio::test]
async fn a_receiver_that_does_not_speak_http_is_no_receiver() {
    let other = |mut stream: TcpStream| async move {
        request(&mut stream).await;
        stream
            .write_all(b"220 smtp.example ESMTP\r\n")
            .await
            .unwrap();
        pending::<()>().await;
    };
    assert_eq!(reason("http", other).await, "answer is not HTTP");
    let endless_head = |mut stream: TcpStream| async move {
        request(&mut stream).await;
        let mut head = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
        head.resize(2 * LONGEST_HEAD, b'x');
        stream.write_all(&head).await.ok();
        pending::<()>().await;
    };
    assert_eq!(reason("http", endless_head).await, "answer is not HTTP");
}

#[tokio::test]
async fn a_port_where_nobody_listens_refuses() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let error = post(&url(format!("http://{nobody}/"))).await.unwrap_err();
    assert_eq!(error, Refused::new("connection refused"));
}

#[tokio::test]
async fn a_name_without_an_address_is_not_found() {
    let error = post(&url("http://nowhere.invalid/")).await.unwrap_err();
    assert_eq!(error, Refused::new("host not found"));
}

#[tokio::test]
async fn a_plain_port_is_a_tls_error() {
    let plain = |mut stream: TcpStream| async move {
        stream
            .write_all(head("400 Bad Request", "").as_bytes())
            .await
            .ok();
        pending::<()>().await;
    };
    assert_eq!(reason("https", plain).await, "TLS error");
    let deaf = |mut stream: TcpStream| async move {
        // It reads the first flight, and hangs up.
        stream
            .read_buf(&mut Vec::with_capacity(4096))
            .await
            .unwrap();
    };
    assert_eq!(reason("https", deaf).await, "TLS error");
}

/// A receiver behind TLS that answers 200, with a certificate of its own for `localhost`; its port and the certificate.
async fn behind_tls() -> (u16, RootCertStore) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (authority, _served) = receiver(|stream| async move {
        // Who does not trust us hangs up.
        if let Ok(mut stream) = acceptor.accept(stream).await {
            serve_one(&mut stream).await;
        }
    })
    .await;
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    (
        authority.rsplit(':').next().unwrap().parse().unwrap(),
        roots,
    )
}

async fn serve_one(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    request(stream).await;
    stream
        .write_all(head("200 OK", "").as_bytes())
        .await
        .unwrap();
    stream.flush().await.unwrap();
}

#[tokio::test]
async fn a_receiver_with_a_trusted_certificate_is_told() {
    let (port, roots) = behind_tls().await;
    let sender = Sender::trusting(roots, Targets::Any, Patience::default());
    let url = url(format!("https://localhost:{port}/"));
    assert_eq!(sender.post(&url, &[], &what(), far()).await, Ok(200));
}

#[tokio::test]
async fn a_certificate_that_nobody_trusts_is_a_tls_error() {
    let (port, _) = behind_tls().await;
    let error = post(&url(format!("https://localhost:{port}/")))
        .await
        .unwrap_err();
    assert_eq!(error, Refused::new("TLS error"));
}

#[tokio::test]
async fn a_certificate_for_another_name_is_a_tls_error() {
    let (port, roots) = behind_tls().await;
    let sender = Sender::trusting(roots, Targets::Any, Patience::default());
    let url = url(format!("https://127.0.0.1:{port}/"));
    let error = sender.post(&url, &[], &what(), far()).await.unwrap_err();
    assert_eq!(error, Refused::new("TLS error"));
}

#[tokio::test]
async fn a_name_of_this_machine_is_not_connected_to() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = url(format!("https://localhost:{port}/"));
    let sent = sender(Targets::Public)
        .post(&url, &[], &what(), far())
        .await;
    assert_eq!(sent, Err(Refused::new("address is not allowed")));
    let visitor = std::future::poll_fn(|cx| listener.poll_accept(cx).map(drop));
    tokio::select! {
        biased;
        () = visitor => panic!("somebody came"),
        () = std::future::ready(()) => {}
    }
}

#[tokio::test]
async fn what_was_allowed_when_it_was_stored_is_checked_again() {
    for stored in [
        "http://example.com/",
        "https://127.0.0.1/",
        "https://[::1]/",
    ] {
        let sent = sender(Targets::Public)
            .post(&url(stored), &[], &what(), far())
            .await;
        assert_eq!(
            sent,
            Err(Refused::new("address is not allowed")),
            "{stored}"
        );
    }
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let (authority, served) = receiver(|mut stream| async move {
        serve_one(&mut stream).await;
        serve_one(&mut stream).await;
    })
    .await;
    let (sender, url) = (sender(Targets::Any), url(format!("http://{authority}/")));
    // There is one to be had.
    for _ in 0..2 {
        assert_eq!(sender.post(&url, &[], &what(), far()).await, Ok(200));
    }
    served.await.unwrap();
}
