//! The README's own commands, unchanged but for addresses, ports and keys.
//!
//! What they need may be missing: see [`super::examples::works`].

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::examples::works;
use super::runner::{MASTER_KEY, Runner, Start, Tenant};
use super::wait::until;

const README: &str = include_str!("../../../README.md");

/// The shell commands of a section.
fn commands(section: &str) -> Vec<&'static str> {
    let heading = format!("\n## {section}\n");
    let (_, section) = README.split_once(&heading).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap())
        .collect()
}

/// A runner as the README starts it, and who it is told of.
struct Reader {
    runner: Runner,
    tenant: Tenant,
}

/// Commands that run until their input ends.
struct Shell {
    bash: Child,
    printed: PathBuf,
}

impl Reader {
    fn new() -> Self {
        let start = Start::new().sharing();
        let runner = start.with(["--webhook-targets", "any"]).run();
        let tenant = runner.tenant();
        Self { runner, tenant }
    }

    /// `commands` with what is printed on the first start put in, and another port for theirs.
    fn told(&self, commands: &str) -> String {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port().to_string();
        let told = commands
            .replace("http://127.0.0.1:8080", &self.runner.base_url)
            .replace("http://127.0.0.1:4566", &self.runner.aws_url())
            .replace("9000", &port)
            .replace("KEY=sk_…", &format!("KEY={}", self.tenant.key))
            .replace("MASTER=mk_…", &format!("MASTER={MASTER_KEY}"))
            .replace("TENANT=tenant_…", &format!("TENANT={}", self.tenant.id));
        assert!(!told.contains('…'), "{told}");
        told
    }

    /// Runs what the README says; `before` it and `after` it may be more.
    fn run(&self, before: &str, commands: &str, after: &str) -> Shell {
        let folder = self.runner.data();
        fs::create_dir_all(&folder).unwrap();
        let (script, printed) = (folder.join("script"), folder.join("printed"));
        let told = self.told(&format!("{before}\n{commands}\n{after}\n"));
        fs::write(
            &script,
            format!("set -euo pipefail\ntrap 'jobs -p | xargs -r kill' EXIT\n{told}"),
        )
        .unwrap();
        let out = File::create(&printed).unwrap();
        let bash = Command::new("bash")
            .arg(&script)
            .stdin(Stdio::piped())
            .stderr(out.try_clone().unwrap())
            .stdout(out)
            .spawn()
            .unwrap();
        Shell { bash, printed }
    }

    /// Two notifications that nobody took.
    fn let_two_die(&self) {
        let once = json!({ "retry": { "attempts": 1 } });
        let path = format!("/admin/tenants/{}", self.tenant.id);
        self.runner.operator().patch(&path, &once).assert(200);
        let alice = self.runner.user(&self.tenant, "alice");
        for topic in ["order.shipped", "order.paid"] {
            let targets = json!({ "user_ids": ["bob"] });
            let body = json!({ "topic": topic, "payload": {}, "targets": targets });
            alice.post("/notify", &body).assert(202);
        }
        until("two dead letters", || {
            let path = format!("/admin/dead-letters?tenant_id={}", self.tenant.id);
            let letters = self.runner.operator().get(&path).assert(200);
            let letters = letters["failed_notifications"].as_array().unwrap().len();
            (letters == 2).then_some(())
        });
    }
}

impl Shell {
    fn printed(&self) -> String {
        fs::read_to_string(&self.printed).unwrap()
    }

    /// Waits until `text` is printed.
    #[track_caller]
    fn says(&mut self, text: &str) {
        until(text, || {
            let ended = self.bash.try_wait().unwrap();
            let printed = self.printed();
            if printed.contains(text) {
                return Some(());
            }
            assert!(ended.is_none(), "{printed}");
            None
        });
    }

    /// What was printed by a script that ends well once its input does.
    #[track_caller]
    fn end(mut self) -> String {
        drop(self.bash.stdin.take());
        let status = self.bash.wait().unwrap();
        let printed = self.printed();
        assert!(status.success(), "{printed}");
        printed
    }
}

impl Drop for Shell {
    /// Its children end when it does.
    fn drop(&mut self) {
        drop(self.bash.stdin.take());
        drop(self.bash.wait());
    }
}

const WAIT: &str = "cat > /dev/null";

