//! What a function is told by its environment.

use std::fmt;

use super::connections::CONNECTIONS_PER_USER;
use crate::{
    domain::{secret::SecretHash, webhook::Targets},
    providers::models::DefaultModel,
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

/// What seals provider keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultSource {
    /// This key of AWS KMS: its id, ARN or alias.
    Kms(String),
    /// It was given: the hash of its secret.
    Given(SecretHash),
}

/// What a function is told that keeps provider keys.
#[derive(Debug, Clone)]
pub struct KeySettings {
    /// What seals them.
    pub vault: VaultSource,
    /// Where providers may be.
    pub targets: Targets,
}

/// What a function is told that asks models.
#[derive(Debug, Clone)]
pub struct ModelSettings {
    /// What it asks them with.
    pub keys: KeySettings,
    /// The model of who has not chosen one.
    pub default: DefaultModel,
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
    /// `SWEEP_QUEUE`, and optionally `MASTER_API_KEY` and `SINGLE_WRITER=1`.
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
        let secret = variables.operator(&settings);
        variables.found((settings, secret))
    }

    /// The same as [`Settings::of_operator`] for the function that keeps provider keys: `PROVIDER_KEYS_KEY`, the key of KMS
    /// that seals them, or else that key itself, `SEALING_KEY`; and `MODEL_TARGETS`, where providers may be, `public` (as
    /// without it) or `any`.
    pub fn of_keeper(
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<(Self, Option<String>, KeySettings), BadSettings> {
        let mut variables = Variables::new(get);
        let settings = Self::read(&mut variables);
        let secret = variables.operator(&settings);
        let keys = variables.keys();
        variables.found((settings, secret, keys))
    }

    /// The same for a function that asks models: as for the one that keeps provider keys, but the operator's key, and
    /// `DEFAULT_MODEL`, the provider and model of who has not chosen one, as in `openai/gpt-5`; `echo/echo-1` without it.
    pub fn of_models(
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<(Self, ModelSettings), BadSettings> {
        let mut variables = Variables::new(get);
        let settings = Self::read(&mut variables);
        let models = ModelSettings {
            keys: variables.keys(),
            default: variables.default_model(),
        };
        variables.found((settings, models))
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
            targets: variables.targets("WEBHOOK_TARGETS"),
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
                targets: variables.targets("WEBHOOK_TARGETS"),
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
            sweeps: queue("SWEEP_QUEUE"),
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
        SealingSource::Given(self.given("SEALING_KEY_SECRET"))
    }

    /// `SEALING_KEY`, without which `instead` is needed.
    fn given(&mut self, instead: &str) -> SecretHash {
        let key = self.text("SEALING_KEY");
        match &key {
            None => self.wrong.push(format!("{instead} is not set")),
            Some(key) if key.len() < SHORTEST_KEY => {
                let wrong = format!("SEALING_KEY has fewer than {SHORTEST_KEY} characters");
                self.wrong.push(wrong);
            }
            Some(_) => {}
        }
        SecretHash::of(key.unwrap_or_default().as_bytes())
    }

    /// The secret that holds the operator's key, without which `settings` must have that key.
    fn operator(&mut self, settings: &Settings) -> Option<String> {
        let secret = self.text("MASTER_API_KEY_SECRET");
        if secret.is_none() && settings.master.is_none() {
            let wrong = "MASTER_API_KEY_SECRET is not set";
            self.wrong.push(wrong.to_owned());
        }
        secret
    }

    fn keys(&mut self) -> KeySettings {
        let vault = match self.text("PROVIDER_KEYS_KEY") {
            Some(key) => VaultSource::Kms(key),
            None => VaultSource::Given(self.given("PROVIDER_KEYS_KEY")),
        };
        KeySettings {
            vault,
            targets: self.targets("MODEL_TARGETS"),
        }
    }

    fn default_model(&mut self) -> DefaultModel {
        let Some(text) = self.text("DEFAULT_MODEL") else {
            return DefaultModel::default();
        };
        text.parse().unwrap_or_else(|_| {
            let wrong = "DEFAULT_MODEL is not a provider and a model";
            self.wrong.push(wrong.to_owned());
            DefaultModel::default()
        })
    }

    fn targets(&mut self, name: &str) -> Targets {
        match self.text(name).as_deref() {
            None | Some("public") => Targets::Public,
            Some("any") => Targets::Any,
            Some(_) => {
                let wrong = format!("{name} is neither public nor any");
                self.wrong.push(wrong);
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
            "FANOUT_QUEUE" | "SWEEP_QUEUE" => Some(QUEUE.to_owned()),
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
                let queue = ["FANOUT_QUEUE", "DELIVERY_QUEUE", "SWEEP_QUEUE"].contains(&name);
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
    fn who_asks_models_needs_a_key_that_seals_in_either_way() {
        let with = |given: &'static [(&str, &str)]| {
            Settings::of_models(move |name| {
                let table = TABLES.contains(&name).then_some("a-table");
                let queue = ["FANOUT_QUEUE", "DELIVERY_QUEUE", "SWEEP_QUEUE"].contains(&name);
                let queue = queue.then_some(QUEUE);
                let given = given
                    .iter()
                    .find(|(it, _)| *it == name)
                    .map(|(_, value)| *value);
                table.or(queue).or(given).map(ToOwned::to_owned)
            })
            .map(|(_, models)| {
                let KeySettings { vault, targets } = models.keys;
                let default = format!("{}/{}", models.default.provider, models.default.model);
                (vault, targets, default)
            })
            .map_err(|error| error.to_string())
        };
        assert_eq!(
            with(&[("DEFAULT_MODEL", "gpt-5"), ("MODEL_TARGETS", "all")]),
            Err(
                "environment variables: PROVIDER_KEYS_KEY is not set, MODEL_TARGETS is neither public nor any, \
                 DEFAULT_MODEL is not a provider and a model"
                    .to_owned()
            )
        );
        let echo = "echo/echo-1".to_owned();
        let kms = VaultSource::Kms("alias/parlance".to_owned());
        assert_eq!(
            with(&[("PROVIDER_KEYS_KEY", "alias/parlance")]),
            Ok((kms, Targets::Public, echo))
        );
        let key = "a key of enough characters";
        let given = VaultSource::Given(SecretHash::of(key.as_bytes()));
        let model = "openai/org/gpt-5".to_owned();
        assert_eq!(
            with(&[
                ("SEALING_KEY", "a key of enough characters"),
                ("MODEL_TARGETS", "any"),
                ("DEFAULT_MODEL", "openai/org/gpt-5"),
            ]),
            Ok((given, Targets::Any, model))
        );
    }

    #[test]
    fn a_table_is_a_name_or_an_arn_and_a_queue_is_a_url() {
        let table = "arn:aws:dynamodb:eu-west-1:123456789012:table/Keys";
        let get = |name: &str| match name {
            "POISON_QUEUE" | "FANOUT_QUEUE" | "DELIVERY_QUEUE" | "SWEEP_QUEUE" => {
                Some(QUEUE.to_owned())
            }
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
