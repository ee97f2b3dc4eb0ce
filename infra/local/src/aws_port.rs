//! The embedded stores on a loopback port, for the `aws` command line and other tools.
//!
//! Nothing is authenticated: who can open a socket on this machine may do anything. A web page
//! cannot, since `X-Amz-Target` makes a browser ask first, and nobody answers that question.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::dynamodb::DynamoDb;
use crate::sqs::Sqs;

/// A batch write may have 16 MB.
const LARGEST_BODY: usize = 17 << 20;

/// The stores that are embedded.
#[derive(Debug, Clone)]
pub struct Stores {
    /// DynamoDB and its streams.
    pub dynamodb: Option<DynamoDb>,
    /// SQS.
    pub sqs: Option<Sqs>,
}

/// Routes by `X-Amz-Target`, whatever the path.
pub fn router(stores: Stores) -> Router {
    Router::new()
        .fallback(serve)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(stores)
}

async fn serve(State(stores): State<Stores>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let target = headers
        .get("x-amz-target")
        .and_then(|target| target.to_str().ok());
    let target = target.unwrap_or_default();
    if target.starts_with("DynamoDB")
        && let Some(dynamodb) = &stores.dynamodb
    {
        let answer = dynamodb.handle(target, body.into()).await;
        return shown(answer.status, answer.body);
    }
    if target.starts_with("AmazonSQS.")
        && let Some(sqs) = &stores.sqs
    {
        let answer = sqs.handle(target, &body).await;
        let mut response = shown(answer.status, answer.body);
        let code = answer
            .query_error
            .and_then(|code| HeaderValue::try_from(code).ok());
        if let Some(code) = code {
            response.headers_mut().insert("x-amzn-query-error", code);
        }
        return response;
    }
    let error = br#"{"__type":"UnknownOperationException","message":"No such embedded store"}"#;
    shown(400, error.to_vec())
}

fn shown(status: u16, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = HeaderValue::from_static("application/x-amz-json-1.0");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
