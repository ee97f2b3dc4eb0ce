//! The claims of the embedded SQS, through the real SDK.

use super::{Sqs, Sync};
use aws_sdk_sqs::config::{BehaviorVersion, Region};
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
    MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName,
    SendMessageBatchRequestEntry,
};
use aws_sdk_sqs::{Client, Config};
use std::fmt::Debug;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn client(sqs: &Sqs) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url("http://sqs.local.localhost")
        .allow_no_auth()
        .http_client(sqs.http_client())
        .build();
    Client::from_conf(config)
}

/// A queue of a fresh store in memory.
struct Fixture {
    sqs: Sqs,
    client: Client,
    url: String,
}

impl Fixture {
    async fn standard() -> Self {
        Self::with("work", []).await
    }

    async fn fifo() -> Self {
        Self::with("work.fifo", [(QueueAttributeName::FifoQueue, "true")]).await
    }

    async fn with<const N: usize>(name: &str, attributes: [(QueueAttributeName, &str); N]) -> Self {
        let sqs = Sqs::open(None, Sync::Normal).unwrap();
        let client = client(&sqs);
        let url = create(&client, name, attributes).await;
        Self { sqs, client, url }
    }

    /// A queue whose messages are moved to the returned second queue after `max_receives`.
    async fn with_dead_letters(max_receives: &str) -> (Self, String) {
        let fixture = Self::with("work", []).await;
        let dead = create(&fixture.client, "dead", []).await;
        let policy = format!(
            r#"{{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead","maxReceiveCount":{max_receives}}}"#
        );
        fixture
            .set(QueueAttributeName::RedrivePolicy, &policy)
            .await;
        (fixture, dead)
    }

    async fn set(&self, attribute: QueueAttributeName, value: &str) {
        self.client
            .set_queue_attributes()
            .queue_url(&self.url)
            .attributes(attribute, value)
            .send()
            .await
            .unwrap();
    }

    async fn send(&self, body: &str) {
        self.client
            .send_message()
            .queue_url(&self.url)
            .message_body(body)
            .send()
            .await
            .unwrap();
    }

    /// Sends to a FIFO queue, with the body as deduplication id.
    async fn send_to(&self, group: &str, body: &str) {
        self.client
            .send_message()
            .queue_url(&self.url)
            .message_body(body)
            .message_group_id(group)
            .message_deduplication_id(body)
            .send()
            .await
            .unwrap();
    }

    async fn receive(&self) -> Vec<Message> {
        receive(&self.client, &self.url, 0).await
    }

    /// Waits for messages rather than sleeping until there are some.
    async fn await_messages(&self) -> Vec<Message> {
        receive(&self.client, &self.url, 5).await
    }

    /// Receives and gives back at once, `times` times.
    async fn receive_and_return(&self, times: usize) {
        for _ in 0..times {
            self.client
                .receive_message()
                .queue_url(&self.url)
                .visibility_timeout(0)
                .send()
                .await
                .unwrap();
        }
    }

    /// Visible, delayed and in flight.
    async fn counts(&self) -> [i64; 3] {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let answer = self
            .client
            .get_queue_attributes()
            .queue_url(&self.url)
            .attribute_names(QueueAttributeName::All)
            .send()
            .await
            .unwrap();
        names.map(|name| answer.attributes().unwrap()[&name].parse().unwrap())
    }
}

async fn create<const N: usize>(
    client: &Client,
    name: &str,
    attributes: [(QueueAttributeName, &str); N],
) -> String {
    let attributes = attributes
        .map(|(name, value)| (name, value.to_owned()))
        .into();
    let request = client
        .create_queue()
        .queue_name(name)
        .set_attributes(Some(attributes));
    request.send().await.unwrap().queue_url.unwrap()
}

/// Up to ten messages with all they carry.
async fn receive(client: &Client, url: &str, wait: i32) -> Vec<Message> {
    client
        .receive_message()
        .queue_url(url)
        .max_number_of_messages(10)
        .wait_time_seconds(wait)
        .message_system_attribute_names(MessageSystemAttributeName::All)
        .message_attribute_names("All")
        .send()
        .await
        .unwrap()
        .messages
        .unwrap_or_default()
}

fn bodies(messages: &[Message]) -> Vec<&str> {
    messages
        .iter()
        .map(|message| message.body().unwrap())
        .collect()
}

fn system<'m>(message: &'m Message, name: &MessageSystemAttributeName) -> Option<&'m str> {
    message
        .attributes()
        .and_then(|all| all.get(name))
        .map(String::as_str)
}

fn code<E: ProvideErrorMetadata + Debug>(error: SdkError<E>) -> String
where
    SdkError<E>: Debug,
{
    error.code().unwrap().to_owned()
}

fn text(value: &str) -> MessageAttributeValue {
    MessageAttributeValue::builder()
        .data_type("String")
        .string_value(value)
        .build()
        .unwrap()
}

fn entry(id: &str, body: &str) -> SendMessageBatchRequestEntry {
    SendMessageBatchRequestEntry::builder()
        .id(id)
        .message_body(body)
        .build()
        .unwrap()
}

// Queues

#[tokio::test]
async fn creating_a_queue_again_with_the_same_attributes_finds_it() {
    let it = Fixture::with("work", [(QueueAttributeName::VisibilityTimeout, "60")]).await;

    let again = create(
        &it.client,
        "work",
        [(QueueAttributeName::VisibilityTimeout, "60")],
    )
    .await;

    assert_eq!(again, it.url);
}

#[tokio::test]
async fn creating_a_queue_again_with_other_attributes_is_refused() {
    let it = Fixture::standard().await;

    let request = it.client.create_queue().queue_name("work");
    let outcome = request
        .attributes(QueueAttributeName::VisibilityTimeout, "60")
        .send()
        .await;

    assert!(
        outcome
            .unwrap_err()
            .into_service_error()
            .is_queue_name_exists()
    );
}

