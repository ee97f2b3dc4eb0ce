//! FIFO queues: a group is worked on in its order, whatever fails, and groups do not wait for each other.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use futures_util::future::join_all;
use parlance::runtime::consume::queue::consume_in_order;
use parlance_local::queues::{self, poll};
use serde_json::Value;
use tokio::{
    sync::{Barrier, mpsc, watch},
    time::timeout,
};

use super::*;

/// A batch of three groups.
const BATCH: [&str; 10] = ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2", "a3"];
/// Far longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_mins(1);

/// What follows `body` in its group, it included.
fn rest_of_group(body: &str) -> Vec<&'static str> {
    let group = &body[..1];
    let rest = BATCH.iter().skip_while(|it| **it != body);
    rest.filter(|it| it.starts_with(group)).copied().collect()
}

/// The bodies of each group, in their order.
fn by_group(bodies: &[impl AsRef<str>]) -> BTreeMap<String, Vec<String>> {
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    for body in bodies {
        let body = body.as_ref().to_owned();
        groups.entry(body[..1].to_owned()).or_default().push(body);
    }
    groups
}

/// Has a worker do the batch once that has `trouble` with `body`. The worker, and what the response names.
async fn batch(trouble: Trouble, body: &str) -> (Worker, Vec<String>) {
    let queue = Queue::fifo().await;
    queue.send(&BATCH).await;
    let worker = Worker::new(&queue, trouble, body);
    let event = queue.receive().await;
    let response = consume_in_order(&worker, &queue.poison(), event.clone()).await;
    (worker, named(&event, &response))
}

/// Feeds a worker that fails once on `body` from a queue with the batch, until all of it was done. The worker, and how many
/// messages are left.
async fn fed(body: &str) -> (Arc<Worker>, u32) {
    let queue = Queue::fifo().await;
    queue.send(&BATCH).await;
    let worker = Arc::new(Worker::new(&queue, Trouble::FailOnce, body));
    let (stop, stopping) = watch::channel(false);
    let (answered, mut answers) = mpsc::unbounded_channel();
    let mut mappings = Stack::parse(TEMPLATE).unwrap().consumers.into_iter();
    let mapping = mappings.next().unwrap();
    assert!(queue.url.ends_with(&mapping.queue));
    let source = queues::Queue {
        client: queue.client.clone(),
        url: queue.url.clone(),
        stop: stopping,
    };
    let poison = queue.poison();
    let handler = {
        let worker = Arc::clone(&worker);
        move |event| {
            let (worker, poison, answered) = (worker.clone(), poison.clone(), answered.clone());
            async move {
                let response = consume_in_order(worker.as_ref(), &poison, event).await;
                answered.send(()).unwrap();
                response
            }
        }
    };
    let poller = tokio::spawn(poll(source, mapping, handler));
    let all = async {
        while worker.done().len() < BATCH.len() {
            answers.recv().await.unwrap();
        }
    };
    timeout(LONG, all).await.expect("all of it is done");
    stop.send_replace(true);
    timeout(LONG, poller).await.unwrap().unwrap();
    let left = queue.left().await;
    (worker, left)
}

/// The same for each body of the batch.
async fn fed_with_a_failure_at_each_position() -> Vec<(Arc<Worker>, u32)> {
    join_all(BATCH.map(fed)).await
}

#[tokio::test]
async fn the_work_of_a_group_is_done_in_the_order_of_sending_wherever_it_fails() {
    for (worker, _) in fed_with_a_failure_at_each_position().await {
        assert_eq!(by_group(&worker.done()), by_group(&BATCH));
    }
}

#[tokio::test]
async fn a_message_that_was_done_is_not_worked_on_again_wherever_its_group_fails() {
    for (worker, _) in fed_with_a_failure_at_each_position().await {
        let mut attempts = worker.attempts();
        let failed = attempts.iter().position(|it| *it == worker.with).unwrap();
        attempts.remove(failed);
        attempts.sort_unstable();
        let mut once = BATCH;
        once.sort_unstable();
        assert_eq!(attempts, once);
    }
}

#[tokio::test]
async fn all_of_a_batch_is_done_and_deleted_in_the_end_wherever_it_fails() {
    for (worker, left) in fed_with_a_failure_at_each_position().await {
        assert_eq!((worker.done().len(), left), (BATCH.len(), 0));
    }
}

#[tokio::test]
async fn the_first_that_fails_and_all_of_its_group_that_follow_are_named() {
    for body in BATCH {
        let (_, named) = batch(Trouble::Fail, body).await;
        assert_eq!(named, rest_of_group(body));
    }
}

#[tokio::test]
async fn what_follows_a_failure_in_its_group_is_not_attempted() {
    for body in BATCH {
        let (worker, _) = batch(Trouble::Fail, body).await;
        let rest = rest_of_group(body);
        let mut attempted = BATCH.to_vec();
        attempted.retain(|it| *it == body || !rest.contains(it));
        assert_eq!(by_group(&worker.attempts()), by_group(&attempted));
    }
}

