//! The first tenant, so that a new store can be used at once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tower::ServiceExt as _;

use crate::data::MasterKey;

/// Far more than either answer has.
const LARGEST_ANSWER: usize = 1 << 20;

/// A tenant as `POST /admin/tenants` answers it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FirstTenant {
    /// Its id.
    pub tenant_id: String,
    /// Its key, which is shown this once.
    pub api_key: String,
}

/// Creates the tenant `demo` if the store has no tenant at all.
///
/// It goes through the API like any operator, though not through a socket.
pub(crate) async fn first_tenant(
    api: &Router,
    master: &MasterKey,
) -> Result<Option<FirstTenant>, String> {
    let tenants: Vec<serde_json::Value> =
        call(api, master, Method::GET, "/admin/tenants?limit=1", "").await?;
    if !tenants.is_empty() {
        return Ok(None);
    }
    call(
        api,
        master,
        Method::POST,
        "/admin/tenants",
        r#"{"name":"demo"}"#,
    )
    .await
    .map(Some)
}

async fn call<T: DeserializeOwned>(
    api: &Router,
    master: &MasterKey,
    method: Method,
    path: &'static str,
    body: &'static str,
) -> Result<T, String> {
    let request = Request::builder()
        .method(&method)
        .uri(path)
        // Whoever connects must say it.
        .header(header::HOST, "localhost")
        .header("x-master-key", &master.secret)
        .header(header::CONTENT_TYPE, "application/json")
        .extension(ConnectInfo(SocketAddr::new(
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            0,
        )))
        .body(Body::from(body))
        .map_err(|error| error.to_string())?;
    let response = match api.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let status = response.status();
    let body = to_bytes(response.into_body(), LARGEST_ANSWER).await;
    let body = body.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!(
            "{method} {path}: {status}: {}",
            String::from_utf8_lossy(&body)
        ));
    }
    serde_json::from_slice(&body).map_err(|error| format!("{method} {path}: {error}"))
}
