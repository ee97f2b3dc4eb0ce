//! More connections than the runner has file descriptors for.

use std::net::TcpStream;

use super::http::Connection;
use super::runner::{Runner, Start};

const DESCRIPTORS: u32 = 128;

/// Opens more connections than there are descriptors, and says `words` over each.
fn crowd(runner: &Runner, words: &str) -> Vec<TcpStream> {
    let open = |_| {
        let mut client = TcpStream::connect(runner.address()).unwrap();
        // One that was closed for another takes nothing.
        drop(std::io::Write::write_all(&mut client, words.as_bytes()));
        client
    };
    (0..3 * DESCRIPTORS).map(open).collect()
}

#[test]
fn silent_connections_keep_nobody_out_and_are_logged() {
    let runner = Start::new()
        .after(&format!("ulimit -n {DESCRIPTORS}"))
        .run();
    for words in ["", "GET /health HTTP/1.1\r\n"] {
        let silent = crowd(&runner, words);
        let mut client = Connection::open(&runner.address()).unwrap();
        client.send("GET", "/health", &[], "").unwrap().assert(200);
        drop(silent);
    }
    let (end, _) = runner.stop();
    let logged = "connections without a request are closed for new ones";
    assert!(end.stderr.contains(logged), "{}", end.stderr);
    // One line in ten seconds, and not one for each connection.
    assert!(end.stderr.lines().count() < 10, "{}", end.stderr);
}
