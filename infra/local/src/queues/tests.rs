//! The poller over embedded queues.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use aws_sdk_sqs::types::QueueAttributeName;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Queue, poll};
use crate::clients::embedded_sqs;
use crate::sqs::{Sqs, Sync};
use crate::template::QueueMapping;

/// Longer than anything here takes.
const BOUND: Duration = Duration::from_secs(20);

struct Consumer {
    client: aws_sdk_sqs::Client,
    url: String,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    seen: mpsc::UnboundedReceiver<(String, String)>,
}

impl Consumer {
    /// A consumer of a queue that hides messages for a second and treats each as `treat` says: `true` is taken.
    async fn new(treat: impl Fn(&str, u32) -> bool + Send + std::marker::Sync + 'static) -> Self {
        let client = embedded_sqs(Sqs::open(None, Sync::Normal).unwrap().http_client());
        let made = client
            .create_queue()
            .queue_name("work")
            .attributes(QueueAttributeName::VisibilityTimeout, "1")
            .send()
            .await
            .unwrap();
        let url = made.queue_url.unwrap();
        let (stop, stopping) = watch::channel(false);
        let (seen, seeing) = mpsc::unbounded_channel();
        let queue = Queue {
            client: client.clone(),
            url: url.clone(),
            stop: stopping,
        };
        let mapping = QueueMapping {
            function: "Function".to_owned(),
            queue: "work".to_owned(),
            batch_size: 10,
        };
        let treat = Arc::new(treat);
        let handler = move |event: SqsEvent| {
            let (treat, seen) = (Arc::clone(&treat), seen.clone());
            async move {
                let mut response = SqsBatchResponse::default();
                for record in event.records {
                    let body = record.body.unwrap();
                    let receives = record.attributes["ApproximateReceiveCount"].clone();
                    seen.send((body.clone(), receives.clone())).unwrap();
                    if !treat(&body, receives.parse().unwrap()) {
                        let mut failure = BatchItemFailure::default();
                        failure.item_identifier = record.message_id.unwrap();
                        response.batch_item_failures.push(failure);
                    }
                }
                response
            }
        };
        let task = tokio::spawn(poll(queue, mapping, handler));
        Self {
            client,
            url,
            stop,
            task,
            seen: seeing,
        }
    }

    async fn send(&self, body: &str) {
        let send = self.client.send_message().queue_url(&self.url);
        send.message_body(body).send().await.unwrap();
    }

    async fn next(&mut self) -> (String, String) {
        timeout(BOUND, self.seen.recv()).await.unwrap().unwrap()
    }

    /// How many messages the queue holds after the consumer stopped.
    async fn left(self) -> u32 {
        self.stop.send_replace(true);
        timeout(BOUND, self.task).await.unwrap().unwrap();
        let attributes = self
            .client
            .get_queue_attributes()
            .queue_url(&self.url)
            .attribute_names(QueueAttributeName::All)
            .send()
            .await
            .unwrap();
        let attributes = attributes.attributes.unwrap();
        let count = |name| attributes[&name].parse::<u32>().unwrap();
        count(QueueAttributeName::ApproximateNumberOfMessages)
            + count(QueueAttributeName::ApproximateNumberOfMessagesNotVisible)
    }
}

fn seen(body: &str, receives: &str) -> (String, String) {
    (body.to_owned(), receives.to_owned())
}

#[tokio::test]
async fn what_a_function_takes_is_deleted() {
    let mut consumer = Consumer::new(|_, _| true).await;
    consumer.send("a").await;
    assert_eq!(consumer.next().await, seen("a", "1"));
    assert_eq!(consumer.left().await, 0);
}

#[tokio::test]
async fn only_what_a_function_names_as_failed_comes_back() {
    let mut consumer = Consumer::new(|body, receives| body != "bad" || receives > 1).await;
    consumer.send("bad").await;
    consumer.send("good").await;
    let mut all = [consumer.next().await, consumer.next().await];
    all.sort();
    assert_eq!(all, [seen("bad", "1"), seen("good", "1")]);
    assert_eq!(consumer.next().await, seen("bad", "2"));
    assert_eq!(consumer.left().await, 0);
}

#[tokio::test]
async fn what_a_function_dies_on_comes_back() {
    let died = Mutex::new(false);
    let mut consumer = Consumer::new(move |_, _| {
        let first = !std::mem::replace(&mut *died.lock().unwrap(), true);
        assert!(!first, "the function dies");
        true
    })
    .await;
    consumer.send("a").await;
    assert_eq!(consumer.next().await, seen("a", "1"));
    assert_eq!(consumer.next().await, seen("a", "2"));
    assert_eq!(consumer.left().await, 0);
}
