//! What cannot be read, in the middle of what can.

use aws_sdk_dynamodb::types::AttributeValue;

use super::*;
use crate::support::faults::{Fault, always};

impl Line {
    /// Sends each of `bodies` to `queue`.
    async fn send(&self, queue: &str, bodies: &[&str]) {
        let (client, url) = self.tenant.world.queue(queue);
        for body in bodies {
            let send = client.send_message().queue_url(&url).message_body(*body);
            send.send().await.unwrap();
        }
    }

    /// Has `keys` written to `table`.
    async fn plant(&self, table: &str, keys: &[(&str, &str)]) {
        let mut put = self.tenant.world.dynamodb.put_item().table_name(table);
        for (name, value) in keys {
            put = put.item(*name, s(value));
        }
        put.send().await.unwrap();
    }

    /// What was put aside: by which function, why, and the `name` of the record.
    async fn aside(&self) -> Vec<(String, String, Value)> {
        let mut aside = Vec::<(String, String, Value)>::new();
        loop {
            let messages = self.receive("Poison", 0).await;
            if messages.is_empty() {
                aside.sort_by_key(|(_, reason, _)| reason.clone());
                return aside;
            }
            aside.extend(messages.iter().map(|message| {
                let letter: Value = serde_json::from_str(message.body().unwrap()).unwrap();
                let text = |name: &str| letter[name].as_str().unwrap().to_owned();
                (text("function"), text("reason"), letter["record"].clone())
            }));
        }
    }
}

/// The `total` records of a room with a message before the poison and one after it.
async fn around(line: &Line, total: usize, poison: impl AsyncFnOnce()) -> Vec<EventRecord> {
    let room = line.tenant.group(&["alice", "bob"]).await;
    line.say(&room, "before").await;
    let mut records = line.records(2).await;
    poison().await;
    line.say(&room, "after").await;
    // The two streams are read on their own.
    while records.len() < total {
        records.extend(line.records(1).await);
    }
    records
}

fn is_told_twice(receiver: &Receiver) -> bool {
    let contents: Vec<_> = receiver
        .take()
        .into_iter()
        .map(|got| got.body["data"]["message"]["content"].clone())
        .collect();
    contents.len() == 2 && contents.contains(&json!("before")) && contents.contains(&json!("after"))
}

/// Puts `bodies` into `queue` in the middle of good jobs. What was put aside by `function`: each of `bodies` once, with
/// the reason.
async fn poisoned(queue: &str, function: &str, bodies: &[&str]) -> Vec<String> {
    let (line, receiver) = (Line::new().await, Receiver::new());
    line.endpoint(&receiver.url).await;
    let records = around(&line, 3, async || ()).await;
    let (before, after) = records.split_at(2);
    let to_deliveries = async || {
        if queue == DELIVERY {
            while line.count(FANOUT).await.0 > 0 {
                let messages = line.receive(FANOUT, 0).await;
                let response = line.does(&line.app, FANOUT, &messages).await;
                line.delete(FANOUT, &messages, &response).await;
            }
        }
    };
    line.fan_out(before.to_vec()).await;
    to_deliveries().await;
    line.send(queue, bodies).await;
    line.fan_out(after.to_vec()).await;
    to_deliveries().await;

    line.settle().await;

    assert!(is_told_twice(&receiver));
    let aside = line.aside().await;
    let mut put: Vec<_> = aside
        .iter()
        .map(|(_, _, it)| it["body"].as_str().unwrap())
        .collect();
    put.sort_unstable();
    let mut sent = bodies.to_vec();
    sent.sort_unstable();
    assert_eq!(put, sent);
    assert!(aside.iter().all(|(by, _, _)| by == function), "{aside:?}");
    let why = |body: &&str| {
        let found = aside.iter().find(|(_, _, it)| it["body"] == **body);
        found.unwrap().1.clone()
    };
    bodies.iter().map(why).collect()
}

