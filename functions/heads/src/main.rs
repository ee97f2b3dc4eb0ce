//! The `heads` function on AWS Lambda.

use aws_lambda_events::dynamodb::Event;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use parlance::http::serve;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda_runtime::tracing::init_default_subscriber();
    let (app, poison) = (serve::app().await?, serve::poison_queue().await?);
    run(service_fn(|event: LambdaEvent<Event>| async {
        Ok::<_, Error>(heads::handle(&app, &poison, event.payload).await)
    }))
    .await
}
