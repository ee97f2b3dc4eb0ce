//! Who calls, as an argument of a handler.

use axum::{extract::FromRequestParts, http::request::Parts};

use super::{Failure, request::Request, surface::Surface};
use crate::app::App;

/// The caller that surface `S` has authenticated, and whose budget this request was charged to.
#[derive(Debug)]
pub struct Caller<S: Surface>(pub S::Caller);

impl<S: Surface> FromRequestParts<App> for Caller<S> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let request = Request::of(parts)?;
        let caller = S::authenticate(app, &parts.headers, &request).await?;
        Ok(Self(caller))
    }
}
