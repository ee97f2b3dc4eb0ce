//! What is counted of a tenant.

use std::ops::AddAssign;

/// What happened in a tenant, counted since it exists. Counts are for graphs: what a process had counted in its
/// last seconds may be lost with it, and what was written without an answer may count twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that were written to logs.
    pub messages_sent: u64,
    /// Deliveries whose jobs were sent; a fan-out that was done twice counts twice.
    pub queued: u64,
    /// Attempts that began.
    pub attempts: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Deliveries that somebody took.
    pub delivered: u64,
    /// Attempts that failed and were not the last.
    pub retried: u64,
    /// Deliveries that began to wait for a paused endpoint.
    pub held: u64,
    /// Deliveries whose attempts were used up.
    pub dead: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.messages_sent += other.messages_sent;
        self.queued += other.queued;
        self.attempts += other.attempts;
        self.failures += other.failures;
        self.delivered += other.delivered;
        self.retried += other.retried;
        self.held += other.held;
        self.dead += other.dead;
    }
}
