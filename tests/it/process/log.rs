//! What a runner logs.

use serde_json::Value;

use super::runner::Start;
use super::wait::until;

#[test]
fn requests_and_batches_are_lines_if_that_is_asked_for() {
    let runner = Start::new().with(["--log", "json"]).run();
    let alice = runner.user(&runner.tenant(), "alice");
    let room = alice.group(&["alice"]);
    alice.say(&room, "Hello");
    until("the batch of that message", || {
        runner.logged().contains("\"batch\"").then_some(())
    });
    let (end, _) = runner.stop();

    let lines: Vec<Value> = end
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let sent = lines
        .iter()
        .find(|line| line["route"] == "/rooms/{room_id}/messages");
    let sent = sent.unwrap();
    assert_eq!(
        (&sent["status"], &sent["method"]),
        (&200.into(), &"POST".into())
    );
    // Units are not asked for, and metrics are for CloudWatch.
    let absent = ["read_units", "write_units", "_aws", "function"];
    assert!(absent.iter().all(|name| sent.get(name).is_none()), "{sent}");
    assert!(sent["dynamodb_calls"].as_u64().unwrap() > 0, "{sent}");
}

#[test]
fn nothing_is_said_of_requests_that_go_well() {
    let runner = Start::new().run();
    let alice = runner.user(&runner.tenant(), "alice");
    alice.get("/rooms").assert(200);
    alice.get("/nowhere").assert(404);
    let (end, _) = runner.stop();
    assert_eq!(end.stderr, "");
}
