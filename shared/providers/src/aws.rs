//! How AWS is reached: few, short retries, and credentials that are read anew when AWS refuses them.
//!
//! What Lambda tells a function is in its environment, and nowhere else. So nothing else is looked at: the
//! SDK's whole chain of profiles, instance roles and token exchanges would make every function a seventh larger.

use std::time::Duration;

use aws_config::{
    BehaviorVersion, Region, SdkConfig, environment::EnvironmentVariableCredentialsProvider,
    retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_sdk_dynamodb::config::SharedCredentialsProvider;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::{
    credentials::Renewal,
    operator_key::RotatingKey,
    sealing::{KeptKey, Sealing},
    secret::Secret,
    sockets::Sockets,
    vault::{KmsKey, Vault},
};

/// The way to AWS. Its clients share credentials and connections.
#[derive(Debug)]
pub struct Aws {
    config: SdkConfig,
    renewal: Renewal,
}

macro_rules! client {
    ($aws:expr, $sdk:ident, $service:literal) => {{
        let mut config = $sdk::config::Builder::from(&$aws.config);
        config.set_endpoint_url(endpoint(concat!("AWS_ENDPOINT_URL_", $service)));
        let config = config
            .interceptor($aws.renewal.clone())
            .retry_classifier($aws.renewal.clone());
        $sdk::Client::from_conf(config.build())
    }};
}

/// Where a service is, if not where AWS has it: `variable`, or else `AWS_ENDPOINT_URL`, as for every SDK.
fn endpoint(variable: &str) -> Option<String> {
    let set = |name| std::env::var(name).ok().filter(|url| !url.is_empty());
    set(variable).or_else(|| set("AWS_ENDPOINT_URL"))
}

impl Aws {
    /// As Lambda tells this process: `AWS_REGION` and the credentials of the function's role.
    pub fn from_env() -> Self {
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let credentials = EnvironmentVariableCredentialsProvider::new();
        let region = std::env::var("AWS_REGION").ok().map(Region::new);
        Self::new(http, SharedCredentialsProvider::new(credentials), region)
    }

    /// Over `http`. What is not mended within seconds is a 503.
    pub fn new(
        http: SharedHttpClient,
        credentials: SharedCredentialsProvider,
        region: Option<Region>,
    ) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(1))
            .operation_attempt_timeout(Duration::from_secs(2))
            .operation_timeout(Duration::from_secs(6))
            .build();
        let renewal = Renewal::new();
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .region(region)
            .credentials_provider(credentials)
            .identity_cache(renewal.clone())
            .retry_config(RetryConfig::standard().with_max_attempts(3))
            .timeout_config(timeouts)
            .build();
        Self { config, renewal }
    }

    /// A DynamoDB client.
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        client!(self, aws_sdk_dynamodb, "DYNAMODB")
    }

    /// An SQS client.
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        client!(self, aws_sdk_sqs, "SQS")
    }

    /// The connections of the WebSocket API whose stage is at `endpoint`. A post is tried twice at most: what does not
    /// pass within 3 s is tried again by whoever wanted it.
    pub fn sockets(&self, endpoint: &str) -> Sockets {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(1))
            .operation_attempt_timeout(Duration::from_secs(2))
            .build();
        let retries = RetryConfig::standard()
            .with_max_attempts(2)
            .with_initial_backoff(Duration::from_millis(100));
        let config = aws_sdk_apigatewaymanagement::config::Builder::from(&self.config)
            .endpoint_url(endpoint)
            .timeout_config(timeouts)
            .retry_config(retries)
            .interceptor(self.renewal.clone())
            .retry_classifier(self.renewal.clone());
        Sockets::new(aws_sdk_apigatewaymanagement::Client::from_conf(
            config.build(),
        ))
    }

    /// The operator's key, kept in the secret of Secrets Manager that `id` names, an ARN or a name.
    pub fn operator_key(&self, id: String) -> RotatingKey {
        RotatingKey::new(self.secret(id))
    }

    /// The key that seals tenants' secrets, kept in the secret of Secrets Manager that `id` names.
    pub fn sealing(&self, id: String) -> Sealing {
        Sealing::Kept(KeptKey::new(self.secret(id)))
    }

    /// What seals provider keys, with the key of KMS that `key` names: an id, an ARN or an alias.
    pub fn vault(&self, key: String) -> Vault {
        Vault::Kms(KmsKey::new(client!(self, aws_sdk_kms, "KMS"), key))
    }

    fn secret(&self, id: String) -> Secret {
        let client = client!(self, aws_sdk_secretsmanager, "SECRETS_MANAGER");
        Secret::new(client, id)
    }
}
