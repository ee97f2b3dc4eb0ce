//! The way of the AWS SDK into the embedded store: a connector that opens no connection.

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;

use super::DynamoDb;

/// Hands each request to the database thread.
#[derive(Debug)]
pub(super) struct Connector(pub(super) DynamoDb);

impl HttpConnector for Connector {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let body = std::mem::replace(request.body_mut(), SdkBody::taken());
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let answer = self.0.submit(target, body);
        HttpConnectorFuture::new(async move {
            let answer = answer.await;
            let status = StatusCode::try_from(answer.status)
                .map_err(|error| ConnectorError::other(error.into(), None))?;
            Ok(HttpResponse::new(status, SdkBody::from(answer.body)))
        })
    }
}
