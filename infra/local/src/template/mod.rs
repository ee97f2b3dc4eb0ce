//! What `template.yaml` says of tables, queues, streams and settings.
//!
//! It is compiled in, so that there is one definition for AWS and for one machine. Locally, a
//! resource is named by its logical id.

mod cloudformation;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use yaml_serde::Value;

use cloudformation::{
    FunctionProperties, QueueEvent, ScheduleEvent, StreamEvent, TableProperties, Template,
};

/// The template of this repository.
const TEMPLATE: &str = include_str!("../../../../template.yaml");

/// Ends the name of each FIFO queue.
const FIFO: &str = ".fifo";

/// The part of a template that one machine needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// The tables, in the order of the template.
    pub tables: Vec<Table>,
    /// The queues, each after the dead-letter queue it names.
    pub queues: Vec<Queue>,
    /// Which function consumes which stream.
    pub streams: Vec<StreamMapping>,
    /// Which function consumes which queue.
    pub consumers: Vec<QueueMapping>,
    /// Which function runs how often.
    pub schedules: Vec<Schedule>,
    /// What every function finds in its environment.
    pub environment: BTreeMap<String, String>,
}

/// An `AWS::DynamoDB::Table`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its logical id.
    pub name: String,
    /// The attributes that keys are made of.
    pub attributes: Vec<Attribute>,
    /// Its primary key.
    pub key: Vec<KeyPart>,
    /// Its global secondary indexes.
    pub indexes: Vec<Index>,
    /// What its stream shows, if it has one: `NEW_IMAGE` and so on.
    pub stream: Option<String>,
    /// The attribute that holds the second of expiry, if items expire.
    pub ttl: Option<String>,
}

/// An attribute that a key is made of.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Attribute {
    /// Its name.
    pub attribute_name: String,
    /// `S`, `N` or `B`.
    pub attribute_type: String,
}

/// One part of a key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct KeyPart {
    /// The attribute.
    pub attribute_name: String,
    /// `HASH` or `RANGE`.
    pub key_type: String,
}

/// A global secondary index.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Index {
    /// Its name.
    pub index_name: String,
    /// Its key.
    pub key_schema: Vec<KeyPart>,
    /// What it holds.
    pub projection: Projection,
}

/// What an index holds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Projection {
    /// `ALL`, `KEYS_ONLY` or `INCLUDE`.
    pub projection_type: String,
    /// What `INCLUDE` includes.
    #[serde(default)]
    pub non_key_attributes: Vec<String>,
}

/// An `AWS::SQS::Queue`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its logical id, with the `.fifo` that a FIFO queue's name must have.
    pub name: String,
    /// Its attributes as the SQS API takes them, but for the redrive policy.
    pub attributes: BTreeMap<String, String>,
    /// Where messages go that were received too often.
    pub redrive: Option<Redrive>,
}

/// A redrive policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redrive {
    /// The name of the dead-letter queue.
    pub dead_letters: String,
    /// After so many receives.
    pub max_receives: u32,
}

/// A function that consumes a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamMapping {
    /// The function's logical id.
    pub function: String,
    /// The table whose stream it is.
    pub table: String,
    /// The most records it gets at once.
    pub batch_size: usize,
    /// How long records may be gathered.
    pub window: Duration,
}

/// A function that consumes a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueMapping {
    /// The function's logical id.
    pub function: String,
    /// The queue.
    pub queue: String,
    /// The most messages it gets at once.
    pub batch_size: usize,
}

/// A function that runs by the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The function's logical id.
    pub function: String,
    /// How often.
    pub every: Duration,
}

/// Why a template could not be read, in one line.
#[derive(Debug)]
pub struct TemplateError(String);

impl TemplateError {
    /// Because of `reason`.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "template.yaml: {}", self.0)
    }
}

impl std::error::Error for TemplateError {}

impl Stack {
    /// The stack of the template that was compiled in.
    pub fn compiled_in() -> Result<Self, TemplateError> {
        Self::parse(TEMPLATE)
    }

