//! Behind a reverse proxy: whose address is charged.

use std::net::Ipv4Addr;

use super::http::Connection;
use super::runner::{Runner, Start};

/// Asks for `path` as a proxy on this machine does for `client`, and gives the status.
fn ask(runner: &Runner, path: &str, client: &str) -> u16 {
    let headers = [
        ("x-forwarded-for", client),
        // For `/ws`; elsewhere they say nothing.
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let mut connection = Connection::open(&runner.address()).unwrap();
    let answer = connection.send("GET", path, &headers, "").unwrap();
    answer.status
}

/// Asks for `path` for the clients that `name` names until that is a 429: the budget is refilled all the time.
fn use_up(runner: &Runner, path: &str, name: impl Fn(u32) -> String + Sync) {
    let ask_often = &|thread: u32| {
        let mut clients = (0..20_000).map(|number| name(20_000 * thread + number));
        clients.any(|client| ask(runner, path, &client) == 429)
    };
    let is_limited = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|it| scope.spawn(move || ask_often(it)))
            .collect();
        threads.into_iter().all(|thread| thread.join().unwrap())
    });
    assert!(is_limited, "never limited");
}

#[test]
fn the_clients_of_a_trusted_proxy_have_a_budget_each() {
    let runner = Start::new().with(["--trusted-proxy", "127.0.0.0/8"]).run();
    for (path, refused) in [("/nope", 404), ("/ws", 401)] {
        use_up(&runner, path, |_| "1.2.3.4, 203.0.113.9".to_owned());
        assert_eq!(
            ask(&runner, path, "1.2.3.4, 203.0.113.10"),
            refused,
            "{path}"
        );
    }
}

#[test]
fn whoever_is_no_trusted_proxy_is_charged_whatever_the_headers_say() {
    let runner = Start::new().with(["--trusted-proxy", "10.0.0.0/8"]).run();
    use_up(&runner, "/nope", |number| {
        Ipv4Addr::from(number).to_string()
    });
}
