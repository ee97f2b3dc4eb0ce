//! What an operation may cost in round trips and units of DynamoDB, on a warm function, for items of at
//! most 1 KB.
//!
//! The units are the store's own: a transaction costs twice per item, an index once more per item that it
//! lists. A budget that holds because nothing was counted would hold nothing, so costs are compared as they
//! are, not as upper bounds.

use std::ops::RangeInclusive;

use aws_sdk_dynamodb::types::AttributeValue;
use parlance::queue::PoisonQueue;
use parlance_local::{
    clients::embedded_sqs,
    sqs::{self, Sqs},
    template::Stack,
};
use serde_json::{Value, json};

use crate::{
    kodey::{Team, door, team},
    support::{
        Client, Response, Tenant,
        faults::{Cost, Meter},
        tenant, world,
    },
};

/// How many messages the room has.
const MESSAGES: usize = 60;

/// A process whose calls are counted, which knows the tenant's key and has leased its budget.
struct Metered {
    /// The same tenant in a process that is not counted.
    tenant: Tenant,
    alice: Client,
    meter: Meter,
    room: String,
    /// What is in the room, from Alice.
    message: String,
}

async fn metered() -> Metered {
    let tenant = tenant().await;
    let room = tenant.group(&["alice", "bob"]).await;
    let messages = format!("/rooms/{room}/messages");
    let mut message = String::new();
    for number in 0..MESSAGES {
        let body = json!({ "content": format!("Hello, {number}!") });
        let sent = tenant.user("alice").post(&messages, &body).await;
        message = format!("{messages}/{}", sent.text("message_id"));
    }
    let meter = Meter::default();
    let world = world().await.another(|client| meter.meter(client));
    let alice = tenant.at(&world).user("alice");
    assert_eq!(alice.get("/subscriptions").await.status, 200);
    meter.take();
    Metered {
        tenant,
        alice,
        meter,
        room,
        message,
    }
}

impl Metered {
    /// What came of a request, which must succeed.
    #[track_caller]
    fn cost(&self, response: &Response) -> Cost {
        assert!(response.status < 300, "{}", response.raw);
        self.meter.take()
    }
}

/// What each operation may cost. What a million of them costs in dollars is computed from the same file.
const BUDGETS: &str = include_str!("../../infra/cost/budgets.json");

/// Exactly the round trips and units of the budget `name`.
#[track_caller]
pub(crate) fn assert_cost(cost: &Cost, name: &str) {
    let budgets: Value = serde_json::from_str(BUDGETS).unwrap();
    let budget = |of: &str| budgets[name][of].as_f64().unwrap();
    let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(
        cost.round_trips as u64 == budgets[name]["round_trips"]
            && close(cost.write_units, budget("write_units"))
            && close(cost.read_units, budget("read_units")),
        "{cost:?} is not {name}: {}",
        budgets[name]
    );
}

fn messages(room: &str) -> String {
    format!("/rooms/{room}/messages")
}

fn hello() -> Value {
    json!({ "content": "Hello, world!" })
}

/// Its body is refused after the key was checked and the budget charged.
#[tokio::test]
async fn a_warm_function_authenticates_and_charges_without_a_call() {
    let metered = metered().await;
    for _ in 0..100 {
        let refused = metered.alice.post("/rooms", &json!({})).await;
        assert_eq!(refused.status, 400, "{}", refused.raw);
        assert!(refused.header("x-ratelimit-remaining").is_some());
    }
    assert_eq!(metered.meter.take(), Cost::default());
}

#[tokio::test]
async fn a_warm_function_knows_a_teams_keys_and_charges_them_without_a_call() {
    let team = team().await;
    let meter = Meter::default();
    let warm = door(&world().await.another(|client| meter.meter(client)));
    let team = team.at(&warm);
    for client in [&team.sk, &team.pk] {
        assert_eq!(client.get("/chat").await.status, 200);
        // The key and the profile, the share of the budget, and once an hour the note that it is used.
        assert_eq!(
            meter.take().operations,
            ["GetItem", "GetItem", "UpdateItem", "UpdateItem"]
        );
        for _ in 0..10 {
            assert_eq!(client.get("/chat").await.status, 200);
        }
        assert_eq!(meter.take(), Cost::default());
    }
}

#[tokio::test]
async fn a_send_costs_two_round_trips_and_one_write() {
    let metered = metered().await;
    for _ in 0..3 {
        let sent = metered.alice.post(&messages(&metered.room), &hello()).await;
        // The place, half a unit as it may be stale, and the tail, which may not.
        assert_cost(&metered.cost(&sent), "send");
    }
}

