//! The start: what is printed works, and what must be private is.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::http::{Client, address};
use super::runner::{MASTER_KEY, Start, Tenant, listing};
use crate::support::receiver::Receiver;

/// What a shell makes of `line`.
fn shell(line: &str) -> Value {
    let done = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    serde_json::from_slice(&done.stdout).unwrap()
}

#[expect(clippy::print_stderr, reason = "says what was not tested")]
fn has_curl() -> bool {
    let has = Command::new("curl").arg("--version").output().is_ok();
    if !has {
        eprintln!("skipped: there is no curl");
    }
    has
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn the_first_start_prints_a_curl_line_that_creates_a_room() {
    if !has_curl() {
        return;
    }
    let runner = Start::new().run();
    let room = shell(&runner.curl());
    assert!(room["room_id"].as_str().unwrap().starts_with("room_"));
    let told = (&room["type"], &room["name"], &room["last_seq"]);
    assert_eq!(told, (&json!("group"), &json!("Team"), &json!(0)));
}

#[test]
fn the_second_start_prints_a_curl_line_that_makes_a_new_key() {
    if !has_curl() {
        return;
    }
    let runner = Start::new().run();
    let mut tenant = runner.tenant();
    let (_, start) = runner.stop();
    let runner = start.run();
    let rotated = shell(&runner.curl().replace("TENANT_ID", &tenant.id));
    rotated["api_key"]
        .as_str()
        .unwrap()
        .clone_into(&mut tenant.key);
    runner.user(&tenant, "alice").get("/rooms").assert(200);
}

#[test]
fn the_curl_line_works_for_a_folder_with_a_quote_and_a_space() {
    if !has_curl() {
        return;
    }
    let data = ["--data", "it's here"];
    let runner = Start::new().with(data).run();
    let tenant = runner.tenant();
    let (_, start) = runner.stop();
    let runner = start.with(data).run();
    let rotated = shell(&runner.curl().replace("TENANT_ID", &tenant.id));
    assert!(rotated["api_key"].is_string(), "{rotated}");
}

#[test]
fn the_second_start_shows_no_key_and_accepts_the_first() {
    let runner = Start::new().run();
    let tenant = runner.tenant();
    let (_, start) = runner.stop();
    let runner = start.run();
    assert!(!runner.banner.contains("sk_"), "{}", runner.banner);
    let rooms = runner.user(&tenant, "alice").get("/rooms").assert(200);
    assert_eq!(rooms, json!([]));
}

#[test]
fn in_memory_it_leaves_nothing_behind() {
    let start = Start::new().with(["--memory"]);
    let home = start.home();
    let runner = start.run();
    let tenant = runner.tenant();
    runner.user(&tenant, "alice").group(&["alice"]);
    let (end, _start) = runner.stop();
    assert!(end.status.success());
    assert_eq!(listing(&home), [""; 0]);
}

#[test]
fn the_root_is_a_page_that_leads_to_the_documentation() {
    let runner = Start::new().run();
    let client = Client::new(&runner.base_url, &[]);
    let page = client.get("/");
    let kind = page.header("content-type").map(ToOwned::to_owned);
    assert_eq!(kind.as_deref(), Some("text/html; charset=utf-8"));
    // Like every other answer.
    for name in ["x-request-id", "x-ratelimit-limit"] {
        assert!(page.header(name).is_some(), "{name}");
    }
    let page = page.assert(200);
    assert!(page.as_str().unwrap().contains(r#"href="/docs""#), "{page}");
    client.get("/docs").assert(200);
    client.post("/", &json!({})).assert(404);
}

#[test]
fn a_good_start_and_end_log_nothing() {
    let (end, start) = Start::new().run().stop();
    assert_eq!(end.stderr, "");
    let (end, _start) = start.run().stop();
    assert_eq!(end.stderr, "");
}

#[test]
fn only_its_owner_can_read_the_data() {
    let runner = Start::new().run();
    let data = runner.data();
    assert_eq!(mode(&data), 0o700);
    let files = listing(&data).into_iter().map(|name| data.join(name));
    let files: Vec<_> = files.filter(|path| path.is_file()).collect();
    assert!(files.contains(&data.join("master.key")));
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn the_key_in_the_environment_replaces_the_one_in_the_folder() {
    let runner = Start::new().run();
    let of_the_folder = runner.operator();
    let (_, start) = runner.stop();
    let runner = start.master_key(MASTER_KEY).run();
    runner.operator().get("/admin/tenants").assert(200);
    let old = Client {
        address: runner.address(),
        ..of_the_folder
    };
    old.get("/admin/tenants").assert(401);
}

#[test]
fn an_endpoint_is_told_after_a_restart() {
    let receiver = Receiver::new();
    let any = ["--webhook-targets", "any"];
    let runner = Start::new().with(any).run();
    let tenant = runner.tenant();
    let endpoint = json!({ "url": receiver.url });
    let made = runner.user(&tenant, "alice").post("/webhooks", &endpoint);
    let made = made.assert(201);
    let (_, start) = runner.stop();
    let runner = start.with(any).run();

    let path = format!("/webhooks/{}/test", made["endpoint_id"].as_str().unwrap());
    let trial = runner.user(&tenant, "alice").post(&path, &json!({}));

    assert_eq!(trial.assert(200)["delivered"], true);
    assert_eq!(receiver.take().len(), 1);
}

#[test]
fn webhooks_do_not_go_to_this_machine_unless_that_is_allowed() {
    let runner = Start::new().with(["--memory"]).run();
    let tenant = runner.tenant();
    let endpoint = json!({ "url": "https://127.0.0.1/" });
    let refused = runner.user(&tenant, "alice").post("/webhooks", &endpoint);
    assert_eq!(refused.assert(400)["error"]["field"], "url");
}

#[test]
fn the_stores_answer_plain_http_on_the_aws_port() {
    let runner = Start::new().with(["--memory", "--aws-port", "0"]).run();
    let ask = |target: &str| {
        let client = Client::new(&runner.aws_url(), &[("x-amz-target", target)]);
        client.post("/", &json!({})).assert(200)
    };
    let tables = ask("DynamoDB_20120810.ListTables");
    let tables = tables["TableNames"].as_array().unwrap().len();
    assert_eq!(tables, 7, "tables");
    let queues = ask("AmazonSQS.ListQueues");
    let queues = queues["QueueUrls"].as_array().unwrap();
    assert!(!queues.is_empty(), "queues");
}

#[test]
fn the_aws_port_is_not_the_apis() {
    let runner = Start::new().with(["--memory", "--aws-port", "0"]).run();
    assert_ne!(address(&runner.aws_url()), runner.address());
    let stores = Client::new(
        &runner.base_url,
        &[("x-amz-target", "DynamoDB_20120810.ListTables")],
    );
    stores.post("/", &json!({})).assert(404);
}

#[test]
fn the_banner_links_a_page_that_is_there() {
    let runner = Start::new().with(["--memory"]).run();
    let docs = runner.word("documentation");
    let path = docs.strip_prefix(&runner.base_url).unwrap().to_owned();
    let anybody = Client::new(&runner.base_url, &[]);
    anybody.get(&path).assert(200);
}

#[test]
fn a_key_that_is_shown_is_a_tenants() {
    let runner = Start::new().with(["--memory"]).run();
    let Tenant { id, key } = runner.tenant();
    assert!(id.starts_with("tenant_") && key.starts_with("sk_"));
    let tenants = runner.operator().get("/admin/tenants").assert(200);
    assert_eq!(tenants[0]["tenant_id"], id);
    assert!(!tenants.to_string().contains(&key));
}
