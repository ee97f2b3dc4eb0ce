//! The runner as its users meet it: a process with a command line, a banner and an end.
//!
//! These tests start the real binary, kill it, crowd it and ask it for impossible things. Threads are
//! the clients, over plain sockets.

mod connections;
mod crash;
mod crowd;
mod deliveries;
mod disk;
mod end;
mod examples;
pub mod http;
mod keeping;
mod libraries;
mod log;
mod proxy;
mod readme;
mod refusals;
mod runner;
mod stage;
mod start;
mod upgrade;
pub mod wait;
