//! The `sweep` function on AWS Lambda.

use aws_lambda_events::sqs::SqsEvent;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use parlance::http::{
    serve,
    telemetry::{self, Ids},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::start();
    let (app, poison) = serve::consumer()?;
    let sweep = service_fn(|event: LambdaEvent<SqsEvent>| {
        let trace = event.context.xray_trace_id.as_deref();
        let ids = Ids::of_invocation(event.context.request_id.clone(), trace);
        let handled = Box::pin(sweep::handle(&app, &poison, event.payload));
        async { Ok::<_, Error>(ids.within(handled).await) }
    });
    serve::until_told(run(sweep)).await
}
