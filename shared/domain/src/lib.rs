//! Rules and types. No AWS, no HTTP, no clock: time and randomness are arguments ([`Moment`]).

pub mod address;
pub mod agent;
pub mod api_key;
pub mod caller;
pub mod chat;
pub mod counts;
pub mod delivery;
pub mod error;
pub mod event;
pub mod id;
pub mod live;
pub mod log;
pub mod message;
pub mod model;
pub mod model_usage;
pub mod moment;
pub mod notification;
pub mod once;
pub mod page;
pub mod pauses;
pub mod provider_key;
pub mod rate;
pub mod room;
pub mod secret;
pub mod subscription;
pub mod tenant;
pub mod tenant_key;
pub mod text;
pub mod timestamp;
pub mod tool;
pub mod user;
pub mod webhook;

pub use agent::AgentId;
pub use caller::{Actor, Auditor, KeyHolder, Observer, Operator, SecretHolder, Sees, TenantKey};
pub use counts::Counts;
pub use error::Error;
pub use id::{
    ApiKeyId, ChatId, DeliveryId, EndpointId, EventId, MessageId, NotificationId, OwnAgentId,
    ProviderKeyId, RequestId, RoomId, SubscriptionId, TenantId, TenantKeyId,
};
pub use live::{Connection, ConnectionId, Reach};
pub use log::{Log, LogId};
pub use moment::Moment;
pub use once::{Done, Once, RequestDigests};
pub use page::{Cursor, Page};
pub use pauses::Pauses;
pub use timestamp::Timestamp;
pub use user::UserId;
