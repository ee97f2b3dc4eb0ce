//! The edge: authenticate, limit, parse, render. How each dialect words its answers is in [`dialects`],
//! who may call in [`credentials`].

use parlance_app as app;
use parlance_domain as domain;
use parlance_providers as providers;
use parlance_queue as queue;
use parlance_store as store;

pub mod body;
pub mod caller;
pub mod counts;
pub mod credentials;
pub mod dialects;
pub mod edge;
pub mod failure;
mod ignored;
pub mod json;
pub mod overlap;
pub mod params;
pub mod path;
pub mod reply;
pub mod request;
pub mod same;
pub mod serve;
pub mod telemetry;
pub mod unrouted;
pub mod wire;

pub use body::{Body, NoBody, OptionalBody};
pub use caller::Caller;
pub use edge::{names_one_host, network};
pub use failure::Failure;
pub use json::{Object, not_null, read_object};
pub use overlap::{KeyRotationIn, OverlapIn, OverlapQuery};
pub use params::{NoParams, Params};
pub use path::Path;
pub use reply::{Reply, Show};
pub use request::{Now, entropy, moment, onward};
