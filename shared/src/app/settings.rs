//! What a function is told by its environment.

use std::fmt;

use super::connections::CONNECTIONS_PER_USER;
use crate::{
    domain::{secret::SecretHash, webhook::Targets},
    queue::QueueUrls,
    store::Tables,
};

/// A function's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The tables.
    pub tables: Tables,
    /// The queues.
    pub queues: QueueUrls,
    /// The hash of the master key; without it nobody is the operator.
    pub master: Option<SecretHash>,
    /// Whether this is the only process that writes the tables, as the one-machine runner is.
    pub single_writer: bool,
    /// How many connections a user may have.
    pub connections_per_user: usize,
}

/// Where the key is that seals tenants' secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealingSource {
    /// In this secret of Secrets Manager.
    Secret(String),
    /// It was given: the hash of its secret.
    Given(SecretHash),
}

/// What a function is told that sends webhooks.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    /// Where the key is that seals their secrets.
    pub sealing: SealingSource,
    /// Where they may go.
    pub targets: Targets,
}

/// What the function is told that makes deliveries.
#[derive(Debug, Clone)]
pub struct DelivererSettings {
    /// The queue of what it cannot read.
    pub poison: String,
    /// How it sends webhooks.
    pub webhooks: WebhookSettings,
    /// Where connections are reached.
    pub sockets: String,
}

/// As few characters as a sealing key may have. A shorter one could be guessed.
const SHORTEST_KEY: usize = 24;

/// The settings without which the function cannot start: all of them at once, so that they are mended at once.
pub struct BadSettings(Vec<String>);

impl fmt::Display for BadSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "environment variables: {}", self.0.join(", "))
    }
}

/// As it is displayed: a `main` that fails prints this.
impl fmt::Debug for BadSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for BadSettings {}

