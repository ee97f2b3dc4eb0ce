//! The stream poller: what Lambda's event source mapping is in AWS.
//!
//! It reads a table's stream through the SDK, parents before children and each shard in order,
//! hands the records to a function, and remembers how far it came.
//!
//! **Invariant:** a checkpoint is written after its records were taken, so every record is handed
//! over at least once.

mod batch;
mod checkpoints;
mod poison;
mod record;
mod retention;
#[cfg(test)]
mod tests;
mod wake;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::event::dynamodb::Event;
use aws_lambda_events::event::streams::DynamoDbEventResponse;
use aws_sdk_dynamodbstreams::Client;
use aws_sdk_dynamodbstreams::error::SdkError;
use aws_sdk_dynamodbstreams::operation::get_records::GetRecordsOutput;
use aws_sdk_dynamodbstreams::operation::get_shard_iterator::{
    GetShardIteratorError, GetShardIteratorOutput,
};
use aws_sdk_dynamodbstreams::types::{Record, ShardIteratorType};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cause::Cause;
use crate::clock::{POLLER_PAUSES, is_stopped_within};
use crate::template::StreamMapping;
use batch::{HandOver, Progress, Stand, sequence_number};
use checkpoints::Checkpoints;
pub(crate) use checkpoints::Recorded;
pub use poison::Poison;
pub use retention::Retention;
pub use wake::Wake;

/// The most that `GetRecords` returns.
const PAGE: usize = 1000;
/// How long to wait for the children of a shard that has ended.
const PAUSE: Duration = Duration::from_secs(1);

/// What a poller needs besides its function.
#[derive(Debug, Clone)]
pub struct Source {
    /// The client of the store's streams.
    pub client: Client,
    /// The stream.
    pub stream_arn: String,
    /// What makes it look.
    pub wake: Wake,
    /// Where the records go that cannot be taken.
    pub poison: Poison,
    /// Forgets what was taken, in the embedded store.
    pub retention: Option<Retention>,
    /// Turns true when the runner stops.
    pub stop: watch::Receiver<bool>,
}

/// Feeds `handler` until the runner stops. The checkpoints are kept in `folder`.
pub async fn poll<H, F>(source: Source, mapping: StreamMapping, folder: &Path, handler: H)
where
    H: Fn(Event) -> F + Send + Sync + 'static,
    F: Future<Output = DynamoDbEventResponse> + Send + 'static,
{
    let file = folder.join(format!("{}-{}.json", mapping.function, mapping.table));
    let poller = Poller {
        checkpoints: Checkpoints::load(&file, &source.stream_arn),
        source,
        mapping,
        handler: Arc::new(handler),
    };
    Arc::new(poller).run().await;
}

struct Poller<H> {
    source: Source,
    mapping: StreamMapping,
    checkpoints: Checkpoints,
    handler: Arc<H>,
}

