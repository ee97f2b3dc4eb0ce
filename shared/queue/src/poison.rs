//! Where what cannot be read is put aside.

use aws_sdk_sqs::Client;
use serde_json::{Value, json};

use super::VERSION;
use crate::domain::Error;

/// The queue of what cannot be read: it raises an alarm, and nobody retries it.
#[derive(Debug, Clone)]
pub struct PoisonQueue {
    client: Client,
    url: String,
}

impl PoisonQueue {
    /// The queue at `url`.
    pub const fn new(client: Client, url: String) -> Self {
        Self { client, url }
    }

    /// Puts `record` aside, which `function` could not read, with the reason.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the queue did not take it: the record must be tried again.
    pub async fn put_aside(
        &self,
        function: &str,
        record: Value,
        reason: &str,
    ) -> Result<(), Error> {
        let payload = json!({
            "v": VERSION,
            "kind": "poison_record",
            "function": function,
            "reason": reason,
            "record": record,
        });
        self.client
            .send_message()
            .queue_url(&self.url)
            .message_body(payload.to_string())
            .send()
            .await
            .map(drop)
            .map_err(|error| Error::Unavailable(Box::new(error)))
    }
}
