//! Rules and types. No AWS, no HTTP, no clock: time and randomness are arguments ([`Moment`]).

pub mod address;
pub mod caller;
pub mod counts;
pub mod delivery;
pub mod error;
pub mod event;
pub mod id;
pub mod live;
pub mod message;
pub mod moment;
pub mod notification;
pub mod once;
pub mod page;
pub mod room;
pub mod secret;
pub mod subscription;
pub mod tenant;
pub mod text;
pub mod timestamp;
pub mod user;
pub mod webhook;

pub use caller::{Actor, Auditor, Observer, Operator, TenantKey};
pub use counts::Counts;
pub use error::Error;
pub use id::{
    DeliveryId, EndpointId, EventId, MessageId, NotificationId, RequestId, RoomId, SubscriptionId,
    TenantId,
};
pub use live::{Connection, ConnectionId, Reach};
pub use moment::Moment;
pub use once::{Done, Once};
pub use page::{Cursor, Page};
pub use timestamp::Timestamp;
pub use user::UserId;

/// Names a log: a room's, and later a chat's or a helpdesk conversation's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Thread {
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// The room whose log it is.
    pub room: RoomId,
}
