//! The line under attack, from the streams over both queues to receivers and connections: whatever comes twice,
//! late, in the wrong order, unreadable or not at all, everybody is told once, or an admin sees why not.

mod crashes;
mod duplicates;
mod large;
mod letters;
mod outages;
mod poison;
mod receivers;
mod running;
mod tenants;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lambda_events::{
    dynamodb::{Event, EventRecord},
    sqs::{SqsBatchResponse, SqsEvent, SqsMessage},
    streams::DynamoDbEventResponse,
};
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName};
use parlance::{
    app::{App, Means, Webhooks},
    domain::{secret::SecretHash, webhook::Targets},
    providers::{
        sealing::Sealing,
        sockets::Sockets,
        webhook::{Patience, Sender},
    },
    queue::{Jobs, PoisonQueue},
};
use parlance_local::{
    clients::embedded_sockets,
    functions,
    streams::{Poison, Source, poll},
    template::Stack,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    live::wire::Wire,
    support::{
        Response, Tenant, World,
        faults::{Plan, calm, faulty},
        receiver::Receiver,
        settings, tenant_of, world_over,
    },
};

const FANOUT: &str = "FanoutQueue";
const DELIVERY: &str = "DeliveryQueue";
/// Far longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_mins(1);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// A tenant of a service of its own, whose line the test moves by hand.
struct Line {
    tenant: Tenant,
    /// Who works on the line.
    app: App,
    /// Where frames for connections go.
    wire: Wire,
    happened: Happened,
    _stop: watch::Sender<bool>,
    _readers: JoinSet<()>,
    _checkpoints: TempDir,
}

/// The records of both streams, as they came.
#[derive(Clone, Default)]
struct Happened(Arc<(Mutex<Vec<EventRecord>>, Notify)>);

/// What is between a worker and the stores, and how long it waits for a receiver.
struct Surroundings {
    dynamodb: Plan,
    sqs: Plan,
    patience: Duration,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            dynamodb: calm(),
            sqs: calm(),
            patience: Patience::default().total,
        }
    }
}

/// A process of its own that works on the line of `world`.
fn process(world: &World, wire: &Wire, surroundings: Surroundings) -> App {
    let dynamodb = world.client(|client| faulty(client, surroundings.dynamodb));
    let sqs = world.sqs(|client| faulty(client, surroundings.sqs));
    let settings = settings();
    let sealing = Sealing::Given(SecretHash::of(b"the_sealing_key_of_the_line"));
    let patience = Patience {
        total: surroundings.patience,
        ..Patience::default()
    };
    let sender = Sender::with_patience(Targets::Any, patience);
    let means = Means {
        jobs: Jobs::new(sqs, settings.queues.clone()),
        sockets: Some(Sockets::new(embedded_sockets(wire.http_client()))),
        webhooks: Some(Webhooks::new(sealing, sender)),
        ..Means::default()
    };
    App::with(&settings, &dynamodb, means)
}

impl Line {
    /// One whose attempts are two, a second apart.
    async fn new() -> Self {
        Self::among(Surroundings::default()).await
    }

    /// The same with other surroundings.
    async fn among(surroundings: Surroundings) -> Self {
        let wire = Wire::calm();
        let world = world_over(|client| client).await;
        let app = process(&world, &wire, surroundings);
        let world = world.behind(app.clone(), functions::router(&app));
        let happened = Happened::default();
        let checkpoints = tempfile::tempdir().unwrap();
        let (stop, stopping) = watch::channel(false);
        let readers = happened.read(&world, checkpoints.path(), &stopping);
        let tenant = tenant_of(&world).await;
        let line = Self {
            tenant,
            app,
            wire,
            happened,
            _stop: stop,
            _readers: readers,
            _checkpoints: checkpoints,
        };
        line.retry(json!({ "attempts": 2, "interval_seconds": 1 }))
            .await;
        line
    }

    /// Another worker, which shares no memory with the first.
    fn another(&self, surroundings: Surroundings) -> App {
        process(&self.tenant.world, &self.wire, surroundings)
    }

