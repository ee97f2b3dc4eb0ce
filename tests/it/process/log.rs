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

#[test]
fn no_level_shows_contents_or_keys() {
    for log in ["text", "json"] {
        let start = Start::new().env("RUST_LOG", "trace");
        let runner = start.with(["--log", log]).run();
        let tenant = runner.tenant();
        let alice = runner.user(&tenant, "alice");
        let room = alice.group(&["alice", "bob"]);
        alice.say(&room, "the words of a message");
        until("the batch of that message", || {
            runner.logged().contains("batch").then_some(())
        });
        let (end, _) = runner.stop();
        assert!(end.stderr.contains("/rooms/{room_id}/messages"), "{log}");
        for secret in ["the words of a message", &tenant.key] {
            assert!(!end.stderr.contains(secret), "{log}: {}", end.stderr);
        }
    }
}

#[test]
fn a_bad_rust_log_is_refused() {
    for log in ["text", "json"] {
        for bad in ["loud", ",", " ", "parlance::reqest=debug"] {
            let start = Start::new().env("RUST_LOG", bad);
            let end = start.with(["--log", log]).end();
            assert_eq!(end.status.code(), Some(1), "{end:?}");
            assert_eq!(end.stderr.lines().count(), 1, "{}", end.stderr);
            let told = format!("parlance-local: RUST_LOG={bad} is n");
            assert!(end.stderr.starts_with(&told), "{}", end.stderr);
        }
    }
}

#[test]
fn help_names_the_variables_of_the_environment() {
    let end = Start::new().with(["--help"]).end();
    assert!(end.status.success());
    for name in ["MASTER_API_KEY", "SEALING_KEY", "RUST_LOG"] {
        assert!(
            end.stdout.contains(&format!("\n  {name} ")),
            "{}",
            end.stdout
        );
    }
}
