//! A domain error on its way out. Handlers and extractors fail with it; the edge of the dialect turns
//! it into a body, so that none of them needs to know which dialect is spoken.

use std::sync::Arc;

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};

use crate::domain::Error;

/// An error that the edge will render.
#[derive(Debug, Clone)]
pub struct Failure(pub(super) Arc<Error>);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(Arc::new(error))
    }
}

impl IntoResponse for Failure {
    /// A placeholder without a body, which the edge replaces.
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