#[tokio::test]
async fn a_send_with_a_key_costs_two_round_trips_and_a_transaction() {
    let metered = metered().await;
    let once = metered.alice.clone().with("idempotency-key", "once");
    for _ in 0..2 {
        let sent = once.post(&messages(&metered.room), &hello()).await;
        // Message and marker; a repetition is refused, which costs as much.
        assert_cost(&metered.cost(&sent), "send_with_key");
    }
}

#[tokio::test]
async fn reading_50_messages_costs_one_round_trip_and_their_size() {
    let metered = metered().await;
    let page = format!("{}?after_seq=5&limit=50", messages(&metered.room));

    let read = metered.alice.get(&page).await;

    assert_eq!(read.body.as_array().unwrap().len(), 50);
    // Half a unit for the place, and one for each 4 KB begun of the messages.
    let size = f64::from(stored(&metered, 6..=55).await.div_ceil(4096));
    let cost = metered.cost(&read);
    assert!((cost.read_units - (0.5 + size)).abs() < 1e-9, "{cost:?}");
    assert_cost(&cost, "read_50");
}

/// The bytes of these messages, as DynamoDB counts them: names and values.
async fn stored(metered: &Metered, seqs: RangeInclusive<usize>) -> u32 {
    let pk = format!("{}#{}", metered.tenant.id, metered.room);
    let query = metered.tenant.world.dynamodb.query();
    let page = query
        .table_name(&Stack::compiled_in().unwrap().environment["MESSAGES_TABLE"])
        .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
        .expression_attribute_values(":pk", AttributeValue::S(pk))
        .expression_attribute_values(":first", AttributeValue::S(format!("{:020}", seqs.start())))
        .expression_attribute_values(":last", AttributeValue::S(format!("{:020}", seqs.end())))
        .send()
        .await
        .unwrap();
    let bytes = page.items().iter().flatten().map(|(name, value)| {
        let value = match value {
            AttributeValue::S(text) => text.len(),
            // The version: a small number takes two bytes.
            AttributeValue::N(_) => 2,
            other => panic!("{other:?}"),
        };
        name.len() + value
    });
    u32::try_from(bytes.sum::<usize>()).unwrap()
}

#[tokio::test]
async fn reading_one_message_costs_one_round_trip() {
    let metered = metered().await;
    let read = metered.alice.get(&metered.message).await;
    assert_cost(&metered.cost(&read), "read_one");
}

#[tokio::test]
async fn a_trial_of_a_webhook_costs_three_round_trips() {
    let metered = metered().await;
    let endpoint = json!({ "url": "http://127.0.0.1:1/" });
    let made = metered.alice.post("/webhooks", &endpoint).await;
    let path = format!("/webhooks/{}/test", made.text("endpoint_id"));
    metered.meter.take();

    let trial = metered.alice.post(&path, &json!({})).await;

    // The endpoint is read, and the tenant's one trial begun and ended.
    assert_cost(&metered.cost(&trial), "webhook_trial");
}

#[tokio::test]
async fn an_edit_costs_two_round_trips_and_one_write() {
    let metered = metered().await;
    let edited = metered.alice.put(&metered.message, &hello()).await;
    assert_cost(&metered.cost(&edited), "edit");
}

#[tokio::test]
async fn a_deletion_costs_two_round_trips_and_one_write() {
    let metered = metered().await;
    let deleted = metered.alice.delete(&metered.message).await;
    assert_cost(&metered.cost(&deleted), "delete");
}

#[tokio::test]
async fn an_ack_costs_two_round_trips_and_one_write() {
    let metered = metered().await;
    let body = json!({ "room_id": metered.room, "seq": MESSAGES });
    let acked = metered.alice.post("/acks", &body).await;
    assert_cost(&metered.cost(&acked), "ack");
}

#[tokio::test]
async fn an_ack_where_the_tail_was_seen_costs_one_round_trip_and_no_read() {
    let metered = metered().await;
    metered.alice.get(&format!("/rooms/{}", metered.room)).await;
    metered.meter.take();
    for seq in [10, 20, MESSAGES] {
        let body = json!({ "room_id": metered.room, "seq": seq });
        let acked = metered.alice.post("/acks", &body).await;
        assert_cost(&metered.cost(&acked), "ack_of_what_was_seen");
    }
}

