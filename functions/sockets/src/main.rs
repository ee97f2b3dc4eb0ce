//! The `sockets` function on AWS Lambda.

use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use parlance::http::{serve, telemetry};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::start();
    let app = serve::gateway()?;
    let sockets = service_fn(|event: LambdaEvent<ApiGatewayWebsocketProxyRequest>| {
        // Boxed: a future that holds all of it is deeper than the compiler likes.
        let handled = Box::pin(sockets::handle(&app, event.payload));
        async { Ok::<_, Error>(handled.await) }
    });
    serve::until_told(run(sockets)).await
}
