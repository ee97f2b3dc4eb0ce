//! The engine every function shares: the rules (`domain`), where things are kept (`store`) and sent
//! (`queue`), what is outside (`providers`), what an operation does (`app`), the edge that authenticates, parses and renders
//! (`http`), and how a function runs (`runtime`).
//!
//! A floor uses only the floors below it: `domain` ← `store`, `queue`, `providers` ← `app` ← `http` ← `runtime`. A test
//! reads the imports and fails on an upward one.

pub mod app;
pub mod domain;
pub mod http;
pub mod providers;
pub mod queue;
pub mod runtime;
pub mod store;