#[test]
fn the_first_conversation_is_held_and_told_by_a_webhook() {
    if !works(&["curl", "--version"], true) {
        return;
    }
    let reader = Reader::new();
    // A receiver that is not up yet is soon told again.
    let soon = json!({ "retry": { "interval_seconds": 1 } });
    let path = format!("/admin/tenants/{}", reader.tenant.id);
    reader.runner.operator().patch(&path, &soon).assert(200);
    let blocks = commands("A first conversation");

    let mut shell = reader.run(blocks[0], blocks[3], WAIT);

    shell.says(r#""secret":"whsec_"#);
    shell.says(r#"{"type":"message.created""#);
    shell.says(r#"{"type":"notification""#);
    let printed = shell.end();
    assert!(printed.contains(r#""sender_id":"alice","seq":1,"content":"Hello, world!""#));
    assert!(printed.contains(r#"{"success":true}"#), "{printed}");
    assert!(printed.contains("Are you there?"), "{printed}");
}

#[test]
fn the_first_socket_hears_what_is_said() {
    if !works(&["curl", "--version"], true)
        || !works(&["python3", "-c", "import websockets.cli"], false)
    {
        return;
    }
    let reader = Reader::new();
    let blocks = commands("A first conversation");

    let mut shell = reader.run(blocks[0], blocks[1], "");

    shell.says("Connected to ws://");
    let alice = reader.runner.user(&reader.tenant, "alice");
    let rooms = alice.get("/rooms").assert(200);
    alice.say(rooms[0]["room_id"].as_str().unwrap(), "Are you there?");
    shell.says("Are you there?");
    shell.end();
}

#[test]
fn the_first_chat_is_answered_whole_and_word_by_word() {
    if !works(&["curl", "--version"], true) {
        return;
    }
    let reader = Reader::new();
    let blocks = commands("A chat with an agent");
    let (base, key) = (&reader.runner.base_url, &reader.tenant.key);

    let before = format!("BASE={base}\nKEY={key}");
    let printed = reader.run(&before, blocks[0], "").end();

    assert!(
        printed.contains("[echo] You said: Hello, agent!"),
        "{printed}"
    );
    assert!(
        printed.contains("event: done\ndata: {\"id\":\"msg_"),
        "{printed}"
    );
}

#[test]
fn a_dead_letter_is_had_within_seconds() {
    if !works(&["curl", "--version"], true) {
        return;
    }
    let reader = Reader::new();
    let (tenant, operator) = (&reader.tenant, reader.runner.operator());
    let blocks = commands("When a delivery fails");
    let before = format!("BASE={}\nKEY={}", reader.runner.base_url, tenant.key);
    let mut shell = reader.run(&before, blocks[0], WAIT);
    shell.says(r#""notification_id":"#);
    let path = format!("/admin/dead-letters?tenant_id={}", tenant.id);
    let letter = until("the dead letter", || {
        let letters = operator.get(&path).assert(200);
        letters["failed_notifications"].get(0).cloned()
    });
    assert_eq!(letter["error"], "user offline");
    drop(shell.end());

    let (setting, _) = blocks[0].split_once("retry '{").unwrap();
    let before = format!("{before}\n{setting}");
    reader.run(&before, blocks[1], "").end();

    let path = format!("/admin/tenants/{}", tenant.id);
    let retry = operator.get(&path).assert(200)["retry"].clone();
    let wanted = json!({ "attempts": 5, "interval_seconds": 30, "backoff": "fixed" });
    assert_eq!(retry, wanted);
}

#[test]
fn dead_letters_are_seen_redriven_and_given_up() {
    if !works(&["curl", "--version"], true) {
        return;
    }
    let reader = Reader::new();
    reader.let_two_die();
    let room = reader
        .runner
        .user(&reader.tenant, "alice")
        .group(&["alice"]);
    let blocks = commands("When a delivery fails");
    let (keys, _) = blocks[0].split_once("\n\n").unwrap();
    let before = format!("BASE={}\nROOM={room}\n{keys}", reader.runner.base_url);

    let printed = reader.run(&before, blocks[2], "").end();

    assert!(!printed.contains(r#""success":false"#), "{printed}");
    let count = |text: &str| printed.matches(text).count();
    assert_eq!(count(r#""failed_notifications":[{"delivery_id":"dlv_"#), 1);
    assert_eq!(count(r#""error":"user offline""#), 2, "{printed}");
    assert_eq!(count(r#""redriven":"#), 5, "{printed}");
    assert!(
        printed.contains(r#"{"redriven":1,"more":false}"#),
        "{printed}"
    );
    assert_eq!(count(r#""discarded":"#), 1, "{printed}");
    assert_eq!(count(r#""deliveries_dead":"#), 1, "{printed}");
}

#[test]
fn dead_letters_are_seen_and_moved_by_the_aws_cli() {
    if !works(&["aws", "--version"], true) {
        return;
    }
    let reader = Reader::new();
    reader.let_two_die();
    let blocks = commands("When a delivery fails");
    // The jobs follow their rows.
    let (setting, rest) = blocks[3].split_once("\n\n").unwrap();
    let arrived = "until sqs receive-message --queue-url \"$QUEUE\" --visibility-timeout 0 | grep -q Body; do :; done";
    let before = format!("{setting}\n{arrived}");

    let printed = reader.run(&before, rest, "").end();

    let subject = r#"\"subject\":\"notif_"#;
    assert!(printed.contains(subject), "{printed}");
    assert!(printed.contains("TaskHandle"), "{printed}");
    assert!(
        printed.contains("ApproximateNumberOfMessagesMoved"),
        "{printed}"
    );
}
