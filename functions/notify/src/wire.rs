//! What goes over the wire.

use parlance::{
    domain::{
        Error, UserId,
        delivery::Delivery,
        message::Json,
        notification::{self, MAX_PAYLOAD, Notification, Targets},
        subscription::{Subscription, Topic},
    },
    http::{Object, wire::DeliveryOut},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A notification to send.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct NotificationIn {
    /// 1 to 256 bytes.
    #[schema(example = "order.shipped", max_length = 256)]
    topic: String,
    /// An object of at most 32 KB, kept byte for byte.
    #[schema(value_type = Object, example = json!({"order_id": "12345", "tracking_number": "1Z999AA1234567890"}))]
    payload: Box<RawValue>,
    #[schema(value_type = TargetsIn)]
    targets: Object<TargetsIn>,
}

/// Whom a notification is for: the union of the three, each person once.
#[derive(Debug, Deserialize, ToSchema)]
struct TargetsIn {
    /// At most 1,000 user ids.
    #[schema(example = json!(["user1", "user2"]), max_items = 1000)]
    user_ids: Option<Vec<String>>,
    /// The members of this room; the caller must be one.
    #[schema(example = "room_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    room_id: Option<String>,
    /// Whoever subscribed to the topic. Default: false.
    topic_subscribers: Option<bool>,
}

impl NotificationIn {
    /// The same in domain words.
    pub(crate) fn parse(self) -> Result<(Topic, Json, Targets), Error> {
        let topic = Topic::parse(self.topic)?;
        let payload = Json::object("payload", self.payload.get(), MAX_PAYLOAD)?;
        let Object(targets) = self.targets;
        let named = targets.user_ids.unwrap_or_default();
        let users = named
            .iter()
            .map(|id| UserId::parse("targets.user_ids", id))
            .collect::<Result<_, _>>()?;
        let room = targets
            .room_id
            .map(|id| id.parse().map_err(|_| Error::NotFound("Room")))
            .transpose()?;
        let subscribers = targets.topic_subscribers.unwrap_or(false);
        Ok((topic, payload, Targets::new(users, room, subscribers)?))
    }
}

/// A notification that was stored.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Notified {
    #[schema(example = "notif_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    notification_id: String,
    #[schema(example = "2025-12-13T12:15:00.000000Z", format = "date-time")]
    created_at: String,
}

impl From<&notification::Notified> for Notified {
    fn from(told: &notification::Notified) -> Self {
        Self {
            notification_id: told.id.to_string(),
            created_at: told.created_at.to_string(),
        }
    }
}

/// What became of a notification.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NotificationStatus {
    #[schema(example = "notif_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    notification_id: String,
    #[schema(example = "order.shipped")]
    topic: String,
    #[schema(example = "2025-12-13T12:15:00.000000Z", format = "date-time")]
    created_at: String,
    /// One for each person, of whom more may follow on the next page.
    deliveries: Vec<DeliveryOut>,
}

impl NotificationStatus {
    pub(crate) fn new(notification: &Notification, deliveries: Vec<Delivery>) -> Self {
        Self {
            notification_id: notification.id.to_string(),
            topic: notification.topic.as_str().to_owned(),
            created_at: notification.created_at.to_string(),
            deliveries: deliveries.into_iter().map(DeliveryOut::from).collect(),
        }
    }
}

/// A topic to subscribe to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubscriptionIn {
    /// 1 to 256 bytes.
    #[schema(example = "order.shipped", max_length = 256)]
    topic: String,
}

impl SubscriptionIn {
    /// The same in domain words.
    pub(crate) fn parse(self) -> Result<Topic, Error> {
        Topic::parse(self.topic)
    }
}

/// A subscription.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SubscriptionOut {
    #[schema(example = "sub_5f1c7c3e9a0b8d2f8e6d5c4b3a291807")]
    id: String,
    #[schema(example = "user1")]
    subscriber_id: String,
    #[schema(example = "order.shipped")]
    topic: String,
    #[schema(example = "2025-12-13T12:15:00.000000Z", format = "date-time")]
    created_at: String,
}

impl From<&Subscription> for SubscriptionOut {
    fn from(subscription: &Subscription) -> Self {
        Self {
            id: subscription.id.to_string(),
            subscriber_id: subscription.subscriber.to_string(),
            topic: subscription.topic.as_str().to_owned(),
            created_at: subscription.created_at.to_string(),
        }
    }
}

/// Subscriptions, in no particular order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Subscriptions {
    pub(crate) subscriptions: Vec<SubscriptionOut>,
}