impl<H, F> Poller<H>
where
    H: Fn(Event) -> F + Send + Sync + 'static,
    F: Future<Output = DynamoDbEventResponse> + Send + 'static,
{
    /// Follows every shard whose parent was taken to its end.
    async fn run(self: Arc<Self>) {
        let mut followed = BTreeMap::new();
        let mut tasks: JoinSet<()> = JoinSet::new();
        let mut stop = self.source.stop.clone();
        let mut pauses = POLLER_PAUSES;
        while !*stop.borrow() {
            let mut pause = PAUSE;
            match self.ready_shards().await {
                Ok(ready) => {
                    pauses.reset();
                    for shard in ready {
                        if !followed.values().any(|it| *it == shard) {
                            let task = tasks.spawn(Arc::clone(&self).follow(shard.clone()));
                            followed.insert(task.id(), shard);
                        }
                    }
                }
                Err(error) => {
                    pause = pauses.after_failure();
                    tracing::warn!(
                        function = self.mapping.function,
                        error,
                        "cannot see a stream"
                    );
                }
            }
            // A shard's end is what brings new shards, if not at once.
            let ended = async {
                match tasks.join_next_with_id().await {
                    Some(Ok((task, ()))) => drop(followed.remove(&task)),
                    Some(Err(died)) => drop(followed.remove(&died.id())),
                    None => {}
                }
                tokio::time::sleep(pause).await;
            };
            tokio::select! {
                () = ended => {}
                _ = stop.wait_for(|stopped| *stopped) => {}
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// The shards to follow: not taken yet, and their parents gone or taken.
    async fn ready_shards(&self) -> Result<Vec<String>, String> {
        let mut parents = BTreeMap::new();
        let mut after = None;
        loop {
            let request = self.source.client.describe_stream();
            let request = request.stream_arn(&self.source.stream_arn);
            let page = request
                .set_exclusive_start_shard_id(after)
                .send()
                .await
                .map_err(said)?;
            let Some(stream) = page.stream_description else {
                break;
            };
            for shard in stream.shards() {
                if let Some(id) = shard.shard_id() {
                    parents.insert(
                        id.to_owned(),
                        shard.parent_shard_id().map(ToOwned::to_owned),
                    );
                }
            }
            after = stream.last_evaluated_shard_id;
            if after.is_none() {
                break;
            }
        }
        self.checkpoints
            .retain(|shard| parents.contains_key(shard))
            .await;
        let mut ready = Vec::new();
        for (shard, parent) in &parents {
            let waits = match parent {
                Some(parent) if parents.contains_key(parent) => {
                    !self.checkpoints.position(parent).await.finished
                }
                _ => false,
            };
            if !waits && !self.checkpoints.position(shard).await.finished {
                ready.push(shard.clone());
            }
        }
        Ok(ready)
    }

    /// Takes one shard from its checkpoint on, until it ends or the runner stops.
    async fn follow(self: Arc<Self>, shard: String) {
        let mut wake = self.source.wake.clone();
        let mut stop = self.source.stop.clone();
        let mut iterator = None;
        let mut pauses = POLLER_PAUSES;
        while !*stop.borrow() {
            wake.reading();
            match self.read(&shard, iterator.take()).await {
                Ok(page) => {
                    pauses.reset();
                    let records = page.records.unwrap_or_default();
                    if self.take(&shard, &records).await == Progress::Stopped {
                        return;
                    }
                    iterator = page.next_shard_iterator;
                    if iterator.is_none() {
                        return self.finish(&shard).await;
                    }
                    if records.len() == self.page_size() {
                        // There may be more.
                        continue;
                    }
                }
                Err(error) => {
                    tracing::warn!(shard, error, "cannot read a stream");
                    is_stopped_within(pauses.after_failure(), &mut stop).await;
                    continue;
                }
            }
            tokio::select! {
                () = wake.next(self.mapping.window) => {}
                _ = stop.wait_for(|stopped| *stopped) => {}
            }
        }
    }

    async fn finish(&self, shard: &str) {
        if let Err(error) = self.checkpoints.finished(shard).await {
            tracing::error!(shard, %error, "a checkpoint was not written");
        }
    }

    /// Reads on at `iterator`, or at the checkpoint.
    async fn read(
        &self,
        shard: &str,
        iterator: Option<String>,
    ) -> Result<GetRecordsOutput, String> {
        let iterator = match iterator {
            Some(iterator) => Some(iterator),
            None => self.iterator(shard).await?,
        };
        let request = self
            .source
            .client
            .get_records()
            .set_shard_iterator(iterator);
        request
            .limit(i32::try_from(self.page_size()).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(said)
    }

    async fn iterator(&self, shard: &str) -> Result<Option<String>, String> {
        let request = || {
            let request = self.source.client.get_shard_iterator().shard_id(shard);
            request.stream_arn(&self.source.stream_arn)
        };
        let from_start = || {
            request()
                .shard_iterator_type(ShardIteratorType::TrimHorizon)
                .send()
        };
        let Some(taken) = self.checkpoints.position(shard).await.taken else {
            return from_start().await.map(iterator_of).map_err(said);
        };
        let after = request().shard_iterator_type(ShardIteratorType::AfterSequenceNumber);
        let mut answer = after.sequence_number(taken).send().await;
        if answer.as_ref().is_err_and(is_trimmed) {
            // The runner was away for longer than records are kept.
            tracing::error!(shard, "records were lost: they are too old");
            answer = from_start().await;
        }
        answer.map(iterator_of).map_err(said)
    }

    fn page_size(&self) -> usize {
        self.mapping.batch_size.clamp(1, PAGE)
    }

    /// Has the function take `records`.
    async fn take(&self, shard: &str, records: &[Record]) -> Progress {
        let mut hand_over = HandOver {
            function: self.mapping.function.clone(),
            stream_arn: self.source.stream_arn.clone(),
            shard: shard.to_owned(),
            handler: Arc::clone(&self.handler),
            poison: self.source.poison.clone(),
            stop: self.source.stop.clone(),
        };
        let (mut stand, mut done) = (Stand::default(), 0);
        while done < records.len() {
            match hand_over.step(records, &mut stand).await {
                Progress::Stopped => return Progress::Stopped,
                Progress::Done(now) => {
                    self.remember(shard, &records[done..now]).await;
                    done = now;
                }
            }
        }
        Progress::Done(done)
    }

    async fn remember(&self, shard: &str, taken: &[Record]) {
        let Some(last) = taken.last().map(sequence_number) else {
            return;
        };
        if let Err(error) = self.checkpoints.taken(shard, last).await {
            // The function will see these records again after a restart; and nothing is trimmed.
            tracing::error!(shard, %error, "a checkpoint was not written");
            return;
        }
        if let Some(retention) = &self.source.retention {
            let count = u32::try_from(taken.len()).unwrap_or(u32::MAX);
            retention.taken(&self.mapping, count, last).await;
        }
    }
}

fn iterator_of(answer: GetShardIteratorOutput) -> Option<String> {
    answer.shard_iterator
}

fn is_trimmed(error: &SdkError<GetShardIteratorError>) -> bool {
    let fault = error.as_service_error();
    fault.is_some_and(GetShardIteratorError::is_trimmed_data_access_exception)
}

fn said(error: impl std::error::Error) -> String {
    Cause(&error).to_string()
}
