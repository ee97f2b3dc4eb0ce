//! How a function runs: the loop around the use cases of `app`.

pub mod consume;