#[tokio::test]
async fn what_is_no_job_of_the_fan_out_is_put_aside_once_with_the_reason() {
    let tenant = "tenant_0193c1a27b0c7f3e8a6d5c4b3a291807";
    let unknown = format!(r#"{{"v":1,"tenant":"{tenant}","kind":"shout"}}"#);
    let subject = format!(
        r#"{{"v":1,"tenant":"{tenant}","kind":"tell","subject":"weather","audience":"all"}}"#
    );
    let bodies = ["garbage", r#"{"v":9,"kind":"tell"}"#, &unknown, &subject];
    let why = poisoned(FANOUT, "live", &bodies).await;
    assert!(why[0].starts_with("expected value"), "{why:?}");
    assert_eq!(why[1], "version 9 is not known");
    assert!(why[2].starts_with("unknown variant `shout`"), "{why:?}");
    assert_eq!(why[3], "not a subject of deliveries");
}

#[tokio::test]
async fn what_is_no_job_of_a_delivery_is_put_aside_once_with_the_reason() {
    let tenant = "tenant_0193c1a27b0c7f3e8a6d5c4b3a291807";
    let unknown = format!(r#"{{"v":1,"tenant":"{tenant}","subject":"weather"}}"#);
    let nobody = r#"{"v":1,"tenant":"nobody","subject":"weather"}"#;
    let bodies = ["garbage", r#"{"v":9}"#, &unknown, nobody];
    let why = poisoned(DELIVERY, "deliver", &bodies).await;
    assert!(why[0].starts_with("expected value"), "{why:?}");
    assert_eq!(why[1], "version 9 is not known");
    assert_eq!(why[2], "not a subject of deliveries");
    assert_eq!(why[3], "not an id of the form tenant_…");
}

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

/// Has `keys` written to `table` between two messages. What was put aside, and why.
async fn planted(table: &str, keys: &[(&str, &str)]) -> Vec<(String, String, Value)> {
    let (line, receiver) = (Line::new().await, Receiver::new());
    line.endpoint(&receiver.url).await;
    let records = around(&line, 4, async || {
        line.plant(table, keys).await;
    })
    .await;
    line.fan_out(records).await;
    line.settle().await;
    assert!(is_told_twice(&receiver));
    line.aside().await
}

#[tokio::test]
async fn a_record_of_the_log_that_cannot_be_read_is_put_aside_once_with_the_reason() {
    let keys = [("pk", "nobody#nowhere"), ("sk", "first")];
    let [(function, reason, record)] =
        <[_; 1]>::try_from(planted("Messages", &keys).await).unwrap();
    assert_eq!(function, "fanout");
    assert!(reason.contains("pk"), "{reason}");
    assert_eq!(record["dynamodb"]["NewImage"]["sk"]["S"], "first");
}

#[tokio::test]
async fn a_record_of_an_event_that_cannot_be_read_is_put_aside_once_with_the_reason() {
    let keys = [("pk", "nobody#nothing")];
    let [(function, reason, record)] = <[_; 1]>::try_from(planted("Events", &keys).await).unwrap();
    assert_eq!(function, "fanout");
    assert!(reason.contains("pk"), "{reason}");
    assert_eq!(record["dynamodb"]["NewImage"]["pk"]["S"], "nobody#nothing");
}

/// The poison queue as a function sees it that cannot reach it.
fn unreachable(line: &Line) -> PoisonQueue {
    let plan = always("SendMessage", Fault::LoseRequest);
    let client = line.tenant.world.sqs(|client| faulty(client, plan));
    PoisonQueue::new(client, line.tenant.world.queue("Poison").1)
}

#[tokio::test]
async fn a_poison_job_whose_queue_is_out_comes_again_and_holds_up_nobody() {
    let (line, receiver) = (Line::new().await, Receiver::new());
    line.endpoint(&receiver.url).await;
    let room = line.tenant.group(&["alice", "bob"]).await;
    line.say(&room, "Hello!").await;
    line.fan_out(line.records(2).await).await;
    line.send(FANOUT, &["garbage"]).await;
    for queue in [FANOUT, DELIVERY] {
        let (poison, messages) = (unreachable(&line), line.receive(queue, 0).await);
        let response = match queue {
            FANOUT => live::handle(&line.app, &poison, event(&messages)).await,
            _ => deliver::handle(&line.app, &poison, event(&messages)).await,
        };
        assert_eq!(response.batch_item_failures.len(), 1, "{queue}");
        line.delete(queue, &messages, &response).await;
        line.send(DELIVERY, &["garbage"]).await;
    }
    assert_eq!(line.aside().await, []);
    line.settle().await;

    assert_eq!(told(&receiver).len(), 1);
    let by = line.aside().await.into_iter().map(|(by, _, _)| by);
    let mut by: Vec<_> = by.collect();
    by.sort_unstable();
    assert_eq!(by, ["deliver", "deliver", "live"]);
}

#[tokio::test]
async fn a_poison_record_whose_queue_is_out_is_where_the_stream_is_read_again() {
    let (line, receiver) = (Line::new().await, Receiver::new());
    line.endpoint(&receiver.url).await;
    let keys = [("pk", "nobody#nowhere"), ("sk", "first")];
    let records = around(&line, 4, async || line.plant("Messages", &keys).await).await;
    let log: Vec<_> = records
        .into_iter()
        .filter(|record| record.change.new_image.contains_key("sk"))
        .collect();
    let numbers: Vec<_> = log
        .iter()
        .map(|it| it.change.sequence_number.clone())
        .collect();
    let mut event = Event::default();
    event.records.clone_from(&log);

    let response = fanout::handle(&line.app, &unreachable(&line), event).await;

    let [failed] = <[_; 1]>::try_from(response.batch_item_failures).unwrap();
    assert_eq!(failed.item_identifier, numbers[1]);
    line.fan_out(log[1..].to_vec()).await;
    line.settle().await;
    assert!(is_told_twice(&receiver));
    assert_eq!(line.aside().await.len(), 1);
}
