//! Ids: a prefix that names the kind, and 32 hex digits.
//!
//! Ids of things sort by the time they were made (UUIDv7), except [`MessageId`], which starts with
//! its message's seq (UUIDv8), and [`SubscriptionId`], [`DeliveryId`] and [`TenantKeyId`], which are computed from what they
//! name.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use super::{Moment, Timestamp, UserId, delivery::Subject, message::Seq, secret::SecretHash};

/// The text is not an id of the expected kind.
#[derive(Debug, Clone, Copy)]
pub struct InvalidId {
    /// The prefix an id of this kind has.
    pub expected: &'static str,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an id of the form {}_…", self.expected)
    }
}

impl std::error::Error for InvalidId {}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.simple())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            /// Accepts only the form that `Display` writes: one thing has one name.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let wrong = InvalidId { expected: $prefix };
                let hex = text.strip_prefix(concat!($prefix, "_")).ok_or(wrong)?;
                if hex.len() != 32 || hex.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(wrong);
                }
                Uuid::try_parse(hex).map(Self).map_err(|_| wrong)
            }
        }
    };
}

macro_rules! timed {
    ($name:ident) => {
        impl $name {
            /// The id of what is made at `moment`.
            pub fn at(moment: &Moment) -> Self {
                Self(timed(moment, moment.seed))
            }
        }
    };
}

