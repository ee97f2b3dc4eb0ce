//! A queue's attributes: which there are, what they default to, and what they may be.
//!
//! **Invariant:** a [`Settings`] holds a valid value for every number below, and a redrive policy
//! only in the form [`RedrivePolicy`] writes.

use super::fault::{Fault, Kind};
use super::name::QueueName;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// The most a message and its attributes may weigh, and all messages of a batch: 1 MiB.
pub(super) const MAX_BYTES: i64 = 1_048_576;

pub(super) const REDRIVE_POLICY: &str = "RedrivePolicy";
pub(super) const FIFO_QUEUE: &str = "FifoQueue";
const CONTENT_BASED_DEDUPLICATION: &str = "ContentBasedDeduplication";
const DEDUPLICATION_SCOPE: &str = "DeduplicationScope";
const THROUGHPUT_LIMIT: &str = "FifoThroughputLimit";
const BY_GROUP: &str = "messageGroup";
const LIMITED_BY_GROUP: &str = "perMessageGroupId";

/// The attributes of a FIFO queue that are one of two words.
const WORDS: [(&str, [&str; 2]); 3] = [
    (CONTENT_BASED_DEDUPLICATION, ["true", "false"]),
    (DEDUPLICATION_SCOPE, [BY_GROUP, "queue"]),
    // Kept and given back: there is no limit here.
    (THROUGHPUT_LIMIT, [LIMITED_BY_GROUP, "perQueue"]),
];

/// An attribute that is a whole number.
struct Number {
    name: &'static str,
    default: i64,
    range: RangeInclusive<i64>,
}

const VISIBILITY_TIMEOUT: Number = Number {
    name: "VisibilityTimeout",
    default: 30,
    range: 0..=43_200,
};
const DELAY: Number = Number {
    name: "DelaySeconds",
    default: 0,
    range: 0..=900,
};
const MAX_MESSAGE_SIZE: Number = Number {
    name: "MaximumMessageSize",
    default: MAX_BYTES,
    range: 1024..=MAX_BYTES,
};
const RETENTION: Number = Number {
    name: "MessageRetentionPeriod",
    default: 345_600,
    range: 60..=1_209_600,
};
const RECEIVE_WAIT: Number = Number {
    name: "ReceiveMessageWaitTimeSeconds",
    default: 0,
    range: 0..=20,
};

const NUMBERS: [Number; 5] = [
    VISIBILITY_TIMEOUT,
    DELAY,
    MAX_MESSAGE_SIZE,
    RETENTION,
    RECEIVE_WAIT,
];

/// Kept and given back; nothing here acts on them.
const INERT: [&str; 5] = [
    "KmsDataKeyReusePeriodSeconds",
    "KmsMasterKeyId",
    "Policy",
    "RedriveAllowPolicy",
    "SqsManagedSseEnabled",
];

/// Removed by an empty value.
const REMOVABLE: [&str; 4] = [
    REDRIVE_POLICY,
    "KmsMasterKeyId",
    "Policy",
    "RedriveAllowPolicy",
];

/// The attributes a client set, over the defaults.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Settings(BTreeMap<String, String>);

impl Settings {
    /// What a queue of that name has if its creator says nothing.
    pub(super) fn defaults(name: &QueueName) -> Self {
        let number = |number: &Number| (number.name.to_owned(), number.default.to_string());
        let mut all: BTreeMap<_, _> = NUMBERS.iter().map(number).collect();
        if name.is_fifo() {
            all.insert(FIFO_QUEUE.to_owned(), "true".to_owned());
            all.insert(CONTENT_BASED_DEDUPLICATION.to_owned(), "false".to_owned());
        }
        Self(all)
    }

    /// Takes over `changes`, or says which of them is wrong.
    pub(super) fn change(
        &mut self,
        queue: &QueueName,
        changes: &BTreeMap<String, String>,
    ) -> Result<(), Fault> {
        for (name, value) in changes {
            if value.is_empty() && REMOVABLE.contains(&name.as_str()) {
                self.0.remove(name);
            } else {
                let value = check(queue, name, value)?;
                self.0.insert(name.clone(), value);
            }
        }
        let limit = self.0.get(THROUGHPUT_LIMIT);
        if limit.is_some_and(|limit| limit == LIMITED_BY_GROUP) && !self.deduplicates_in_groups() {
            let message = "perMessageGroupId is only allowed with DeduplicationScope messageGroup.";
            return Err(Fault::new(Kind::InvalidAttributeValue, message));
        }
        Ok(())
    }

