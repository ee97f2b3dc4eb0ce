//! The edge: authenticate, limit, parse, render. What differs between the dialects is in [`surface`].

pub mod body;
pub mod caller;
pub mod counts;
pub mod edge;
pub mod failure;
pub mod overlap;
pub mod params;
pub mod path;
pub mod reply;
pub mod request;
pub mod serve;
pub mod surface;
pub mod telemetry;
pub mod wire;

pub use body::{Body, Object, OptionalBody, read_object};
pub use caller::Caller;
pub use edge::network;
pub use failure::Failure;
pub use overlap::{KeyRotationIn, OverlapIn, OverlapQuery};
pub use params::Params;
pub use path::Path;
pub use reply::{Reply, Show};
pub use request::{Now, entropy, moment};
