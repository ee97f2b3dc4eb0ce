//! Deleting a chat: it is gone at once, for everybody, and its log soon after.

use std::time::Duration;

use aws_lambda_events::{dynamodb, sqs::SqsEvent};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::types::QueueAttributeName;
use parlance::{
    app::{App, Means},
    domain::{
        ChatId, Log, LogId, UserId,
        event::Gone,
        message::{Content, Draft, Role, Seq, Tail},
    },
    queue::{Jobs, PoisonQueue, Sweep},
    store::{
        Stores,
        messages::{appended, told_of},
    },
};
use parlance_local::{
    queues::{self, Queue},
    streams::{Poison, Source, poll},
    template::Stack,
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    Team,
    agent_faults::{made, versions},
    chats::{chat, chat_with, say},
    team, team_in,
};
use crate::support::{
    Response, World,
    faults::{
        Fault::{Conflict, Double, LoseAnswer, LoseRequest, Throttle},
        always, faulty, script, storm,
    },
    settings, world_over,
};

/// Far longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_mins(1);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);
const SWEEPS: &str = "SweepQueue";

#[track_caller]
fn assert_gone(answer: &Response) {
    answer.assert(
        404,
        json!({ "error": "Not Found", "message": "Chat not found" }),
    );
}

/// A team of a service with queues of its own.
pub(super) async fn alone() -> Team {
    team_in(&world_over(|client| client).await).await
}

pub(super) fn poison(world: &World) -> PoisonQueue {
    let (client, url) = world.queue("Poison");
    PoisonQueue::new(client, url)
}

fn log_of(team: &Team, chat: &str) -> LogId {
    LogId {
        tenant: team.id.parse().unwrap(),
        log: Log::Chat(chat.parse().unwrap()),
    }
}

fn sweep_of(team: &Team, chat: &str) -> Sweep {
    Sweep {
        tenant: team.id.parse().unwrap(),
        gone: Gone::Chat(chat.parse::<ChatId>().unwrap()),
    }
}

/// How many messages a log has, deleted chat or not.
async fn stored(team: &Team, chat: &str) -> usize {
    let pk = AttributeValue::S(log_of(team, chat).to_string());
    let found = team
        .tenant
        .world
        .dynamodb
        .query()
        .table_name(&settings().tables.messages)
        .consistent_read(true)
        .key_condition_expression("pk = :pk")
        .expression_attribute_values(":pk", pk)
        .send()
        .await
        .unwrap();
    found.items().len()
}

async fn delete(team: &Team, chat: &str) {
    let deleted = team.sk.delete(&format!("/chat/{chat}")).await;
    assert_eq!((deleted.status, deleted.raw.as_str()), (204, ""));
}

#[tokio::test]
async fn a_chat_that_was_deleted_is_gone_from_everywhere() {
    let team = team().await;
    let body = json!({ "agentId": "chat", "userId": "ann" });
    let (gone, stays) = (chat_with(&team.sk, body).await, chat(&team.sk).await);
    say(&team.sk, &gone, "Hello!").await;

    delete(&team, &gone).await;

    for client in [&team.sk, &team.pk] {
        assert_gone(&client.get(&format!("/chat/{gone}")).await);
        assert_gone(&client.get(&format!("/chat/{gone}/message")).await);
        assert_gone(&say(client, &gone, "Hello?").await);
        assert_gone(&client.delete(&format!("/chat/{gone}")).await);
    }
    for query in ["", "?agentType=chat"] {
        let listed = team.sk.get(&format!("/chat{query}")).await;
        let listed = listed.body["chats"].as_array().unwrap().clone();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0]["id"], stays);
    }
    let of_ann = team.sk.get("/chat?userId=ann").await;
    of_ann.assert(200, json!({ "chats": [] }));
}

#[tokio::test]
async fn nothing_of_a_deleted_chat_stays_beside_where_its_head_was() {
    let team = team().await;
    let body = json!({ "agentId": "chat", "userId": "ann", "metadata": { "page": "/prices" } });
    let chat = chat_with(&team.sk, body).await;
    let rows = async || {
        let query = team.tenant.world.dynamodb.query();
        let found = query
            .table_name(&settings().tables.rooms)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(
                ":pk",
                AttributeValue::S(log_of(&team, &chat).to_string()),
            );
        found.send().await.unwrap().count()
    };
    assert_eq!(rows().await, 2);

    delete(&team, &chat).await;

    assert_eq!(rows().await, 0);
}

