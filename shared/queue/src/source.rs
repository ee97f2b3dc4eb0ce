//! The queue that a message came from.

use aws_sdk_sqs::{Client, types::ChangeMessageVisibilityBatchRequestEntry};

use crate::domain::Error;

/// Maximum entries of a batch request: what SQS takes.
const MAX_ENTRIES: usize = 10;

/// A queue that is received from.
#[derive(Debug, Clone)]
pub struct Source(Option<(Client, String)>);

impl Source {
    /// The queue at `url`.
    pub const fn new(client: Client, url: String) -> Self {
        Self(Some((client, url)))
    }

    /// The queue of a function that was given none.
    pub(super) const fn none() -> Self {
        Self(None)
    }

    /// Has messages that were received come back in `seconds` (at most 43,200), and not when the queue's own time is over.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if SQS did not answer, or did not do it for all: the others come back at the queue's own time.
    pub async fn hide(&self, receipts: &[&str], seconds: u32) -> Result<(), Error> {
        let (client, url) = self.0.as_ref().ok_or_else(super::no_queues)?;
        let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
        if let [receipt] = receipts {
            let change = client.change_message_visibility().queue_url(url);
            let change = change.receipt_handle(*receipt).visibility_timeout(seconds);
            return change.send().await.map(drop).map_err(unavailable);
        }
        for receipts in receipts.chunks(MAX_ENTRIES) {
            let entries = receipts.iter().enumerate().map(|(index, receipt)| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(index.to_string())
                    .receipt_handle(*receipt)
                    .visibility_timeout(seconds)
                    .build()
                    .map_err(Error::internal)
            });
            let change = client.change_message_visibility_batch().queue_url(url);
            let change = change.set_entries(Some(entries.collect::<Result<_, _>>()?));
            let changed = change.send().await.map_err(unavailable)?;
            if let Some(refused) = changed.failed.first() {
                let refused = format!("SQS refused a message: {}", refused.code);
                return Err(Error::Unavailable(refused.into()));
            }
        }
        Ok(())
    }
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Unavailable(Box::new(error))
}
