//! The seed's own examples, unchanged but for base URL, key and user.
//!
//! What they need may be missing; `PARLANCE_REQUIRE_EXAMPLES=1` makes that a failure, except for Go.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::runner::{Runner, Start, Tenant};

/// As a client would write it.
const CONTENT: &str = "Hello, wörld! \"👋\" <&>";
const USER: &str = "alice";

/// A runner, a room, and the seed's example with its driver, told where and who.
struct Example {
    runner: Runner,
    tenant: Tenant,
    room: String,
    folder: PathBuf,
}

impl Example {
    fn new(extension: &str) -> Self {
        let start = Start::new().with(["--memory"]);
        let folder = start.home().join("example");
        let runner = start.run();
        let tenant = runner.tenant();
        let room = runner.user(&tenant, USER).group(&[USER]);
        fs::create_dir(&folder).unwrap();
        let checked_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/examples");
        let read = |name: &str| fs::read_to_string(checked_in.join(name)).unwrap();
        let (seed, driver) = (format!("seed.{extension}"), format!("driver.{extension}"));
        let told = read(&seed)
            .replace("your-api-key", &tenant.key)
            .replace("user123", USER)
            .replace("https://your-chatapi.com", &runner.base_url);
        fs::write(folder.join(&seed), told).unwrap();
        fs::write(folder.join(&driver), read(&driver)).unwrap();
        Self {
            runner,
            tenant,
            room,
            folder,
        }
    }

    /// Runs the driver; what it printed.
    #[track_caller]
    fn run(&self, command: &[&str]) -> String {
        let done = Command::new(command[0])
            .args(&command[1..])
            .args([&self.runner.base_url, &self.room, CONTENT])
            .current_dir(&self.folder)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// The message must be in the room, from the user.
    #[track_caller]
    fn assert_sent(&self) -> Value {
        let user = self.runner.user(&self.tenant, USER);
        let path = format!("/rooms/{}/messages", self.room);
        let messages = user.get(&path).assert(200);
        assert_eq!(messages.as_array().unwrap().len(), 1);
        let told = (&messages[0]["sender_id"], &messages[0]["content"]);
        assert_eq!(told, (&USER.into(), &CONTENT.into()));
        messages[0].clone()
    }

    /// As [`Example::assert_sent`], and `printed` must be the answer to it.
    #[track_caller]
    fn assert_answered(&self, printed: &str) {
        let message = self.assert_sent();
        let answer: Value = serde_json::from_str(printed).unwrap();
        for field in ["message_id", "seq", "created_at"] {
            assert_eq!(answer[field], message[field], "{answer}");
        }
    }
}

/// Whether `command` succeeds here.
#[expect(clippy::print_stderr, reason = "says what was not tested")]
pub(super) fn works(command: &[&str], is_required: bool) -> bool {
    let tried = Command::new(command[0]).args(&command[1..]).output();
    if tried.is_ok_and(|done| done.status.success()) {
        return true;
    }
    let command = command.join(" ");
    let required = env::var("PARLANCE_REQUIRE_EXAMPLES").is_ok_and(|it| it == "1");
    assert!(!(required && is_required), "`{command}` does not work");
    eprintln!("skipped: `{command}` does not work");
    false
}

#[test]
fn the_seeds_javascript_sends_a_message() {
    if !works(&["node", "--eval", "fetch.call"], true) {
        return;
    }
    let example = Example::new("js");
    let printed = example.run(&["node", "driver.js"]);
    example.assert_answered(&printed);
}

#[test]
fn the_seeds_python_sends_a_message() {
    if !works(&["python3", "-c", "import requests"], true) {
        return;
    }
    let example = Example::new("py");
    let printed = example.run(&["python3", "driver.py"]);
    example.assert_answered(&printed);
}

#[test]
fn the_seeds_go_sends_a_message() {
    if !works(&["go", "version"], false) {
        return;
    }
    let example = Example::new("go");
    example.run(&["go", "run", "seed.go", "driver.go"]);
    example.assert_sent();
}
