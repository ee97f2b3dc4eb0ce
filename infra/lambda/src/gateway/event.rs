//! The event that a request becomes, in payload format 2.0.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

use super::routes::Found;
use crate::surroundings::ACCOUNT;

/// The host of an API whose client names none.
const DOMAIN: &str = "parlance.execute-api.eu-west-1.amazonaws.com";

/// What is known of a request before its route is.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) request_id: String,
    /// The decoded path: an HTTP API never shows the one that was sent.
    pub(super) path: String,
    address: String,
    domain: String,
}

impl Origin {
    pub(super) fn new(parts: &Parts, peer: Option<IpAddr>) -> Self {
        let host = parts.headers.get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok());
        let path = percent_decode_str(parts.uri.path());
        let peer = peer.unwrap_or(Ipv4Addr::LOCALHOST.into()).to_canonical();
        Self {
            request_id: request_id(),
            path: path.decode_utf8_lossy().into_owned(),
            address: peer.to_string(),
            domain: host.unwrap_or(DOMAIN).to_owned(),
        }
    }
}

/// 16 characters, the last of which is `=`.
fn request_id() -> String {
    let random = uuid::Uuid::new_v4();
    BASE64_URL_SAFE.encode(&random.as_bytes()[..11])
}

/// The event of a request, as JSON.
pub(super) fn event(parts: &Parts, body: &[u8], origin: &Origin, found: &Found<'_>) -> Vec<u8> {
    let now = OffsetDateTime::now_utc();
    let time = now.format(format_description!(
        "[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000"
    ));
    let query = parts.uri.query().unwrap_or_default();
    let user_agent = parts.headers.get(header::USER_AGENT);
    let mut event = json!({
        "version": "2.0",
        "routeKey": found.key,
        "rawPath": origin.path,
        "rawQueryString": query,
        "headers": headers(&parts.headers, origin, body),
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": "parlance",
            "domainName": origin.domain,
            "domainPrefix": origin.domain.split('.').next(),
            "http": {
                "method": parts.method.as_str(),
                "path": origin.path,
                "protocol": "HTTP/1.1",
                "sourceIp": origin.address,
                "userAgent": user_agent.map_or_else(String::new, |it| text(it.as_bytes())),
            },
            "requestId": origin.request_id,
            "routeKey": found.key,
            "stage": "$default",
            // A format of digits and names cannot fail.
            "time": time.unwrap_or_default(),
            "timeEpoch": now.unix_timestamp_nanos() / 1_000_000,
        },
        "isBase64Encoded": false,
    });
    // What is empty is left out.
    let cookies = cookies(&parts.headers);
    if !cookies.is_empty() {
        event["cookies"] = json!(cookies);
    }
    let parameters = query_parameters(query);
    if !parameters.is_empty() {
        event["queryStringParameters"] = json!(parameters);
    }
    if !found.parameters.is_empty() {
        event["pathParameters"] = json!(found.parameters);
    }
    if !body.is_empty() {
        let plain = is_text(&parts.headers).then(|| std::str::from_utf8(body).ok());
        if let Some(plain) = plain.flatten() {
            event["body"] = json!(plain);
        } else {
            event["body"] = json!(BASE64_STANDARD.encode(body));
            event["isBase64Encoded"] = json!(true);
        }
    }
    event.to_string().into_bytes()
}

/// Whether a body is handed over as it is. `text/*` and three of `application/*` are; all else is Base64,
/// forms and bodies of no type too. Measured in ministack's pull request 766.
fn is_text(headers: &HeaderMap) -> bool {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return false;
    }
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    kind.starts_with("text/")
        || matches!(
            kind.as_str(),
            "application/json" | "application/xml" | "application/javascript"
        )
}

/// Names in lower case, the values of one name joined by commas, cookies apart, and what a gateway adds.
fn headers(sent: &HeaderMap, origin: &Origin, body: &[u8]) -> Map<String, Value> {
    let mut headers: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in sent {
        if matches!(
            *name,
            header::COOKIE | header::CONNECTION | header::TRANSFER_ENCODING
        ) {
            continue;
        }
        let value = text(value.as_bytes());
        headers
            .entry(name.as_str())
            .and_modify(|all| {
                all.push(',');
                all.push_str(&value);
            })
            .or_insert(value);
    }
    let forwarded = match headers.get("x-forwarded-for") {
        Some(before) => format!("{before}, {}", origin.address),
        None => origin.address.clone(),
    };
    headers.insert("x-forwarded-for", forwarded);
    headers.insert("x-forwarded-port", "443".to_owned());
    headers.insert("x-forwarded-proto", "https".to_owned());
    headers.insert("host", origin.domain.clone());
    headers.insert("content-length", body.len().to_string());
    headers
        .entry("x-amzn-trace-id")
        .or_insert_with(|| format!("Root={}", trace_root()));
    headers
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect()
}

fn trace_root() -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("1-{}-{}", &random[..8], &random[8..])
}

/// Each `name=value` of all cookie headers, as it was sent.
fn cookies(headers: &HeaderMap) -> Vec<String> {
    let all = headers.get_all(header::COOKIE);
    all.iter()
        .flat_map(|cookies| {
            let cookies = text(cookies.as_bytes());
            let each = cookies.split(';').map(|cookie| cookie.trim().to_owned());
            each.collect::<Vec<_>>()
        })
        .filter(|cookie| !cookie.is_empty())
        .collect()
}

