//! An API Gateway HTTP API in front of functions.
//!
//! Its facts come from the developer guide
//! (<https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>)
//! and, where that is silent, from what others measured against the real one: AWS's own emulator
//! (aws/aws-lambda-dotnet, `Tools/LambdaTestTool-v2`) and ministack's pull request 766.

mod answer;
mod event;
mod routes;
mod url;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Response, StatusCode};

use self::event::Origin;
pub use self::routes::Conflict;
use self::routes::Routes;
pub use self::url::FunctionUrl;
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
    /// If two routes are the same.
    pub fn new(functions: &Lambda) -> Result<Self, Conflict> {
        Ok(Self(Arc::new(Routes::new(functions)?)))
    }

    /// The API as a service. Where a request comes from is in its extension `ConnectInfo<SocketAddr>`.
    pub fn router(&self) -> Router {
        Router::new()
            .fallback(handle)
            .with_state(Arc::clone(&self.0))
    }

    /// The event that a request becomes, as JSON, and the function that gets it; `None` if the gateway answers
    /// by itself.
    pub async fn event(&self, request: Request) -> Option<(Function, Bytes)> {
        let integration = self.0.integration(request).await.ok()?;
        Some((integration.function, integration.event))
    }

    /// The function that answers a method and a path, which is decoded.
    pub fn function(&self, method: &str, path: &str) -> Option<Function> {
        let found = self.0.find(method, path)?;
        Some(found.function.clone())
    }

    /// The route of a method and a path, which is decoded: `ANY /rooms/{proxy+}`.
    pub fn route(&self, method: &str, path: &str) -> Option<String> {
        Some(self.0.find(method, path)?.key)
    }
}

/// A request that has become an event.
#[derive(Debug)]
struct Integration {
    function: Function,
    event: Bytes,
    request_id: String,
}

impl Routes {
    /// The event of a request and the function that it goes to; what the gateway answers by itself, if it does.
    async fn integration(
        &self,
        request: Request,
    ) -> Result<Integration, (StatusCode, &'static str)> {
        const TOO_LARGE: (StatusCode, &str) =
            (StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large");
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, LARGEST_BODY).await;
        let body = body.map_err(|_| TOO_LARGE)?;
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let origin = Origin::new(&parts, peer.map(|peer| peer.0.ip()));
        let found = self.find(parts.method.as_str(), &origin.path);
        let found = found.ok_or((StatusCode::NOT_FOUND, "Not Found"))?;
        let event = event::event(&parts, &body, &origin, &found);
        if event.len() > LARGEST_EVENT {
            return Err(TOO_LARGE);
        }
        Ok(Integration {
            function: found.function.clone(),
            event: event.into(),
            request_id: origin.request_id,
        })
    }
}

async fn handle(State(routes): State<Arc<Routes>>, request: Request) -> Response<Body> {
    let integration = match routes.integration(request).await {
        Ok(integration) => integration,
        Err((status, message)) => return answer::own(status, message),
    };
    let Integration {
        function,
        event,
        request_id,
    } = integration;
    let mut response = match function.invoke_within(PATIENCE, event).await {
        Some(Ok(payload)) => answer::answer(&payload),
        Some(Err(_)) => answer::internal(),
        None => answer::own(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
    };
    answer::mark(&mut response, &request_id);
    response
}