    /// The first attribute in which `self` and `other` differ.
    pub(super) fn difference<'s>(&'s self, other: &'s Self) -> Option<&'s str> {
        let mut names = self.0.keys().chain(other.0.keys());
        names
            .find(|&name| self.0.get(name) != other.0.get(name))
            .map(String::as_str)
    }

    pub(super) fn into_map(self) -> BTreeMap<String, String> {
        self.0
    }

    /// Seconds a received message stays hidden.
    pub(super) fn visibility_timeout(&self) -> i64 {
        self.number(&VISIBILITY_TIMEOUT)
    }

    /// Seconds before a sent message can be received.
    pub(super) fn delay(&self) -> i64 {
        self.number(&DELAY)
    }

    /// Bytes.
    pub(super) fn max_message_size(&self) -> i64 {
        self.number(&MAX_MESSAGE_SIZE)
    }

    /// Seconds a message is kept.
    pub(super) fn retention(&self) -> i64 {
        self.number(&RETENTION)
    }

    /// Seconds a receive waits if it does not say.
    pub(super) fn receive_wait(&self) -> i64 {
        self.number(&RECEIVE_WAIT)
    }

    pub(super) fn deduplicates_by_content(&self) -> bool {
        self.0
            .get(CONTENT_BASED_DEDUPLICATION)
            .is_some_and(|value| value == "true")
    }

    /// Whether two groups may have messages of one deduplication id.
    pub(super) fn deduplicates_in_groups(&self) -> bool {
        let scope = self.0.get(DEDUPLICATION_SCOPE);
        scope.is_some_and(|scope| scope == BY_GROUP)
    }

    pub(super) fn redrive_policy(&self) -> Option<RedrivePolicy> {
        RedrivePolicy::parse(self.0.get(REDRIVE_POLICY)?)
    }

    fn number(&self, number: &Number) -> i64 {
        let set = self.0.get(number.name).and_then(|value| value.parse().ok());
        set.unwrap_or(number.default)
    }
}

/// The value of an attribute as it is kept.
fn check(queue: &QueueName, name: &str, value: &str) -> Result<String, Fault> {
    let invalid = || {
        let message = format!("Invalid value for the parameter {name}.");
        Fault::new(Kind::InvalidAttributeValue, message)
    };
    if let Some(number) = NUMBERS.iter().find(|number| number.name == name) {
        let value: i64 = value.parse().map_err(|_| invalid())?;
        return number
            .range
            .contains(&value)
            .then(|| value.to_string())
            .ok_or_else(invalid);
    }
    if let Some((_, words)) = WORDS.iter().find(|(known, _)| *known == name)
        && queue.is_fifo()
    {
        let is_known = words.contains(&value);
        return is_known.then(|| value.to_owned()).ok_or_else(invalid);
    }
    match name {
        REDRIVE_POLICY => match RedrivePolicy::parse(value) {
            Some(policy) => Ok(policy.to_string()),
            None => Err(Fault::invalid(format!(
                "Value {value} for parameter RedrivePolicy is invalid."
            ))),
        },
        FIFO_QUEUE if queue.is_fifo() == (value == "true") => Ok(value.to_owned()),
        FIFO_QUEUE => Err(Fault::invalid(
            "The name of a FIFO queue can only include alphanumeric characters, hyphens, or \
             underscores, must end with .fifo suffix and be 1 to 80 in length",
        )),
        name if INERT.contains(&name) => Ok(value.to_owned()),
        _ => Err(Fault::new(
            Kind::InvalidAttributeName,
            format!("Unknown Attribute {name}."),
        )),
    }
}

/// Where messages go that were received too often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RedrivePolicy {
    pub(super) dead_letters: QueueName,
    /// A message received this often is moved instead of being received again.
    pub(super) max_receives: i64,
}

impl RedrivePolicy {
    /// `CloudFormation` writes `maxReceiveCount` as a number, the CLI's users often as a string.
    fn parse(json: &str) -> Option<Self> {
        let policy: Value = serde_json::from_str(json).ok()?;
        let count = policy.get("maxReceiveCount")?;
        let max_receives = count.as_i64().or_else(|| count.as_str()?.parse().ok())?;
        let dead_letters = QueueName::from_arn(policy.get("deadLetterTargetArn")?.as_str()?)?;
        (1..=1000).contains(&max_receives).then_some(Self {
            dead_letters,
            max_receives,
        })
    }
}

impl std::fmt::Display for RedrivePolicy {
    /// The form in which a policy is kept and compared.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            dead_letters,
            max_receives,
        } = self;
        let arn = dead_letters.arn();
        write!(
            f,
            r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":{max_receives}}}"#
        )
    }
}