#[tokio::test]
async fn a_room_costs_one_round_trip_and_a_transaction_up_to_90_members() {
    let metered = metered().await;
    for members in [2_u32, 90] {
        let mut users: Vec<_> = (1..members).map(|number| format!("user{number}")).collect();
        users.push("alice".to_owned());
        let body = json!({ "type": "group", "members": users });

        let made = metered.alice.post("/rooms", &body).await;

        // Head and event twice; each member twice, and once in the index of their rooms.
        assert_cost(&metered.cost(&made), &format!("room_of_{members}"));
    }
}

#[tokio::test]
async fn a_dm_costs_one_round_trip_and_a_transaction() {
    let metered = metered().await;
    let body = json!({ "type": "dm", "members": ["alice", "bob"] });
    let made = metered.alice.post("/rooms", &body).await;
    // Head, event and pair twice; each member twice, and once in the index.
    assert_cost(&metered.cost(&made), "dm");
}

#[tokio::test]
async fn listing_my_rooms_costs_two_round_trips() {
    let metered = metered().await;
    for _ in 0..9 {
        metered.tenant.group(&["alice"]).await;
    }
    let listed = metered.alice.get("/rooms").await;
    assert_eq!(listed.body.as_array().unwrap().len(), 10);
    // The index, then a head and a place of each room, half a unit each.
    assert_cost(&metered.cost(&listed), "list_10_rooms");
}

#[tokio::test]
async fn reading_a_room_costs_one_round_trip() {
    let metered = metered().await;
    let room = metered.alice.get(&format!("/rooms/{}", metered.room)).await;
    // Head and place, half a unit each, and the tail.
    assert_cost(&metered.cost(&room), "read_room");
}

#[tokio::test]
async fn listing_members_costs_one_round_trip() {
    let metered = metered().await;
    let path = format!("/rooms/{}/members", metered.room);
    let listed = metered.alice.get(&path).await;
    assert_cost(&metered.cost(&listed), "list_members");
}

#[tokio::test]
async fn a_notification_costs_one_round_trip_and_one_write() {
    let metered = metered().await;
    let targets = json!({ "user_ids": ["bob"] });
    let body = json!({ "topic": "news", "payload": {}, "targets": targets });
    let notified = metered.alice.post("/notify", &body).await;
    assert_cost(&metered.cost(&notified), "notify");
}

#[tokio::test]
async fn a_notification_to_a_room_costs_one_round_trip_and_a_transaction() {
    let metered = metered().await;
    let targets = json!({ "room_id": metered.room });
    let body = json!({ "topic": "news", "payload": {}, "targets": targets });
    let notified = metered.alice.post("/notify", &body).await;
    // The notification, and that the sender is in the room.
    assert_cost(&metered.cost(&notified), "notify_a_room");
}

#[tokio::test]
async fn a_subscription_costs_one_round_trip_and_a_transaction() {
    let metered = metered().await;
    let made = metered
        .alice
        .post("/subscriptions", &json!({ "topic": "news" }))
        .await;
    assert_cost(&metered.cost(&made), "subscribe");
}

#[tokio::test]
async fn a_head_costs_one_round_trip_and_one_write_however_many_messages_came() {
    let metered = metered().await;
    let meter = Meter::default();
    let world = metered.tenant.world.another(|client| meter.meter(client));
    let record = |seq: usize| {
        json!({
            "eventID": "1",
            "eventName": "INSERT",
            "awsRegion": "us-east-1",
            "dynamodb": {
                "ApproximateCreationDateTime": 1_765_627_200,
                "NewImage": {
                    "pk": { "S": format!("{}#{}", metered.tenant.id, metered.room) },
                    "sk": { "S": format!("{seq:020}") },
                    "created_at": { "S": "2025-12-13T12:00:00.000000Z" },
                },
                "SequenceNumber": seq.to_string(),
                "SizeBytes": 100,
            },
        })
    };
    let records: Vec<_> = (1..=MESSAGES).map(record).collect();
    let event = serde_json::from_value(json!({ "Records": records })).unwrap();
    // Nothing of this batch is put aside.
    let queues = Sqs::open(None, sqs::Sync::Normal).unwrap();
    let poison = PoisonQueue::new(embedded_sqs(queues.http_client()), String::new());

    let answer = heads::handle(&world.app, &poison, event).await;

    assert_eq!(answer.batch_item_failures.len(), 0);
    assert_cost(&meter.take(), "head");
}

