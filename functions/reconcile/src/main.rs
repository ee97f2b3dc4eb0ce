//! The `reconcile` function on AWS Lambda.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use parlance::http::{
    serve,
    telemetry::{self, Ids},
};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::start();
    let app = serve::sender()?;
    let reconcile = service_fn(|event: LambdaEvent<Value>| {
        let trace = event.context.xray_trace_id.as_deref();
        let ids = Ids::of_invocation(event.context.request_id.clone(), trace);
        let handled = Box::pin(reconcile::handle(&app));
        async { ids.within(handled).await.map_err(Error::from) }
    });
    serve::until_told(run(reconcile)).await
}
