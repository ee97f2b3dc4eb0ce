//! Removes the logs of chats and the versions of agents that were deleted, some at a time: the rest is the next job's.

use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use parlance::{
    app::App,
    domain::Error,
    http::{moment, telemetry::batch::Outcome},
    queue::{PoisonQueue, Source, Sweep},
    runtime::consume::queue::{self, Consumer, Fate, Message, Names},
};

/// How long a job is tried before it goes back to the queue.
const PATIENCE: Duration = Duration::from_secs(15);

/// Does the jobs of a batch, all at once, and names those to be done again. What is no job is put aside.
pub async fn handle(app: &App, poison: &PoisonQueue, event: SqsEvent) -> SqsBatchResponse {
    queue::consume(&Sweeps(app), poison, event).await
}

/// A job that failed comes back when the queue's own time is over: whatever is out may be back by then.
struct Sweeps<'a>(&'a App);

impl Consumer for Sweeps<'_> {
    const NAMES: Names = Names {
        function: "sweep",
        work: "a sweep",
        job: "a sweep's job",
    };
    type Job = Sweep;

    fn source(&self) -> Source {
        self.0.jobs().sweep_source()
    }

    fn read(message: &Message) -> Result<Sweep, String> {
        Sweep::parse(&message.body)
    }

    async fn work(&self, job: Sweep, _outcome: &mut Outcome) -> Result<Fate, Error> {
        let more = self.0.sweep_up(&job, &moment(PATIENCE)?).await?;
        if more {
            self.0.jobs().sweep(&[job], 0).await?;
        }
        Ok(Fate::Done)
    }
}