    async fn retry(&self, retry: Value) {
        let path = format!("/admin/tenants/{}", self.tenant.id);
        let operator = self.tenant.world.operator().anew();
        let patched = operator.patch(&path, &json!({ "retry": retry })).await;
        assert_eq!(patched.status, 200, "{}", patched.raw);
    }

    /// Has messages and notifications sent to `url`; the endpoint's path.
    async fn endpoint(&self, url: &str) -> String {
        let events = ["message.created", "notification"];
        let body = json!({ "url": url, "events": events });
        let made = self.tenant.server().post("/webhooks", &body).await;
        assert_eq!(made.status, 201, "{}", made.raw);
        format!("/webhooks/{}", made.text("endpoint_id"))
    }

    async fn say(&self, room: &str, content: &str) -> Response {
        let path = format!("/rooms/{room}/messages");
        let body = json!({ "content": content });
        let sent = self.tenant.user("alice").post(&path, &body).await;
        assert_eq!(sent.status, 200, "{}", sent.raw);
        sent
    }

    /// Waits until `count` records have come since this was last asked, and takes them.
    async fn records(&self, count: usize) -> Vec<EventRecord> {
        let (records, more) = &*self.happened.0;
        let all = async {
            loop {
                let came = more.notified();
                {
                    let mut records = records.lock().unwrap();
                    if records.len() >= count {
                        return std::mem::take(&mut *records);
                    }
                }
                came.await;
            }
        };
        timeout(LONG, all).await.expect("the streams tell it")
    }

    fn poison(&self) -> PoisonQueue {
        let (client, url) = self.tenant.world.queue("Poison");
        PoisonQueue::new(client, url)
    }

    /// Hands `records` to the function `fanout`, which must take them all.
    async fn fan_out(&self, records: Vec<EventRecord>) {
        let mut event = Event::default();
        event.records = records;
        let response = fanout::handle(&self.app, &self.poison(), event).await;
        assert!(response.batch_item_failures.is_empty(), "{response:?}");
    }

    /// Takes up to 10 messages from `queue`, and waits for as many seconds for the first of them.
    async fn receive(&self, queue: &str, seconds: i32) -> Vec<Message> {
        let (client, url) = self.tenant.world.queue(queue);
        let received = client
            .receive_message()
            .queue_url(&url)
            .max_number_of_messages(10)
            .wait_time_seconds(seconds)
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .send()
            .await
            .unwrap();
        received.messages.unwrap_or_default()
    }

    /// Has `app` do the jobs `messages` of `queue`.
    async fn does(&self, app: &App, queue: &str, messages: &[Message]) -> SqsBatchResponse {
        let poison = self.poison();
        match queue {
            FANOUT => live::handle(app, &poison, event(messages)).await,
            DELIVERY => deliver::handle(app, &poison, event(messages)).await,
            _ => panic!("nobody consumes {queue}"),
        }
    }

    /// Deletes those of `messages` that did not fail.
    async fn delete(&self, queue: &str, messages: &[Message], response: &SqsBatchResponse) {
        let (client, url) = self.tenant.world.queue(queue);
        let failed = &response.batch_item_failures;
        for message in messages {
            let id = message.message_id().unwrap();
            if !failed.iter().any(|failed| failed.item_identifier == id) {
                let delete = client.delete_message().queue_url(&url);
                let receipt = message.receipt_handle().unwrap();
                delete.receipt_handle(receipt).send().await.unwrap();
            }
        }
    }

    /// How many messages a queue has: those to be had, and those that are hidden.
    async fn count(&self, queue: &str) -> (u32, u32) {
        use QueueAttributeName::{
            All, ApproximateNumberOfMessages, ApproximateNumberOfMessagesDelayed,
            ApproximateNumberOfMessagesNotVisible,
        };
        let (client, url) = self.tenant.world.queue(queue);
        let asked = client.get_queue_attributes().queue_url(url);
        let answer = asked.attribute_names(All).send().await.unwrap();
        let attributes = answer.attributes.unwrap();
        let count = |name| attributes[&name].parse::<u32>().unwrap();
        (
            count(ApproximateNumberOfMessages),
            count(ApproximateNumberOfMessagesNotVisible)
                + count(ApproximateNumberOfMessagesDelayed),
        )
    }

