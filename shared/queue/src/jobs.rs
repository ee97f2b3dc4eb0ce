//! Sending jobs.

use std::fmt;

use aws_sdk_sqs::{Client, types::SendMessageBatchRequestEntry};
use serde::{Deserialize, Serialize};

use super::{Fanout, QueueUrls, Source, Sweep, VERSION, fanout::read, no_queues};
use crate::domain::{Error, TenantId, Timestamp, UserId, delivery::Job};

/// How many messages one call sends: what SQS takes.
const AT_ONCE: usize = 10;
/// How often those of a batch that SQS did not take are sent again, besides the SDK's own retries.
const TRIES: usize = 3;

#[derive(Debug, Serialize, Deserialize)]
struct Wire {
    v: u32,
    tenant: String,
    subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default)]
    tries: u32,
    /// In microseconds since 1970.
    #[serde(default)]
    made_at: Option<i64>,
}

/// How jobs of deliveries are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sending {
    /// When this is.
    pub now: Timestamp,
    /// After how many seconds they may be received: at most 900.
    pub delay: u16,
    /// How often they were received before, in earlier copies: 0 for those whose deliveries nobody has seen.
    pub tries: u32,
}

impl Sending {
    /// Those whose deliveries nobody has seen, at once.
    pub const fn first(now: Timestamp) -> Self {
        Self {
            now,
            delay: 0,
            tries: 0,
        }
    }

    /// Those whose deliveries are known, at once.
    pub const fn again(now: Timestamp) -> Self {
        Self {
            now,
            delay: 0,
            tries: 1,
        }
    }
}

/// A delivery's job as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The job.
    pub job: Job,
    /// How often earlier copies of it were received.
    pub tries: u32,
    /// When it was made, by the clock of who sent it. The version before this one did not say.
    pub made_at: Option<Timestamp>,
}

/// A delivery's job as it is sent.
fn to_text(job: &Job, sending: Sending) -> Result<String, Error> {
    let wire = Wire {
        v: VERSION,
        tenant: job.tenant.to_string(),
        subject: job.subject.to_string(),
        user: job.user.as_ref().map(ToString::to_string),
        tries: sending.tries,
        made_at: Some(sending.now.micros()),
    };
    serde_json::to_string(&wire).map_err(Error::internal)
}

/// Reads a delivery's job back.
///
/// # Errors
///
/// The reason why it is no job of this version, which is for the poison queue.
pub fn parse_job(text: &str) -> Result<Sent, String> {
    super::known_version(text)?;
    let wire: Wire = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(Sent {
        job: Job {
            tenant: read(&wire.tenant)?,
            subject: read(&wire.subject)?,
            user: wire.user.map(UserId::stored),
        },
        tries: wire.tries,
        made_at: wire.made_at.map(Timestamp::from_micros),
    })
}

/// The queues that this function sends to.
#[derive(Debug, Clone, Default)]
pub struct Jobs(Option<Reached>);

#[derive(Debug, Clone)]
struct Reached {
    client: Client,
    urls: QueueUrls,
}

/// Jobs that SQS did not take.
#[derive(Debug)]
pub struct Unsent {
    /// The first of them; those before it were taken.
    pub first: usize,
    /// Why.
    pub error: Error,
}

impl From<Unsent> for Error {
    fn from(unsent: Unsent) -> Self {
        unsent.error
    }
}

/// Why SQS refused one message of a batch.
#[derive(Debug)]
struct Refused {
    code: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SQS refused a message: {}", self.code)
    }
}

impl std::error::Error for Refused {}

impl Jobs {
    /// The queues at `urls`.
    pub fn new(client: Client, urls: QueueUrls) -> Self {
        Self(Some(Reached { client, urls }))
    }

    /// Has the audiences of `jobs` found, `delay` seconds (at most 900) from now.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if SQS did not take all of them: those from `first` on may be sent again.
    pub async fn fan_out(&self, jobs: &[Fanout], delay: u16) -> Result<(), Unsent> {
        let bodies = jobs.iter().map(|job| Ok((job.tenant(), job.to_text()?)));
        self.send(|urls| &urls.fanout, bodies, delay).await
    }

