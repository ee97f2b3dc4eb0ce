//! The HTTP response that a function's payload becomes.

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE, TRANSFER_ENCODING};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// What API Gateway says by itself.
pub(super) fn own(status: StatusCode, message: &str) -> Response<Body> {
    let body = json!({ "message": message }).to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// What a client sees of a function that failed, or whose response makes no sense.
pub(super) fn internal() -> Response<Body> {
    own(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
}

/// The response that a payload describes. Without a `statusCode` the whole payload is the body.
pub(super) fn answer(payload: &[u8]) -> Response<Body> {
    let parsed: Option<Value> = serde_json::from_slice(payload).ok();
    match parsed {
        Some(described) if described.get("statusCode").is_some() => {
            built(&described).unwrap_or_else(internal)
        }
        other => {
            let body = match other {
                Some(Value::String(text)) => text.into_bytes(),
                _ => payload.to_vec(),
            };
            let mut response = Response::new(Body::from(body));
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
    }
}

/// `None` if the description makes no sense.
fn built(described: &Value) -> Option<Response<Body>> {
    let body = match &described["body"] {
        Value::Null => Vec::new(),
        Value::String(text) if described["isBase64Encoded"] == true => {
            BASE64_STANDARD.decode(text).ok()?
        }
        Value::String(text) => text.clone().into_bytes(),
        _ => return None,
    };
    begun(described, Body::from(body))
}

/// The response whose status, headers and cookies are described, and whose body is `body`.
pub(super) fn begun(described: &Value, body: Body) -> Option<Response<Body>> {
    let status = u16::try_from(described["statusCode"].as_u64()?).ok()?;
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).ok()?;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    // Format 2.0 has no `multiValueHeaders`: whoever sends them is not heard.
    if let Some(said) = described["headers"].as_object() {
        for (name, value) in said {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                _ => return None,
            };
            let name = HeaderName::try_from(name.as_str()).ok()?;
            // The gateway frames the answer itself.
            if ![CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name) {
                headers.insert(name, HeaderValue::try_from(value).ok()?);
            }
        }
    }
    if let Some(cookies) = described["cookies"].as_array() {
        for cookie in cookies {
            headers.append(SET_COOKIE, HeaderValue::try_from(cookie.as_str()?).ok()?);
        }
    }
    Some(response)
}

/// Names the request on its answer.
pub(super) fn mark(response: &mut Response<Body>, request_id: &str) {
    if let Ok(id) = HeaderValue::try_from(request_id) {
        response.headers_mut().insert("apigw-requestid", id);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn shown(payload: &Value) -> (u16, Vec<(String, String)>, Vec<u8>) {
        let (parts, body) = answer(payload.to_string().as_bytes()).into_parts();
        let headers = parts.headers.iter();
        let headers = headers.map(|(name, value)| {
            let value = value.to_str().unwrap();
            (name.to_string(), value.to_owned())
        });
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), headers.collect(), body.to_vec())
    }

    fn header(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[tokio::test]
    async fn a_description_becomes_a_response() {
        let payload = json!({
            "statusCode": 201,
            "headers": { "Content-Type": "application/json", "x-one": "1", "content-length": "9" },
            "multiValueHeaders": { "x-many": ["1", "2"] },
            "cookies": ["a=1; HttpOnly", "b=2"],
            "body": "{}",
        });
        let headers = vec![
            header("content-type", "application/json"),
            header("x-one", "1"),
            header("set-cookie", "a=1; HttpOnly"),
            header("set-cookie", "b=2"),
        ];
        assert_eq!(shown(&payload).await, (201, headers, b"{}".to_vec()));
    }

    #[tokio::test]
    async fn a_body_in_base64_is_decoded() {
        let payload = json!({ "statusCode": 200, "body": "AP8=", "isBase64Encoded": true });
        let headers = vec![header("content-type", "text/plain; charset=utf-8")];
        assert_eq!(shown(&payload).await, (200, headers, vec![0, 255]));
    }

    #[tokio::test]
    async fn a_payload_without_a_status_is_the_body() {
        let payload = json!({ "name": "Ada" });
        let headers = vec![header("content-type", "application/json")];
        let body = br#"{"name":"Ada"}"#.to_vec();
        assert_eq!(shown(&payload).await, (200, headers, body));
    }

    #[tokio::test]
    async fn a_description_that_makes_no_sense_is_a_fault() {
        for payload in [
            json!({ "statusCode": "many" }),
            json!({ "statusCode": 20 }),
            json!({ "statusCode": 200, "body": {} }),
            json!({ "statusCode": 200, "body": "?", "isBase64Encoded": true }),
            json!({ "statusCode": 200, "headers": { "x": [] } }),
            json!({ "statusCode": 200, "cookies": [1] }),
        ] {
            let headers = vec![header("content-type", "application/json")];
            let body = br#"{"message":"Internal Server Error"}"#.to_vec();
            assert_eq!(shown(&payload).await, (500, headers, body), "{payload}");
        }
    }
}
