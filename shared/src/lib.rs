//! The engine every function shares, a crate for each floor: the rules ([`domain`]), where things are kept ([`store`]) and sent
//! ([`queue`]), what is outside ([`providers`]), what an operation does ([`app`]), the edge that authenticates, parses and renders ([`http`])
//! and how a function runs ([`runtime`]).
//!
//! A floor uses only the floors below it, and Cargo refuses the rest: `domain` ← `store`, `queue`, `providers` ← `app` ← `http` ← `runtime`.

pub use parlance_app as app;
pub use parlance_domain as domain;
pub use parlance_http as http;
pub use parlance_providers as providers;
pub use parlance_queue as queue;
pub use parlance_runtime as runtime;
pub use parlance_store as store;
