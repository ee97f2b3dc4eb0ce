//! A runner that is killed and started again, and clients that go on across its deaths.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Condvar, Mutex};

use super::http::{Answer, Connection};
use super::runner::{Runner, Tenant};
use super::wait::{LONG, until};

/// Where the runner is now, and how far the clients are.
#[derive(Default)]
pub struct Stage {
    address: Mutex<Option<String>>,
    raised: Condvar,
    /// How many requests were answered with success.
    pub acknowledged: AtomicUsize,
    /// How far a follower has come.
    pub followed: AtomicU64,
    /// Whether nothing more is to be sent.
    pub senders_rest: AtomicBool,
    /// Whether there is nothing more to read.
    pub readers_rest: AtomicBool,
}

impl Stage {
    pub fn raise(&self, runner: &Runner) {
        *self.address.lock().unwrap() = Some(runner.address());
        self.raised.notify_all();
    }

    pub fn lower(&self) {
        *self.address.lock().unwrap() = None;
    }

    /// Where the runner is, as soon as there is one.
    pub fn address(&self) -> String {
        let none = self.address.lock().unwrap();
        let wait = |address: &mut Option<String>| address.is_none();
        let (address, _) = self.raised.wait_timeout_while(none, LONG, wait).unwrap();
        address.clone().expect("no runner in time")
    }

    /// A connection to the runner, as soon as there is one.
    pub fn connect(&self) -> Connection {
        until("a runner", || Connection::open(&self.address()).ok())
    }
}

/// A connection that is opened anew after each failure.
pub struct Line<'a> {
    stage: &'a Stage,
    headers: [(&'static str, String); 2],
    connection: Option<Connection>,
}

impl<'a> Line<'a> {
    pub fn new(stage: &'a Stage, tenant: &Tenant, user: &str) -> Self {
        Self {
            stage,
            headers: [
                ("x-api-key", tenant.key.clone()),
                ("x-user-id", user.to_owned()),
            ],
            connection: None,
        }
    }

    /// `None` if the answer was lost.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: &str,
    ) -> Option<Answer> {
        let mut connection = self
            .connection
            .take()
            .unwrap_or_else(|| self.stage.connect());
        let answer = connection.send(method, path, &self.with(key), body).ok()?;
        self.connection = Some(connection);
        Some(answer)
    }

    /// Sends a request and hangs up.
    pub fn hang_up(&mut self, path: &str, key: Option<&str>, body: &str) {
        let mut connection = self
            .connection
            .take()
            .unwrap_or_else(|| self.stage.connect());
        // The runner may just have died.
        drop(connection.write(&Connection::request("POST", path, &self.with(key), body)));
    }

    fn with<'b>(&'b self, key: Option<&'b str>) -> Vec<(&'b str, &'b str)> {
        let headers = self.headers.iter().map(|(name, value)| (*name, &**value));
        headers
            .chain(key.map(|key| ("idempotency-key", key)))
            .collect()
    }
}

/// Numbers that look random, the same in every run.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((bits >> 33) % limit as u64).unwrap()
    }
}
