//! Things outside: how AWS is reached, and where the operator's key is kept.

pub mod aws;
mod credentials;
pub mod operator_key;
mod secret;