#[tokio::test]
async fn a_panic_holds_up_its_group_alone() {
    let (_, named) = batch(Trouble::Panic, "b1").await;
    assert_eq!(named, ["b1", "b2"]);
}

#[tokio::test]
async fn a_job_that_is_to_come_again_holds_up_its_group_alone() {
    let (_, named) = batch(Trouble::AskToComeAgain, "b1").await;
    assert_eq!(named, ["b1", "b2"]);
}

/// SQS as nobody has it: it takes every request, and keeps the waits that it was asked to set.
#[derive(Debug, Clone, Default)]
struct Waits(Arc<Mutex<Vec<u64>>>);

impl HttpConnector for Waits {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        let entries = body["Entries"].as_array().unwrap();
        let waits = entries
            .iter()
            .map(|it| it["VisibilityTimeout"].as_u64().unwrap());
        self.0.lock().unwrap().extend(waits);
        let answer = SdkBody::from(r#"{"Successful":[],"Failed":[]}"#);
        HttpConnectorFuture::ready(Ok(HttpResponse::new(
            StatusCode::try_from(200).unwrap(),
            answer,
        )))
    }
}

/// The waits that are set for a group of three whose first message fails at that receive, and the others were received once.
async fn waits(receives: u32) -> Vec<u64> {
    let queue = Queue::fifo().await;
    queue.send(&["a0", "a1", "a2", "b0"]).await;
    let mut event = queue.receive().await;
    let count = "ApproximateReceiveCount".to_owned();
    event.records[0]
        .attributes
        .insert(count, receives.to_string());
    let waits = Waits::default();
    let connector = SharedHttpConnector::new(waits.clone());
    let client = embedded_sqs(http_client_fn(move |_, _| connector.clone()));
    let worker = Worker {
        source: Source::new(client, queue.url.clone()),
        ..Worker::new(&queue, Trouble::Fail, "a0")
    };
    consume_in_order(&worker, &queue.poison(), event).await;
    waits.0.lock().unwrap().clone()
}

#[tokio::test]
async fn all_that_is_left_of_a_group_waits_as_its_first_was_received() {
    for (receives, seconds) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (1_000, 60)] {
        assert_eq!(waits(receives).await, [seconds; 3]);
    }
}

/// A consumer whose jobs wait for two others.
struct Meeting {
    source: Source,
    barrier: Barrier,
}

impl Consumer for Meeting {
    const NAMES: Names = Worker::NAMES;
    type Job = ();

    fn source(&self) -> Source {
        self.source.clone()
    }

    fn read(_: &Message) -> Result<(), String> {
        Ok(())
    }

    async fn work(&self, (): (), _: &mut Outcome) -> Result<Fate, Error> {
        self.barrier.wait().await;
        Ok(Fate::Done)
    }
}

#[tokio::test]
async fn groups_are_worked_on_at_the_same_time() {
    let queue = Queue::fifo().await;
    queue.send(&BATCH[..9]).await;
    let meeting = Meeting {
        source: queue.source(),
        barrier: Barrier::new(3),
    };
    let (event, poison) = (queue.receive().await, queue.poison());
    let met = timeout(LONG, consume_in_order(&meeting, &poison, event)).await;
    assert!(met.is_ok());
}

/// A group with poison in its middle, whose poison queue is at `poison`. What was done, and what the response names.
async fn around_poison(queue: &Queue, poison: PoisonQueue) -> (Vec<String>, Vec<String>) {
    queue.send(&["a0", "a1-poison", "a2", "b0"]).await;
    let worker = Worker::new(queue, Trouble::Fail, "nothing");
    let event = queue.receive().await;
    let response = consume_in_order(&worker, &poison, event.clone()).await;
    (worker.done(), named(&event, &response))
}

#[tokio::test]
async fn a_group_goes_on_after_its_poison() {
    let queue = Queue::fifo().await;
    let (done, named) = around_poison(&queue, queue.poison()).await;
    assert_eq!(by_group(&done), by_group(&["a0", "a2", "b0"]));
    assert_eq!(named, [""; 0]);
}

#[tokio::test]
async fn poison_of_a_group_is_put_aside_once() {
    let queue = Queue::fifo().await;
    around_poison(&queue, queue.poison()).await;
    assert_eq!(queue.aside().await, ["a1-poison"]);
}

#[tokio::test]
async fn poison_that_cannot_be_put_aside_holds_up_its_group() {
    let queue = Queue::fifo().await;
    let nowhere = PoisonQueue::new(queue.client.clone(), "http://embedded/nowhere".to_owned());
    let (done, named) = around_poison(&queue, nowhere).await;
    assert_eq!(by_group(&done), by_group(&["a0", "b0"]));
    assert_eq!(named, ["a1-poison", "a2"]);
}
