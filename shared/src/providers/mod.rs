//! Things outside: how AWS is reached, where keys are kept, where webhooks go, and clients' connections.

pub mod aws;
mod credentials;
pub mod frames;
pub mod operator_key;
pub mod sealing;
mod secret;
pub mod sockets;
pub mod webhook;
