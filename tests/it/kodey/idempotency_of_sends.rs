//! One answer for each question, and one question for each key: under repetition, lost answers, kills and leaving
//! clients.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_sdk_dynamodb::types::AttributeValue;
use parlance::http::moment;
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    Team, assert_error,
    chats::{chat, chat_with, say},
    models::chat_at,
    sends::{assert_answered_once, assert_bad_gateway, assert_gap_free, dumb, heal, log},
    team, team_in,
};
use crate::support::{
    Client, Response,
    faults::{
        Fault::{self, Conflict, Double, Hold, LoseAnswer, LoseRequest, Pass, Throttle},
        Gate, Plan, calm, faulty, script, storm,
    },
    provider::{Provider, Speech},
    settings, world,
};

/// Far longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_mins(1);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

fn once(client: &Client) -> Client {
    client.clone().with("idempotency-key", "once")
}

/// The answer once it is neither a 503 nor that somebody else is at work: the client sends it again, as it is told to.
async fn insist<F: Future<Output = Response>>(mut request: impl FnMut() -> F) -> Response {
    let end = Instant::now() + LONG;
    while Instant::now() < end {
        let response = request().await;
        let comes_again = response.status == 503 || is_in_progress(&response);
        if !comes_again {
            return response;
        }
        assert!(response.header("retry-after").is_some());
        sleep(PAUSE).await;
    }
    panic!("never answered");
}

fn is_in_progress(response: &Response) -> bool {
    let message = response.body["message"].as_str().unwrap_or_default();
    response.status == 409 && message.contains("still being answered")
}

/// The same team, served by another process whose calls meet `plan`. It knows the key already.
async fn process(team: &Team, plan: Plan) -> Team {
    let world = team.tenant.world.another(|client| faulty(client, plan));
    let team = team.at(&world);
    let known = insist(|| team.sk.get("/chat?limit=1")).await;
    assert_eq!(known.status, 200, "{}", known.raw);
    team
}

#[tokio::test]
async fn a_send_that_is_repeated_is_answered_with_the_first_answer() {
    let team = team().await;
    let chat = chat(&team.pk).await;
    let pk = once(&team.pk);

    let first = say(&pk, &chat, "Hello!").await;
    let second = say(&pk, &chat, "Hello!").await;

    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    second.assert(200, first.body);
    assert_eq!(log(&team.sk, &chat).await.len(), 2);
}

#[tokio::test]
async fn a_key_that_said_something_else_says_nothing() {
    let team = team().await;
    let chat = chat(&team.pk).await;
    let pk = once(&team.pk);
    say(&pk, &chat, "Hello!").await;

    let refused = say(&pk, &chat, "Hello?").await;

    assert_error(&refused, 409, "Conflict", None);
    assert!(!is_in_progress(&refused));
    assert_eq!(log(&team.sk, &chat).await.len(), 2);
}

#[tokio::test]
async fn a_send_is_said_once_whichever_of_a_teams_servers_repeats_it() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    let body = json!({ "kind": "secret", "name": "another server" });
    let other = once(&team.with_key(body).await);

    let first = say(&once(&team.sk), &chat, "Hello!").await;
    let second = say(&other, &chat, "Hello!").await;
    let refused = say(&other, &chat, "Hello?").await;

    second.assert(200, first.body);
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    assert_error(&refused, 409, "Conflict", None);
    assert_eq!(log(&team.sk, &chat).await.len(), 2);
}

#[tokio::test]
async fn two_browsers_with_the_same_key_each_say_it() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    let body = json!({ "kind": "publishable", "name": "another page" });
    for client in [&team.pk, &team.with_key(body).await, &team.sk] {
        let answer = say(&once(client), &chat, "Hello!").await;
        assert_eq!(answer.header("idempotent-replayed"), None);
    }
    assert_eq!(log(&team.sk, &chat).await.len(), 6);
}

#[tokio::test]
async fn the_same_key_in_two_chats_says_it_in_both() {
    let team = team().await;
    for client in [&team.pk, &team.sk, &team.browser_of("ann").await] {
        let client = once(client);
        for _ in 0..2 {
            let chat = chat_with(&team.sk, json!({ "agentId": "chat", "userId": "ann" })).await;
            let answer = say(&client, &chat, "Hello!").await;
            assert_eq!(answer.status, 200, "{}", answer.raw);
            assert_eq!(answer.header("idempotent-replayed"), None);
        }
    }
}

