//! Contracts, guarantees under attack, budgets, the template and the tree itself.
#![allow(unreachable_pub, reason = "nothing leaves a test binary")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that fails panics; that is how it says so"
)]

mod bootstraps;
mod budgets;
mod chatapi;
mod consume;
mod deliveries;
mod delivery;
mod floors;
mod gateway;
mod kodey;
mod live;
mod log;
mod openapi;
mod operations;
mod packages;
mod process;
mod providers;
mod support;
mod template;