#[tokio::test]
async fn a_queue_that_does_not_exist_is_reported_by_its_modelled_error() {
    let it = Fixture::standard().await;

    let outcome = it.client.get_queue_url().queue_name("nope").send().await;

    assert!(
        outcome
            .unwrap_err()
            .into_service_error()
            .is_queue_does_not_exist()
    );
}

#[tokio::test]
async fn a_queue_is_found_by_any_url_that_ends_in_its_name() {
    let it = Fixture::standard().await;
    it.send("hi").await;

    let received = receive(&it.client, "https://sqs.example/123456789012/work", 0).await;

    assert_eq!(bodies(&received), ["hi"]);
}

#[tokio::test]
async fn queues_are_listed_in_pages() {
    let it = Fixture::standard().await;
    create(&it.client, "work-2", []).await;
    create(&it.client, "other", []).await;

    let list = it
        .client
        .list_queues()
        .queue_name_prefix("work")
        .max_results(1);
    let pages = list
        .into_paginator()
        .items()
        .send()
        .collect::<Result<Vec<_>, _>>()
        .await
        .unwrap();

    assert_eq!(pages, [it.url.clone(), format!("{}-2", it.url)]);
}

#[tokio::test]
async fn a_deleted_queue_takes_its_messages_with_it() {
    let it = Fixture::standard().await;
    it.send("hi").await;

    it.client
        .delete_queue()
        .queue_url(&it.url)
        .send()
        .await
        .unwrap();
    create(&it.client, "work", []).await;

    assert_eq!(bodies(&it.receive().await), Vec::<&str>::new());
}

#[tokio::test]
async fn a_purged_queue_is_empty() {
    let it = Fixture::standard().await;
    it.send("hi").await;

    it.client
        .purge_queue()
        .queue_url(&it.url)
        .send()
        .await
        .unwrap();

    assert_eq!(it.counts().await, [0, 0, 0]);
}

#[tokio::test]
async fn an_attribute_out_of_its_range_is_refused() {
    let it = Fixture::standard().await;

    let request = it.client.set_queue_attributes().queue_url(&it.url);
    let outcome = request
        .attributes(QueueAttributeName::DelaySeconds, "901")
        .send()
        .await;

    assert_eq!(code(outcome.unwrap_err()), "InvalidAttributeValue");
}

#[tokio::test]
async fn attributes_count_visible_delayed_and_in_flight_messages() {
    let it = Fixture::standard().await;
    it.send("in flight").await;
    it.receive().await;
    it.send("visible").await;
    it.send("visible").await;
    let late = it
        .client
        .send_message()
        .queue_url(&it.url)
        .message_body("late");
    late.delay_seconds(60).send().await.unwrap();

    assert_eq!(it.counts().await, [2, 1, 1]);
}

#[tokio::test]
async fn a_queue_keeps_its_tags() {
    let it = Fixture::standard().await;
    it.client
        .tag_queue()
        .queue_url(&it.url)
        .tags("a", "1")
        .tags("b", "2")
        .send()
        .await
        .unwrap();

    it.client
        .untag_queue()
        .queue_url(&it.url)
        .tag_keys("a")
        .send()
        .await
        .unwrap();

    let tags = it
        .client
        .list_queue_tags()
        .queue_url(&it.url)
        .send()
        .await
        .unwrap()
        .tags
        .unwrap();
    assert_eq!(tags, [("b".to_owned(), "2".to_owned())].into());
}

