//! The embedded stores on a loopback port, for the `aws` command line and other tools.
//!
//! Nothing is authenticated: who can open a socket on this machine may do anything. A web page
//! cannot, since `X-Amz-Target` makes a browser ask first, and nobody answers that question. Nor can one whose
//! name is made to lead to this machine (DNS rebinding), which a browser does not ask: only names of loopback are
//! answered.

use std::net::IpAddr;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::uri::Authority;
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
    if !is_for_loopback(&headers) {
        let error = br#"{"__type":"com.amazon.coral.service#AccessDeniedException","message":"Only names of loopback are answered here, such as localhost or 127.0.0.1"}"#;
        return shown(421, error.to_vec());
    }
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

/// Whether the one `Host` of a request is `localhost`, a name below it, or an address of loopback.
fn is_for_loopback(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Some(authority) = host
        .to_str()
        .ok()
        .and_then(|it| it.parse::<Authority>().ok())
    else {
        return false;
    };
    let host = authority.host().trim_matches(['[', ']']);
    let host = host.to_ascii_lowercase();
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn shown(status: u16, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = HeaderValue::from_static("application/x-amz-json-1.0");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_loopback_are_answered() {
        let is_answered = |hosts: &[&'static str]| {
            let hosts = hosts.iter();
            let hosts = hosts.map(|host| (header::HOST, HeaderValue::from_static(host)));
            is_for_loopback(&hosts.collect())
        };
        for host in [
            "localhost",
            "localhost:4566",
            "LocalHost:4566",
            "sqs.us-east-1.localhost:4566",
            "127.0.0.1:4566",
            "127.9.9.9",
            "[::1]:4566",
        ] {
            assert!(is_answered(&[host]), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:4566",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "user@evil.example",
            "192.0.2.7",
            "0.0.0.0:4566",
            "a b",
        ] {
            assert!(!is_answered(&[host]), "{host}");
        }
        assert!(!is_answered(&[]));
        assert!(!is_answered(&["localhost", "evil.example"]));
    }
}