/// Decoded, the values of one name joined by commas.
fn query_parameters(query: &str) -> BTreeMap<String, String> {
    let mut parameters: BTreeMap<String, String> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value);
        parameters
            .entry(decoded(name))
            .and_modify(|all| {
                all.push(',');
                all.push_str(&value);
            })
            .or_insert(value);
    }
    parameters
}

fn decoded(text: &str) -> String {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

/// A header's value in an event, which is JSON: what is not UTF-8 is replaced.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn made(request: Request<&str>, function: &crate::Function) -> Value {
        let (parts, body) = request.into_parts();
        let origin = Origin::new(&parts, Some("203.0.113.7".parse().unwrap()));
        let found = Found {
            function,
            key: "PUT /things/{id}".to_owned(),
            parameters: BTreeMap::from([("id".to_owned(), "a b".to_owned())]),
        };
        serde_json::from_slice(&event(&parts, body.as_bytes(), &origin, &found)).unwrap()
    }

    fn function() -> crate::Function {
        let definition = crate::Definition {
            name: "Things".to_owned(),
            binary: "things".to_owned(),
            memory: 128,
            timeout: std::time::Duration::from_secs(3),
            environment: BTreeMap::new(),
            routes: Vec::new(),
        };
        crate::Function::new(definition, "things".into(), crate::Surroundings::default())
    }

    #[tokio::test]
    async fn a_request_becomes_an_event_of_format_2() {
        let request = Request::put("/things/a%20b?tag=x%2Cy&tag=z&plain&q=a+b")
            .header("host", "api.example.com")
            .header("user-agent", "test")
            .header("content-type", "application/json; charset=utf-8")
            .header("x-twice", "1")
            .header("X-Twice", "2")
            .header("cookie", "a=1; b=2")
            .header("cookie", "c=3")
            .header("x-forwarded-for", "198.51.100.1")
            .body("{}");
        let mut event = made(request.unwrap(), &function());

        let trace = event["headers"]["x-amzn-trace-id"].take();
        assert!(trace.as_str().unwrap().starts_with("Root=1-"));
        let context = &mut event["requestContext"];
        assert_eq!(context["requestId"].take().as_str().unwrap().len(), 16);
        assert!(context["timeEpoch"].take().as_i64().unwrap() > 1_700_000_000_000);
        assert_eq!(context["time"].take().as_str().unwrap().len(), 26);
        let expected = json!({
            "version": "2.0",
            "routeKey": "PUT /things/{id}",
            "rawPath": "/things/a b",
            "rawQueryString": "tag=x%2Cy&tag=z&plain&q=a+b",
            "cookies": ["a=1", "b=2", "c=3"],
            "headers": {
                "content-length": "2",
                "content-type": "application/json; charset=utf-8",
                "host": "api.example.com",
                "user-agent": "test",
                "x-amzn-trace-id": null,
                "x-forwarded-for": "198.51.100.1, 203.0.113.7",
                "x-forwarded-port": "443",
                "x-forwarded-proto": "https",
                "x-twice": "1,2",
            },
            "queryStringParameters": { "tag": "x,y,z", "plain": "", "q": "a b" },
            "pathParameters": { "id": "a b" },
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "parlance",
                "domainName": "api.example.com",
                "domainPrefix": "api",
                "http": {
                    "method": "PUT",
                    "path": "/things/a b",
                    "protocol": "HTTP/1.1",
                    "sourceIp": "203.0.113.7",
                    "userAgent": "test",
                },
                "requestId": null,
                "routeKey": "PUT /things/{id}",
                "stage": "$default",
                "time": null,
                "timeEpoch": null,
            },
            "body": "{}",
            "isBase64Encoded": false,
        });
        assert_eq!(event, expected);
    }

    #[tokio::test]
    async fn what_is_empty_is_left_out() {
        let mut event = made(Request::get("/things/a").body("").unwrap(), &function());
        let event = event.as_object_mut().unwrap();
        assert_eq!(event["rawQueryString"], "");
        assert_eq!(event["isBase64Encoded"], false);
        for absent in ["cookies", "queryStringParameters", "body"] {
            assert!(!event.contains_key(absent), "{absent}");
        }
    }

    #[tokio::test]
    async fn only_text_json_xml_and_javascript_are_handed_over_as_they_are() {
        let plain = [
            "text/plain",
            "text/html; charset=utf-8",
            "application/json",
            "Application/JSON",
            "application/xml",
            "application/javascript",
        ];
        let encoded = [
            "application/x-www-form-urlencoded",
            "application/octet-stream",
            "application/problem+json",
            "multipart/form-data; boundary=x",
            "image/png",
            "",
        ];
        let function = function();
        let sent = |kind: &str| {
            let request = Request::post("/things/a").header("content-type", kind);
            let event = made(request.body("hello").unwrap(), &function);
            (event["body"].clone(), event["isBase64Encoded"].clone())
        };
        for kind in plain {
            assert_eq!(sent(kind), (json!("hello"), json!(false)), "{kind}");
        }
        for kind in encoded {
            assert_eq!(sent(kind), (json!("aGVsbG8="), json!(true)), "{kind}");
        }
    }
}
