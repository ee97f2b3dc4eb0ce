//! Receivers that misbehave: what an admin sees of it, and that a redrive mends it.

use std::future::pending;

use parlance::{app::Keep, http::moment};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Does with each connection what `treat` does, on a port of this machine. Whoever answers like that is at this URL.
async fn treating<F>(treat: impl Fn(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(treat(stream));
        }
    });
    url
}

/// Fails unless a message that is sent to `url` is a dead letter because of `reason` after two attempts, and is
/// delivered once after a redrive to a receiver that works.
async fn assert_seen_and_mended(url: &str, reason: &str) {
    assert_seen_and_mended_on(Line::new().await, url, reason).await;
}

/// A line that waits for a receiver no longer than a test should.
async fn impatient() -> Line {
    Line::among(Surroundings {
        patience: Duration::from_secs(1),
        ..Surroundings::default()
    })
    .await
}

async fn assert_seen_and_mended_on(line: Line, url: &str, reason: &str) {
    let healthy = Receiver::new();
    let endpoint = line.endpoint(url).await;
    let room = line.tenant.group(&["alice", "bob"]).await;
    let message = line.say(&room, "Hello!").await.text("message_id");
    line.fan_out(line.records(2).await).await;
    line.settle().await;

    let letters = line.letters().await;
    let [letter] = letters["failed_messages"].as_array().unwrap().as_slice() else {
        panic!("{letters}");
    };
    let said = |name: &str| letter[name].as_str().unwrap();
    assert_eq!(
        (said("error"), letter["attempts"].as_u64()),
        (reason, Some(2))
    );
    assert_eq!(
        (said("message_id"), said("user_id")),
        (message.as_str(), "bob")
    );

    let server = line.tenant.server();
    let patched = server
        .patch(&endpoint, &json!({ "url": healthy.url }))
        .await;
    assert_eq!(patched.status, 200, "{}", patched.raw);
    let path = "/admin/dead-letters/redrive";
    let all = json!({ "tenant_id": line.tenant.id, "all": true });
    let redriven = line.tenant.world.operator().anew().post(path, &all).await;
    redriven.assert(202, json!({ "redriven": 1, "more": false }));
    line.settle().await;

    let id = said("delivery_id").to_owned();
    let bob = (message, "bob".to_owned());
    assert_eq!(told(&healthy), BTreeMap::from([(bob, vec![id])]));
    assert_eq!(line.letters().await["failed_messages"], json!([]));
}

#[tokio::test]
async fn a_receiver_that_is_too_slow_is_a_connection_timeout() {
    let receiver = Receiver::new();
    receiver.hang();
    assert_seen_and_mended_on(impatient().await, &receiver.url, "connection timeout").await;
    assert_eq!(receiver.asked(), 2);
}

#[tokio::test]
async fn a_receiver_that_takes_connections_and_reads_nothing_is_a_connection_timeout() {
    let url = treating(|stream| async move {
        pending::<()>().await;
        drop(stream);
    });
    assert_seen_and_mended_on(impatient().await, &url.await, "connection timeout").await;
}

#[tokio::test]
async fn a_receiver_that_hangs_up_is_a_connection_reset() {
    let url = treating(|stream| async move { drop(stream) }).await;
    assert_seen_and_mended(&url, "connection reset").await;
}

#[tokio::test]
async fn a_receiver_that_fails_is_named_by_its_status() {
    let receiver = Receiver::new();
    receiver.answer(500);
    assert_seen_and_mended(&receiver.url, "HTTP 500").await;
}

#[tokio::test]
async fn a_receiver_that_has_had_too_much_is_named_by_its_status() {
    let receiver = Receiver::new();
    receiver.answer(429);
    assert_seen_and_mended(&receiver.url, "HTTP 429").await;
}

#[tokio::test]
async fn a_receiver_that_sends_us_elsewhere_is_not_followed() {
    let (receiver, elsewhere) = (Receiver::new(), Receiver::new());
    receiver.answer(302);
    receiver.say("location", &elsewhere.url);
    assert_seen_and_mended(&receiver.url, "HTTP 302 is not followed").await;
    assert_eq!(elsewhere.asked(), 0);
}

#[tokio::test]
async fn a_receiver_that_fails_at_great_length_is_named_by_its_status() {
    let receiver = Receiver::new();
    receiver.answer(502);
    receiver.talk(50_000_000);
    assert_seen_and_mended(&receiver.url, "HTTP 502").await;
}

#[tokio::test]
async fn a_receiver_without_tls_is_a_tls_error() {
    let url = Receiver::new().url.replace("http:", "https:");
    assert_seen_and_mended(&url, "TLS error").await;
}

#[tokio::test]
async fn a_receiver_whose_name_nobody_knows_is_not_found() {
    assert_seen_and_mended("http://receiver.invalid/hooks", "host not found").await;
}

