//! What the runner cannot start with: one line says why.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::http::Client;
use super::runner::{End, Start};
use super::wait::until;

/// One line of `end` must say `what`, and nothing else must be said.
#[track_caller]
fn assert_refused(end: &End, what: &str) {
    assert_eq!(end.status.code(), Some(1), "{end:?}");
    assert_eq!(end.stdout, "");
    assert_eq!(end.stderr.lines().count(), 1, "{}", end.stderr);
    assert!(end.stderr.starts_with("parlance-local: "), "{}", end.stderr);
    assert!(end.stderr.contains(what), "{}", end.stderr);
}

/// A way to start on a folder that was used before, and its files.
fn used() -> (Start, PathBuf) {
    let runner = Start::new().run();
    let tenant = runner.busy_tenant();
    let alice = runner.user(&tenant, "alice");
    let room = alice.group(&["alice"]);
    for n in 0..50 {
        alice.say(&room, &format!("{n}"));
    }
    let data = runner.data();
    let (_, start) = runner.stop();
    (start, data)
}

#[test]
fn a_busy_port_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let start = Start::new().port(port);
    let what = format!("127.0.0.1:{port} is in use by another process; choose another port");
    assert_refused(&start.end(), &what);
}

#[test]
fn a_busy_aws_port_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let start = Start::new().with(["--aws-port", &port]);
    let what = format!("127.0.0.1:{port} is in use by another process; choose another port");
    assert_refused(&start.end(), &what);
}

#[test]
fn a_data_folder_in_use_is_refused_and_its_runner_goes_on() {
    let runner = Start::new().run();
    let tenant = runner.tenant();
    let data = runner.data();
    let start = Start::new().with(["--data".as_ref(), data.as_os_str()]);
    let what = format!(
        "the data folder {} is in use by another runner",
        data.display()
    );
    assert_refused(&start.end(), &what);
    runner.user(&tenant, "alice").group(&["alice"]);
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    for name in ["dynamodb.db", "sqs.db"] {
        let (start, data) = used();
        let garbage = "this is not what SQLite writes\n".repeat(1000);
        let file = data.join(name);
        fs::write(&file, &garbage).unwrap();
        assert_refused(&start.again().end(), &file.display().to_string());
        // It may be somebody's.
        assert_eq!(fs::read_to_string(&file).unwrap(), garbage);
    }
}

#[test]
fn a_database_with_damaged_pages_is_refused() {
    for name in ["dynamodb.db", "sqs.db"] {
        let (start, data) = used();
        let file = data.join(name);
        let mut bytes = fs::read(&file).unwrap();
        // All but SQLite's own header.
        bytes[100..].fill(0x5a);
        fs::write(&file, bytes).unwrap();
        assert_refused(&start.end(), &file.display().to_string());
    }
}

#[test]
fn a_database_that_was_cut_short_is_refused() {
    for name in ["dynamodb.db", "sqs.db"] {
        let (start, data) = used();
        let file = data.join(name);
        let length = file.metadata().unwrap().len();
        let half = fs::OpenOptions::new().write(true).open(&file).unwrap();
        half.set_len(length / 2).unwrap();
        assert_refused(&start.end(), &file.display().to_string());
    }
}

#[test]
fn a_data_folder_below_a_file_is_refused() {
    let start = Start::new();
    let file = start.home().join("file");
    fs::write(&file, "").unwrap();
    let data = file.join("data");
    let start = start.with(["--data".as_ref(), data.as_os_str()]);
    assert_refused(&start.end(), &format!("cannot use {}", data.display()));
}

#[test]
#[expect(clippy::print_stderr, reason = "says what was not tested")]
fn an_unreadable_data_folder_is_refused() {
    /// Nobody, nearly everywhere.
    const NOBODY: u32 = 65_534;
    let start = Start::new();
    let data = start.home().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o000)).unwrap();
    let mut start = start.with(["--data".as_ref(), data.as_os_str()]);
    // Root reads everything.
    if fs::read_dir(&data).is_ok() {
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(start.home(), open).unwrap();
        start = start.user(NOBODY);
    }
    match start.try_end() {
        Ok(end) => assert_refused(&end, "ermission denied"),
        Err(error) => eprintln!("skipped: another user cannot run the binary: {error}"),
    }
}

#[test]
fn a_lost_sealing_key_is_refused_and_not_replaced() {
    let (start, data) = used();
    let file = data.join("sealing.key");
    fs::remove_file(&file).unwrap();
    let what = format!("the sealing key of {} is missing", data.display());
    assert_refused(&start.again().end(), &what);
    assert!(!file.exists());
}

#[test]
fn a_lost_database_beside_its_queues_is_refused() {
    let (start, data) = used();
    for name in ["dynamodb.db", "dynamodb.db-wal", "dynamodb.db-shm"] {
        // The last two go with a good end.
        drop(fs::remove_file(data.join(name)));
    }
    let what = format!("dynamodb.db in {} is missing or empty", data.display());
    assert_refused(&start.again().end(), &what);
}

