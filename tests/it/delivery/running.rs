//! The line as the runner runs it: its own pollers feed the functions.

use aws_smithy_runtime_api::client::http::SharedHttpClient;
use parlance_local::queues::{self, Queue};

use super::*;

/// The pollers of a line. They end when this goes.
pub(super) struct Pollers {
    _stop: watch::Sender<bool>,
    _tasks: JoinSet<()>,
    _checkpoints: TempDir,
}

impl Line {
    /// Has the pollers feed `app`. Their own calls go through `wrap`.
    pub(super) fn run(
        &self,
        app: &App,
        wrap: impl Fn(SharedHttpClient) -> SharedHttpClient,
    ) -> Pollers {
        let (world, stack) = (&self.tenant.world, Stack::compiled_in().unwrap());
        let (stopping, stop) = watch::channel(false);
        let checkpoints = tempfile::tempdir().unwrap();
        let mut tasks = JoinSet::new();
        let (sqs, poison) = world.queue("Poison");
        for mapping in stack.streams {
            if mapping.function != "FanoutFunction" {
                continue;
            }
            let (client, stream_arn) = world.stream(&mapping.table, &wrap);
            let source = Source {
                client,
                stream_arn,
                wake: world.wake(),
                poison: Poison::new(sqs.clone(), poison.clone()),
                retention: None,
                stop: stop.clone(),
            };
            let (app, poison) = (app.clone(), self.poison());
            let folder = checkpoints.path().to_owned();
            tasks.spawn(async move {
                let handler = move |event| {
                    let (app, poison) = (app.clone(), poison.clone());
                    async move { fanout::handle(&app, &poison, event).await }
                };
                poll(source, mapping, &folder, handler).await;
            });
        }
        for mapping in stack.consumers {
            let (_, url) = world.queue(&mapping.queue);
            let queue = Queue {
                client: world.sqs(&wrap),
                url,
                stop: stop.clone(),
            };
            let (app, poison) = (app.clone(), self.poison());
            let is_delivery = mapping.queue == DELIVERY;
            let handler = move |event| {
                let (app, poison) = (app.clone(), poison.clone());
                async move {
                    if is_delivery {
                        deliver::handle(&app, &poison, event).await
                    } else {
                        live::handle(&app, &poison, event).await
                    }
                }
            };
            tasks.spawn(queues::poll(queue, mapping, handler));
        }
        Pollers {
            _stop: stopping,
            _tasks: tasks,
            _checkpoints: checkpoints,
        }
    }
}
