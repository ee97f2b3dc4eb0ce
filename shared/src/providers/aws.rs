//! How AWS is reached: few, short retries, and credentials that are read anew when AWS refuses them.

use std::time::Duration;

use aws_config::{
    BehaviorVersion, ConfigLoader, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};

use super::{credentials::Renewal, operator_key::RotatingKey, secret::Secret};

/// The way to AWS. Its clients share credentials and connections.
#[derive(Debug)]
pub struct Aws {
    config: SdkConfig,
    renewal: Renewal,
}

macro_rules! client {
    ($aws:expr, $sdk:ident) => {
        $sdk::Client::from_conf(
            $sdk::config::Builder::from(&$aws.config)
                .retry_classifier($aws.renewal.clone())
                .build(),
        )
    };
}

impl Aws {
    /// As the environment of this process says: region, credentials, endpoints.
    pub async fn from_env() -> Self {
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
        Self::load(loader).await
    }

    /// As `loader` says. What is not mended within seconds is a 503.
    pub async fn load(loader: ConfigLoader) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(1))
            .operation_attempt_timeout(Duration::from_secs(2))
            .operation_timeout(Duration::from_secs(6))
            .build();
        let renewal = Renewal::new();
        let config = loader
            .identity_cache(renewal.clone())
            .retry_config(RetryConfig::standard().with_max_attempts(3))
            .timeout_config(timeouts)
            .load()
            .await;
        Self { config, renewal }
    }

    /// A DynamoDB client.
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        client!(self, aws_sdk_dynamodb)
    }

    /// An SQS client.
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        client!(self, aws_sdk_sqs)
    }

    /// The operator's key, kept in the secret of Secrets Manager that `id` names, an ARN or a name.
    pub fn operator_key(&self, id: String) -> RotatingKey {
        let client = client!(self, aws_sdk_secretsmanager);
        RotatingKey::new(Secret::new(client, id))
    }
}