#[tokio::test]
async fn of_two_who_delete_a_chat_one_does() {
    let team = team().await;
    let other = team.at(&team.tenant.world.another(|client| client));
    for _ in 0..5 {
        let path = format!("/chat/{}", chat(&team.sk).await);
        let (one, two) = tokio::join!(team.sk.delete(&path), other.sk.delete(&path));
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [204, 404]);
    }
}

#[tokio::test]
async fn whatever_becomes_of_the_transaction_a_chat_is_deleted() {
    let team = team().await;
    for fate in [LoseAnswer, LoseRequest, Double, Throttle, Conflict] {
        let fates = vec![fate; 2];
        let plan = script("TransactWriteItems", fates);
        let process = team.at(&team.tenant.world.another(|client| faulty(client, plan)));
        let chat = chat(&team.sk).await;
        delete(&process, &chat).await;
        assert_gone(&team.sk.get(&format!("/chat/{chat}")).await);
    }
}

/// The events of a team's deleted chats and agents, as Lambda hands them over.
pub async fn deletions(team: &Team) -> Vec<Value> {
    let begin = AttributeValue::S(format!("{}#", team.id));
    let found = team
        .tenant
        .world
        .dynamodb
        .scan()
        .table_name(&settings().tables.events)
        .filter_expression("begins_with(pk, :begin) AND kind IN (:chat, :agent)")
        .expression_attribute_values(":begin", begin)
        .expression_attribute_values(":chat", AttributeValue::S("chat.deleted".to_owned()))
        .expression_attribute_values(":agent", AttributeValue::S("agent.deleted".to_owned()))
        .send()
        .await
        .unwrap();
    let record = |(index, item): (usize, &std::collections::HashMap<String, AttributeValue>)| {
        let image = item.iter().map(|(name, value)| {
            let value = match value {
                AttributeValue::S(text) => json!({ "S": text }),
                AttributeValue::N(number) => json!({ "N": number }),
                other => panic!("{other:?}"),
            };
            (name.clone(), value)
        });
        json!({
            "eventID": "1",
            "eventName": "INSERT",
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": "us-east-1",
            "dynamodb": {
                "ApproximateCreationDateTime": 1_765_627_200,
                "Keys": {},
                "NewImage": image.collect::<serde_json::Map<_, _>>(),
                "SequenceNumber": format!("{index}"),
                "SizeBytes": 100,
                "StreamViewType": "NEW_IMAGE",
            },
        })
    };
    found.items().iter().enumerate().map(record).collect()
}

pub(super) fn batch(records: &[Value]) -> dynamodb::Event {
    serde_json::from_value(json!({ "Records": records })).unwrap()
}

/// How many sweeps there are to be had, and how many later.
pub(super) async fn sweeps(world: &World) -> (u32, u32) {
    use QueueAttributeName::{
        All, ApproximateNumberOfMessages, ApproximateNumberOfMessagesDelayed,
    };
    let (client, url) = world.queue(SWEEPS);
    let asked = client.get_queue_attributes().queue_url(url);
    let answer = asked.attribute_names(All).send().await.unwrap();
    let attributes = answer.attributes.unwrap();
    let count = |name| attributes[&name].parse::<u32>().unwrap();
    (
        count(ApproximateNumberOfMessages),
        count(ApproximateNumberOfMessagesDelayed),
    )
}

#[tokio::test]
async fn a_deleted_chats_log_is_removed_at_once_and_once_more_later() {
    let team = alone().await;
    let world = &team.tenant.world;
    delete(&team, &chat(&team.sk).await).await;
    let event = batch(&deletions(&team).await);
    assert_eq!(event.records.len(), 1);

    let response = fanout::handle(&world.app, &poison(world), event).await;

    assert!(response.batch_item_failures.is_empty());
    assert_eq!(sweeps(world).await, (1, 1));
}

#[tokio::test]
async fn a_deletion_whose_sweep_is_not_sent_is_read_again() {
    let team = alone().await;
    let world = &team.tenant.world;
    for _ in 0..2 {
        delete(&team, &chat(&team.sk).await).await;
    }
    let sqs = world.sqs(|client| faulty(client, always("SendMessageBatch", LoseRequest)));
    let means = Means {
        jobs: Jobs::new(sqs, settings().queues),
        ..Means::default()
    };
    let app = App::with(&settings(), &world.dynamodb, means);
    let event = batch(&deletions(&team).await);

    let response = fanout::handle(&app, &poison(world), event).await;

    let failed = &response.batch_item_failures;
    let failed: Vec<_> = failed
        .iter()
        .map(|it| it.item_identifier.as_deref())
        .collect();
    assert_eq!(failed, [Some("0")]);
}