#[tokio::test]
async fn an_unknown_operation_is_refused() {
    let it = Fixture::standard().await;

    let answer = it.sqs.handle("AmazonSQS.Frobnicate", b"{}").await;

    assert_eq!(answer.query_error.as_deref(), Some("InvalidAction;Sender"));
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused() {
    let it = Fixture::standard().await;

    let answer = it
        .sqs
        .handle("AmazonSQS.SendMessage", b"Action=SendMessage")
        .await;

    assert_eq!(answer.status, 400);
}

// Sending

#[tokio::test]
async fn a_message_is_received_as_it_was_sent() {
    let it = Fixture::standard().await;
    it.send("hällo\n\u{1F600}").await;

    assert_eq!(bodies(&it.receive().await), ["hällo\n\u{1F600}"]);
}

#[tokio::test]
async fn the_digest_of_a_body_is_its_md5() {
    let it = Fixture::standard().await;

    let sent = it
        .client
        .send_message()
        .queue_url(&it.url)
        .message_body("hello")
        .send()
        .await;

    assert_eq!(
        sent.unwrap().md5_of_message_body.as_deref(),
        Some("5d41402abc4b2a76b9719d911017c592")
    );
}

/// The digest was computed by another implementation of the rule, in Python.
#[tokio::test]
async fn the_digest_of_attributes_covers_text_numbers_and_bytes() {
    let it = Fixture::standard().await;
    let number = MessageAttributeValue::builder()
        .data_type("Number")
        .string_value("230.000000000000000001");
    let binary = MessageAttributeValue::builder()
        .data_type("Binary.png")
        .binary_value(Blob::new([0, 1, 254]));

    let request = it
        .client
        .send_message()
        .queue_url(&it.url)
        .message_body("hello");
    let sent = request
        .message_attributes("name", text("Ünïcode"))
        .message_attributes("count", number.build().unwrap())
        .message_attributes("bytes", binary.build().unwrap())
        .send()
        .await;

    assert_eq!(
        sent.unwrap().md5_of_message_attributes.as_deref(),
        Some("862036c9eed6aec20aa27fd52e13ce53")
    );
}

#[tokio::test]
async fn attributes_come_back_with_the_digest_they_were_sent_with() {
    let it = Fixture::standard().await;
    let request = it
        .client
        .send_message()
        .queue_url(&it.url)
        .message_body("hello");
    let sent = request
        .message_attributes("kind", text("greeting"))
        .send()
        .await
        .unwrap();

    let received = it.receive().await.remove(0);

    assert_eq!(
        received.message_attributes.unwrap(),
        [("kind".to_owned(), text("greeting"))].into()
    );
    assert_eq!(
        received.md5_of_message_attributes,
        sent.md5_of_message_attributes
    );
}

#[tokio::test]
async fn an_attribute_without_a_value_is_refused() {
    let it = Fixture::standard().await;
    let empty = MessageAttributeValue::builder()
        .data_type("String")
        .build()
        .unwrap();

    let request = it
        .client
        .send_message()
        .queue_url(&it.url)
        .message_body("hello");
    let outcome = request.message_attributes("kind", empty).send().await;

    assert_eq!(code(outcome.unwrap_err()), "InvalidParameterValue");
}

#[tokio::test]
async fn a_message_of_exactly_a_mebibyte_is_accepted() {
    let it = Fixture::standard().await;

    it.send(&"x".repeat(1_048_576)).await;

    assert_eq!(it.counts().await, [1, 0, 0]);
}

#[tokio::test]
async fn a_message_that_exceeds_a_mebibyte_with_its_attributes_is_refused() {
    let it = Fixture::standard().await;

    let request = it
        .client
        .send_message()
        .queue_url(&it.url)
        .message_body("x".repeat(1_048_570));
    let outcome = request
        .message_attributes("kind", text("greeting"))
        .send()
        .await;

    assert_eq!(code(outcome.unwrap_err()), "InvalidParameterValue");
}

#[tokio::test]
async fn a_control_character_is_refused() {
    let it = Fixture::standard().await;

    let request = it.client.send_message().queue_url(&it.url);
    let outcome = request.message_body("bell \u{7}").send().await;

    assert!(
        outcome
            .unwrap_err()
            .into_service_error()
            .is_invalid_message_contents()
    );
}

#[tokio::test]
async fn a_delayed_message_is_not_received_before_its_time() {
    let it = Fixture::standard().await;
    let began = Instant::now();
    let late = it
        .client
        .send_message()
        .queue_url(&it.url)
        .message_body("late");
    late.delay_seconds(1).send().await.unwrap();

    assert_eq!(bodies(&it.await_messages().await), ["late"]);
    assert!(began.elapsed() >= Duration::from_millis(990));
}

#[tokio::test]
async fn a_standard_queue_keeps_the_message_group() {
    let it = Fixture::standard().await;
    let request = it
        .client
        .send_message()
        .queue_url(&it.url)
        .message_body("hi");
    request.message_group_id("tenant-1").send().await.unwrap();

    let received = it.receive().await;

    assert_eq!(
        system(&received[0], &MessageSystemAttributeName::MessageGroupId),
        Some("tenant-1")
    );
}

// Batches

#[tokio::test]
async fn a_batch_fails_only_in_its_faulty_entries() {
    let it = Fixture::standard().await;

    let request = it.client.send_message_batch().queue_url(&it.url);
    let outcome = request
        .entries(entry("good", "hi"))
        .entries(entry("bad", "bell \u{7}"))
        .send()
        .await
        .unwrap();

    assert_eq!(outcome.successful()[0].id(), "good");
    assert_eq!(outcome.failed()[0].id(), "bad");
    assert_eq!(outcome.failed()[0].code(), "InvalidMessageContents");
    assert_eq!(bodies(&it.receive().await), ["hi"]);
}

#[tokio::test]
async fn a_batch_with_a_repeated_id_is_refused() {
    let it = Fixture::standard().await;

    let request = it.client.send_message_batch().queue_url(&it.url);
    let outcome = request
        .entries(entry("a", "1"))
        .entries(entry("a", "2"))
        .send()
        .await;

    assert!(
        outcome
            .unwrap_err()
            .into_service_error()
            .is_batch_entry_ids_not_distinct()
    );
}

#[tokio::test]
async fn a_batch_of_eleven_is_refused() {
    let it = Fixture::standard().await;
    let entries = (0..11).map(|n| entry(&n.to_string(), "hi")).collect();

    let request = it
        .client
        .send_message_batch()
        .queue_url(&it.url)
        .set_entries(Some(entries));
    let outcome = request.send().await;

    assert!(
        outcome
            .unwrap_err()
            .into_service_error()
            .is_too_many_entries_in_batch_request()
    );
}

#[tokio::test]
async fn a_batch_weighs_as_much_as_its_messages_together() {
    let it = Fixture::standard().await;
    let half = "x".repeat(524_289);

    let request = it.client.send_message_batch().queue_url(&it.url);
    let outcome = request
        .entries(entry("a", &half))
        .entries(entry("b", &half))
        .send()
        .await;

    assert!(
        outcome
            .unwrap_err()
            .into_service_error()
            .is_batch_request_too_long()
    );
}

#[tokio::test]
async fn a_batch_deletes_what_its_receipts_name() {
    let it = Fixture::standard().await;
    it.send("hi").await;
    let handle = it.receive().await.remove(0).receipt_handle.unwrap();
    let delete = |id: &str, handle: &str| {
        DeleteMessageBatchRequestEntry::builder()
            .id(id)
            .receipt_handle(handle)
            .build()
            .unwrap()
    };

    let request = it.client.delete_message_batch().queue_url(&it.url);
    let request = request
        .entries(delete("good", &handle))
        .entries(delete("bad", "nonsense"));
    let outcome = request.send().await.unwrap();

    assert_eq!(outcome.failed()[0].code(), "ReceiptHandleIsInvalid");
    assert_eq!(it.counts().await, [0, 0, 0]);
}

#[tokio::test]
async fn a_batch_changes_visibility() {
    let it = Fixture::standard().await;
    it.send("hi").await;
    let handle = it.receive().await.remove(0).receipt_handle.unwrap();
    let change = ChangeMessageVisibilityBatchRequestEntry::builder()
        .id("a")
        .receipt_handle(handle);

    let request = it
        .client
        .change_message_visibility_batch()
        .queue_url(&it.url);
    request
        .entries(change.visibility_timeout(0).build().unwrap())
        .send()
        .await
        .unwrap();

    assert_eq!(it.counts().await, [1, 0, 0]);
}

// Receiving

#[tokio::test]
async fn a_received_message_is_hidden() {
    let it = Fixture::standard().await;
    it.send("hi").await;
    it.receive().await;

    assert_eq!(bodies(&it.receive().await), Vec::<&str>::new());
}

#[tokio::test]
async fn a_deleted_message_is_gone() {
    let it = Fixture::standard().await;
    it.send("hi").await;
    let handle = it.receive().await.remove(0).receipt_handle.unwrap();

    let request = it.client.delete_message().queue_url(&it.url);
    request.receipt_handle(handle).send().await.unwrap();

    assert_eq!(it.counts().await, [0, 0, 0]);
}

#[tokio::test]
async fn a_receipt_that_was_replaced_deletes_nothing() {
    let it = Fixture::with("work", [(QueueAttributeName::VisibilityTimeout, "0")]).await;
    it.send("hi").await;
    let stale = it.receive().await.remove(0).receipt_handle.unwrap();
    it.receive().await;

    let request = it.client.delete_message().queue_url(&it.url);
    request.receipt_handle(stale).send().await.unwrap();

    assert_eq!(it.counts().await, [1, 0, 0]);
}

#[tokio::test]
async fn a_message_not_deleted_comes_back_when_its_timeout_ends() {
    let it = Fixture::with("work", [(QueueAttributeName::VisibilityTimeout, "1")]).await;
    it.send("hi").await;
    it.receive().await;

    let again = it.await_messages().await;

    assert_eq!(
        system(
            &again[0],
            &MessageSystemAttributeName::ApproximateReceiveCount
        ),
        Some("2")
    );
}

#[tokio::test]
async fn a_message_given_back_is_received_again_at_once() {
    let it = Fixture::standard().await;
    it.send("hi").await;
    let handle = it.receive().await.remove(0).receipt_handle.unwrap();

    let request = it.client.change_message_visibility().queue_url(&it.url);
    request
        .receipt_handle(handle)
        .visibility_timeout(0)
        .send()
        .await
        .unwrap();

    assert_eq!(bodies(&it.receive().await), ["hi"]);
}

#[tokio::test]
async fn the_visibility_of_a_message_not_in_flight_cannot_be_changed() {
    let it = Fixture::with("work", [(QueueAttributeName::VisibilityTimeout, "0")]).await;
    it.send("hi").await;
    let handle = it.receive().await.remove(0).receipt_handle.unwrap();

    let request = it.client.change_message_visibility().queue_url(&it.url);
    let outcome = request
        .receipt_handle(handle)
        .visibility_timeout(5)
        .send()
        .await;

    assert!(
        outcome
            .unwrap_err()
            .into_service_error()
            .is_message_not_inflight()
    );
}

#[tokio::test]
async fn a_send_wakes_a_waiting_receive() {
    let it = Fixture::standard().await;
    let began = Instant::now();

    let (received, ()) = tokio::join!(receive(&it.client, &it.url, 20), it.send("hi"));

    assert_eq!(bodies(&received), ["hi"]);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn an_empty_queue_is_waited_at_for_as_long_as_asked() {
    let it = Fixture::standard().await;
    let began = Instant::now();

    let received = receive(&it.client, &it.url, 1).await;

    assert_eq!(bodies(&received), Vec::<&str>::new());
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn concurrent_receivers_share_the_messages_without_overlap() {
    let it = Fixture::standard().await;
    for n in 0..40 {
        it.send(&n.to_string()).await;
    }

    let (a, b, c, d) = tokio::join!(it.receive(), it.receive(), it.receive(), it.receive());

    let mut all: Vec<u8> = [a, b, c, d]
        .iter()
        .flat_map(|part| bodies(part))
        .map(|n| n.parse().unwrap())
        .collect();
    all.sort_unstable();
    assert_eq!(all, (0..40).collect::<Vec<u8>>());
}

#[tokio::test]
async fn more_than_ten_messages_at_once_are_refused() {
    let it = Fixture::standard().await;

    let request = it.client.receive_message().queue_url(&it.url);
    let outcome = request.max_number_of_messages(11).send().await;

    assert_eq!(code(outcome.unwrap_err()), "InvalidParameterValue");
}

// Dead letters

#[tokio::test]
async fn a_message_received_too_often_goes_to_the_dead_letters_and_names_its_source() {
    let (it, dead) = Fixture::with_dead_letters("2").await;
    it.send("poison").await;
    it.receive_and_return(3).await;

    let dead = receive(&it.client, &dead, 0).await;

    assert_eq!(bodies(&dead), ["poison"]);
    assert_eq!(
        system(
            &dead[0],
            &MessageSystemAttributeName::DeadLetterQueueSourceArn
        ),
        Some("arn:aws:sqs:us-east-1:000000000000:work")
    );
}

#[tokio::test]
async fn a_message_is_received_max_receive_count_times_before_it_goes() {
    let (it, _) = Fixture::with_dead_letters(r#""2""#).await;
    it.send("poison").await;
    it.receive_and_return(1).await;

    assert_eq!(bodies(&it.receive().await), ["poison"]);
}

#[tokio::test]
async fn a_dead_letter_makes_room_for_the_next_message_in_the_same_receive() {
    let (it, _) = Fixture::with_dead_letters("1").await;
    it.send("poison").await;
    it.receive_and_return(1).await;
    it.send("next").await;

    let received = it
        .client
        .receive_message()
        .queue_url(&it.url)
        .send()
        .await
        .unwrap();

    assert_eq!(bodies(received.messages()), ["next"]);
}

#[tokio::test]
async fn a_dead_letter_wakes_who_waits_for_it() {
    let (it, dead) = Fixture::with_dead_letters("1").await;
    it.send("poison").await;
    it.receive_and_return(1).await;

    let (received, ()) = tokio::join!(receive(&it.client, &dead, 20), it.receive_and_return(1));

    assert_eq!(bodies(&received), ["poison"]);
}

#[tokio::test]
async fn a_redrive_policy_to_no_queue_is_refused() {
    let it = Fixture::standard().await;
    let policy =
        r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:nope","maxReceiveCount":1}"#;

    let request = it.client.set_queue_attributes().queue_url(&it.url);
    let outcome = request
        .attributes(QueueAttributeName::RedrivePolicy, policy)
        .send()
        .await;

    assert_eq!(code(outcome.unwrap_err()), "InvalidParameterValue");
}

#[tokio::test]
async fn a_dead_letter_queue_knows_its_sources() {
    let (it, dead) = Fixture::with_dead_letters("1").await;

    let answer = it
        .client
        .list_dead_letter_source_queues()
        .queue_url(dead)
        .send()
        .await
        .unwrap();

    assert_eq!(answer.queue_urls(), [it.url]);
}

#[tokio::test]
async fn a_move_task_returns_dead_letters_to_their_source() {
    let (it, dead) = Fixture::with_dead_letters("1").await;
    it.send("poison").await;
    it.receive_and_return(2).await;

    move_dead_letters(&it).await;

    let returned = it.receive().await;
    assert_eq!(bodies(&returned), ["poison"]);
    assert_eq!(
        system(
            &returned[0],
            &MessageSystemAttributeName::ApproximateReceiveCount
        ),
        Some("1")
    );
    assert_eq!(
        bodies(&receive(&it.client, &dead, 0).await),
        Vec::<&str>::new()
    );
}

#[tokio::test]
async fn a_move_task_is_listed_with_what_it_moved() {
    let (it, _) = Fixture::with_dead_letters("1").await;
    it.send("poison").await;
    it.receive_and_return(2).await;
    move_dead_letters(&it).await;

    let request = it.client.list_message_move_tasks();
    let tasks = request
        .source_arn("arn:aws:sqs:us-east-1:000000000000:dead")
        .send()
        .await
        .unwrap();

    let task = &tasks.results()[0];
    assert_eq!(task.status(), Some("COMPLETED"));
    assert_eq!(task.approximate_number_of_messages_moved(), 1);
}

#[tokio::test]
async fn a_move_task_fails_for_messages_without_a_source() {
    let (it, dead) = Fixture::with_dead_letters("1").await;
    let direct = it
        .client
        .send_message()
        .queue_url(&dead)
        .message_body("direct");
    direct.send().await.unwrap();
    move_dead_letters(&it).await;

    let request = it.client.list_message_move_tasks();
    let tasks = request
        .source_arn("arn:aws:sqs:us-east-1:000000000000:dead")
        .send()
        .await
        .unwrap();

    assert_eq!(tasks.results()[0].status(), Some("FAILED"));
    assert_eq!(bodies(&receive(&it.client, &dead, 0).await), ["direct"]);
}

#[tokio::test]
async fn only_a_dead_letter_queue_can_be_moved_from() {
    let it = Fixture::standard().await;

    let request = it.client.start_message_move_task();
    let outcome = request
        .source_arn("arn:aws:sqs:us-east-1:000000000000:work")
        .send()
        .await;

    assert_eq!(code(outcome.unwrap_err()), "InvalidParameterValue");
}

#[tokio::test]
async fn a_finished_move_task_cannot_be_cancelled() {
    let (it, _) = Fixture::with_dead_letters("1").await;
    let handle = move_dead_letters(&it).await;

    let outcome = it
        .client
        .cancel_message_move_task()
        .task_handle(handle)
        .send()
        .await;

    assert!(
        outcome
            .unwrap_err()
            .into_service_error()
            .is_resource_not_found_exception()
    );
}

/// Dead letters, as many as `count`.
async fn let_die(it: &Fixture, count: usize) {
    for number in 0..count {
        it.send(&number.to_string()).await;
        it.receive_and_return(2).await;
    }
}

/// A task that moves one message a second.
async fn move_slowly(it: &Fixture) -> Result<String, String> {
    let request = it.client.start_message_move_task();
    let request = request.source_arn("arn:aws:sqs:us-east-1:000000000000:dead");
    let started = request.max_number_of_messages_per_second(1).send().await;
    let started = started.map_err(code)?;
    Ok(started.task_handle.unwrap())
}

/// Status, handle and count of the newest task.
async fn newest_task(client: &Client) -> (String, Option<String>, i64) {
    let request = client.list_message_move_tasks();
    let request = request.source_arn("arn:aws:sqs:us-east-1:000000000000:dead");
    let tasks = request.send().await.unwrap();
    let task = tasks.results()[0].clone();
    let moved = task.approximate_number_of_messages_moved();
    (task.status.unwrap(), task.task_handle, moved)
}

#[tokio::test]
async fn a_move_task_keeps_to_its_rate_and_can_be_cancelled() {
    let (it, dead) = Fixture::with_dead_letters("1").await;
    let_die(&it, 50).await;
    let began = Instant::now();
    let handle = move_slowly(&it).await.unwrap();

    let (status, listed, moved) = newest_task(&it.client).await;
    assert_eq!(
        (status.as_str(), listed.as_deref()),
        ("RUNNING", Some(&*handle))
    );
    assert!(
        moved <= 1 + i64::try_from(began.elapsed().as_secs()).unwrap(),
        "{moved}"
    );
    assert_eq!(move_slowly(&it).await.unwrap_err(), "InvalidParameterValue");

    let cancel = it.client.cancel_message_move_task().task_handle(&handle);
    let cancelled = cancel.send().await.unwrap();
    let allowed = 1 + i64::try_from(began.elapsed().as_secs()).unwrap();
    let moved = cancelled.approximate_number_of_messages_moved();
    assert!((1..=allowed).contains(&moved), "{moved}");
    let (status, listed, total) = newest_task(&it.client).await;
    assert_eq!((status.as_str(), listed, total), ("CANCELLED", None, moved));
    // The rest is still there, and another task may move it.
    move_dead_letters(&it).await;
    let (status, _, rest) = newest_task(&it.client).await;
    assert_eq!((status.as_str(), moved + rest), ("COMPLETED", 50));
    assert_eq!(
        bodies(&receive(&it.client, &dead, 0).await),
        Vec::<&str>::new()
    );
}

#[tokio::test]
async fn a_move_task_goes_on_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("q.db");
    let open = || {
        let sqs = Sqs::open(Some(&file), Sync::Normal).unwrap();
        (client(&sqs), sqs)
    };
    let (client, sqs) = open();
    let dead = create(&client, "dead", []).await;
    let policy =
        r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead","maxReceiveCount":1}"#;
    let url = create(
        &client,
        "work",
        [(QueueAttributeName::RedrivePolicy, policy)],
    )
    .await;
    for body in ["1", "2", "3"] {
        let send = client.send_message().queue_url(&dead);
        send.message_body(body).send().await.unwrap();
    }
    let request = client.start_message_move_task();
    let request = request.source_arn("arn:aws:sqs:us-east-1:000000000000:dead");
    let request = request.destination_arn("arn:aws:sqs:us-east-1:000000000000:work");
    request
        .max_number_of_messages_per_second(1)
        .send()
        .await
        .unwrap();
    assert_eq!(newest_task(&client).await.0, "RUNNING");
    sqs.close();

    let (client, sqs) = open();
    sqs.resume_moves().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while newest_task(&client).await.0 == "RUNNING" {
        assert!(Instant::now() < deadline, "it does not go on");
        tokio::task::yield_now().await;
    }
    assert_eq!(
        newest_task(&client).await,
        ("COMPLETED".to_owned(), None, 3)
    );
    assert_eq!(receive(&client, &url, 0).await.len(), 3);
}

/// As after an end of the process, or where it was held up.
#[tokio::test]
async fn time_in_which_a_move_task_was_not_worked_on_is_not_made_up_for() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("q.db");
    let sqs = Sqs::open(Some(&file), Sync::Normal).unwrap();
    let it = client(&sqs);
    let dead = create(&it, "dead", []).await;
    let policy =
        r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead","maxReceiveCount":1}"#;
    create(&it, "work", [(QueueAttributeName::RedrivePolicy, policy)]).await;
    for body in 0..60 {
        let send = it.send_message().queue_url(&dead);
        send.message_body(body.to_string()).send().await.unwrap();
    }
    let request = it.start_message_move_task();
    let request = request.source_arn("arn:aws:sqs:us-east-1:000000000000:dead");
    let request = request.destination_arn("arn:aws:sqs:us-east-1:000000000000:work");
    let slowly = request.max_number_of_messages_per_second(1);
    slowly.send().await.unwrap();
    sqs.close();
    // It began an hour ago, and was stepped then for the last time.
    let hour = 3_600_000;
    let db = rusqlite::Connection::open(&file).unwrap();
    let earlier = "UPDATE moves SET started = started - ?1, stepped = stepped - ?1";
    db.execute(earlier, [hour]).unwrap();
    drop(db);

    let began = Instant::now();
    let sqs = Sqs::open(Some(&file), Sync::Normal).unwrap();
    let it = client(&sqs);
    sqs.resume_moves().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (_, _, moved) = newest_task(&it).await;
        let allowed = 2 + i64::try_from(began.elapsed().as_secs()).unwrap();
        assert!(moved <= allowed, "{moved} moved");
        if moved >= 2 {
            break;
        }
        assert!(Instant::now() < deadline, "it does not go on");
        tokio::task::yield_now().await;
    }
    sqs.close();
}

async fn move_dead_letters(it: &Fixture) -> String {
    let request = it.client.start_message_move_task();
    let request = request.source_arn("arn:aws:sqs:us-east-1:000000000000:dead");
    request.send().await.unwrap().task_handle.unwrap()
}

// FIFO

#[tokio::test]
async fn a_fifo_queue_keeps_the_order() {
    let it = Fixture::fifo().await;
    for body in ["1", "2", "3"] {
        it.send_to("group", body).await;
    }

    assert_eq!(bodies(&it.receive().await), ["1", "2", "3"]);
}

#[tokio::test]
async fn a_group_with_a_message_in_flight_waits_and_others_do_not() {
    let it = Fixture::fifo().await;
    it.send_to("a", "a1").await;
    it.receive().await;
    it.send_to("a", "a2").await;
    it.send_to("b", "b1").await;

    assert_eq!(bodies(&it.receive().await), ["b1"]);
}

#[tokio::test]
async fn a_deletion_frees_the_group_and_wakes_who_waits() {
    let it = Fixture::fifo().await;
    it.send_to("a", "a1").await;
    let handle = it.receive().await.remove(0).receipt_handle.unwrap();
    it.send_to("a", "a2").await;
    let delete = it
        .client
        .delete_message()
        .queue_url(&it.url)
        .receipt_handle(handle);

    let (received, deleted) = tokio::join!(it.await_messages(), delete.send());

    deleted.unwrap();
    assert_eq!(bodies(&received), ["a2"]);
}

#[tokio::test]
async fn a_repeated_deduplication_id_adds_no_message() {
    let it = Fixture::fifo().await;
    it.send_to("a", "same").await;
    it.send_to("a", "same").await;

    assert_eq!(it.counts().await, [1, 0, 0]);
}

/// A FIFO queue in the mode of high throughput.
async fn high_throughput() -> Fixture {
    Fixture::with(
        "work.fifo",
        [
            (QueueAttributeName::FifoQueue, "true"),
            (QueueAttributeName::DeduplicationScope, "messageGroup"),
            (QueueAttributeName::FifoThroughputLimit, "perMessageGroupId"),
        ],
    )
    .await
}

#[tokio::test]
async fn groups_may_share_a_deduplication_id_if_that_is_the_scope() {
    let it = high_throughput().await;
    it.send_to("a", "same").await;
    it.send_to("b", "same").await;

    assert_eq!(it.counts().await, [2, 0, 0]);
}

#[tokio::test]
async fn a_repeat_within_its_group_adds_no_message_whatever_the_scope() {
    let it = high_throughput().await;
    it.send_to("a", "same").await;
    it.send_to("a", "same").await;

    assert_eq!(it.counts().await, [1, 0, 0]);
}

#[tokio::test]
async fn a_repeat_in_another_group_adds_no_message_if_the_scope_is_the_queue() {
    let it = Fixture::fifo().await;
    it.send_to("a", "same").await;
    it.send_to("b", "same").await;

    assert_eq!(it.counts().await, [1, 0, 0]);
}

#[tokio::test]
async fn a_repeat_of_a_deleted_message_adds_none_within_five_minutes() {
    let it = Fixture::fifo().await;
    it.send_to("a", "same").await;
    let receipt = it.receive().await.remove(0).receipt_handle.unwrap();
    let delete = it.client.delete_message().queue_url(&it.url);
    delete.receipt_handle(receipt).send().await.unwrap();

    it.send_to("a", "same").await;

    assert_eq!(it.counts().await, [0, 0, 0]);
}

#[tokio::test]
async fn a_deduplication_id_is_free_again_after_five_minutes() {
    let it = Fixture::fifo().await;
    it.send_to("a", "same").await;
    let aged = it.sqs.database.turn(|turn| {
        turn.db
            .execute("UPDATE duplicates SET sent = sent - 300000", [])?;
        Ok::<_, super::fault::Fault>(())
    });
    aged.await.unwrap();

    it.send_to("a", "same").await;

    assert_eq!(it.counts().await, [2, 0, 0]);
}

#[tokio::test]
async fn a_limit_by_group_needs_deduplication_by_group() {
    let it = Fixture::fifo().await;

    let request = it.client.set_queue_attributes().queue_url(&it.url);
    let limit = QueueAttributeName::FifoThroughputLimit;
    let outcome = request.attributes(limit, "perMessageGroupId").send().await;

    assert_eq!(code(outcome.unwrap_err()), "InvalidAttributeValue");
}

/// Gives back `messages` so that they come again in `seconds`.
async fn hide(fixture: &Fixture, messages: &[Message], seconds: i32) {
    for message in messages {
        let change = fixture.client.change_message_visibility();
        let change = change.queue_url(&fixture.url).visibility_timeout(seconds);
        let receipt = message.receipt_handle().unwrap();
        change.receipt_handle(receipt).send().await.unwrap();
    }
}

#[tokio::test]
async fn a_group_whose_messages_were_given_back_comes_again_in_its_order() {
    let it = Fixture::fifo().await;
    for body in ["1", "2", "3"] {
        it.send_to("group", body).await;
    }
    let mut received = it.receive().await;
    received.reverse();

    hide(&it, &received, 0).await;

    assert_eq!(bodies(&it.receive().await), ["1", "2", "3"]);
}

#[tokio::test]
async fn a_group_waits_for_its_first_message_though_the_others_were_given_back() {
    let it = Fixture::fifo().await;
    for body in ["1", "2", "3"] {
        it.send_to("group", body).await;
    }
    let received = it.receive().await;

    hide(&it, &received[1..], 0).await;

    assert_eq!(bodies(&it.receive().await), [""; 0]);
}

#[tokio::test]
async fn a_repeat_is_answered_with_the_first_message() {
    let it = Fixture::with(
        "work.fifo",
        [
            (QueueAttributeName::FifoQueue, "true"),
            (QueueAttributeName::ContentBasedDeduplication, "true"),
        ],
    )
    .await;
    let send = it
        .client
        .send_message()
        .queue_url(&it.url)
        .message_body("hi");
    let send = send.message_group_id("a");

    let first = send.clone().send().await.unwrap();
    let second = send.send().await.unwrap();

    assert_eq!(
        (first.message_id, first.sequence_number),
        (second.message_id, second.sequence_number)
    );
}

#[tokio::test]
async fn a_fifo_message_without_a_deduplication_id_is_refused() {
    let it = Fixture::fifo().await;

    let request = it
        .client
        .send_message()
        .queue_url(&it.url)
        .message_body("hi");
    let outcome = request.message_group_id("a").send().await;

    assert_eq!(code(outcome.unwrap_err()), "InvalidParameterValue");
}

// The file

#[tokio::test]
async fn messages_survive_reopening_the_file() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sqs.db");
    let before = client(&Sqs::open(Some(&path), Sync::Full).unwrap());
    let url = create(&before, "work", []).await;
    before
        .send_message()
        .queue_url(&url)
        .message_body("hi")
        .send()
        .await
        .unwrap();
    drop(before);

    let after = client(&Sqs::open(Some(&path), Sync::Full).unwrap());

    assert_eq!(bodies(&receive(&after, &url, 0).await), ["hi"]);
}

