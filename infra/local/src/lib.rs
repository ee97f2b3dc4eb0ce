//! Parlance on one machine: the API, its functions, the pollers of streams and queues, and an embedded
//! DynamoDB and SQS in one process.
//!
//! ```text
//! client ── gateway ── functions ── AWS SDK ── connector ── DynamoDB, SQS (or --…-endpoint)
//!                                                             │ streams, queues
//!                          functions ◀──── pollers ◀──────────┘
//! ```
//!
//! The functions are the very code that Lambda runs, and the tables, queues and streams are those
//! of `template.yaml`; only the endpoint differs.
//!
//! **Invariant:** a 2xx survives the death of this process; with `--sync full`, a power cut too.

pub mod aws_port;
mod cause;
pub mod clients;
pub mod clock;
mod consistency;
pub mod data;
mod descriptors;
pub mod dynamodb;
mod error;
mod first_start;
pub mod functions;
pub mod gateway;
pub mod housekeeping;
mod options;
pub mod provision;
mod proxy;
pub mod queues;
mod running;
pub mod sockets;
pub mod sqs;
mod storage;
mod stores;
pub mod streams;
pub mod template;
mod welcome;

pub use error::StartError;
pub use first_start::FirstTenant;
pub use options::{Addresses, Log, Options};
pub use proxy::Network;
pub use running::{Running, start};
