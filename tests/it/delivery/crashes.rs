//! Records that end the process of the function which works on them.

use std::future::{pending, ready};

use parlance::{
    app::crashes::{MAX_STARTS, Single},
    domain::Moment,
    http::moment,
};

use super::*;
use crate::support::faults::{Fault, always};

/// The reason of a record that is put aside for that.
const REASON: &str = "its function ended without an answer 5 times";

fn now() -> Moment {
    moment(LONG).unwrap()
}

impl Line {
    /// A process that has ended no batch yet.
    fn fresh(&self) -> App {
        self.another(Surroundings::default())
    }

    /// Has `record` end five processes of `function`.
    async fn crash(&self, function: &'static str, record: &EventRecord) {
        let single = Single {
            function,
            event: record.event_id.clone(),
            sequence: record.change.sequence_number.clone().unwrap(),
            record: serde_json::to_value(record).unwrap(),
        };
        for _ in 1..MAX_STARTS {
            let (app, poison) = (self.fresh(), self.poison());
            assert!(app.notes_starts());
            let (begun, begins) = tokio::sync::oneshot::channel();
            let work = async {
                begun.send(()).unwrap();
                pending::<()>().await;
            };
            let now = now();
            let guarded = app.guarded(&poison, Some(single.clone()), &now, work);
            // Dropped in the middle of its work.
            tokio::select! {
                done = guarded => panic!("{done:?}"),
                begun = begins => begun.unwrap(),
            }
        }
    }

    async fn letters_aside(&self) -> Vec<Value> {
        let messages = self.receive("Poison", 0).await;
        let bodies = messages.iter().map(|message| message.body().unwrap());
        bodies
            .map(|body| serde_json::from_str(body).unwrap())
            .collect()
    }

    /// One record of the log, and no other.
    async fn record(&self) -> EventRecord {
        let room = self.tenant.group(&["alice", "bob"]).await;
        self.say(&room, "hi").await;
        // The room's own event is in the other stream.
        let records = self.records(2).await;
        let is_message = |it: &EventRecord| it.change.new_image.contains_key("sk");
        records.into_iter().find(is_message).unwrap()
    }
}

fn one(record: &EventRecord) -> Event {
    let mut event = Event::default();
    event.records = vec![record.clone()];
    event
}

#[tokio::test]
async fn a_record_that_has_ended_five_processes_is_put_aside_whole_at_the_sixth_start() {
    for function in ["heads", "fanout"] {
        let line = Line::new().await;
        let record = line.record().await;
        line.crash(function, &record).await;
        let (app, poison) = (line.fresh(), line.poison());

        let response = match function {
            "heads" => heads::handle(&app, &poison, one(&record)).await,
            _ => fanout::handle(&app, &poison, one(&record)).await,
        };

        assert!(response.batch_item_failures.is_empty(), "{response:?}");
        let aside = line.letters_aside().await;
        let whole = serde_json::to_value(&record).unwrap();
        let letter = json!({
            "v": 1,
            "kind": "poison_record",
            "function": function,
            "reason": REASON,
            "record": whole,
        });
        assert_eq!(aside, [letter]);
        assert_eq!(line.count(FANOUT).await, (0, 0));
    }
}

#[tokio::test]
async fn what_has_ended_other_functions_or_other_records_puts_none_aside() {
    let (line, receiver) = (Line::new().await, Receiver::new());
    line.endpoint(&receiver.url).await;
    let record = line.record().await;
    let mut other = record.clone();
    other.event_id = "another".to_owned();
    line.crash("fanout", &other).await;
    line.crash("heads", &record).await;

    let response = fanout::handle(&line.fresh(), &line.poison(), one(&record)).await;

    assert!(response.batch_item_failures.is_empty(), "{response:?}");
    assert_eq!(line.count(FANOUT).await, (1, 0));
    assert!(line.letters_aside().await.is_empty());
}

#[tokio::test]
async fn an_outage_puts_no_record_aside_however_long_it_lasts() {
    let (line, receiver) = (Line::new().await, Receiver::new());
    line.endpoint(&receiver.url).await;
    let record = line.record().await;
    for _ in 0..2 * MAX_STARTS {
        let app = line.another(Surroundings {
            sqs: always("SendMessageBatch", Fault::Refuse("AccessDenied")),
            ..Surroundings::default()
        });
        let response = fanout::handle(&app, &line.poison(), one(&record)).await;
        assert_eq!(response.batch_item_failures.len(), 1);
    }

    let response = fanout::handle(&line.fresh(), &line.poison(), one(&record)).await;

    assert!(response.batch_item_failures.is_empty(), "{response:?}");
    assert_eq!(line.count(FANOUT).await, (1, 0));
    assert!(line.letters_aside().await.is_empty());
}

#[tokio::test]
async fn a_record_whose_start_cannot_be_noted_is_worked_on() {
    let (line, receiver) = (Line::new().await, Receiver::new());
    line.endpoint(&receiver.url).await;
    let record = line.record().await;
    let app = line.another(Surroundings {
        dynamodb: always("UpdateItem", Fault::Refuse("AccessDeniedException")),
        ..Surroundings::default()
    });

    let response = fanout::handle(&app, &line.poison(), one(&record)).await;

    assert!(response.batch_item_failures.is_empty(), "{response:?}");
    assert_eq!(line.count(FANOUT).await, (1, 0));
}

#[tokio::test]
async fn a_process_that_has_ended_a_batch_notes_no_start_until_one_breaks_off() {
    let line = Line::new().await;
    let (app, poison) = (line.fresh(), line.poison());

    let done = app.guarded(&poison, None, &now(), ready(())).await;

    assert_eq!(done.unwrap(), Some(()));
    assert!(!app.notes_starts());
    {
        let moment = now();
        let broken = app.guarded(&poison, None, &moment, pending::<()>());
        let polled = tokio::select! {
            biased;
            _ = broken => true,
            () = ready(()) => false,
        };
        assert!(!polled);
    }
    assert!(app.notes_starts());
}
