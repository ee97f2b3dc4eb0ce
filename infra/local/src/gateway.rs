//! The API: every function's routes on one port, as API Gateway puts them behind one address.

use std::net::SocketAddr;

use axum::Router;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Serves `router` until `stop` turns true and the requests in flight are answered.
pub async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    // Answers are small and written at once: waiting for more would only delay them.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
    });
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let stopped = async move {
        // An error means that whoever could say so is gone, which says the same.
        drop(stop.wait_for(|stopped| *stopped).await);
    };
    if let Err(error) = axum::serve(listener, service)
        .with_graceful_shutdown(stopped)
        .await
    {
        tracing::error!(%error, "the server ended");
    }
}
