//! One send, and what may happen to it on the wire.

use serde_json::json;
use tokio::{join, task::JoinSet, time::Instant};

use super::{Entry, acknowledged, log, path, process, quiet_tenant, say};
use crate::support::{
    Client, Response, Tenant,
    faults::{
        Fault::{self, Conflict, Double, Hold, Late, LoseAnswer, LoseRequest, Throttle},
        Gate, always, script,
    },
};

/// The call that stores a plain send.
const PLAIN: &str = "PutItem";
/// The call that stores a send with a key.
const KEYED: &str = "TransactWriteItems";
/// Both ways to store a message: every fault below is tried on each.
const WAYS: [&str; 2] = [PLAIN, KEYED];

async fn room() -> (Tenant, String) {
    let tenant = quiet_tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    (tenant, room)
}

/// Alice, whose sends go the way of `call`.
fn alice(tenant: &Tenant, call: &str) -> Client {
    let alice = tenant.user("alice");
    if call == KEYED {
        alice.with("idempotency-key", "once")
    } else {
        alice
    }
}

/// Alice's send meets `fates`. Gives what she is told and what the log holds.
async fn send_through(call: &'static str, fates: Vec<Fault>) -> (Response, Vec<Entry>) {
    let (tenant, room) = room().await;
    let shaky = process(script(call, fates)).await;
    let sent = say(&alice(&tenant.at(&shaky), call), &room, "mine").await;
    (sent, log(&tenant, "bob", &room).await)
}

