//! The two stores, embedded or elsewhere, and the SDK clients that reach them.

use aws_sdk_sqs::Client as SqsClient;
use parlance::app::StoreFaults;
use tokio::sync::watch;

use crate::cause::Cause;
use crate::clients::{
    embedded_dynamodb, embedded_sqs, embedded_streams, external_dynamodb, external_sqs,
};
use crate::consistency;
use crate::data::DataFolder;
use crate::dynamodb::{DynamoDb, Sync};
use crate::error::StartError;
use crate::options::Options;
use crate::sqs::{self, Sqs};
use crate::streams::Wake;

/// The stores of a runner.
#[derive(Debug, Clone)]
pub(crate) struct Stores {
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) streams: aws_sdk_dynamodbstreams::Client,
    pub(crate) sqs: SqsClient,
    pub(crate) embedded_dynamodb: Option<DynamoDb>,
    pub(crate) embedded_sqs: Option<Sqs>,
}

impl Stores {
    pub(crate) async fn open(options: &Options, data: &DataFolder) -> Result<Self, StartError> {
        let (dynamodb, streams, embedded_dynamodb) =
            if let Some(endpoint) = &options.dynamodb_endpoint {
                let (dynamodb, streams) = external_dynamodb(endpoint).await;
                (dynamodb, streams, None)
            } else {
                consistency::check(data, options.sqs_endpoint.is_none())?;
                let store = DynamoDb::open(&data.dynamodb()?, options.sync)
                    .map_err(|error| StartError::Store(error.to_string()))?;
                let http_client = store.http_client();
                let dynamodb = embedded_dynamodb(http_client.clone());
                (dynamodb, embedded_streams(http_client), Some(store))
            };
        let (sqs, embedded_sqs) = if let Some(endpoint) = &options.sqs_endpoint {
            (external_sqs(endpoint).await, None)
        } else {
            let sync = match options.sync {
                Sync::Normal => sqs::Sync::Normal,
                Sync::Full => sqs::Sync::Full,
            };
            let file = data.sqs()?;
            let store = Sqs::open(Some(&file), sync).map_err(|error| {
                let (file, cause) = (file.display(), Cause(&error));
                StartError::Store(format!("{cause} ({file})"))
            })?;
            (embedded_sqs(store.http_client()), Some(store))
        };
        Ok(Self {
            dynamodb,
            streams,
            sqs,
            embedded_dynamodb,
            embedded_sqs,
        })
    }

    /// The known faults of the embedded stores.
    pub(crate) fn faults(&self) -> Vec<StoreFaults> {
        let dynamodb = self.embedded_dynamodb.as_ref().map(DynamoDb::faults);
        let sqs = self.embedded_sqs.as_ref().map(Sqs::faults);
        dynamodb.into_iter().chain(sqs).collect()
    }

    /// What makes a poller look at a stream.
    pub(crate) fn wake(&self) -> Wake {
        let embedded = self.embedded_dynamodb.as_ref();
        let changes: Option<watch::Receiver<u64>> = embedded.map(DynamoDb::changes);
        changes.map_or(Wake::Polling, Wake::OnChange)
    }

    /// Closes the embedded stores; everything acknowledged is in their files.
    pub(crate) async fn close(self) {
        // It waits for their threads.
        let closed = tokio::task::spawn_blocking(move || {
            if let Some(dynamodb) = self.embedded_dynamodb {
                dynamodb.close();
            }
            if let Some(sqs) = self.embedded_sqs {
                sqs.close();
            }
        });
        if let Err(error) = closed.await {
            tracing::error!(%error, "an embedded store was not closed");
        }
    }
}
