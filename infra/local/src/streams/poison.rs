//! Where the records go that a function cannot take.

use std::time::SystemTime;

use aws_lambda_events::event::dynamodb::EventRecord;
use aws_sdk_sqs::Client as Sqs;
use serde_json::json;

use crate::cause::Cause;

/// The queue of poison records.
#[derive(Debug, Clone)]
pub struct Poison {
    sqs: Sqs,
    queue_url: String,
}

/// A record that failed alone, again and again.
#[derive(Debug)]
pub(super) struct PoisonRecord<'a> {
    pub(super) function: &'a str,
    pub(super) shard: &'a str,
    pub(super) record: &'a EventRecord,
    pub(super) attempts: u32,
    pub(super) reason: &'a str,
}

impl Poison {
    /// Uses the queue at `queue_url`.
    pub fn new(sqs: Sqs, queue_url: String) -> Self {
        Self { sqs, queue_url }
    }

    /// Sends a record with its reason, in the shape of Lambda's on-failure destinations; the
    /// record is added, because it may be trimmed from the stream before somebody looks.
    pub(super) async fn send(&self, poison: &PoisonRecord<'_>) -> Result<(), String> {
        let sequence_number = poison.record.change.sequence_number.as_deref();
        let now = aws_smithy_types::DateTime::from(SystemTime::now());
        let body = json!({
            "requestContext": {
                "functionArn": poison.function,
                "condition": "RetryAttemptsExhausted",
                "approximateInvokeCount": poison.attempts,
            },
            "version": "1.0",
            "timestamp": now.to_string(),
            "reason": poison.reason,
            "DDBStreamBatchInfo": {
                "shardId": poison.shard,
                "startSequenceNumber": sequence_number,
                "endSequenceNumber": sequence_number,
                "batchSize": 1,
                "streamArn": poison.record.event_source_arn,
            },
            "record": poison.record,
        });
        let message = self.sqs.send_message().queue_url(&self.queue_url);
        let sent = message.message_body(body.to_string()).send().await;
        sent.map(drop).map_err(|error| Cause(&error).to_string())
    }
}
