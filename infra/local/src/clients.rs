//! The SDK clients of the stores.
//!
//! Those of the embedded stores leave out what costs CPU and buys nothing in process: signing,
//! endpoint rules, time-outs, stalled-stream protection. Those of other stores have what the
//! network needs.

use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_dynamodb::config::endpoint::{Endpoint, EndpointFuture};
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{
    Credentials, IdentityCache, Region, SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use axum::http::Uri;

/// What a client of an embedded store believes it talks to.
const EMBEDDED: &str = "http://embedded";
/// For emulators, which take any, and of the ARNs of the embedded stores.
pub(crate) const USUAL_REGION: &str = "us-east-1";

/// The embedded store needs no rules to find it.
#[derive(Debug)]
struct Fixed;

impl Fixed {
    fn endpoint<'a>() -> EndpointFuture<'a> {
        EndpointFuture::ready(Ok(Endpoint::builder().url(EMBEDDED).build()))
    }
}

macro_rules! fixed_endpoint {
    ($($sdk:ident),*) => {
        $(impl $sdk::config::endpoint::ResolveEndpoint for Fixed {
            fn resolve_endpoint<'a>(
                &'a self,
                _: &'a $sdk::config::endpoint::Params,
            ) -> EndpointFuture<'a> {
                Self::endpoint()
            }
        })*
    };
}

fixed_endpoint!(
    aws_sdk_apigatewaymanagement,
    aws_sdk_dynamodb,
    aws_sdk_dynamodbstreams,
    aws_sdk_sqs
);

macro_rules! embedded {
    ($sdk:ident, $http_client:expr, $attempts:literal) => {
        $sdk::Client::from_conf(
            $sdk::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::from_static(USUAL_REGION))
                .http_client($http_client)
                .endpoint_resolver(Fixed)
                .allow_no_auth()
                .identity_cache(IdentityCache::no_cache())
                .retry_config(RetryConfig::standard().with_max_attempts($attempts))
                .timeout_config(TimeoutConfig::disabled())
                .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
                .build(),
        )
    };
}

/// A DynamoDB client over the connector of the embedded store.
pub fn embedded_dynamodb(http_client: SharedHttpClient) -> aws_sdk_dynamodb::Client {
    embedded!(aws_sdk_dynamodb, http_client, 2)
}

/// A DynamoDB Streams client over the connector of the embedded store.
pub fn embedded_streams(http_client: SharedHttpClient) -> aws_sdk_dynamodbstreams::Client {
    embedded!(aws_sdk_dynamodbstreams, http_client, 2)
}

/// An SQS client over the connector of the embedded store.
pub fn embedded_sqs(http_client: SharedHttpClient) -> aws_sdk_sqs::Client {
    embedded!(aws_sdk_sqs, http_client, 2)
}

/// A client of connections over the connector of this process's gateway.
pub fn embedded_sockets(http_client: SharedHttpClient) -> aws_sdk_apigatewaymanagement::Client {
    // What is not taken is tried again by whoever posts.
    embedded!(aws_sdk_apigatewaymanagement, http_client, 1)
}

/// The clients of a DynamoDB elsewhere.
pub async fn external_dynamodb(
    endpoint: &Uri,
) -> (aws_sdk_dynamodb::Client, aws_sdk_dynamodbstreams::Client) {
    let config = external(endpoint).await;
    let dynamodb = aws_sdk_dynamodb::config::Builder::from(&config);
    let streams = aws_sdk_dynamodbstreams::config::Builder::from(&config);
    (
        aws_sdk_dynamodb::Client::from_conf(dynamodb.endpoint_url(endpoint.to_string()).build()),
        aws_sdk_dynamodbstreams::Client::from_conf(
            streams.endpoint_url(streams_endpoint(endpoint)).build(),
        ),
    )
}

/// The client of an SQS elsewhere.
pub async fn external_sqs(endpoint: &Uri) -> aws_sdk_sqs::Client {
    let config = aws_sdk_sqs::config::Builder::from(&external(endpoint).await);
    aws_sdk_sqs::Client::from_conf(config.endpoint_url(endpoint.to_string()).build())
}

/// AWS serves streams under a name of their own; emulators do not.
fn streams_endpoint(endpoint: &Uri) -> String {
    match endpoint.host() {
        Some(host) if host.starts_with("dynamodb.") && host.ends_with(".amazonaws.com") => {
            format!("https://streams.{host}")
        }
        _ => endpoint.to_string(),
    }
}

async fn external(endpoint: &Uri) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_attempt_timeout(Duration::from_secs(2))
        .operation_timeout(Duration::from_secs(6))
        .build();
    let http_client = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client)
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .timeout_config(timeouts);
    let has_credentials = ["AWS_ACCESS_KEY_ID", "AWS_PROFILE"]
        .iter()
        .any(|variable| std::env::var_os(variable).is_some());
    if has_credentials || !is_loopback(endpoint) {
        return config.load().await;
    }
    // An emulator: asking this machine for an instance role would only take time.
    let region = std::env::var("AWS_REGION").or_else(|_| std::env::var("AWS_DEFAULT_REGION"));
    let region = region.unwrap_or_else(|_| USUAL_REGION.to_owned());
    let credentials = Credentials::new("test", "test", None, None, "emulator");
    config
        .region(Region::new(region))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .load()
        .await
}

fn is_loopback(endpoint: &Uri) -> bool {
    let host = endpoint.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aws_serves_streams_under_a_name_of_their_own() {
        let at = |endpoint: &str| streams_endpoint(&endpoint.parse().unwrap());
        assert_eq!(
            at("https://dynamodb.eu-west-1.amazonaws.com"),
            "https://streams.dynamodb.eu-west-1.amazonaws.com"
        );
        assert_eq!(at("http://127.0.0.1:4566/"), "http://127.0.0.1:4566/");
    }

    #[test]
    fn only_this_machine_is_loopback() {
        let at = |endpoint: &str| is_loopback(&endpoint.parse().unwrap());
        assert!(at("http://127.0.0.1:4566") && at("http://localhost:1") && at("http://[::1]:1"));
        assert!(!at("https://sqs.eu-west-1.amazonaws.com") && !at("http://10.0.0.1"));
    }
}
