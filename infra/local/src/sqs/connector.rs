//! The SDK's way in: an HTTP client that never opens a socket.

use super::Sqs;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;

/// The content type of awsJson1.0.
const CONTENT_TYPE: &str = "application/x-amz-json-1.0";

pub(super) fn http_client(sqs: Sqs) -> SharedHttpClient {
    let connector = SharedHttpConnector::new(Connector { sqs });
    http_client_fn(move |_, _| connector.clone())
}

#[derive(Debug)]
struct Connector {
    sqs: Sqs,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let sqs = self.sqs.clone();
        HttpConnectorFuture::new(async move { respond(&sqs, &request).await })
    }
}

async fn respond(sqs: &Sqs, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let target = request.headers().get("x-amz-target").unwrap_or_default();
    // The SDK holds every request of SQS in memory; a stream would be a defect of ours.
    let body = request
        .body()
        .bytes()
        .ok_or_else(|| ConnectorError::user("the request is a stream".into()))?;
    let answer = sqs.handle(target, body).await;

    let status = StatusCode::try_from(answer.status)
        .map_err(|error| ConnectorError::other(error.into(), None))?;
    let mut response = HttpResponse::new(status, SdkBody::from(answer.body));
    response.headers_mut().insert("content-type", CONTENT_TYPE);
    if let Some(code) = answer.query_error {
        response.headers_mut().insert("x-amzn-query-error", code);
    }
    Ok(response)
}
