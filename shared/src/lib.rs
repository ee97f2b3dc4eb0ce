//! The engine every function shares: the rules (`domain`), where things are kept (`store`), what an
//! operation does (`app`) and the edge that authenticates, parses and renders (`http`).
//!
//! A floor uses only the floors below it: `domain` ← `store` ← `app` ← `http`. A test reads the
//! imports and fails on an upward one.

pub mod app;
pub mod domain;
pub mod http;
pub mod store;
