//! The queue that a message came from.

use aws_sdk_sqs::Client;

use crate::domain::Error;

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

    /// Has a message that was received come back in `seconds` (at most 43,200), and not when the queue's own time is over.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if SQS did not answer: then it comes back at the queue's own time.
    pub async fn hide(&self, receipt: &str, seconds: u32) -> Result<(), Error> {
        let (client, url) = self.0.as_ref().ok_or_else(super::no_queues)?;
        client
            .change_message_visibility()
            .queue_url(url)
            .receipt_handle(receipt)
            .visibility_timeout(i32::try_from(seconds).unwrap_or(i32::MAX))
            .send()
            .await
            .map(drop)
            .map_err(|error| Error::Unavailable(Box::new(error)))
    }
}