#[tokio::test]
async fn a_receiver_that_takes_it_at_great_length_has_taken_it() {
    let (line, receiver) = (Line::new().await, Receiver::new());
    receiver.talk(50_000_000);
    line.endpoint(&receiver.url).await;
    let room = line.tenant.group(&["alice", "bob"]).await;
    line.say(&room, "Hello!").await;
    line.fan_out(line.records(2).await).await;
    line.settle().await;

    assert_eq!(
        told(&receiver)
            .into_values()
            .map(|ids| ids.len())
            .sum::<usize>(),
        1
    );
    assert_eq!(line.letters().await["failed_messages"], json!([]));
}

/// What an admin sees of the one delivery of a message, which has failed once because its receiver asked to be left
/// alone for so many seconds; how many seconds later it is tried next, and the jobs that are left for it.
async fn left_alone(line: &Line, seconds: &str) -> (i64, (u32, u32)) {
    let receiver = Receiver::new();
    receiver.answer(429);
    receiver.say("retry-after", seconds);
    line.endpoint(&receiver.url).await;
    let room = line.tenant.group(&["alice", "bob"]).await;
    let message = line.say(&room, "Hello!").await.text("message_id");
    line.fan_out(line.records(2).await).await;
    for queue in [FANOUT, FANOUT, DELIVERY] {
        let messages = line.receive(queue, 0).await;
        let response = line.does(&line.app, queue, &messages).await;
        line.delete(queue, &messages, &response).await;
    }

    let path = format!("/rooms/{room}/messages/{message}/deliveries");
    let shown = line.tenant.user("alice").get(&path).await.body[0].clone();
    assert_eq!(
        (&shown["attempts"], &shown["error"]),
        (&json!(1), &json!("HTTP 429"))
    );
    let at = |name: &str| {
        let at: parlance::domain::Timestamp = shown[name].as_str().unwrap().parse().unwrap();
        at.seconds()
    };
    let wait = at("next_attempt_at") - at("last_attempt_at");
    (wait, line.count(DELIVERY).await)
}

#[tokio::test]
async fn a_receiver_that_asks_for_a_wait_is_not_told_before_it_is_over() {
    let line = Line::new().await;
    assert_eq!(left_alone(&line, "600").await, (600, (0, 1)));
}

#[tokio::test]
async fn a_receiver_that_asks_for_hours_is_not_told_by_the_reconciler_either() {
    let line = Line::new().await;
    assert_eq!(left_alone(&line, "7200").await, (7_200, (0, 0)));

    reconcile::handle(&line.app).await.unwrap();

    assert_eq!(line.count(DELIVERY).await, (0, 0));
}

/// An attempt has only so much time, and a job may have used it up before its webhook was sent.
#[tokio::test]
async fn a_slow_receiver_is_noted_as_failing_even_if_the_attempts_time_is_over_first() {
    let (line, receiver) = (Line::new().await, Receiver::new());
    receiver.hang();
    let endpoint = line.endpoint(&receiver.url).await;
    let room = line.tenant.group(&["alice", "bob"]).await;
    line.say(&room, "Hello!").await;
    line.fan_out(line.records(2).await).await;
    for _ in 0..2 {
        let messages = line.receive(FANOUT, 0).await;
        line.does(&line.app, FANOUT, &messages).await;
    }
    let [message] = <[_; 1]>::try_from(line.receive(DELIVERY, 0).await).unwrap();
    let job = parlance::queue::parse_job(message.body().unwrap())
        .unwrap()
        .job;
    let patient = line.another(Surroundings {
        patience: LONG,
        ..Surroundings::default()
    });
    // Twelve seconds of it are for the receiver, and ten for writing down what came of it.
    let moment = moment(Duration::from_millis(22_500)).unwrap();
    let receipt = parlance::domain::delivery::Receipt {
        receives: 1,
        sent_at: moment.now,
        made_at: None,
    };

    let verdict = patient.attempt(&job, receipt, &moment).await.unwrap();

    assert_eq!(verdict, parlance::app::Verdict::Again { seconds: 1 });
    assert_eq!(receiver.asked(), 1);
    let shown = line.tenant.server().get(&endpoint).await;
    assert_eq!(shown.body["failing_since"], moment.now.to_string());
}

#[tokio::test]
async fn what_a_receiver_took_is_counted_as_delivered() {
    let (line, receiver) = (Line::new().await, Receiver::new());
    line.endpoint(&receiver.url).await;
    let room = line.tenant.group(&["alice", "bob"]).await;
    line.say(&room, "hi").await;
    line.fan_out(line.records(2).await).await;
    line.settle().await;
    line.app.keep_counts(Keep::Now).await.unwrap();

    let metrics = line.tenant.server().get("/metrics").await;

    assert_eq!(metrics.body["deliveries_delivered"], 1, "{}", metrics.raw);
}
