//! A disk that takes no more.

use serde_json::{Value, json};

use super::http::{Answer, Client};
use super::runner::{End, Runner, Start, Tenant};
use super::wait::until;

/// Files may have 1 MB, in blocks of 512 bytes. A signal would end the process before its error is seen.
const FULL: &str = "trap '' XFSZ && ulimit -f 2048";

/// A runner on a disk that takes nothing more, and what its user `alice` sends there in vain.
struct Full {
    runner: Runner,
    alice: Client,
    room: String,
    /// Its rate limit is 5, which the disk had room to note.
    limited: Tenant,
}

fn full() -> Full {
    let runner = Start::new().after(FULL).with(["--log", "json"]).run();
    let tenant = runner.busy_tenant();
    let alice = runner.user(&tenant, "alice");
    let room = alice.group(&["alice"]);
    let operator = runner.operator();
    let made = operator.post("/admin/tenants", &json!({ "name": "Other" }));
    let made = made.assert(201);
    let word = |name: &str| made[name].as_str().unwrap().to_owned();
    let limited = Tenant {
        id: word("tenant_id"),
        key: word("api_key"),
    };
    let path = format!("/admin/tenants/{}", limited.id);
    let limit = json!({ "rate_limit": 5 });
    operator.patch(&path, &limit).assert(200);
    let full = Full {
        runner,
        alice,
        room,
        limited,
    };
    // Where there is no room for much, there may be for little: a page or two are left at last.
    for size in [30_000, 1] {
        let mut refused = 0;
        until("a full disk", || {
            refused = if full.send(size).status == 503 {
                refused + 1
            } else {
                0
            };
            (refused == 10).then_some(())
        });
    }
    full
}

impl Full {
    fn send(&self, size: usize) -> Answer {
        let message = json!({ "content": "x".repeat(size) });
        let path = format!("/rooms/{}/messages", self.room);
        self.alice.post(&path, &message)
    }
}

fn lines(end: &End) -> Vec<Value> {
    let lines = end.stderr.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn requests_that_a_full_disk_refuses_are_one_error_at_once_and_then_a_count() {
    let full = full();
    let ids: Vec<_> = (0..300)
        .map(|_| {
            let refused = full.send(1);
            let id = refused.header("x-request-id").unwrap().to_owned();
            refused.assert(503);
            id
        })
        .collect();
    let (end, _) = full.runner.stop();
    let lines = lines(&end);
    let errors = lines.iter().filter(|line| line["level"] == "ERROR");
    let of_requests = errors.filter(|line| line["status"] == 503);
    let of_requests: Vec<_> = of_requests.collect();
    // One of each table that failed, and more only where this took longer than ten seconds.
    assert!((1..20).contains(&of_requests.len()), "{of_requests:?}");
    for id in ids {
        let line = lines.iter().find(|line| line["request_id"] == *id).unwrap();
        assert!(line["cause"].as_str().unwrap().contains("disk"), "{line}");
    }
}

#[test]
fn a_full_disk_leaves_reads_and_the_rate_limit_as_they_are() {
    let full = full();
    let path = format!("/rooms/{}/messages?limit=1", full.room);
    full.alice.get("/rooms").assert(200);
    full.alice.get(&path).assert(200);
    let bob = full.runner.user(&full.limited, "bob");
    // More often than the disk could note it, had it room for some pages yet.
    for _ in 0..3 {
        let limited = until("the end of a budget", || {
            let answer = bob.get("/rooms");
            (answer.status != 200).then_some(answer)
        });
        assert_eq!(limited.header("x-ratelimit-limit"), Some("5"));
        limited.assert(429);
        until("a budget again", || {
            let answer = bob.get("/rooms");
            assert!([200, 429].contains(&answer.status), "{}", answer.body);
            (answer.status == 200).then_some(())
        });
    }
    full.send(1).assert(503);
}

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
    let lines = lines(&end);
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