/// Under the limit that a tenant has unless it is given another.
#[tokio::test]
async fn a_budget_is_charged_by_one_write_for_many_requests() {
    let operator = world().await.operator().anew();
    let body = json!({ "name": "usual" });
    let made = operator.post("/admin/tenants", &body).await;
    let meter = Meter::default();
    let world = world().await.another(|client| meter.meter(client));
    let tenant = Tenant {
        id: made.text("tenant_id"),
        key: made.text("api_key"),
        world,
    };
    let alice = tenant.user("alice");
    let refused = async || assert_eq!(alice.post("/rooms", &json!({})).await.status, 400);
    refused().await;
    meter.take();
    let budgets: Value = serde_json::from_str(BUDGETS).unwrap();
    for _ in 1..budgets["charge"]["requests"].as_u64().unwrap() {
        refused().await;
        assert_eq!(meter.take(), Cost::default());
    }
    refused().await;
    assert_cost(&meter.take(), "charge");
}

/// A chat in a process whose calls are counted, which knows the team's key and the chat's agent, and has leased its
/// budget.
struct Chatting {
    team: Team,
    meter: Meter,
    /// Where something is said in it. It holds a question and an answer.
    log: String,
}

async fn chatting() -> Chatting {
    let team = team().await;
    let meter = Meter::default();
    let world = world().await.another(|client| meter.meter(client));
    let team = team.at(&world);
    let body = json!({ "agentId": "chat", "userId": "ann" });
    let chat = team.sk.post("/chat", &body).await.text("id");
    let log = format!("/chat/{chat}/message");
    let said = team.sk.post(&log, &hello()).await;
    assert_eq!(said.status, 200, "{}", said.raw);
    meter.take();
    Chatting { team, meter, log }
}

impl Chatting {
    /// What came of a request, which must succeed.
    #[track_caller]
    fn cost(&self, response: &Response) -> Cost {
        assert!(response.status < 300, "{}", response.raw);
        self.meter.take()
    }
}

#[tokio::test]
async fn making_a_chat_costs_one_round_trip() {
    let chatting = chatting().await;
    let body = json!({ "agentId": "chat", "userId": "ann" });
    let made = chatting.team.sk.post("/chat", &body).await;
    // The head and its three places in lists.
    assert_cost(&chatting.cost(&made), "chat");
}

#[tokio::test]
async fn an_answered_send_costs_three_round_trips() {
    let chatting = chatting().await;
    let said = chatting.team.sk.post(&chatting.log, &hello()).await;
    // Head and window; question and check of the head; answer, question, head, and two counts of its use.
    assert_cost(&chatting.cost(&said), "say");
}

/// DynamoDB bills what it checks and updates by its size.
#[tokio::test]
async fn what_is_attached_to_a_chat_makes_no_send_dearer() {
    let chatting = chatting().await;
    let sk = &chatting.team.sk;
    let metadata = json!({ "note": "n".repeat(16_000) });
    let body = json!({ "agentId": "chat", "metadata": metadata });
    let chat = sk.post("/chat", &body).await.text("id");
    let log = format!("/chat/{chat}/message");
    let first = sk.post(&log, &hello()).await;
    chatting.cost(&first);

    let said = sk.post(&log, &hello()).await;

    assert_cost(&chatting.cost(&said), "say");
}

#[tokio::test]
async fn an_answered_send_with_a_key_costs_three_round_trips() {
    let chatting = chatting().await;
    let once = chatting.team.sk.clone().with("idempotency-key", "once");
    let said = once.post(&chatting.log, &hello()).await;
    assert_cost(&chatting.cost(&said), "say_with_key");
}

#[tokio::test]
async fn showing_a_chat_costs_one_round_trip() {
    let chatting = chatting().await;
    let shown = chatting.team.sk.get(&chatting.log).await;
    assert_cost(&chatting.cost(&shown), "read_chat");
}

#[tokio::test]
async fn listing_chats_costs_one_round_trip() {
    let chatting = chatting().await;
    let listed = chatting.team.sk.get("/chat?userId=ann").await;
    assert_cost(&chatting.cost(&listed), "list_chats");
}

#[tokio::test]
async fn deleting_a_chat_costs_two_round_trips() {
    let chatting = chatting().await;
    let chat = chatting.log.trim_end_matches("/message");
    let deleted = chatting.team.sk.delete(chat).await;
    // The head is read to know its lists; head, three places and the event.
    assert_cost(&chatting.cost(&deleted), "delete_chat");
}
