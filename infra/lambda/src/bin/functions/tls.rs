//! The store on ports of this machine, plain and behind TLS.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::serve::{Listener, ListenerExt as _};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

use crate::Outcome;

/// Where Linux distributions keep the certificates that they trust: with all of them, a function's start costs
/// what it costs in Lambda.
const TRUSTED: [&str; 2] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
];

/// Serves `router`; its URL.
pub(crate) async fn plain(router: Router) -> Outcome<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    // What is written at once is sent at once, as AWS does.
    let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(format!("http://{address}"))
}

/// Serves `router` behind TLS; its URL, and a bundle of certificates that trusts it and all that this machine
/// trusts.
pub(crate) async fn serve(router: Router, folder: &Path) -> Outcome<(String, PathBuf)> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names)?;
    let key = PrivateKeyDer::try_from(signing_key.serialize_der())?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)?;
    let sockets = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = sockets.local_addr()?;
    let listener = Tls {
        sockets,
        acceptor: TlsAcceptor::from(Arc::new(config)),
    };
    tokio::spawn(async move { axum::serve(listener, router).await });

    let trusted = TRUSTED
        .iter()
        .find_map(|file| fs::read_to_string(file).ok());
    let bundle = folder.join("trusted.pem");
    fs::write(&bundle, trusted.unwrap_or_default() + &cert.pem())?;
    Ok((format!("https://{address}"), bundle))
}

/// Connections after their handshake.
struct Tls {
    sockets: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (socket, address) = Listener::accept(&mut self.sockets).await;
            if socket.set_nodelay(true).is_err() {
                continue;
            }
            // One client at a time: nobody waits for another's handshake.
            if let Ok(stream) = self.acceptor.accept(socket).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.sockets.local_addr()
    }
}