#[tokio::test]
async fn a_second_process_may_open_the_same_file() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sqs.db");
    let one = client(&Sqs::open(Some(&path), Sync::Normal).unwrap());
    let other = client(&Sqs::open(Some(&path), Sync::Normal).unwrap());
    let url = create(&one, "work", []).await;

    other
        .send_message()
        .queue_url(&url)
        .message_body("hi")
        .send()
        .await
        .unwrap();

    assert_eq!(bodies(&receive(&one, &url, 0).await), ["hi"]);
}

#[tokio::test]
async fn a_sweep_deletes_what_is_past_retention_and_nothing_else() {
    let it = Fixture::with("work", [(QueueAttributeName::MessageRetentionPeriod, "60")]).await;
    create(&it.client, "patient", []).await;
    it.send("forgotten").await;
    let kept = it
        .client
        .send_message()
        .queue_url("patient")
        .message_body("kept");
    kept.send().await.unwrap();

    it.sqs.sweep_at(super::database::now() + 61_000);

    // The turn after the sweep's: it sees what the sweep left.
    assert_eq!(it.counts().await, [0, 0, 0]);
    assert_eq!(bodies(&receive(&it.client, "patient", 0).await), ["kept"]);
}

#[tokio::test]
async fn a_sweep_leaves_messages_within_retention_alone() {
    let it = Fixture::standard().await;
    it.send("hi").await;

    it.sqs.sweep();

    assert_eq!(it.counts().await, [1, 0, 0]);
}

