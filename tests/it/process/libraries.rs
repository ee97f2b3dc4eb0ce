//! Libraries that nobody here has written, against the runner: the official ones of Standard Webhooks, and boto3.
//!
//! What they need may be missing: see [`super::examples::works`].

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::examples::works;
use super::http::{Connection, address};
use super::runner::{Runner, Start, Tenant};
use super::wait::until;
use crate::support::receiver::{Got, Receiver};

/// A runner whose only tenant has one endpoint.
struct Stage {
    runner: Runner,
    tenant: Tenant,
    receiver: Receiver,
    endpoint: String,
    secret: String,
    room: String,
}

impl Stage {
    fn new(start: Start) -> Self {
        let runner = start.with(["--webhook-targets", "any"]).run();
        let (tenant, receiver) = (runner.tenant(), Receiver::new());
        let alice = runner.user(&tenant, "alice");
        let body = json!({ "url": receiver.url, "events": ["message.created"] });
        let made = alice.post("/webhooks", &body).assert(201);
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        Self {
            endpoint: text("endpoint_id"),
            secret: text("secret"),
            room: alice.group(&["alice", "bob"]),
            runner,
            tenant,
            receiver,
        }
    }

    fn say(&self, content: &str) {
        let alice = self.runner.user(&self.tenant, "alice");
        alice.say(&self.room, content);
    }

    /// The next webhook that comes.
    fn got(&self) -> Got {
        until("a webhook", || self.receiver.take().pop())
    }

    /// Gives the endpoint another secret, beside which the one before it holds.
    fn rotate(&self) -> String {
        let path = format!("/webhooks/{}/secret/rotate", self.endpoint);
        let user = self.runner.user(&self.tenant, "alice");
        let rotated = user.post(&path, &json!({})).assert(201);
        rotated["secret"].as_str().unwrap().to_owned()
    }
}

fn webhook(got: &Got, secret: &str, body: &str) -> Value {
    json!({ "headers": got.headers, "secret": secret, "body": body })
}

/// What `command` prints, from the folder of examples, to which `input` is said.
#[track_caller]
fn printed(command: &[&str], input: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/examples");
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .current_dir(folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{done:?}");
    serde_json::from_slice(&done.stdout).unwrap()
}

/// Has the library judge webhooks that the runner has sent before, during and after a rotation.
fn assert_verifies(command: &[&str]) {
    let stage = Stage::new(Start::new().with(["--memory"]));
    let first = &stage.secret;
    stage.say("Hello, wörld! \"👋\" <&>");
    let before = stage.got();
    let second = stage.rotate();
    stage.say("Hello again!");
    // The process that sends may not know of the rotation for ten seconds: this one does at once.
    let during = stage.got();
    let third = stage.rotate();
    let tampered = before.raw.replace("Hello", "Hallo");
    assert_ne!(tampered, before.raw);
    let mut old = webhook(&before, first, &before.raw);
    old["headers"]["webhook-timestamp"] = json!("1765627200");
    let judged = [
        (webhook(&before, first, &before.raw), true),
        (webhook(&before, first, &tampered), false),
        (webhook(&before, &second, &before.raw), false),
        (old, false),
        // Both secrets are live.
        (webhook(&during, first, &during.raw), true),
        (webhook(&during, &second, &during.raw), true),
        (webhook(&during, &third, &during.raw), false),
    ];
    let (webhooks, wanted): (Vec<_>, Vec<_>) = judged
        .into_iter()
        .map(|(webhook, is_ours)| (webhook, is_ours.then_some("message.created")))
        .unzip();

    let printed = printed(command, &json!(webhooks).to_string());

    assert_eq!(printed, json!(wanted));
}

#[test]
fn the_official_python_library_verifies_webhooks() {
    if works(&["python3", "-c", "import standardwebhooks"], true) {
        assert_verifies(&["python3", "verify.py"]);
    }
}

#[test]
fn the_official_javascript_library_verifies_webhooks() {
    if works(&["node", "--eval", "require('standardwebhooks')"], true) {
        assert_verifies(&["node", "verify.js"]);
    }
}

#[test]
fn boto3_reads_dead_letters_and_moves_them_back() {
    if !works(&["python3", "-c", "import boto3"], true) {
        return;
    }
    let stage = Stage::new(Start::new().sharing());
    let once = json!({ "retry": { "attempts": 1 } });
    let path = format!("/admin/tenants/{}", stage.tenant.id);
    stage.runner.operator().patch(&path, &once).assert(200);
    stage.receiver.answer(500);
    stage.say("Hello!");
    stage.got();
    stage.receiver.answer(200);

    let printed = printed(&["python3", "letters.py", &stage.runner.aws_url()], "");

    // What was moved back is delivered.
    let again = stage.got();
    let id = again.body["data"]["message"]["message_id"]
        .as_str()
        .unwrap();
    let subject = format!("{}/{id}:created", stage.room);
    assert_eq!(printed["task"], json!(["COMPLETED", 1]));
    assert_eq!(printed["messages"], json!(["Hello!"]));
    let letter = &printed["letters"][0];
    assert_eq!(
        (&letter["tenant"], &letter["subject"], &letter["user"]),
        (&json!(stage.tenant.id), &json!(subject), &json!("bob"))
    );
    let queues = ["DeadLetterQueue", "DeliveryQueue", "FanoutQueue", "Poison"];
    for queue in queues {
        let listed = printed["queues"].as_array().unwrap();
        assert!(listed.contains(&json!(queue)), "{listed:?}");
    }
    until("the letter to be gone", || {
        let path = format!("/admin/dead-letters?tenant_id={}", stage.tenant.id);
        let user = stage.runner.user(&stage.tenant, "alice");
        let letters = user.get(&path).assert(200);
        (letters["failed_messages"] == json!([])).then_some(())
    });
}

#[test]
fn boto3_reads_a_stream_as_its_model_describes_it() {
    if !works(&["python3", "-c", "import boto3"], true) {
        return;
    }
    let runner = Start::new().sharing().run();
    let tenant = runner.tenant();
    let alice = runner.user(&tenant, "alice");
    let room = alice.group(&["alice"]);
    for content in ["one", "two", "three"] {
        alice.say(&room, content);
    }

    let printed = printed(&["python3", "streams.py", &runner.aws_url()], "");

    let records = printed["records"].as_u64().unwrap();
    assert!(records > 0, "{printed}");
    let wanted = json!({
        "shards": 1,
        "fits": true,
        "is_open": true,
        "after_the_last": [],
        "records": records,
        "after_the_first": records - 1,
        "regions": ["us-east-1"],
        "refused": [
            "ValidationException",
            "ValidationException",
            "ValidationException",
            "ResourceNotFoundException",
            "ResourceNotFoundException",
            "ResourceNotFoundException",
            "ResourceNotFoundException",
            "ResourceNotFoundException",
        ],
    });
    assert_eq!(printed, wanted);
}

#[test]
fn the_stores_answer_to_names_of_loopback_alone() {
    let runner = Start::new().sharing().run();
    let url = runner.aws_url();
    let ask = |host: &str| {
        let request = format!(
            "POST / HTTP/1.1\r\nhost: {host}\r\nx-amz-target: AmazonSQS.ListQueues\r\ncontent-length: 2\r\n\r\n{{}}"
        );
        let mut connection = Connection::open(&address(&url)).unwrap();
        connection.write(&request).unwrap();
        connection.answer().unwrap().status
    };
    assert_eq!(ask(&address(&url)), 200);
    assert_eq!(ask("localhost"), 200);
    assert_eq!(ask("rebound.example"), 421);
}