#[tokio::test]
async fn a_send_whose_log_could_not_be_read_goes_on_at_once() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    // Its question lands a place later than it thought, so it reads again; and that fails.
    let (gate, commits) = (Gate::default(), AtomicU64::new(0));
    let held = gate.clone();
    let plan: Plan = Arc::new(move |name, _| match name {
        "TransactWriteItems" if commits.fetch_add(1, Ordering::Relaxed) == 0 => Hold(held.clone()),
        "Query" if commits.load(Ordering::Relaxed) >= 2 => Throttle,
        _ => Pass,
    });
    let process = process(&team, plan).await;
    let sk = once(&process.sk);
    let failing = async {
        let failed = say(&sk, &chat, "Hello!").await;
        assert_eq!(failed.status, 503, "{}", failed.raw);
    };
    let meanwhile = async {
        gate.reached().await;
        say(&team.sk, &chat, "Something else").await;
        gate.open();
    };
    tokio::join!(failing, meanwhile);
    assert_eq!(log(&team.sk, &chat).await.len(), 3);

    let answer = say(&once(&team.sk), &chat, "Hello!").await;

    assert_eq!(answer.status, 200, "{}", answer.raw);
    let log = log(&team.sk, &chat).await;
    assert_eq!(log.len(), 4);
    assert_answered_once(&log);
}

#[tokio::test]
async fn what_was_answered_stays_so_when_the_agent_is_gone() {
    let team = team().await;
    let agent = dumb(&team).await;
    heal(&team, &agent).await;
    let chat = chat_with(&team.sk, json!({ "agentId": agent })).await;
    let sk = once(&team.sk);
    let first = say(&sk, &chat, "Hello!").await;
    team.sk.delete(&format!("/agent/{agent}")).await;

    let second = say(&sk, &chat, "Hello!").await;

    second.assert(200, first.body);
}

#[tokio::test]
async fn a_send_that_failed_goes_on_at_once_instead_of_saying_it_twice() {
    let team = team().await;
    let agent = dumb(&team).await;
    let chat = chat_with(&team.sk, json!({ "agentId": agent })).await;
    let sk = once(&team.sk);
    for _ in 0..2 {
        assert_bad_gateway(&say(&sk, &chat, "Hello!").await);
    }
    heal(&team, &agent).await;

    let answer = say(&sk, &chat, "Hello!").await;

    assert_eq!(answer.status, 200, "{}", answer.raw);
    assert_eq!(answer.header("idempotent-replayed"), None);
    let log = log(&team.sk, &chat).await;
    assert_eq!(log.len(), 2);
    assert_answered_once(&log);
}

