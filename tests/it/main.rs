//! Contracts, guarantees under attack, budgets, the template and the tree itself.
#![allow(unreachable_pub, reason = "nothing leaves a test binary")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that fails panics; that is how it says so"
)]

mod floors;
mod openapi;
mod rooms;
mod support;
mod template;