/// Sends to a group of a standard queue.
async fn send_for(fixture: &Fixture, group: &str, body: &str) {
    fixture
        .client
        .send_message()
        .queue_url(&fixture.url)
        .message_body(body)
        .message_group_id(group)
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_group_of_a_standard_queue_with_a_backlog_waits_alone() {
    let fixture = Fixture::standard().await;
    for n in 0..30 {
        send_for(&fixture, "noisy", &format!("noisy {n}")).await;
    }
    assert_eq!(fixture.receive().await.len(), 10);
    for n in 0..2 {
        send_for(&fixture, "quiet", &format!("quiet {n}")).await;
    }
    let next = fixture.receive().await;
    let bodies: Vec<_> = next.iter().map(|it| it.body().unwrap()).collect();
    assert_eq!(bodies.len(), 10);
    assert_eq!(&bodies[..3], ["quiet 0", "quiet 1", "noisy 10"]);
}

#[tokio::test]
async fn a_batch_of_a_queue_with_a_backlog_holds_messages_of_many_groups() {
    let fixture = Fixture::standard().await;
    for group in 0..4 {
        for n in 0..10 {
            send_for(&fixture, &format!("group-{group}"), &format!("{group} {n}")).await;
        }
    }
    let received = fixture
        .client
        .receive_message()
        .queue_url(&fixture.url)
        .max_number_of_messages(8)
        .send()
        .await
        .unwrap();
    let mut bodies: Vec<_> = received
        .messages()
        .iter()
        .map(|it| it.body().unwrap().to_owned())
        .collect();
    bodies.sort();
    assert_eq!(
        bodies,
        ["0 0", "0 1", "1 0", "1 1", "2 0", "2 1", "3 0", "3 1"]
    );
}

#[tokio::test]
async fn a_clock_that_is_set_back_hides_no_message_for_longer() {
    const DAY: i64 = 86_400_000;
    let fixture = Fixture::standard().await;
    let sqs = fixture.sqs.clone();
    let turn = |work: fn(&mut super::database::Turn<'_>) -> Result<(), super::fault::Fault>| {
        let sqs = sqs.clone();
        async move { sqs.database.turn(work).await.unwrap() }
    };
    fixture.send("held").await;
    fixture.receive().await;
    // The clock was a day ahead, and is right again.
    turn(|turn| {
        turn.db
            .execute("UPDATE messages SET visible = visible + 86400000", [])?;
        super::clock::shift(turn.db, DAY, turn.now)?;
        let left = "SELECT visible - ?1 FROM messages";
        let left: i64 = turn.db.query_row(left, [turn.now], |row| row.get(0))?;
        assert!((0..=43_200_000).contains(&left), "{left}");
        turn.db
            .execute("UPDATE messages SET visible = visible - ?1", [left])?;
        Ok(())
    })
    .await;
    assert_eq!(fixture.receive().await.len(), 1);
    // The same, while nobody ran.
    turn(|turn| {
        turn.db
            .execute("UPDATE messages SET visible = visible + 86400000", [])?;
        super::clock::bound(turn.db, turn.now)?;
        Ok(())
    })
    .await;
    assert_eq!(fixture.receive().await.len(), 1);
}

#[tokio::test]
async fn what_a_dead_reader_held_is_given_back() {
    let fixture = Fixture::standard().await;
    fixture.send("held").await;
    fixture.receive().await;
    assert!(fixture.receive().await.is_empty());
    fixture.sqs.release("work").await.unwrap();
    let again = fixture.receive().await;
    let count = MessageSystemAttributeName::ApproximateReceiveCount;
    assert_eq!(again[0].attributes().unwrap()[&count], "1");
}

#[tokio::test]
async fn a_damaged_page_is_a_fault_that_is_not_tried_again() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("q.db");
    let sqs = Sqs::open(Some(&file), Sync::Normal).unwrap();
    let url = create(&client(&sqs), "work", []).await;
    for _ in 0..200 {
        let send = client(&sqs).send_message().queue_url(&url);
        send.message_body("x".repeat(10_000)).send().await.unwrap();
    }
    sqs.close();
    let mut bytes = std::fs::read(&file).unwrap();
    // The rests of bodies, which are not read when it is opened: each of these pages names the next.
    let rests = bytes
        .chunks_mut(4096)
        .filter(|page| page[4..].iter().all(|it| *it == b'x'));
    rests.for_each(|page| page[..4].fill(0xff));
    std::fs::write(&file, bytes).unwrap();

    let sqs = Sqs::open(Some(&file), Sync::Normal).unwrap();
    assert!(!sqs.faults().is_failing());
    let mut damaged = None;
    for _ in 0..200 {
        let received = client(&sqs).receive_message().queue_url(&url).send().await;
        damaged = damaged.or(received.err());
    }
    let error = damaged.unwrap();
    let status = error.raw_response().unwrap().status().as_u16();
    assert_eq!(error.code(), Some(crate::storage::CODE));
    assert_eq!(status, crate::storage::STATUS);
    assert!(sqs.faults().is_failing());
}