/// The id that begins with the time of `moment`, and goes on with the first ten bytes of `seed`.
fn timed(moment: &Moment, seed: u128) -> Uuid {
    let millis = u64::try_from(moment.now.micros() / 1_000).unwrap_or_default();
    let mut random = [0; 10];
    random.copy_from_slice(&seed.to_be_bytes()[..10]);
    Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

id! {
    /// Names a tenant.
    TenantId, "tenant"
}
id! {
    /// Names a request that nobody else has named.
    RequestId, "req"
}
id! {
    /// Names a room within a tenant.
    RoomId, "room"
}
id! {
    /// Names a notification within a tenant.
    NotificationId, "notif"
}
id! {
    /// Names something that happened and is neither a message nor a notification.
    EventId, "evt"
}
id! {
    /// Names a webhook endpoint within a tenant.
    EndpointId, "ep"
}
id! {
    /// Names one user's subscription to one topic.
    SubscriptionId, "sub"
}
id! {
    /// Names a chat with an agent within a tenant.
    ChatId, "chat"
}
id! {
    /// Names an API key within a tenant. It is no secret.
    ApiKeyId, "key"
}
id! {
    /// Names one of a tenant's own keys. It is no secret.
    TenantKeyId, "tkey"
}
id! {
    /// Names a key of a model provider within a tenant. It is no secret.
    ProviderKeyId, "pkey"
}
id! {
    /// Names an agent that a tenant has made.
    OwnAgentId, "agent"
}
id! {
    /// Names a message within a log. Its first 48 bits are the message's seq, so it is found
    /// without an index; the rest is random, so it cannot be guessed from the seq.
    MessageId, "msg"
}
id! {
    /// Names the delivery of one subject to one user, or to nobody in particular.
    DeliveryId, "dlv"
}
timed!(TenantId);
timed!(RoomId);
timed!(NotificationId);
timed!(EventId);
timed!(EndpointId);
timed!(ChatId);
timed!(ApiKeyId);
timed!(ProviderKeyId);
timed!(OwnAgentId);

impl RequestId {
    /// The id of the request of `moment`. Logs show it, and the id of what the request makes may be a secret: so this
    /// one is computed from the seed, and does not tell it.
    pub fn at(moment: &Moment) -> Self {
        let other = computed(&["request", &moment.seed.to_string()]);
        Self(timed(moment, other.as_u128()))
    }
}

impl TenantId {
    /// When the tenant was made, to the millisecond.
    pub fn made_at(self) -> Timestamp {
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(&self.0.as_bytes()[..6]);
        Timestamp::from_micros(i64::from_be_bytes(bytes).saturating_mul(1_000))
    }
}

impl MessageId {
    /// The id of the message that takes `seq` in a send drawn with `seed`.
    pub fn new(seq: Seq, seed: u128) -> Self {
        let mut bytes = seed.to_be_bytes();
        bytes[..6].copy_from_slice(&seq.get().to_be_bytes()[2..]);
        Self(Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// The seq this id claims. Ids come from clients: the item found there must be compared.
    pub fn seq(self) -> Seq {
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(&self.0.as_bytes()[..6]);
        Seq::new(u64::from_be_bytes(bytes))
    }
}

impl SubscriptionId {
    /// The one id that `user`'s subscription to `topic` can have, so that subscribing twice is one
    /// subscription by construction.
    pub fn of(tenant: TenantId, user: &str, topic: &str) -> Self {
        Self(computed(&[&tenant.to_string(), user, topic]))
    }
}

impl TenantKeyId {
    /// The one id of the key that hashes to `hash`. It tells neither the key nor its hash.
    pub fn of(hash: SecretHash) -> Self {
        Self(computed(&["tenant key", &hash.to_hex()]))
    }
}

impl DeliveryId {
    /// The one id that the delivery of `subject` to `user` can have, so that copies of its job meet in one row.
    pub fn of(tenant: TenantId, subject: &Subject, user: Option<&UserId>) -> Self {
        let (tenant, subject) = (tenant.to_string(), subject.to_string());
        // No user's id is empty.
        let user = user.map_or("", UserId::as_str);
        Self(computed(&[&tenant, &subject, user]))
    }

    /// Which of `shards` parts of an index it is in.
    pub fn shard(self, shards: u8) -> u8 {
        self.0.as_bytes()[15] % shards
    }
}

/// The id of what `parts` name.
fn computed(parts: &[&str]) -> Uuid {
    Builder::from_custom_bytes(hashed(parts)).into_uuid()
}

/// 32 hexadecimal digits that differ for different `parts`.
pub fn digest(parts: &[&str]) -> String {
    format!("{:032x}", u128::from_be_bytes(hashed(parts)))
}

fn hashed(parts: &[&str]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_holds_its_seq() {
        let id = MessageId::new(Seq::new(123_456_789), u128::MAX);
        assert_eq!(id.seq(), Seq::new(123_456_789));
        assert_eq!(id.to_string().parse::<MessageId>().unwrap(), id);
    }

    #[test]
    fn a_requests_id_does_not_tell_what_the_request_made() {
        let moment = |seed| {
            Moment::new(
                Timestamp::from_micros(1_765_627_200_123_456),
                tokio::time::Instant::now(),
                std::time::Duration::ZERO,
                seed,
            )
        };
        for seed in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef << 64] {
            let moment = moment(seed);
            let (request, chat) = (RequestId::at(&moment).0, ChatId::at(&moment).0);
            assert_eq!(request.get_timestamp(), chat.get_timestamp());
            let (request, chat) = (request.as_bytes(), chat.as_bytes());
            assert!(
                request[6..]
                    .windows(4)
                    .all(|part| !chat.windows(4).any(|it| it == part))
            );
        }
        assert_ne!(RequestId::at(&moment(1)), RequestId::at(&moment(2)));
    }

    #[test]
    fn a_tenants_id_tells_when_it_was_made() {
        let moment = Moment::new(
            Timestamp::from_micros(1_765_627_200_123_456),
            tokio::time::Instant::now(),
            std::time::Duration::ZERO,
            u128::MAX,
        );
        let made_at = TenantId::at(&moment).made_at();
        assert_eq!(made_at, Timestamp::from_micros(1_765_627_200_123_000));
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = MessageId::new(Seq::new(10), 0x00ab_cdef).to_string();
        assert!(id.to_uppercase().parse::<MessageId>().is_err());
        assert!(id.replace("msg", "room").parse::<MessageId>().is_err());
        assert!(format!("{id}0").parse::<MessageId>().is_err());
    }

    #[test]
    fn parts_of_a_subscription_do_not_run_into_each_other() {
        let tenant: TenantId = format!("tenant_{:032x}", 7).parse().unwrap();
        assert_ne!(
            SubscriptionId::of(tenant, "ab", "c"),
            SubscriptionId::of(tenant, "a", "bc")
        );
    }
}
