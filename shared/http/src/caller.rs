//! Who calls, as an argument of a handler.

use axum::{extract::FromRequestParts, http::request::Parts};

use super::{Failure, credentials::Credential, request::Request};
use crate::app::App;

/// The caller whom credential `C` has proved, and to whose budget this request was charged.
#[derive(Debug)]
pub struct Caller<C: Credential>(pub C::Proof);

impl<C: Credential> FromRequestParts<App> for Caller<C> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let request = Request::of(parts)?;
        let caller = C::authenticate(app, &parts.headers, &request).await?;
        Ok(Self(caller))
    }
}