    /// Has all jobs done by `work`, until both queues are empty.
    async fn settle_by(&self, work: impl AsyncFn(&str, &[Message])) {
        let end = Instant::now() + LONG;
        while Instant::now() < end {
            let mut waits = false;
            for queue in [FANOUT, DELIVERY] {
                let there = self.count(queue).await;
                if there == (0, 0) {
                    continue;
                }
                // What is hidden comes back by itself.
                let messages = self.receive(queue, i32::from(there.0 == 0)).await;
                if messages.is_empty() {
                    // A copy that met an attempt under way waits for as long as that may take: here, not.
                    self.tenant.world.release(queue).await;
                }
                work(queue, &messages).await;
                waits = true;
            }
            if !waits {
                return;
            }
        }
        panic!("the queues are never empty");
    }

    /// Has all jobs done until both queues are empty.
    async fn settle(&self) {
        self.settle_by(async |queue, messages| {
            let response = self.does(&self.app, queue, messages).await;
            self.delete(queue, messages, &response).await;
        })
        .await;
    }

    /// The dead letters of the tenant.
    async fn letters(&self) -> Value {
        let path = format!("/admin/dead-letters?tenant_id={}", self.tenant.id);
        let letters = self.tenant.world.operator().anew().get(&path).await;
        assert_eq!(letters.status, 200, "{}", letters.raw);
        letters.body
    }
}

/// Waits until `is_so`.
async fn until(what: &str, bound: Duration, mut is_so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + bound;
    while !is_so().await {
        assert!(Instant::now() < end, "waited in vain for {what}");
        sleep(PAUSE).await;
    }
}

impl Happened {
    /// Has the pollers of both streams note what they read of the stack of `world`.
    fn read(&self, world: &World, checkpoints: &Path, stop: &watch::Receiver<bool>) -> JoinSet<()> {
        let (sqs, queue_url) = world.queue("Poison");
        let mut readers = JoinSet::new();
        for mut mapping in Stack::compiled_in().unwrap().streams {
            if mapping.function != "FanoutFunction" {
                continue;
            }
            mapping.window = Duration::ZERO;
            let (client, stream_arn) = world.stream(&mapping.table, |client| client);
            let source = Source {
                client,
                stream_arn,
                wake: world.wake(),
                poison: Poison::new(sqs.clone(), queue_url.clone()),
                retention: None,
                stop: stop.clone(),
            };
            let (noted, checkpoints) = (self.clone(), checkpoints.to_owned());
            readers.spawn(async move {
                let handler = move |event: Event| {
                    let noted = noted.clone();
                    async move {
                        let (records, more) = &*noted.0;
                        records.lock().unwrap().extend(event.records);
                        more.notify_one();
                        DynamoDbEventResponse::default()
                    }
                };
                poll(source, mapping, &checkpoints, handler).await;
            });
        }
        readers
    }
}

/// Messages as Lambda hands them over.
fn event(messages: &[Message]) -> SqsEvent {
    let mut event = SqsEvent::default();
    event.records = messages
        .iter()
        .map(|message| {
            let mut shown = SqsMessage::default();
            shown.message_id.clone_from(&message.message_id);
            shown.receipt_handle.clone_from(&message.receipt_handle);
            shown.body.clone_from(&message.body);
            let attributes = message.attributes.iter().flatten();
            shown.attributes = attributes
                .map(|(name, value)| (name.as_str().to_owned(), value.clone()))
                .collect();
            shown
        })
        .collect();
    event
}

/// What a receiver took: under which ids each was told of which message.
fn told(receiver: &Receiver) -> BTreeMap<(String, String), Vec<String>> {
    let mut told = BTreeMap::<_, Vec<_>>::new();
    for got in receiver.take() {
        let data = &got.body["data"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let what = (
            text(&data["message"]["message_id"]),
            text(&data["recipient_id"]),
        );
        let id = got.headers["webhook-id"].clone();
        told.entry(what).or_default().push(id);
    }
    told
}
