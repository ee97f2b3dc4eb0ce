//! Consumers: functions that Lambda feeds with batches of a [`stream`] or of a [`queue`].
//!
//! A consumer says how a record is read and what is done with it. The rest is here, once: panics, records that nobody can
//! read, waits, the partial batch response and the line of the batch.
//!
//! **Invariant:** each record of a batch is done, put aside with the reason, or named as failed. Only what is named as
//! failed comes again.

pub mod queue;
pub mod stream;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    http::{
        serve::until_told,
        telemetry::{self, Ids},
    },
    queue::PoisonQueue,
};

/// Runs a consumer as a Lambda function: `handle` gets each batch, with what `start` reads from the environment.
///
/// # Errors
///
/// If the environment lacks a setting, which is said at start, or if the runtime is lost.
pub async fn run<E, R>(
    start: fn() -> Result<(App, PoisonQueue), Error>,
    handle: impl AsyncFn(&App, &PoisonQueue, E) -> R,
) -> Result<(), Error>
where
    E: for<'de> Deserialize<'de>,
    R: Serialize,
{
    telemetry::start();
    let (app, poison) = start()?;
    let function = service_fn(|event: LambdaEvent<E>| {
        let trace = event.context.xray_trace_id.as_deref();
        let ids = Ids::of_invocation(event.context.request_id.clone(), trace);
        // Boxed: a future that holds all of it is deeper than the compiler likes.
        let handled = Box::pin(handle(&app, &poison, event.payload));
        async { Ok::<_, Error>(ids.within(handled).await) }
    });
    until_told(lambda_runtime::run(function)).await
}
