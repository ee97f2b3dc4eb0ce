//! Events as API Gateway makes them.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use axum::extract::Query;
use axum::http::{HeaderMap, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;

use super::outbox::{End, Outbox};

/// What a function is told that stays the same for one connection.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) connection_id: String,
    pub(super) host: String,
}

/// An id as API Gateway gives them: 16 characters, the last of which is `=`.
pub(super) fn connection_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 11];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE.encode(bytes))
}

/// `$connect`, with what the client's request says.
pub(super) fn connect(
    origin: &Origin,
    outbox: &Outbox,
    uri: &Uri,
    headers: &HeaderMap,
) -> ApiGatewayWebsocketProxyRequest {
    let mut event = event(origin, outbox, "$connect", "CONNECT");
    let mut values: HashMap<String, Vec<String>> = HashMap::new();
    // What cannot be decoded says nothing.
    if let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) {
        for (name, value) in pairs {
            values.entry(name).or_default().push(value);
        }
    }
    let last = values
        .iter()
        .filter_map(|(name, values)| Some((name.clone(), values.last()?.clone())));
    event.query_string_parameters = last.collect::<HashMap<_, _>>().into();
    event.multi_value_query_string_parameters = values.into();
    event.headers = headers.clone();
    event.multi_value_headers = headers.clone();
    event
}

/// `$default`, with what the client said.
pub(super) fn said(
    origin: &Origin,
    outbox: &Outbox,
    message: String,
) -> ApiGatewayWebsocketProxyRequest {
    let mut event = event(origin, outbox, "$default", "MESSAGE");
    event.request_context.message_id = event.request_context.request_id.clone();
    event.body = Some(message);
    event
}

/// `$disconnect`, with why.
pub(super) fn disconnect(
    origin: &Origin,
    outbox: &Outbox,
    end: &End,
) -> ApiGatewayWebsocketProxyRequest {
    let mut event = event(origin, outbox, "$disconnect", "DISCONNECT");
    event.request_context.disconnect_status_code = Some(end.code.into());
    event.request_context.disconnect_reason = Some(end.reason.to_owned());
    event
}

fn event(
    origin: &Origin,
    outbox: &Outbox,
    route: &str,
    kind: &str,
) -> ApiGatewayWebsocketProxyRequest {
    let mut event = ApiGatewayWebsocketProxyRequest::default();
    let context = &mut event.request_context;
    context.route_key = Some(route.to_owned());
    context.event_type = Some(kind.to_owned());
    context.message_direction = Some("IN".to_owned());
    context.stage = Some("live".to_owned());
    context.apiid = Some("local".to_owned());
    context.domain_name = Some(origin.host.clone());
    context.connection_id = Some(origin.connection_id.clone());
    context.connected_at = millis(outbox.connected_at);
    context.request_time_epoch = millis(SystemTime::now());
    // Without randomness the handler names the event.
    context.request_id = connection_id().ok();
    context.extended_request_id = context.request_id.clone();
    context.identity.source_ip = Some(outbox.source_ip.clone());
    context.identity.user_agent = Some(outbox.user_agent.clone());
    event
}

pub(super) fn millis(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::outbox::Backlog;
    use super::*;

    #[test]
    fn a_connections_id_looks_like_api_gateways() {
        let id = connection_id().unwrap();
        assert_eq!(id.len(), 16);
        assert!(id.ends_with('='), "{id}");
    }

    #[test]
    fn a_connect_event_holds_the_query_decoded() {
        let (outbox, _waiting) = Outbox::new(
            "127.0.0.1".to_owned(),
            String::new(),
            Arc::new(Backlog::new(0)),
        );
        let origin = Origin {
            connection_id: "id".to_owned(),
            host: "localhost".to_owned(),
        };
        let uri: Uri = "/ws?token=a%2Bb&token=c&user_id=d".parse().unwrap();
        let event = connect(&origin, &outbox, &uri, &HeaderMap::new());
        let query = &event.query_string_parameters;
        assert_eq!(
            (query.first("token"), query.first("user_id")),
            (Some("c"), Some("d"))
        );
        let all = event.multi_value_query_string_parameters.all("token");
        assert_eq!(all, Some(vec!["a+b", "c"]));
        assert_eq!(event.request_context.route_key.as_deref(), Some("$connect"));
    }
}