    /// Reads a template.
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        let template: Template = yaml_serde::from_str(template).map_err(error)?;
        let mut stack = Self {
            tables: Vec::new(),
            queues: Vec::new(),
            streams: Vec::new(),
            consumers: Vec::new(),
            schedules: Vec::new(),
            environment: BTreeMap::new(),
        };
        for (name, resource) in template.resources {
            let properties = resource.properties;
            match resource.kind.as_str() {
                "AWS::DynamoDB::Table" => stack.tables.push(table(name, properties)?),
                "AWS::SQS::Queue" => stack.queues.push(queue(name, properties)?),
                "AWS::Serverless::Function" => {
                    stack.function(&name, properties)?;
                }
                // APIs, log groups, roles: AWS's own.
                _ => {}
            }
        }
        // A FIFO queue is not called what it is referred to as.
        let names: Vec<_> = stack
            .queues
            .iter()
            .map(|queue| queue.name.clone())
            .collect();
        let called = |referred: &str| {
            let fifo = format!("{referred}{FIFO}");
            if names.contains(&fifo) {
                fifo
            } else {
                referred.to_owned()
            }
        };
        for redrive in stack.queues.iter_mut().filter_map(|it| it.redrive.as_mut()) {
            redrive.dead_letters = called(&redrive.dead_letters);
        }
        for mapping in &mut stack.consumers {
            mapping.queue = called(&mapping.queue);
        }
        // Dead-letter queues have none themselves, so this puts each before those that name it.
        stack.queues.sort_by_key(|queue| queue.redrive.is_some());
        for (name, value) in template.globals.function.environment.variables {
            let value = scalar(&value)
                .or_else(|| tagged(&value, "Ref").map(called))
                .ok_or_else(|| error(format!("the variable {name} is neither plain nor a !Ref")))?;
            stack.environment.insert(name, value);
        }
        Ok(stack)
    }
}

impl Stack {
    /// Notes what feeds a function.
    fn function(&mut self, name: &str, properties: Value) -> Result<(), TemplateError> {
        let properties: FunctionProperties = typed(name, properties)?;
        for source in properties.events.into_values() {
            match source.kind.as_str() {
                "DynamoDB" => self.streams.push(stream_mapping(name, source.properties)?),
                "SQS" => self.consumers.push(queue_mapping(name, source.properties)?),
                "ScheduleV2" => self.schedules.push(schedule(name, source.properties)?),
                // Routes are the gateway's.
                _ => {}
            }
        }
        Ok(())
    }
}

fn table(name: String, properties: Value) -> Result<Table, TemplateError> {
    let properties: TableProperties = typed(&name, properties)?;
    Ok(Table {
        name,
        attributes: properties.attribute_definitions,
        key: properties.key_schema,
        indexes: properties.global_secondary_indexes,
        stream: properties
            .stream_specification
            .map(|stream| stream.stream_view_type),
        ttl: properties
            .time_to_live_specification
            .filter(|ttl| ttl.enabled)
            .map(|ttl| ttl.attribute_name),
    })
}

fn queue(name: String, properties: Value) -> Result<Queue, TemplateError> {
    let mut queue = Queue {
        name,
        attributes: BTreeMap::new(),
        redrive: None,
    };
    let properties: BTreeMap<String, Value> = match properties {
        Value::Null => BTreeMap::new(),
        properties => typed(&queue.name, properties)?,
    };
    for (property, value) in properties {
        match property.as_str() {
            "RedrivePolicy" => queue.redrive = Some(redrive(&queue.name, &value)?),
            // The name is chosen here; tags, policies and keys mean nothing on one machine.
            "QueueName"
            | "Tags"
            | "RedriveAllowPolicy"
            | "KmsMasterKeyId"
            | "SqsManagedSseEnabled" => {}
            _ => {
                let value = scalar(&value).ok_or_else(|| {
                    error(format!(
                        "{property} of the queue {} is not plain",
                        queue.name
                    ))
                })?;
                queue.attributes.insert(property, value);
            }
        }
    }
    if queue
        .attributes
        .get("FifoQueue")
        .is_some_and(|fifo| fifo == "true")
    {
        queue.name.push_str(FIFO);
    }
    Ok(queue)
}