#[tokio::test]
async fn a_send_that_goes_on_is_answered_from_what_was_said_before_it() {
    let team = team().await;
    let agent = dumb(&team).await;
    let chat = chat_with(&team.sk, json!({ "agentId": agent })).await;
    let sk = once(&team.sk);
    say(&sk, &chat, "/history").await;
    heal(&team, &agent).await;
    say(&team.sk, &chat, "Something else").await;

    let answer = say(&sk, &chat, "/history").await;

    assert_eq!(answer.text("content"), "[echo] 1 turns\nuser: /history");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_sends_with_one_key_at_once_one_is_said_and_answered() {
    let (team, provider) = (team().await, Provider::new());
    let chat = chat_at(&team, &provider, Speech::OpenAi).await;
    let mut sending = JoinSet::new();
    for _ in 0..2 {
        let sk = once(&process(&team, calm()).await.sk);
        for _ in 0..5 {
            let (sk, chat) = (sk.clone(), chat.clone());
            sending.spawn(async move {
                let first = say(&sk, &chat, "Hello!").await;
                let last = insist(|| say(&sk, &chat, "Hello!")).await;
                (first, last)
            });
        }
    }
    let answers = sending.join_all().await;

    let log = log(&team.sk, &chat).await;
    assert_eq!(log.len(), 2);
    for (first, last) in &answers {
        assert!(
            first.status == 200 || is_in_progress(first),
            "{}",
            first.raw
        );
        last.assert(200, answers[0].1.body.clone());
    }
    let made = |(first, last): &&(Response, Response)| {
        let is_new = |it: &Response| it.status == 200 && it.header("idempotent-replayed").is_none();
        is_new(first) || is_new(last)
    };
    assert_eq!(answers.iter().filter(made).count(), 1);
    assert_eq!(provider.asked().len(), 1);
}

/// What came of one send through a process whose transactions meet `fates`, and the log then.
async fn sent_through(
    client: impl Fn(&Client) -> Client,
    fates: Vec<Fault>,
) -> (Response, Vec<Value>) {
    let team = team().await;
    let chat = chat(&team.sk).await;
    let process = process(&team, script("TransactWriteItems", fates)).await;
    let sent = say(&client(&process.sk), &chat, "Hello!").await;
    (sent, log(&team.sk, &chat).await)
}

#[tokio::test]
async fn whatever_becomes_of_a_transaction_a_send_is_said_and_answered_once() {
    let fates = [LoseAnswer, LoseRequest, Double, Throttle, Conflict];
    for fate in fates {
        for before in [0, 1] {
            for times in [1, 3] {
                let mut fates = vec![Pass; before];
                fates.extend(vec![fate.clone(); times]);
                for keyed in [false, true] {
                    let client = |it: &Client| if keyed { once(it) } else { it.clone() };
                    let (sent, log) = sent_through(client, fates.clone()).await;
                    assert_eq!(sent.status, 200, "{fates:?}: {}", sent.raw);
                    assert_eq!(sent.header("idempotent-replayed"), None);
                    assert_eq!(log.len(), 2, "{fates:?}");
                    assert_eq!(log[1]["id"], sent.body["id"]);
                    assert_answered_once(&log);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_each_key_is_said_and_answered_once() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    let mut sending = JoinSet::new();
    for number in 0..3 {
        let process = process(&team, storm(700 + number, 5)).await;
        for n in 0..6 {
            // Two processes say the same.
            let key = format!("{}", (n + 3 * number) % 12);
            let client = process.sk.clone().with("idempotency-key", &key);
            let chat = chat.clone();
            sending.spawn(async move { insist(|| say(&client, &chat, &key)).await });
        }
    }
    let answers = sending.join_all().await;

    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.raw);
    }
    let log = log(&team.sk, &chat).await;
    assert_eq!(log.len(), 24);
    assert_gap_free(&log);
    assert_answered_once(&log);
}

/// A process that can be killed while it stores its answer.
struct Victim {
    team: Team,
    gate: Gate,
    dead: Arc<AtomicBool>,
}

impl Victim {
    async fn of(team: &Team) -> Self {
        let (gate, dead) = (Gate::default(), Arc::new(AtomicBool::new(false)));
        let commits = AtomicU64::new(0);
        let (held, died) = (gate.clone(), Arc::clone(&dead));
        let plan: Plan = Arc::new(move |name, _| {
            if died.load(Ordering::Relaxed) {
                return LoseRequest;
            }
            let is_commit = name == "TransactWriteItems";
            // The first is the question, the second the answer.
            let nth = commits.fetch_add(u64::from(is_commit), Ordering::Relaxed);
            if is_commit && nth == 1 {
                Hold(held.clone())
            } else {
                Pass
            }
        });
        Self {
            team: process(team, plan).await,
            gate,
            dead,
        }
    }

    /// Has it send until it is about to store the answer, and gives the request up.
    async fn sends_in_vain(&self, chat: &str) {
        let (sk, chat) = (once(&self.team.sk), chat.to_owned());
        let sending = tokio::spawn(async move { say(&sk, &chat, "Hello!").await });
        self.gate.reached().await;
        sending.abort();
        assert!(sending.await.unwrap_err().is_cancelled());
    }
}

/// Ends the leases of a team's sends, as time does.
async fn end_leases(team: &Team) {
    lease_until(team, 1).await;
}

/// Has all leases of a team's questions end at `until`, in µs since 1970.
async fn lease_until(team: &Team, until: i64) {
    let dynamodb = &team.tenant.world.dynamodb;
    let table = &settings().tables.guards;
    let begin = AttributeValue::S(format!("{}#once#say_in_chat#", team.id));
    let found = dynamodb
        .scan()
        .table_name(table)
        .filter_expression("begins_with(pk, :begin)")
        .expression_attribute_values(":begin", begin)
        .send()
        .await
        .unwrap();
    for marker in found.items() {
        dynamodb
            .update_item()
            .table_name(table)
            .key("pk", marker["pk"].clone())
            .update_expression("SET leased_until = :until")
            .expression_attribute_values(":until", AttributeValue::N(until.to_string()))
            .send()
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_kill_between_question_and_answer_is_made_good_by_the_retry_after_the_lease() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    let victim = Victim::of(&team).await;
    victim.dead.store(false, Ordering::Relaxed);
    let dead = Arc::clone(&victim.dead);
    let sk = once(&team.sk);
    let (killed, path) = (once(&victim.team.sk), chat.clone());
    let sending = tokio::spawn(async move { say(&killed, &path, "Hello!").await });
    victim.gate.reached().await;
    // From here on nothing of it reaches the store: not even that its lease ends.
    dead.store(true, Ordering::Relaxed);
    sending.abort();
    assert!(sending.await.unwrap_err().is_cancelled());
    assert_eq!(log(&team.sk, &chat).await.len(), 1);

    let early = say(&sk, &chat, "Hello!").await;
    assert!(is_in_progress(&early), "{}", early.raw);
    assert_eq!(early.header("retry-after"), Some("3"));
    end_leases(&team).await;
    let answer = say(&sk, &chat, "Hello!").await;

    assert_eq!(answer.status, 200, "{}", answer.raw);
    let log = log(&team.sk, &chat).await;
    assert_eq!(log.len(), 2);
    assert_answered_once(&log);
}

#[tokio::test]
async fn a_client_that_leaves_can_send_again_without_waiting_for_the_lease() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    let victim = Victim::of(&team).await;
    victim.sends_in_vain(&chat).await;

    let sk = once(&team.sk);
    let began = Instant::now();
    let answer = insist(|| say(&sk, &chat, "Hello!")).await;

    assert_eq!(answer.status, 200, "{}", answer.raw);
    assert!(began.elapsed() < Duration::from_secs(20));
    let log = log(&team.sk, &chat).await;
    assert_eq!(log.len(), 2);
    assert_answered_once(&log);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_ends_a_send_in_time_and_its_lease_with_it() {
    let (hangs, commits) = (Arc::new(AtomicBool::new(false)), AtomicU64::new(0));
    let plan: Plan = {
        let (hangs, gate) = (Arc::clone(&hangs), Gate::default());
        Arc::new(move |name, _| {
            if name != "TransactWriteItems" || !hangs.load(Ordering::Relaxed) {
                return Pass;
            }
            // The question lands, and its answer never does.
            match commits.fetch_add(1, Ordering::Relaxed) {
                0 => Pass,
                _ => Hold(gate.clone()),
            }
        })
    };
    let world = world().await.another(|client| faulty(client, plan));
    let team = team_in(&world).await;
    let chat = chat(&team.sk).await;
    let sk = once(&team.sk);
    hangs.store(true, Ordering::Relaxed);
    let began = Instant::now();

    let late = say(&sk, &chat, "Hello!").await;

    assert_eq!(late.status, 503, "{}", late.raw);
    assert!(began.elapsed() < Duration::from_secs(28));
    hangs.store(false, Ordering::Relaxed);
    let answer = say(&sk, &chat, "Hello!").await;
    assert_eq!(answer.status, 200, "{}", answer.raw);
}

#[tokio::test]
async fn an_answer_that_comes_after_another_is_not_stored() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    let victim = Victim::of(&team).await;
    let (late, path) = (once(&victim.team.sk), chat.clone());
    let sending = tokio::spawn(async move { say(&late, &path, "Hello!").await });
    victim.gate.reached().await;
    end_leases(&team).await;
    let first = say(&once(&team.sk), &chat, "Hello!").await;
    assert_eq!(first.status, 200, "{}", first.raw);
    victim.gate.open();

    let late = sending.await.unwrap();

    late.assert(200, first.body);
    assert_eq!(late.header("idempotent-replayed"), Some("true"));
    let log = log(&team.sk, &chat).await;
    assert_eq!(log.len(), 2);
    assert_gap_free(&log);
    assert_answered_once(&log);
}

#[tokio::test]
async fn of_two_that_take_over_a_lease_one_does() {
    let (team, provider) = (team().await, Provider::new());
    let chat = chat_at(&team, &provider, Speech::OpenAi).await;
    let victim = Victim::of(&team).await;
    let (late, path) = (once(&victim.team.sk), chat.clone());
    let sending = tokio::spawn(async move { say(&late, &path, "Hello!").await });
    victim.gate.reached().await;
    end_leases(&team).await;
    let sk = once(&team.sk);

    let (one, other) = tokio::join!(say(&sk, &chat, "Hello!"), say(&sk, &chat, "Hello!"));

    let statuses = [&one, &other].map(|it| it.status == 200 || is_in_progress(it));
    assert_eq!(statuses, [true, true], "{} {}", one.raw, other.raw);
    // The one that was too slow, and one more.
    assert_eq!(provider.asked().len(), 2);
    victim.gate.open();
    sending.await.unwrap();
    let log = log(&team.sk, &chat).await;
    assert_eq!(log.len(), 2);
    assert_answered_once(&log);
}

#[tokio::test]
async fn a_chat_that_is_deleted_during_a_send_takes_no_answer() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    let victim = Victim::of(&team).await;
    let (sk, path) = (once(&victim.team.sk), chat.clone());
    let sending = tokio::spawn(async move { say(&sk, &path, "Hello!").await });
    victim.gate.reached().await;
    let deleted = team.sk.delete(&format!("/chat/{chat}")).await;
    assert_eq!(deleted.status, 204, "{}", deleted.raw);
    victim.gate.open();

    let gone = json!({ "error": "Not Found", "message": "Chat not found" });
    sending.await.unwrap().assert(404, gone.clone());
    say(&once(&team.sk), &chat, "Hello!")
        .await
        .assert(404, gone);
}

#[tokio::test]
async fn what_was_used_for_an_answer_to_a_chat_that_is_gone_is_counted() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    let victim = Victim::of(&team).await;
    let (sk, path) = (victim.team.sk.clone(), chat.clone());
    let sending = tokio::spawn(async move { say(&sk, &path, "Hello!").await });
    victim.gate.reached().await;
    team.sk.delete(&format!("/chat/{chat}")).await;
    victim.gate.open();
    assert_eq!(sending.await.unwrap().status, 404);

    let path = format!("/admin/tenants/{}/model-usage", team.id);
    let used = team.tenant.server().get(&path).await.body;

    assert_eq!(
        (&used[0]["invocations"], &used[0]["errors"]),
        (&json!(1), &json!(1))
    );
    assert!(used[0]["output_tokens"].as_u64() > Some(0), "{used}");
}

#[tokio::test]
async fn what_was_answered_stays_so_when_the_tokens_are_used_up() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    let sk = once(&team.sk);
    let first = say(&sk, &chat, "Hello!").await;
    team.set(json!({ "monthly_token_cap": 1 })).await;
    // Another process has read the cap anew.
    let team = team.at(&team.tenant.world.another(|client| client));

    let refused = say(&team.sk, &chat, "Hello!").await;
    let again = say(&once(&team.sk), &chat, "Hello!").await;

    assert_error(&refused, 429, "Too Many Requests", None);
    again.assert(200, first.body);
    assert_eq!(log(&team.sk, &chat).await.len(), 2);
}

#[tokio::test]
async fn a_lease_from_before_a_step_back_holds_no_retry_up() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    let victim = Victim::of(&team).await;
    victim.dead.store(false, Ordering::Relaxed);
    let dead = Arc::clone(&victim.dead);
    let (killed, path) = (once(&victim.team.sk), chat.clone());
    let sending = tokio::spawn(async move { say(&killed, &path, "Hello!").await });
    victim.gate.reached().await;
    dead.store(true, Ordering::Relaxed);
    sending.abort();
    assert!(sending.await.unwrap_err().is_cancelled());

    let day = 24 * 3_600;
    let ahead = moment(Duration::ZERO).unwrap().now.plus_seconds(day);
    lease_until(&team, ahead.micros()).await;
    let answer = say(&once(&team.sk), &chat, "Hello!").await;

    assert_eq!(answer.status, 200, "{}", answer.raw);
    assert_answered_once(&log(&team.sk, &chat).await);
}