#[track_caller]
fn assert_stored_once(call: &str, sent: &Response, log: &[Entry]) {
    assert_eq!(log, [acknowledged(sent, "mine")], "{call}");
    // Not a repetition, whatever happened below.
    assert_eq!(sent.header("idempotent-replayed"), None, "{call}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_makes_no_second_message() {
    for call in WAYS {
        for lost in 1..=4 {
            let (sent, log) = send_through(call, vec![LoseAnswer; lost]).await;
            assert_stored_once(call, &sent, &log);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_request_is_sent_again() {
    for call in WAYS {
        for lost in 1..=4 {
            let (sent, log) = send_through(call, vec![LoseRequest; lost]).await;
            assert_stored_once(call, &sent, &log);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_doubled_request_makes_one_message() {
    for call in WAYS {
        let (sent, log) = send_through(call, vec![Double]).await;
        assert_stored_once(call, &sent, &log);
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_write_is_tried_again() {
    for call in WAYS {
        let (sent, log) = send_through(call, vec![Throttle; 6]).await;
        assert_stored_once(call, &sent, &log);
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_met_another_is_tried_again() {
    for call in WAYS {
        let (sent, log) = send_through(call, vec![Conflict; 6]).await;
        assert_stored_once(call, &sent, &log);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_arrives_late_makes_no_second_message() {
    for call in WAYS {
        for later in 1..=6 {
            let fates = vec![Late(later), LoseRequest, LoseAnswer, Late(2)];
            let (sent, log) = send_through(call, fates).await;
            assert_stored_once(call, &sent, &log);
        }
    }
}

/// Alice's send meets `fates` and is then held back while Bob sends. Gives what each was told, and the log.
async fn overtaken(
    call: &'static str,
    mut fates: Vec<Fault>,
    bobs: usize,
) -> (Response, Vec<Response>, Vec<Entry>) {
    let (tenant, room) = room().await;
    let gate = Gate::default();
    fates.push(Hold(gate.clone()));
    let shaky = process(script(call, fates)).await;
    let (alice, bob) = (alice(&tenant.at(&shaky), call), tenant.user("bob"));
    let (mine, theirs) = join!(say(&alice, &room, "mine"), async {
        gate.reached().await;
        let mut theirs = Vec::new();
        for _ in 0..bobs {
            theirs.push(say(&bob, &room, "theirs").await);
        }
        gate.open();
        theirs
    });
    (mine, theirs, log(&tenant, "bob", &room).await)
}

#[tokio::test(start_paused = true)]
async fn a_writer_who_lost_the_race_takes_the_next_seq() {
    for call in WAYS {
        let (mine, theirs, log) = overtaken(call, vec![], 1).await;
        let expected = [
            acknowledged(&theirs[0], "theirs"),
            acknowledged(&mine, "mine"),
        ];
        assert_eq!(log, expected, "{call}");
        assert_eq!(mine.header("idempotent-replayed"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_with_a_stale_tail_looks_again_instead_of_counting_up() {
    for call in WAYS {
        let (mine, _, log) = overtaken(call, vec![], 5).await;
        assert_eq!(log.len(), 6, "{call}");
        assert_eq!(log[5], acknowledged(&mine, "mine"), "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_landed_unseen_keeps_its_seq_while_others_go_on() {
    for call in WAYS {
        let (mine, theirs, log) = overtaken(call, vec![LoseAnswer, LoseAnswer], 2).await;
        let expected = [
            acknowledged(&mine, "mine"),
            acknowledged(&theirs[0], "theirs"),
            acknowledged(&theirs[1], "theirs"),
        ];
        assert_eq!(log, expected, "{call}");
        assert_eq!(mine.header("idempotent-replayed"), None, "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_did_not_land_moves_on_when_its_seq_is_taken() {
    for call in WAYS {
        let (mine, theirs, log) = overtaken(call, vec![LoseRequest, LoseRequest], 1).await;
        let expected = [
            acknowledged(&theirs[0], "theirs"),
            acknowledged(&mine, "mine"),
        ];
        assert_eq!(log, expected, "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_request_whose_seq_was_taken_meanwhile_is_not_stored_beside_its_repetition() {
    for call in WAYS {
        // It arrives before the lost race, between it and the new look at the tail, or after all.
        for later in 1..=6 {
            let (mine, theirs, log) = overtaken(call, vec![Late(later), LoseRequest], 1).await;
            let mut expected = vec![
                acknowledged(&mine, "mine"),
                acknowledged(&theirs[0], "theirs"),
            ];
            expected.sort_by_key(|entry| entry.seq);
            assert_eq!(log, expected, "{call}, {later} calls late");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_throttled_until_its_deadline_is_a_503_that_stores_nothing() {
    for call in WAYS {
        let (tenant, room) = room().await;
        let shaky = process(always(call, Throttle)).await;
        let begun = Instant::now();

        let sent = say(&alice(&tenant.at(&shaky), call), &room, "mine").await;

        sent.assert(
            503,
            json!({ "success": false, "error": {
                "code": "SERVICE_UNAVAILABLE",
                "message": "Service temporarily unavailable. Send the same request again",
            } }),
        );
        assert_eq!(sent.header("retry-after"), Some("1"), "{call}");
        assert!(
            begun.elapsed().as_secs() < 15,
            "{call}: {:?}",
            begun.elapsed()
        );
        assert_eq!(log(&tenant, "bob", &room).await, [], "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_always_meets_others_is_a_503_that_stores_nothing() {
    let (tenant, room) = room().await;
    let shaky = process(always(KEYED, Conflict)).await;

    let sent = say(&alice(&tenant.at(&shaky), KEYED), &room, "mine").await;

    sent.assert_error(503, "SERVICE_UNAVAILABLE", None);
    assert_eq!(sent.header("retry-after"), Some("1"));
    assert_eq!(log(&tenant, "bob", &room).await, []);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_behind_a_throttled_send_are_told_in_time() {
    let (tenant, room) = room().await;
    let shaky = tenant.at(&process(always(PLAIN, Throttle)).await);
    let begun = Instant::now();
    let mut sending = JoinSet::new();
    for _ in 0..8 {
        let (alice, room) = (shaky.user("alice"), room.clone());
        sending.spawn(async move { say(&alice, &room, "mine").await });
    }

    for sent in sending.join_all().await {
        sent.assert_error(503, "SERVICE_UNAVAILABLE", None);
        assert_eq!(sent.header("retry-after"), Some("1"));
    }
    assert!(begun.elapsed().as_secs() < 15, "{:?}", begun.elapsed());
    assert_eq!(log(&tenant, "bob", &room).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_tail_that_cannot_be_read_is_a_503() {
    for call in WAYS {
        let (tenant, room) = room().await;
        let shaky = process(always("Query", Throttle)).await;

        let sent = say(&alice(&tenant.at(&shaky), call), &room, "mine").await;

        sent.assert_error(503, "SERVICE_UNAVAILABLE", None);
        assert_eq!(sent.header("retry-after"), Some("1"));
        assert_eq!(log(&tenant, "bob", &room).await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_whose_answers_are_all_lost_is_a_503_and_stored_once() {
    for call in WAYS {
        let (tenant, room) = room().await;
        let shaky = process(always(call, LoseAnswer)).await;

        let sent = say(&alice(&tenant.at(&shaky), call), &room, "mine").await;

        sent.assert_error(503, "SERVICE_UNAVAILABLE", None);
        assert_eq!(log(&tenant, "bob", &room).await.len(), 1, "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_sent_again_after_a_503_is_told_of_what_the_503_stored() {
    let (tenant, room) = room().await;
    let shaky = process(always(KEYED, LoseAnswer)).await;
    let failed = say(&alice(&tenant.at(&shaky), KEYED), &room, "mine").await;
    failed.assert_error(503, "SERVICE_UNAVAILABLE", None);

    let again = say(&alice(&tenant, KEYED), &room, "mine").await;

    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(
        log(&tenant, "bob", &room).await,
        [acknowledged(&again, "mine")]
    );
}

#[tokio::test(start_paused = true)]
async fn an_edit_or_deletion_whose_answer_was_lost_is_done_once_and_acknowledged() {
    for fate in [LoseAnswer, LoseRequest, Double, Throttle] {
        let (tenant, room) = room().await;
        let sent = say(&tenant.user("alice"), &room, "mine").await;
        let one = format!("{}/{}", path(&room), sent.text("message_id"));
        // The first two updates are of the rate limit's bucket.
        let fates = || [Fault::Pass, Fault::Pass, fate.clone()];

        let shaky = tenant.at(&process(script("UpdateItem", fates())).await);
        let edit = shaky
            .user("alice")
            .put(&one, &json!({ "content": "changed" }))
            .await;
        assert_eq!(
            (edit.status, edit.text("content").as_str()),
            (200, "changed")
        );

        let shaky = tenant.at(&process(script("UpdateItem", fates())).await);
        let deleted = shaky.user("alice").delete(&one).await;
        assert_eq!(deleted.status, 204, "{fate:?} {}", deleted.raw);
        assert_eq!(log(&tenant, "bob", &room).await[0].content, "");
    }
}