fn redrive(queue: &str, policy: &Value) -> Result<Redrive, TemplateError> {
    let read = || {
        let target = tagged(policy.get("deadLetterTargetArn")?, "GetAtt")?;
        let receives = scalar(policy.get("maxReceiveCount")?)?;
        Some(Redrive {
            dead_letters: target.strip_suffix(".Arn")?.to_owned(),
            max_receives: receives.parse().ok()?,
        })
    };
    read().ok_or_else(|| {
        error(format!(
            "the redrive policy of the queue {queue} is not plain"
        ))
    })
}

fn stream_mapping(function: &str, properties: Value) -> Result<StreamMapping, TemplateError> {
    let event: StreamEvent = typed(function, properties)?;
    let table = tagged(&event.stream, "GetAtt").and_then(|it| it.strip_suffix(".StreamArn"));
    let table = table.ok_or_else(|| {
        error(format!(
            "a stream of {function} is not `!GetAtt Table.StreamArn`"
        ))
    })?;
    Ok(StreamMapping {
        function: function.to_owned(),
        table: table.to_owned(),
        batch_size: event.batch_size,
        window: Duration::from_secs(event.maximum_batching_window_in_seconds),
    })
}

fn queue_mapping(function: &str, properties: Value) -> Result<QueueMapping, TemplateError> {
    let event: QueueEvent = typed(function, properties)?;
    let queue = tagged(&event.queue, "GetAtt").and_then(|it| it.strip_suffix(".Arn"));
    let queue =
        queue.ok_or_else(|| error(format!("a queue of {function} is not `!GetAtt Queue.Arn`")))?;
    Ok(QueueMapping {
        function: function.to_owned(),
        queue: queue.to_owned(),
        batch_size: event.batch_size,
    })
}

/// `rate(1 minute)`, `rate(5 minutes)`, and so for hours.
fn schedule(function: &str, properties: Value) -> Result<Schedule, TemplateError> {
    let event: ScheduleEvent = typed(function, properties)?;
    let read = || {
        let rate = event.schedule_expression.strip_prefix("rate(")?;
        let (count, unit) = rate.strip_suffix(')')?.split_once(' ')?;
        let unit = match unit.trim_end_matches('s') {
            "minute" => 60,
            "hour" => 3_600,
            _ => return None,
        };
        let count: u64 = count.parse().ok()?;
        Some(Duration::from_secs(count * unit))
    };
    let every = read().ok_or_else(|| {
        let expression = &event.schedule_expression;
        error(format!(
            "the schedule {expression} of {function} is not a rate"
        ))
    })?;
    Ok(Schedule {
        function: function.to_owned(),
        every,
    })
}

fn typed<T: DeserializeOwned>(resource: &str, value: Value) -> Result<T, TemplateError> {
    yaml_serde::from_value(value).map_err(|reason| error(format!("{resource}: {reason}")))
}

