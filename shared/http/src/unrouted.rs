//! Paths and methods that a function's router does not take.

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{Method, Uri, header},
    response::Response,
};
use tower::ServiceExt;

use super::Failure;
use crate::{app::App, domain::Error};

/// The methods that a 405 names, in its order. HEAD is left out: it comes with GET.
const METHODS: [Method; 5] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
];

/// `routes`, which answer every path and every method: an unknown path is not found, and a wrong method is told the right
/// ones.
pub fn closed(routes: Router<App>) -> Router<App> {
    refusing_methods(routes).fallback(not_found)
}

/// `routes`, of which a wrong method is told the right ones.
pub fn refusing_methods(routes: Router<App>) -> Router<App> {
    routes.method_not_allowed_fallback(method_not_allowed)
}

/// The path is no route's.
pub async fn not_found() -> Failure {
    Error::NotFound("Path").into()
}

/// The path is a route's. [`name_methods`] tells which it takes.
async fn method_not_allowed() -> Failure {
    Error::MethodNotAllowed {
        allowed: String::new(),
    }
    .into()
}

/// Names the methods that the path of `uri` takes, if `response` failed because it does not take `method`.
///
/// A router tells them in `Allow`, which it adds to an answer after all its layers. So `routes` are asked again, without
/// layers. No handler runs: the method is still the wrong one.
pub(super) async fn name_methods(
    response: &mut Response,
    routes: Router,
    method: Method,
    uri: Uri,
) {
    let failure = response.extensions().get::<Failure>();
    let is_unnamed = failure.is_some_and(|Failure(error)| {
        matches!(&**error, Error::MethodNotAllowed { allowed } if allowed.is_empty())
    });
    if !is_unnamed {
        return;
    }
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    let Ok(answer) = routes.oneshot(request).await;
    let allow = answer.headers().get(header::ALLOW);
    let allow = allow.and_then(|it| it.to_str().ok()).unwrap_or_default();
    let taken = METHODS.iter().map(Method::as_str);
    let taken = taken.filter(|method| allow.split(',').any(|it| it == *method));
    let allowed = taken.collect::<Vec<_>>().join(", ");
    let named = Failure::from(Error::MethodNotAllowed { allowed });
    response.extensions_mut().insert(named);
}