    /// Has `jobs` done.
    ///
    /// # Errors
    ///
    /// As [`Jobs::fan_out`].
    pub async fn deliver(&self, jobs: &[Job], sending: Sending) -> Result<(), Unsent> {
        let bodies = jobs
            .iter()
            .map(|job| Ok((job.tenant, to_text(job, sending)?)));
        self.send(|urls| &urls.deliveries, bodies, sending.delay)
            .await
    }

    /// Has what the deletions of `jobs` have left removed, `delay` seconds (at most 900) from now.
    ///
    /// # Errors
    ///
    /// As [`Jobs::fan_out`].
    pub async fn sweep(&self, jobs: &[Sweep], delay: u16) -> Result<(), Unsent> {
        let bodies = jobs.iter().map(|job| Ok((job.tenant, job.to_text()?)));
        self.send(|urls| &urls.sweeps, bodies, delay).await
    }

    /// The queue of the fan-out, for who receives from it.
    pub fn fanout_source(&self) -> Source {
        self.source(|urls| &urls.fanout)
    }

    /// The queue of deliveries, for who receives from it.
    pub fn delivery_source(&self) -> Source {
        self.source(|urls| &urls.deliveries)
    }

    /// The queue of sweeps, for who receives from it.
    pub fn sweep_source(&self) -> Source {
        self.source(|urls| &urls.sweeps)
    }

    fn source(&self, of: impl Fn(&QueueUrls) -> &String) -> Source {
        match &self.0 {
            Some(Reached { client, urls }) => Source::new(client.clone(), of(urls).clone()),
            None => Source::none(),
        }
    }

    async fn send(
        &self,
        to: impl Fn(&QueueUrls) -> &String,
        bodies: impl Iterator<Item = Result<(TenantId, String), Error>>,
        delay: u16,
    ) -> Result<(), Unsent> {
        let unsent = |first| move |error| Unsent { first, error };
        let bodies: Vec<_> = bodies.collect::<Result<_, _>>().map_err(unsent(0))?;
        if bodies.is_empty() {
            return Ok(());
        }
        let reached = self.0.as_ref().ok_or_else(|| unsent(0)(no_queues()))?;
        let url = to(&reached.urls);
        for (batch, bodies) in bodies.chunks(AT_ONCE).enumerate() {
            let first = batch * AT_ONCE;
            let mut entries = Vec::with_capacity(bodies.len());
            for (index, (tenant, body)) in bodies.iter().enumerate() {
                let entry = SendMessageBatchRequestEntry::builder()
                    .id(index.to_string())
                    .message_body(body)
                    // A standard queue serves its groups fairly: a tenant with a backlog waits alone.
                    .message_group_id(tenant.to_string())
                    .set_delay_seconds((delay > 0).then_some(i32::from(delay)))
                    .build()
                    .map_err(Error::internal)
                    .map_err(unsent(first))?;
                entries.push(entry);
            }
            reached.send(url, entries).await.map_err(unsent(first))?;
        }
        Ok(())
    }
}

impl Reached {
    /// Sends one batch until all of it was taken: SQS may take some and refuse others.
    async fn send(
        &self,
        url: &str,
        mut entries: Vec<SendMessageBatchRequestEntry>,
    ) -> Result<(), Error> {
        let mut last = None;
        for _ in 0..TRIES {
            let sent = self
                .client
                .send_message_batch()
                .queue_url(url)
                .set_entries(Some(entries.clone()))
                .send()
                .await
                .map_err(|error| Error::Unavailable(Box::new(error)))?;
            let Some(refused) = sent.failed.first() else {
                return Ok(());
            };
            last = Some(Refused {
                code: refused.code.clone(),
            });
            entries.retain(|entry| sent.failed.iter().any(|it| it.id == entry.id));
        }
        Err(Error::Unavailable(Box::new(last.unwrap_or_else(|| {
            Refused {
                code: String::new(),
            }
        }))))
    }
}
