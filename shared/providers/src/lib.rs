//! Things outside: how AWS is reached, where keys are kept, where webhooks go, clients' connections, and language models.

use parlance_domain as domain;

pub mod aws;
mod credentials;
pub mod frames;
pub mod models;
pub mod operator_key;
pub mod outbound;
pub mod sealing;
mod secret;
pub mod sockets;
pub mod vault;
pub mod webhook;
