//! `runtime::consume` over embedded queues: what becomes of each message of a batch.

mod at_once;
mod in_order;

use std::sync::Mutex;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use aws_sdk_sqs::{
    Client,
    types::{Message as Received, MessageSystemAttributeName, QueueAttributeName},
};
use parlance::{
    domain::Error,
    http::telemetry::batch::Outcome,
    queue::{PoisonQueue, Source},
    runtime::consume::queue::{Consumer, Fate, Message, Names},
};
use parlance_local::{
    clients::embedded_sqs,
    provision::provision,
    sqs::{Sqs, Sync},
    template::Stack,
};

/// A function that consumes a FIFO queue, and two standard queues. The timeouts are the longest that there are: within a
/// test a message comes back only by a wait that was set.
const TEMPLATE: &str = "
Resources:
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      Events:
        Job: { Type: SQS, Properties: { Queue: !GetAtt InOrder.Arn, BatchSize: 10 } }
  InOrder:
    Type: AWS::SQS::Queue
    Properties: { FifoQueue: true, VisibilityTimeout: 43200 }
  AtOnce:
    Type: AWS::SQS::Queue
    Properties: { VisibilityTimeout: 43200 }
  Poison:
    Type: AWS::SQS::Queue
";

/// A queue with messages, and the poison queue.
struct Queue {
    client: Client,
    url: String,
    is_fifo: bool,
    poison_url: String,
}

impl Queue {
    async fn standard() -> Self {
        Self::called("AtOnce", false).await
    }

    async fn fifo() -> Self {
        Self::called("InOrder.fifo", true).await
    }

    /// The queue of that name in a stack of its own.
    async fn called(name: &str, is_fifo: bool) -> Self {
        let client = embedded_sqs(Sqs::open(None, Sync::Normal).unwrap().http_client());
        // It has no tables.
        let nowhere = aws_sdk_dynamodb::Config::builder().behavior_version_latest();
        let dynamodb = aws_sdk_dynamodb::Client::from_conf(nowhere.build());
        let stack = Stack::parse(TEMPLATE).unwrap();
        let made = provision(&stack, &dynamodb, &client).await.unwrap();
        Self {
            client,
            url: made.queue_urls[name].clone(),
            is_fifo,
            poison_url: made.queue_urls["Poison"].clone(),
        }
    }

    fn source(&self) -> Source {
        Source::new(self.client.clone(), self.url.clone())
    }

    fn poison(&self) -> PoisonQueue {
        PoisonQueue::new(self.client.clone(), self.poison_url.clone())
    }

    /// Sends each of `bodies` to the group that its first letter names.
    async fn send(&self, bodies: &[&str]) {
        for body in bodies {
            let send = self.client.send_message().queue_url(&self.url);
            let mut send = send.message_body(*body).message_group_id(&body[..1]);
            if self.is_fifo {
                send = send.message_deduplication_id(*body);
            }
            send.send().await.unwrap();
        }
    }

    /// Up to ten messages, as Lambda hands them over.
    async fn receive(&self) -> SqsEvent {
        let receive = self.client.receive_message().queue_url(&self.url);
        let received = receive
            .max_number_of_messages(10)
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .send();
        let mut event = SqsEvent::default();
        let messages = received.await.unwrap().messages.unwrap_or_default();
        event.records = messages.into_iter().map(record).collect();
        event
    }

    /// The bodies of what was put aside.
    async fn aside(&self) -> Vec<String> {
        let receive = self.client.receive_message().queue_url(&self.poison_url);
        let received = receive.max_number_of_messages(10).send().await.unwrap();
        let letters = received.messages.unwrap_or_default();
        let body = |letter: Received| {
            let letter: serde_json::Value = serde_json::from_str(letter.body()?).ok()?;
            Some(letter["record"]["body"].as_str()?.to_owned())
        };
        letters.into_iter().filter_map(body).collect()
    }

    /// How many messages it holds, hidden or not.
    async fn left(&self) -> u32 {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let asked = self.client.get_queue_attributes().queue_url(&self.url);
        let asked = asked.attribute_names(QueueAttributeName::All).send();
        let attributes = asked.await.unwrap().attributes.unwrap();
        let counts = names.map(|name| attributes[&name].parse::<u32>().unwrap());
        counts.iter().sum()
    }
}

fn record(message: Received) -> SqsMessage {
    let mut record = SqsMessage::default();
    record.message_id = message.message_id;
    record.receipt_handle = message.receipt_handle;
    record.body = message.body;
    let attributes = message.attributes.into_iter().flatten();
    record.attributes = attributes
        .map(|(name, value)| (name.as_str().to_owned(), value))
        .collect();
    record
}

/// The bodies of the messages of `event` that `response` names, in the order of the response.
fn named(event: &SqsEvent, response: &SqsBatchResponse) -> Vec<String> {
    let failures = response.batch_item_failures.iter();
    let body = |id: &str| {
        let mut records = event.records.iter();
        let record = records.find(|record| record.message_id.as_deref() == Some(id));
        record.unwrap().body.clone().unwrap()
    };
    failures.map(|it| body(&it.item_identifier)).collect()
}

/// What a worker does when it comes to one body.
#[derive(Clone, Copy)]
enum Trouble {
    FailOnce,
    Fail,
    Panic,
    AskToComeAgain,
}

/// A consumer that writes down what it did, and has trouble with one body.
struct Worker {
    source: Source,
    trouble: Trouble,
    with: String,
    /// What it began, in this order.
    attempts: Mutex<Vec<String>>,
    /// What it did, in this order.
    done: Mutex<Vec<String>>,
}

impl Worker {
    fn new(queue: &Queue, trouble: Trouble, with: &str) -> Self {
        Self {
            source: queue.source(),
            trouble,
            with: with.to_owned(),
            attempts: Mutex::default(),
            done: Mutex::default(),
        }
    }

    fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }

    fn attempts(&self) -> Vec<String> {
        self.attempts.lock().unwrap().clone()
    }
}

impl Consumer for Worker {
    const NAMES: Names = Names {
        function: "worker",
        work: "a job",
        job: "a job",
    };
    type Job = String;

    fn source(&self) -> Source {
        self.source.clone()
    }

    fn read(message: &Message) -> Result<String, String> {
        match message.body.as_str() {
            poison if poison.ends_with("poison") => Err("it is poison".to_owned()),
            body => Ok(body.to_owned()),
        }
    }

    async fn work(&self, job: String, _outcome: &mut Outcome) -> Result<Fate, Error> {
        let tries = {
            let mut attempts = self.attempts.lock().unwrap();
            attempts.push(job.clone());
            attempts.iter().filter(|it| **it == job).count()
        };
        // Others have their turn here.
        tokio::task::yield_now().await;
        if job == self.with {
            match self.trouble {
                Trouble::FailOnce if tries > 1 => {}
                Trouble::FailOnce | Trouble::Fail => {
                    return Err(Error::Unavailable("out of order".into()));
                }
                Trouble::Panic => panic!("out of order"),
                Trouble::AskToComeAgain => return Ok(Fate::Again(0)),
            }
        }
        self.done.lock().unwrap().push(job);
        Ok(Fate::Done)
    }
}
