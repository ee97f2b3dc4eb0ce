//! Subscriptions: who wants to hear of a topic.

use super::{Error, SubscriptionId, Timestamp, UserId, text};

/// What a notification is about, in the tenant's own words: `order.shipped`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic(String);

impl Topic {
    /// The longest topic, in bytes of UTF-8.
    pub const MAX: usize = 256;

    /// Reads field `topic`.
    pub fn parse(topic: String) -> Result<Self, Error> {
        text::check("topic", &topic, Self::MAX)?;
        if topic.trim().is_empty() || topic.chars().any(char::is_control) {
            return Err(Error::invalid(
                "topic",
                "Invalid topic. It must not be empty or hold control characters",
            ));
        }
        Ok(Self(topic))
    }

    /// Trusts what our own store gives back.
    pub const fn stored(topic: String) -> Self {
        Self(topic)
    }

    /// The topic as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One user's wish to hear of one topic.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Its id, computed from user and topic.
    pub id: SubscriptionId,
    /// Who hears of it.
    pub subscriber: UserId,
    /// What they hear of.
    pub topic: Topic,
    /// Since when.
    pub created_at: Timestamp,
}
