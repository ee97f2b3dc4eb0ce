//! Dead letters that are redriven both ways at the same time.

use tokio::join;

use super::*;

const LETTERS: &str = "DeadLetterQueue";

impl Line {
    /// Has what is in the dead-letter queue moved back, as the console does.
    async fn move_back(&self) {
        let (client, url) = self.tenant.world.queue(LETTERS);
        let asked = client.get_queue_attributes().queue_url(&url);
        let answer = asked
            .attribute_names(QueueAttributeName::QueueArn)
            .send()
            .await
            .unwrap();
        let arn = answer.attributes.unwrap().into_values().next().unwrap();
        let task = client.start_message_move_task().source_arn(arn);
        task.send().await.unwrap();
        until("the move", LONG, async || {
            self.count(LETTERS).await == (0, 0)
        })
        .await;
    }

    /// Redrives all letters of the tenant; how many.
    async fn redrive(&self) -> u64 {
        let path = "/admin/dead-letters/redrive";
        let all = json!({ "tenant_id": self.tenant.id, "all": true });
        let redriven = self.tenant.world.operator().anew().post(path, &all).await;
        assert_eq!(redriven.status, 202, "{}", redriven.raw);
        redriven.body["redriven"].as_u64().unwrap()
    }
}

/// A line with `count` dead letters in both places, and a receiver that works by now; the letters' ids.
async fn letters(count: usize) -> (Line, Receiver, Vec<String>) {
    let (line, receiver) = (Line::new().await, Receiver::new());
    line.retry(json!({ "attempts": 1 })).await;
    line.endpoint(&receiver.url).await;
    let room = line.tenant.group(&["alice", "bob"]).await;
    receiver.answer(500);
    for number in 0..count {
        line.say(&room, &number.to_string()).await;
    }
    line.fan_out(line.records(1 + count).await).await;
    line.settle().await;
    assert_eq!(receiver.take().len(), count);
    let letters = line.letters().await;
    let letters = letters["failed_messages"].as_array().unwrap().iter();
    let id = |letter: &Value| letter["delivery_id"].as_str().unwrap().to_owned();
    let ids: Vec<_> = letters.map(id).collect();
    assert_eq!(ids.len(), count);
    assert_eq!(
        line.count(LETTERS).await,
        (u32::try_from(count).unwrap(), 0)
    );
    receiver.answer(200);
    (line, receiver, ids)
}

/// Fails unless each of `ids` was delivered once, and nothing is left anywhere.
async fn assert_delivered_once(line: &Line, receiver: &Receiver, mut ids: Vec<String>) {
    let mut told: Vec<_> = told(receiver).into_values().flatten().collect();
    told.sort_unstable();
    ids.sort_unstable();
    assert_eq!(told, ids);
    assert_eq!(line.count(LETTERS).await, (0, 0));
    assert_eq!(line.letters().await["failed_messages"], json!([]));
}

#[tokio::test]
async fn letters_that_are_redriven_both_ways_at_once_are_delivered_once() {
    let (line, receiver, ids) = letters(12).await;
    let other = line.another(Surroundings::default());

    let (redriven, again, ()) = join!(line.redrive(), line.redrive(), line.move_back());
    assert_eq!(redriven + again, 12);
    line.settle_by(async |queue, messages| {
        let (one, two) = messages.split_at(messages.len() / 2);
        let (here, there) = join!(
            line.does(&line.app, queue, one),
            line.does(&other, queue, two),
        );
        line.delete(queue, one, &here).await;
        line.delete(queue, two, &there).await;
    })
    .await;

    assert_delivered_once(&line, &receiver, ids).await;
}

#[tokio::test]
async fn letters_that_are_moved_back_while_they_are_delivered_are_delivered_once() {
    let (line, receiver, ids) = letters(12).await;

    line.redrive().await;
    join!(line.settle(), line.move_back());
    line.settle().await;

    assert_delivered_once(&line, &receiver, ids).await;
}

#[tokio::test]
async fn letters_whose_receiver_still_fails_are_letters_again_in_both_places() {
    let (line, receiver, ids) = letters(2).await;
    receiver.answer(503);

    line.move_back().await;
    line.settle().await;

    assert_eq!(receiver.take().len(), 2);
    let letters = line.letters().await;
    let letters = letters["failed_messages"].as_array().unwrap().clone();
    assert_eq!(letters.len(), ids.len());
    for letter in letters {
        assert_eq!(
            (&letter["attempts"], &letter["error"]),
            (&json!(2), &json!("HTTP 503"))
        );
    }
    assert_eq!(line.count(LETTERS).await, (2, 0));
}
