//! Brings deliveries forward that nobody does any more: those that wait in the table, those that were held for an endpoint
//! which has gone on, and those whose job was lost.

use std::time::Duration;

use parlance::{
    app::App,
    domain::Error,
    http::{
        moment,
        telemetry::batch::{Observed, Outcome},
    },
};

/// How long it goes on: less than the function's time.
const PATIENCE: Duration = Duration::from_secs(25);

/// Sends the jobs of all deliveries that are overdue or may go on, as many as can be done in time. What is left is done the next
/// time.
///
/// # Errors
///
/// If the deliveries could not be read, or the queue does not take jobs.
pub async fn handle(app: &App) -> Result<(), Error> {
    let observed = Observed::begin();
    let requeued = observed.of(requeue(app)).await;
    let mut outcome = Outcome::default();
    let result = match requeued {
        Ok(done) => {
            outcome.records = done.sent;
            outcome.sent = done.sent;
            outcome.failed = done.failed;
            if done.more {
                tracing::warn!(sent = done.sent, "more deliveries are overdue");
            }
            Ok(())
        }
        Err(error) => {
            outcome.failed = 1;
            tracing::warn!(cause = error.why(), %error, "overdue deliveries were not looked after");
            Err(error)
        }
    };
    observed.end(&outcome);
    result
}

async fn requeue(app: &App) -> Result<parlance::app::Requeued, Error> {
    app.requeue(&moment(PATIENCE)?).await
}