/// Messages as Lambda hands them over.
pub(super) fn jobs(bodies: &[String]) -> SqsEvent {
    let records = bodies.iter().enumerate().map(|(index, body)| {
        json!({ "messageId": index.to_string(), "receiptHandle": "1", "body": body })
    });
    serde_json::from_value(json!({ "Records": records.collect::<Vec<_>>() })).unwrap()
}

/// Takes the sweeps that are to be had.
pub(super) async fn taken(world: &World) -> Vec<String> {
    let (client, url) = world.queue(SWEEPS);
    let received = client.receive_message().queue_url(&url);
    let received = received.max_number_of_messages(10).send().await.unwrap();
    let messages = received.messages.unwrap_or_default();
    for message in &messages {
        let delete = client.delete_message().queue_url(&url);
        let receipt = message.receipt_handle().unwrap();
        delete.receipt_handle(receipt).send().await.unwrap();
    }
    messages
        .into_iter()
        .filter_map(|message| message.body)
        .collect()
}

/// Says something in a chat so often, without anybody who answers.
pub async fn fill(team: &Team, chat: &str, messages: u64) {
    let stores = Stores::new(&team.tenant.world.dynamodb, &settings().tables, true);
    for seq in 1..=messages {
        let draft = Draft {
            log: log_of(team, chat),
            author: UserId::parse("userId", "ann").unwrap(),
            role: Some(Role::User),
            in_reply_to: None,
            content: Content::parse(format!("{seq}")).unwrap(),
            meta: None,
            created_at: "2025-12-13T12:00:00Z".parse().unwrap(),
            seed: 7,
        };
        let deadline = Instant::now() + LONG;
        let tail = Tail {
            seq: Seq::new(seq - 1),
            ..Tail::EMPTY
        };
        stores
            .messages
            .append(&draft, tail, deadline)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_log_that_is_larger_than_a_sweep_takes_several() {
    let team = alone().await;
    let world = &team.tenant.world;
    let chat = chat(&team.sk).await;
    fill(&team, &chat, 1_020).await;
    delete(&team, &chat).await;

    let mut left = Vec::new();
    let mut job = vec![sweep_of(&team, &chat).to_text().unwrap()];
    while !job.is_empty() {
        let response = sweep::handle(&world.app, &poison(world), jobs(&job)).await;
        assert!(response.batch_item_failures.is_empty());
        left.push(stored(&team, &chat).await);
        job = taken(world).await;
    }

    assert_eq!(left, [520, 20, 0]);
}

#[tokio::test]
async fn a_sweep_removes_nothing_of_a_chat_that_is_there() {
    let team = alone().await;
    let world = &team.tenant.world;
    let chat = chat(&team.sk).await;
    say(&team.sk, &chat, "Hello!").await;
    let job = sweep_of(&team, &chat).to_text().unwrap();

    sweep::handle(&world.app, &poison(world), jobs(&[job])).await;

    assert_eq!(stored(&team, &chat).await, 2);
    assert_eq!(sweeps(world).await, (0, 0));
}

#[tokio::test]
async fn whatever_becomes_of_a_sweep_the_log_is_removed() {
    let team = alone().await;
    for fate in [LoseAnswer, LoseRequest, Double, Throttle] {
        let chat = chat(&team.sk).await;
        fill(&team, &chat, 30).await;
        delete(&team, &chat).await;
        let plan = script("BatchWriteItem", vec![fate; 2]);
        let world = team.tenant.world.another(|client| faulty(client, plan));
        let job = sweep_of(&team, &chat).to_text().unwrap();
        let response = sweep::handle(&world.app, &poison(&world), jobs(&[job])).await;
        assert!(response.batch_item_failures.is_empty());
        assert_eq!(stored(&team, &chat).await, 0);
    }
}

#[tokio::test]
async fn a_sweep_that_fails_comes_again_alone_and_what_is_none_is_put_aside() {
    let team = alone().await;
    let chat = chat(&team.sk).await;
    fill(&team, &chat, 1).await;
    delete(&team, &chat).await;
    let refused = crate::support::faults::Fault::Refuse("AccessDeniedException");
    let plan = always("BatchWriteItem", refused);
    let world = team.tenant.world.another(|client| faulty(client, plan));
    let unknown = Sweep {
        gone: Gone::Chat(format!("chat_{:032x}", 7).parse().unwrap()),
        ..sweep_of(&team, &chat)
    };
    let bodies = [
        sweep_of(&team, &chat).to_text().unwrap(),
        "{}".to_owned(),
        unknown.to_text().unwrap(),
    ];

    let response = sweep::handle(&world.app, &poison(&world), jobs(&bodies)).await;

    let failed = &response.batch_item_failures;
    let failed: Vec<_> = failed
        .iter()
        .map(|it| it.item_identifier.as_str())
        .collect();
    assert_eq!(failed, ["0"]);
    let (client, url) = world.queue("Poison");
    let aside = client
        .receive_message()
        .queue_url(url)
        .send()
        .await
        .unwrap();
    let aside: Value = serde_json::from_str(aside.messages()[0].body().unwrap()).unwrap();
    assert_eq!(aside["function"], "sweep");
    assert_eq!(aside["record"]["body"], "{}");
}

#[tokio::test]
async fn from_the_deletion_on_everything_happens_by_itself() {
    let team = alone().await;
    let world = &team.tenant.world;
    let chat = chat(&team.sk).await;
    say(&team.sk, &chat, "Hello!").await;
    let (stopping, stop) = watch::channel(false);
    let checkpoints = tempfile::tempdir().unwrap();
    let mut tasks = JoinSet::new();
    let stack = Stack::compiled_in().unwrap();
    let (sqs, poisoned) = world.queue("Poison");
    for mapping in stack.streams {
        if mapping.function != "FanoutFunction" {
            continue;
        }
        let (client, stream_arn) = world.stream(&mapping.table, |client| client);
        let source = Source {
            client,
            stream_arn,
            wake: world.wake(),
            poison: Poison::new(sqs.clone(), poisoned.clone()),
            retention: None,
            stop: stop.clone(),
        };
        let (app, poison) = (world.app.clone(), poison(world));
        let folder = checkpoints.path().to_owned();
        tasks.spawn(async move {
            let handler = move |event| {
                let (app, poison) = (app.clone(), poison.clone());
                async move { fanout::handle(&app, &poison, event).await }
            };
            poll(source, mapping, &folder, handler).await;
        });
    }
    let mut consumers = stack.consumers.into_iter();
    let mapping = consumers.find(|mapping| mapping.queue == SWEEPS).unwrap();
    let (client, url) = world.queue(SWEEPS);
    let (app, poison) = (world.app.clone(), poison(world));
    let handler = move |event| {
        let (app, poison) = (app.clone(), poison.clone());
        async move { sweep::handle(&app, &poison, event).await }
    };
    tasks.spawn(queues::poll(Queue { client, url, stop }, mapping, handler));
    assert_eq!(stored(&team, &chat).await, 2);

    let agent = made(&team).await;
    assert_eq!(versions(&team, &agent).await.len(), 1);

    delete(&team, &chat).await;
    assert_eq!(team.sk.delete(&agent).await.status, 204);

    let end = Instant::now() + LONG;
    while stored(&team, &chat).await + versions(&team, &agent).await.len() > 0 {
        assert!(
            Instant::now() < end,
            "the log and the versions are not removed"
        );
        sleep(PAUSE).await;
    }
    drop(stopping);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_to_a_chat_that_is_deleted_among_sends() {
    let team = alone().await;
    let world = &team.tenant.world;
    let other = team.at(&world.another(|client| faulty(client, storm(900, 6))));
    for _ in 0..3 {
        let chat = chat(&team.sk).await;
        let mut sending = JoinSet::new();
        for n in 0..16 {
            let sk = if n % 2 == 0 { &team.sk } else { &other.sk }.clone();
            let chat = chat.clone();
            sending.spawn(async move { say(&sk, &chat, "Hello!").await.status });
        }
        // Some are through, some are not.
        let first = sending.join_next().await.unwrap().unwrap();
        delete(&team, &chat).await;
        let job = sweep_of(&team, &chat).to_text().unwrap();
        sweep::handle(&world.app, &poison(world), jobs(std::slice::from_ref(&job))).await;
        assert_eq!(stored(&team, &chat).await, 0);

        let rest = sending.join_all().await;

        assert!(first == 200 || first == 503, "{first}");
        assert!(
            rest.iter().all(|status| [200, 404, 503].contains(status)),
            "{rest:?}"
        );
        assert_eq!(stored(&team, &chat).await, 0);
    }
}

/// A message of a chat, as the log's stream tells it.
fn streamed(name: &str) -> Option<&'static str> {
    match name {
        "pk" => Some(concat!(
            "tenant_00000000000000000000000000000001",
            "#chat_00000000000000000000000000000002"
        )),
        "sk" => Some("00000000000000000001"),
        "id" => Some("msg_00000000000100000000000000000003"),
        "created_at" => Some("2025-12-13T12:00:00.000000Z"),
        _ => None,
    }
}

#[test]
fn what_is_said_in_a_chat_is_told_to_nobody_and_moves_no_rooms_head() {
    assert_eq!(told_of(streamed).unwrap(), None);
    assert!(appended(streamed).unwrap().is_none());
}