impl Settings {
    /// Reads the settings through `get`: `TENANTS_TABLE`, `KEYS_TABLE`, `ROOMS_TABLE`,
    /// `MESSAGES_TABLE`, `EVENTS_TABLE`, `DELIVERIES_TABLE`, `GUARDS_TABLE`, `FANOUT_QUEUE`, `DELIVERY_QUEUE`,
    /// and optionally `MASTER_API_KEY` and `SINGLE_WRITER=1`.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, BadSettings> {
        let mut variables = Variables::new(get);
        let settings = Self::read(&mut variables);
        variables.found(settings)
    }

    /// The same for the operator's function, and the secret that holds the operator's key,
    /// `MASTER_API_KEY_SECRET`: without it, `MASTER_API_KEY` is needed.
    pub fn of_operator(
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<(Self, Option<String>), BadSettings> {
        let mut variables = Variables::new(get);
        let settings = Self::read(&mut variables);
        let secret = variables.text("MASTER_API_KEY_SECRET");
        if secret.is_none() && settings.master.is_none() {
            variables
                .wrong
                .push("MASTER_API_KEY_SECRET is not set".to_owned());
        }
        variables.found((settings, secret))
    }

    /// The same for a function that consumes a stream, and its `POISON_QUEUE`.
    pub fn of_consumer(
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<(Self, String), BadSettings> {
        let mut variables = Variables::new(get);
        let settings = Self::read(&mut variables);
        let poison = variables.need("POISON_QUEUE", "a queue URL", is_url);
        variables.found((settings, poison))
    }

    /// The same for a function that sends webhooks: `SEALING_KEY_SECRET`, the secret that holds the key that seals
    /// their secrets, or else that key itself, `SEALING_KEY`; and `WEBHOOK_TARGETS`, `public` (as without it) or `any`.
    pub fn of_webhooks(
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<(Self, WebhookSettings), BadSettings> {
        let mut variables = Variables::new(get);
        let settings = Self::read(&mut variables);
        let webhooks = WebhookSettings {
            sealing: variables.sealing(),
            targets: variables.targets(),
        };
        variables.found((settings, webhooks))
    }

    /// The same for the function that makes deliveries: it consumes a queue, sends webhooks and reaches connections, at
    /// `SOCKETS_ENDPOINT`.
    pub fn of_deliverer(
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<(Self, DelivererSettings), BadSettings> {
        let mut variables = Variables::new(get);
        let settings = Self::read(&mut variables);
        let deliverer = DelivererSettings {
            poison: variables.need("POISON_QUEUE", "a queue URL", is_url),
            webhooks: WebhookSettings {
                sealing: variables.sealing(),
                targets: variables.targets(),
            },
            sockets: variables.need("SOCKETS_ENDPOINT", "a URL", is_url),
        };
        variables.found((settings, deliverer))
    }

    /// The same for the function that tells who is connected: it consumes a queue, with its `POISON_QUEUE`, and
    /// reaches connections, at `SOCKETS_ENDPOINT`.
    pub fn of_teller(
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<(Self, String, String), BadSettings> {
        let mut variables = Variables::new(get);
        let settings = Self::read(&mut variables);
        let poison = variables.need("POISON_QUEUE", "a queue URL", is_url);
        let sockets = variables.need("SOCKETS_ENDPOINT", "a URL", is_url);
        variables.found((settings, poison, sockets))
    }

    /// The same for a function that takes connections: their limit for each user, `CONNECTIONS_PER_USER`, and where
    /// they are reached, `SOCKETS_ENDPOINT`.
    pub fn of_gateway(get: impl Fn(&str) -> Option<String>) -> Result<(Self, String), BadSettings> {
        let mut variables = Variables::new(get);
        let mut settings = Self::read(&mut variables);
        let limit = variables.need("CONNECTIONS_PER_USER", "a number from 1 to 100", is_limit);
        settings.connections_per_user = limit.parse().unwrap_or(CONNECTIONS_PER_USER);
        let endpoint = variables.need("SOCKETS_ENDPOINT", "a URL", is_url);
        variables.found((settings, endpoint))
    }

    fn read<F: Fn(&str) -> Option<String>>(variables: &mut Variables<F>) -> Self {
        let mut table = |name| variables.need(name, "a table name", is_table);
        let tables = Tables {
            tenants: table("TENANTS_TABLE"),
            keys: table("KEYS_TABLE"),
            rooms: table("ROOMS_TABLE"),
            messages: table("MESSAGES_TABLE"),
            events: table("EVENTS_TABLE"),
            deliveries: table("DELIVERIES_TABLE"),
            guards: table("GUARDS_TABLE"),
        };
        let mut queue = |name| variables.need(name, "a queue URL", is_url);
        let queues = QueueUrls {
            fanout: queue("FANOUT_QUEUE"),
            deliveries: queue("DELIVERY_QUEUE"),
        };
        Self {
            tables,
            queues,
            master: variables
                .text("MASTER_API_KEY")
                .map(|key| SecretHash::of(key.as_bytes())),
            single_writer: variables.text("SINGLE_WRITER").as_deref() == Some("1"),
            connections_per_user: CONNECTIONS_PER_USER,
        }
    }
}

/// Variables, and what is wrong with those that were needed.
struct Variables<F> {
    get: F,
    wrong: Vec<String>,
}

impl<F: Fn(&str) -> Option<String>> Variables<F> {
    const fn new(get: F) -> Self {
        Self {
            get,
            wrong: Vec::new(),
        }
    }

    /// A variable's value, unless it is empty.
    fn text(&self, name: &str) -> Option<String> {
        (self.get)(name).filter(|value| !value.is_empty())
    }

    /// The value of a variable that must be `what`; anything, if it is not.
    fn need(&mut self, name: &str, what: &str, is: impl Fn(&str) -> bool) -> String {
        match self.text(name) {
            Some(value) if is(&value) => value,
            Some(_) => {
                self.wrong.push(format!("{name} is not {what}"));
                String::new()
            }
            None => {
                self.wrong.push(format!("{name} is not set"));
                String::new()
            }
        }
    }

    fn sealing(&mut self) -> SealingSource {
        if let Some(secret) = self.text("SEALING_KEY_SECRET") {
            return SealingSource::Secret(secret);
        }
        let key = self.text("SEALING_KEY");
        match &key {
            None => self.wrong.push("SEALING_KEY_SECRET is not set".to_owned()),
            Some(key) if key.len() < SHORTEST_KEY => {
                let wrong = format!("SEALING_KEY has fewer than {SHORTEST_KEY} characters");
                self.wrong.push(wrong);
            }
            Some(_) => {}
        }
        SealingSource::Given(SecretHash::of(key.unwrap_or_default().as_bytes()))
    }

    fn targets(&mut self) -> Targets {
        match self.text("WEBHOOK_TARGETS").as_deref() {
            None | Some("public") => Targets::Public,
            Some("any") => Targets::Any,
            Some(_) => {
                let wrong = "WEBHOOK_TARGETS is neither public nor any";
                self.wrong.push(wrong.to_owned());
                Targets::Public
            }
        }
    }

    fn found<T>(self, settings: T) -> Result<T, BadSettings> {
        if self.wrong.is_empty() {
            Ok(settings)
        } else {
            Err(BadSettings(self.wrong))
        }
    }
}

/// A name as DynamoDB takes it, or an ARN.
fn is_table(value: &str) -> bool {
    let of_name = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    value.starts_with("arn:") || (3..=255).contains(&value.len()) && value.chars().all(of_name)
}

fn is_limit(value: &str) -> bool {
    value
        .parse()
        .is_ok_and(|limit: usize| (1..=100).contains(&limit))
}

fn is_url(value: &str) -> bool {
    ["https://", "http://"]
        .into_iter()
        .filter_map(|scheme| value.strip_prefix(scheme))
        .any(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: [&str; 7] = [
        "TENANTS_TABLE",
        "KEYS_TABLE",
        "ROOMS_TABLE",
        "MESSAGES_TABLE",
        "EVENTS_TABLE",
        "DELIVERIES_TABLE",
        "GUARDS_TABLE",
    ];

    const QUEUE: &str = "https://sqs.eu-west-1.amazonaws.com/123456789012/Poison";

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let refused = Settings::of_consumer(|name| match name {
            "KEYS_TABLE" => Some("a name".to_owned()),
            "ROOMS_TABLE" => Some(String::new()),
            "FANOUT_QUEUE" => Some(QUEUE.to_owned()),
            "POISON_QUEUE" => Some("Poison".to_owned()),
            name if TABLES[3..].contains(&name) => Some("Table".to_owned()),
            _ => None,
        });
        assert_eq!(
            refused.unwrap_err().to_string(),
            "environment variables: TENANTS_TABLE is not set, KEYS_TABLE is not a table name, \
             ROOMS_TABLE is not set, DELIVERY_QUEUE is not set, POISON_QUEUE is not a queue URL"
        );
    }

    #[test]
    fn the_operators_function_needs_the_operators_key_in_either_way() {
        let with = |given: &'static str| {
            Settings::of_operator(move |name| {
                if name.contains("QUEUE") {
                    return Some(QUEUE.to_owned());
                }
                let is_given = name == given || TABLES.contains(&name);
                is_given.then(|| "a-value".to_owned())
            })
        };
        assert_eq!(
            with("nothing").unwrap_err().to_string(),
            "environment variables: MASTER_API_KEY_SECRET is not set"
        );
        assert_eq!(with("MASTER_API_KEY").unwrap().1, None);
        let (settings, secret) = with("MASTER_API_KEY_SECRET").unwrap();
        assert_eq!(
            (settings.master, secret.as_deref()),
            (None, Some("a-value"))
        );
    }

    #[test]
    fn who_sends_webhooks_needs_a_sealing_key_in_either_way() {
        let with = |given: &'static [(&str, &str)]| {
            Settings::of_webhooks(move |name| {
                let table = TABLES.contains(&name).then_some("a-table");
                let queue = ["FANOUT_QUEUE", "DELIVERY_QUEUE"].contains(&name);
                let queue = queue.then_some(QUEUE);
                let given = given
                    .iter()
                    .find(|(it, _)| *it == name)
                    .map(|(_, value)| *value);
                table.or(queue).or(given).map(ToOwned::to_owned)
            })
            .map(|(_, webhooks)| (webhooks.sealing, webhooks.targets))
            .map_err(|error| error.to_string())
        };
        let wrong = |what: &str| Err(format!("environment variables: {what}"));
        assert_eq!(with(&[]), wrong("SEALING_KEY_SECRET is not set"));
        let short = [("SEALING_KEY", "short"), ("WEBHOOK_TARGETS", "all")];
        let both =
            "SEALING_KEY has fewer than 24 characters, WEBHOOK_TARGETS is neither public nor any";
        assert_eq!(with(Vec::from(short).leak()), wrong(both));
        let kept = SealingSource::Secret("arn".to_owned());
        let told = [("SEALING_KEY_SECRET", "arn"), ("WEBHOOK_TARGETS", "any")];
        assert_eq!(with(Vec::from(told).leak()), Ok((kept, Targets::Any)));
        let key = "a key of enough characters";
        let given = SealingSource::Given(SecretHash::of(key.as_bytes()));
        assert_eq!(
            with(Vec::from([("SEALING_KEY", key)]).leak()),
            Ok((given, Targets::Public))
        );
    }

    #[test]
    fn a_table_is_a_name_or_an_arn_and_a_queue_is_a_url() {
        let table = "arn:aws:dynamodb:eu-west-1:123456789012:table/Keys";
        let get = |name: &str| match name {
            "POISON_QUEUE" | "FANOUT_QUEUE" | "DELIVERY_QUEUE" => Some(QUEUE.to_owned()),
            "KEYS_TABLE" => Some(table.to_owned()),
            name => TABLES.contains(&name).then(|| "parlance-1.x_Y".to_owned()),
        };
        let (settings, poison) = Settings::of_consumer(get).unwrap();
        assert_eq!(
            (settings.tables.keys.as_str(), poison.as_str()),
            (table, QUEUE)
        );
        assert!(settings.master.is_none() && !settings.single_writer);
    }
}
