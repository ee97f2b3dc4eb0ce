//! A disk that takes no more.

use serde_json::{Value, json};

use super::runner::Start;
use super::wait::until;

/// Files may have 1 MB, in blocks of 512 bytes. A signal would end the process before its error is seen.
const FULL: &str = "trap '' XFSZ && ulimit -f 2048";

#[test]
fn a_full_disk_is_a_503_at_once_that_health_and_one_line_tell() {
    let runner = Start::new().after(FULL).with(["--log", "json"]).run();
    let tenant = runner.busy_tenant();
    let alice = runner.user(&tenant, "alice");
    let room = alice.group(&["alice"]);
    let message = json!({ "content": "x".repeat(30_000) });
    let path = format!("/rooms/{room}/messages");
    let refused = until("a full disk", || {
        let answer = alice.post(&path, &message);
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(refused.header("retry-after"), Some("1"));
    let id = refused.header("x-request-id").unwrap().to_owned();
    let body = refused.assert(503);
    assert_eq!(body["error"]["code"], "SERVICE_UNAVAILABLE", "{body}");
    until("health to tell it", || {
        let health = alice.get("/health");
        (health.status == 503).then(|| assert_eq!(health.body["db_writable"], false))
    });

    let (end, _) = runner.stop();
    let lines: Vec<Value> = end
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let line = lines.iter().find(|line| line["request_id"] == id.as_str());
    // Nothing was tried again.
    assert_eq!(line.unwrap()["dynamodb_retries"], Value::Null, "{line:?}");
    assert!(
        line.unwrap()["dynamodb_calls"].as_u64() < Some(10),
        "{line:?}"
    );
    let told = "the embedded DynamoDB cannot write its file: is the disk full?";
    let told = lines.iter().filter(|line| line["message"] == told);
    assert_eq!(told.count(), 1, "{}", end.stderr);
    let is_noise = |line: &&Value| {
        let target = line["target"].as_str();
        target.is_some_and(|target| target.starts_with("aws_"))
    };
    assert_eq!(lines.iter().find(is_noise), None);
}