/// Removes the side files of both databases, as a copy that knows of `*.db` alone does.
fn forget_side_files(data: &Path) {
    for name in ["dynamodb.db", "sqs.db"] {
        for side in ["wal", "shm"] {
            fs::remove_file(data.join(format!("{name}-{side}"))).unwrap();
        }
    }
}

#[test]
fn a_copy_of_a_running_folder_without_its_side_files_is_refused() {
    let runner = Start::new().run();
    let data = runner.data();
    let start = runner.kill();
    forget_side_files(&data);
    let what = format!("dynamodb.db in {} is missing or empty", data.display());
    assert_refused(&start.end(), &what);
}

#[test]
fn a_database_that_is_older_than_what_was_taken_from_it_is_refused_until_streams_are_removed() {
    let (start, data) = used();
    let database = data.join("dynamodb.db");
    let old = fs::read(&database).unwrap();
    let runner = start.run();
    let operator = runner.operator();
    let made = operator.post("/admin/tenants", &json!({ "name": "late" }));
    let key = made.body["api_key"].as_str().unwrap();
    let headers = [("x-api-key", key), ("x-user-id", "alice")];
    let alice = Client::new(&runner.base_url, &headers);
    let room = alice.group(&["alice"]);
    let seq = alice.say(&room, "taken");
    until("the message to be taken", || {
        let rooms = alice.get("/rooms").assert(200);
        (rooms[0]["last_seq"] == seq).then_some(())
    });
    let (_, start) = runner.stop();
    fs::write(&database, old).unwrap();

    let what = format!("dynamodb.db in {} is older than streams/", data.display());
    assert_refused(&start.again().end(), &what);

    fs::remove_dir_all(data.join("streams")).unwrap();
    start.run();
}

#[test]
fn a_wal_that_was_emptied_is_a_warning_that_tells_what_is_lost_and_what_to_do() {
    let runner = Start::new().run();
    let tenant = runner.busy_tenant();
    let room = runner.user(&tenant, "alice").group(&["alice"]);
    let data = runner.data();
    let (_, start) = runner.stop();
    let file = data.join("streams/HeadsFunction-Messages.json");
    let before = fs::read(&file).unwrap();
    let runner = start.run();
    let alice = runner.user(&tenant, "alice");
    let sent = json!({ "content": "lost" });
    let sent = alice.post(&format!("/rooms/{room}/messages"), &sent);
    sent.assert(200);
    until("the message to be taken", || {
        (fs::read(&file).unwrap() != before).then_some(())
    });
    let start = runner.kill();
    fs::write(data.join("dynamodb.db-wal"), "").unwrap();

    let runner = start.run();

    let logged = runner.logged();
    let told = logged.lines().find(|line| line.contains(" WARN "));
    let told = told.unwrap_or_else(|| panic!("no warning: {logged}"));
    for words in [
        "table=\"Messages\"",
        "until=20",
        "restore the whole data folder from a backup",
        "docs/upgrade.md",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    // Its number is given again, as the documentation says.
    let alice = runner.user(&tenant, "alice");
    let shown = alice.get(&format!("/rooms/{room}")).assert(200);
    assert_eq!(shown["last_seq"], 0);
    assert_eq!(alice.say(&room, "another"), 1);
}

#[test]
fn lost_queues_beside_their_database_are_refused_until_streams_are_removed() {
    let (start, data) = used();
    fs::remove_file(data.join("sqs.db")).unwrap();
    let what = format!("sqs.db in {} is missing or empty", data.display());
    assert_refused(&start.again().end(), &what);
    assert!(!data.join("sqs.db").exists());

    fs::remove_dir_all(data.join("streams")).unwrap();
    start.run();
}

#[test]
fn a_folder_without_both_databases_is_a_first_start() {
    let (start, data) = used();
    for name in ["dynamodb.db", "sqs.db"] {
        fs::remove_file(data.join(name)).unwrap();
    }
    let runner = start.run();
    let tenant = runner.tenant();
    runner.user(&tenant, "alice").group(&["alice"]);
}

#[test]
fn an_empty_master_key_file_is_refused() {
    let (start, data) = used();
    let file = data.join("master.key");
    fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&file)
        .unwrap();
    let what = format!("the master key in {} has fewer than", file.display());
    assert_refused(&start.end(), &what);
}

#[test]
fn a_short_master_key_is_refused() {
    let start = Start::new().master_key("too short");
    assert_refused(&start.end(), "MASTER_API_KEY has fewer than 24 characters");
}

#[test]
fn a_store_that_does_not_answer_is_refused() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    for option in ["--dynamodb-endpoint", "--sqs-endpoint"] {
        let end = Start::new().with(["--memory", option, &url]).end();
        assert_refused(&end, "");
    }
}
