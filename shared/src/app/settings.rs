//! What a function is told by its environment.

use std::fmt;

use crate::{domain::secret::SecretHash, queue::QueueUrls, store::Tables};

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
}

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