/// The argument of `!tag argument`.
fn tagged<'a>(value: &'a Value, tag: &str) -> Option<&'a str> {
    match value {
        Value::Tagged(tagged) if tagged.tag == tag => tagged.value.as_str(),
        _ => None,
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn error(reason: impl fmt::Display) -> TemplateError {
    TemplateError(reason.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(table: &Table) -> (Vec<&str>, Vec<&str>, Option<&str>, Option<&str>) {
        (
            table
                .key
                .iter()
                .map(|part| part.attribute_name.as_str())
                .collect(),
            table
                .indexes
                .iter()
                .map(|index| index.index_name.as_str())
                .collect(),
            table.stream.as_deref(),
            table.ttl.as_deref(),
        )
    }

    #[test]
    fn the_repositorys_template_holds_the_seven_tables() {
        let stack = Stack::compiled_in().unwrap();
        let tables: BTreeMap<_, _> = stack
            .tables
            .iter()
            .map(|table| (table.name.as_str(), shape(table)))
            .collect();
        let expected = BTreeMap::from([
            ("Tenants", (vec!["pk", "sk"], vec![], None, None)),
            ("Keys", (vec!["pk"], vec![], None, Some("ttl"))),
            ("Rooms", (vec!["pk", "sk"], vec!["by_user"], None, None)),
            (
                "Messages",
                (vec!["pk", "sk"], vec![], Some("NEW_IMAGE"), None),
            ),
            (
                "Events",
                (vec!["pk"], vec![], Some("NEW_IMAGE"), Some("ttl")),
            ),
            (
                "Deliveries",
                (vec!["pk"], vec!["dead", "by_subject"], None, Some("ttl")),
            ),
            ("Guards", (vec!["pk"], vec![], None, Some("ttl"))),
        ]);
        assert_eq!(tables, expected);
    }

    #[test]
    fn the_repositorys_template_names_its_queues_their_consumers_and_its_settings() {
        let stack = Stack::compiled_in().unwrap();
        let poison = stack.queues.iter().find(|queue| queue.name == "Poison");
        assert_eq!(
            poison.unwrap().attributes["MessageRetentionPeriod"],
            "1209600"
        );
        let stream = |function: &str, table: &str, batch_size, window| StreamMapping {
            function: function.to_owned(),
            table: table.to_owned(),
            batch_size,
            window: Duration::from_secs(window),
        };
        assert_eq!(
            stack.streams,
            [
                stream("HeadsFunction", "Messages", 1000, 1),
                stream("FanoutFunction", "Events", 100, 0),
                stream("FanoutFunction", "Messages", 100, 0),
            ]
        );
        let consumer = QueueMapping {
            function: "LiveFunction".to_owned(),
            queue: "FanoutQueue".to_owned(),
            batch_size: 10,
        };
        assert!(stack.consumers.contains(&consumer));
        assert_eq!(stack.environment["MESSAGES_TABLE"], "Messages");
        assert_eq!(stack.environment["FANOUT_QUEUE"], "FanoutQueue");
    }

    #[test]
    fn a_function_that_runs_by_the_clock_has_a_rate() {
        let stack = |expression: &str| {
            Stack::parse(&format!(
                "
                Resources:
                  Clock:
                    Type: AWS::Serverless::Function
                    Properties:
                      Events:
                        Tick: {{ Type: ScheduleV2, Properties: {{ ScheduleExpression: '{expression}' }} }}
                "
            ))
        };
        let every = |expression| stack(expression).unwrap().schedules[0].every;
        assert_eq!(every("rate(1 minute)"), Duration::from_mins(1));
        assert_eq!(every("rate(2 hours)"), Duration::from_hours(2));
        assert!(stack("cron(0 12 * * ? *)").is_err());
    }

    #[test]
    fn a_dead_letter_queue_comes_before_the_queue_that_names_it() {
        let stack = Stack::parse(
            "
            Resources:
              Jobs:
                Type: AWS::SQS::Queue
                Properties:
                  FifoQueue: true
                  VisibilityTimeout: 60
                  RedrivePolicy: { deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 5 }
              Dead:
                Type: AWS::SQS::Queue
                Properties: { FifoQueue: true }
            ",
        )
        .unwrap();
        let names: Vec<_> = stack
            .queues
            .iter()
            .map(|queue| queue.name.as_str())
            .collect();
        assert_eq!(names, ["Dead.fifo", "Jobs.fifo"]);
        let redrive = Redrive {
            dead_letters: "Dead.fifo".to_owned(),
            max_receives: 5,
        };
        assert_eq!(stack.queues[1].redrive, Some(redrive));
        assert_eq!(stack.queues[1].attributes["VisibilityTimeout"], "60");
    }

    #[test]
    fn a_fifo_queue_is_consumed_and_sent_to_by_the_name_that_it_has() {
        let stack = Stack::parse(
            "
            Globals:
              Function:
                Environment: { Variables: { JOBS: !Ref Jobs } }
            Resources:
              Worker:
                Type: AWS::Serverless::Function
                Properties:
                  Events:
                    Job: { Type: SQS, Properties: { Queue: !GetAtt Jobs.Arn } }
              Jobs:
                Type: AWS::SQS::Queue
                Properties: { FifoQueue: true }
            ",
        )
        .unwrap();
        let named = (
            stack.queues[0].name.as_str(),
            stack.consumers[0].queue.as_str(),
            stack.environment["JOBS"].as_str(),
        );
        assert_eq!(named, ("Jobs.fifo", "Jobs.fifo", "Jobs.fifo"));
    }
}
