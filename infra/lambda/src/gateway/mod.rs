//! An API Gateway HTTP API in front of functions.
//!
//! Its facts come from the developer guide
//! (<https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>)
//! and, where that is silent, from what others measured against the real one: AWS's own emulator
//! (aws/aws-lambda-dotnet, `Tools/LambdaTestTool-v2`) and ministack's pull request 766.

mod answer;
mod event;
mod routes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Response, StatusCode};

use self::event::Origin;
use self::routes::Routes;
use crate::{Function, Lambda};

/// The most bytes of a request's body.
const LARGEST_BODY: usize = 10 << 20;
/// The most bytes of an event. Lambda refuses a greater one with 413, which the gateway hands on
/// (aws/aws-lambda-dotnet pull request 1990, checked there against the real one).
const LARGEST_EVENT: usize = 6 << 20;
/// How long an integration has. It cannot be raised for an HTTP API.
const PATIENCE: Duration = Duration::from_secs(30);

/// The routes of a stack and the functions that they lead to.
#[derive(Debug, Clone)]
pub struct Gateway(Arc<Routes>);

impl Gateway {
    /// The HTTP API in front of `functions`.
    ///
    /// # Errors
    ///
    /// If two routes are the same, or a path is no path.
    pub fn new(functions: &Lambda) -> Result<Self, matchit::InsertError> {
        Ok(Self(Arc::new(Routes::new(functions)?)))
    }

    /// The API as a service. Where a request comes from is in its extension `ConnectInfo<SocketAddr>`.
    pub fn router(&self) -> Router {
        Router::new()
            .fallback(handle)
            .with_state(Arc::clone(&self.0))
    }

    /// The function that answers a method and a path, which is decoded.
    pub fn function(&self, method: &str, path: &str) -> Option<Function> {
        let found = self.0.find(method, path)?;
        Some(found.function.clone())
    }
}

async fn handle(State(routes): State<Arc<Routes>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST_BODY).await else {
        return too_large();
    };
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let origin = Origin::new(&parts, peer.map(|peer| peer.0.ip()));
    let Some(found) = routes.find(parts.method.as_str(), &origin.path) else {
        return answer::own(StatusCode::NOT_FOUND, "Not Found");
    };
    let event = event::event(&parts, &body, &origin, &found);
    if event.len() > LARGEST_EVENT {
        return too_large();
    }
    let invoked = found.function.invoke_within(PATIENCE, Bytes::from(event));
    let mut response = match invoked.await {
        Some(Ok(payload)) => answer::answer(&payload),
        Some(Err(_)) => answer::internal(),
        None => answer::own(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
    };
    answer::mark(&mut response, &origin.request_id);
    response
}

fn too_large() -> Response<Body> {
    answer::own(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large")
}
