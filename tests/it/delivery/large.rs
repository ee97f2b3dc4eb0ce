//! One message to a room of 10,000 members.

use std::collections::BTreeSet;

use super::*;
use crate::support::faults::{Meter, Tap};

/// What SQS takes at once, in bytes.
const LIMIT: usize = 256 * 1024;
/// How many members a request may name.
const AT_ONCE: usize = 1_000;

/// What telling one message to a room cost.
struct Cost {
    /// Calls of DynamoDB.
    calls: usize,
    /// What was sent to the queue of deliveries: each job.
    deliveries: Vec<String>,
    /// The longest request to SQS, in bytes.
    longest: usize,
    /// The most jobs of the fan-out that one job made.
    widest: usize,
}

/// Tells one message to a room of `members`, of whom nobody is connected.
async fn told_to(members: usize, has_endpoint: bool) -> Cost {
    let line = Line::new().await;
    if has_endpoint {
        line.endpoint(&Receiver::new().url).await;
    }
    let users: Vec<_> = (0..members)
        .map(|number| format!("user{number:05}"))
        .collect();
    let mut requests = users.chunks(AT_ONCE);
    let alice = line.tenant.user(&users[0]);
    let body = json!({ "type": "channel", "members": requests.next(), "name": "all" });
    let made = alice.post("/rooms", &body).await;
    assert_eq!(made.status, 201, "{}", made.raw);
    let room = made.text("room_id");
    for users in requests {
        let path = format!("/rooms/{room}/members");
        let added = alice.post(&path, &json!({ "user_ids": users })).await;
        assert!(added.status < 300, "{}", added.raw);
    }
    let path = format!("/rooms/{room}/messages");
    let sent = alice
        .post(&path, &json!({ "content": "Hello, all!" }))
        .await;
    assert_eq!(sent.status, 200, "{}", sent.raw);
    let id: parlance::domain::MessageId = sent.text("message_id").parse().unwrap();

    let (meter, tap) = (Meter::default(), Tap::default());
    let app = line.metered(&meter, &tap);
    let job = parlance::queue::Fanout::Tell {
        tenant: line.tenant.id.parse().unwrap(),
        subject: parlance::domain::delivery::Subject::MessageCreated {
            log: room.parse().unwrap(),
            id,
        },
        audience: parlance::queue::Audience::All,
    };
    app.jobs().fan_out(&[job], 0).await.unwrap();
    tap.take();
    let mut cost = Cost {
        calls: 0,
        deliveries: Vec::new(),
        longest: 0,
        widest: 0,
    };
    loop {
        let messages = line.receive(FANOUT, 0).await;
        if messages.is_empty() {
            break;
        }
        assert_eq!(messages.len(), 1);
        let response = line.does(&app, FANOUT, &messages).await;
        line.delete(FANOUT, &messages, &response).await;
        cost.calls += meter.take().operations.len();
        let mut next = 0;
        for body in tap.take() {
            cost.longest = cost.longest.max(body.len());
            let request: Value = serde_json::from_str(&body).unwrap();
            let entries = request["Entries"].as_array().unwrap();
            if request["QueueUrl"].as_str().unwrap().ends_with(DELIVERY) {
                let job = |entry: &Value| entry["MessageBody"].as_str().unwrap().to_owned();
                cost.deliveries.extend(entries.iter().map(job));
            } else {
                next += entries.len();
            }
        }
        cost.widest = cost.widest.max(next);
    }
    cost
}

impl Line {
    /// A worker whose calls are counted, and whose requests to SQS are kept.
    fn metered(&self, meter: &Meter, tap: &Tap) -> App {
        let world = &self.tenant.world;
        let settings = settings();
        let sqs = world.sqs(|client| tap.tap(client));
        let means = Means {
            jobs: Jobs::new(sqs, settings.queues.clone()),
            sockets: Some(Sockets::new(embedded_sockets(self.wire.http_client()))),
            ..Means::default()
        };
        App::with(
            &settings,
            &world.client(|client| meter.meter(client)),
            means,
        )
    }
}

#[tokio::test]
async fn telling_10_000_members_costs_no_more_for_each_than_telling_100() {
    let (few, many) = (told_to(100, true).await, told_to(10_000, true).await);

    assert!(
        many.calls <= 100 * few.calls,
        "{} {}",
        many.calls,
        few.calls
    );
    for cost in [&few, &many] {
        assert!(cost.longest <= LIMIT, "{}", cost.longest);
        assert!(cost.widest <= 1, "{}", cost.widest);
    }
    let users: BTreeSet<_> = many
        .deliveries
        .iter()
        .map(|job| {
            parlance::queue::parse_job(job)
                .unwrap()
                .job
                .user
                .unwrap()
                .to_string()
        })
        .collect();
    // Everybody but the author, each once.
    assert_eq!((users.len(), many.deliveries.len()), (9_999, 9_999));
    assert!(!users.contains("user00000"));
}

#[tokio::test]
async fn a_room_of_1_000_members_whom_no_endpoint_waits_for_makes_no_delivery() {
    let cost = told_to(1_000, false).await;
    assert_eq!(cost.deliveries, Vec::<String>::new());
}
