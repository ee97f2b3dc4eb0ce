//! A service over the embedded store, in process or as it is deployed, and clients that speak to it.
//!
//! All tests share one store and keep apart by tenant: [`tenant`] makes a fresh one.

mod client;
pub mod deployed;
pub mod faults;
pub mod provider;
pub mod receiver;
pub mod secrets;
mod store;

pub use client::{Client, Response};
pub use store::{
    SEALING_KEY, Tenant, World, app, app_sending, settings, tenant, tenant_of, world, world_over,
};
