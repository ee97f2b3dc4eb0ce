//! What the template lets a function do.

use std::{collections::BTreeSet, fmt};

use yaml_serde::Value;

use super::{TEMPLATE, each, function, functions, resources, tagged};

/// An action on a thing of the template.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Grant {
    /// `dynamodb:Query` and so on.
    pub(super) action: String,
    /// `Rooms`, `Rooms/index/by_user`, `Messages/stream`, `Poison`, `WebSocketApi/connections`, or `*`.
    pub(super) on: String,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.action, self.on)
    }
}

impl Grant {
    pub(super) fn new(action: impl Into<String>, on: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            on: on.into(),
        }
    }

    /// Whether Lambda does it for the function, and not the function's code.
    fn is_lambdas(&self) -> bool {
        const POLLER: [&str; 9] = [
            "dynamodb:DescribeStream",
            "dynamodb:GetRecords",
            "dynamodb:GetShardIterator",
            "dynamodb:ListStreams",
            "s3:ListBucket",
            "s3:PutObject",
            "sqs:DeleteMessage",
            "sqs:GetQueueAttributes",
            "sqs:ReceiveMessage",
        ];
        self.action.starts_with("logs:") || POLLER.contains(&self.action.as_str())
    }
}

/// All that the role of the function whose binary is `binary` allows by itself.
fn role(binary: &str) -> BTreeSet<Grant> {
    let role = &function(binary)["Properties"]["Role"];
    let role = tagged(role, "GetAtt").and_then(|role| role.strip_suffix(".Arn"));
    let roles = resources(TEMPLATE, "AWS::IAM::Role");
    let (_, role) = roles
        .iter()
        .find(|(name, _)| Some(name.as_str()) == role)
        .unwrap_or_else(|| panic!("{binary} has no role of its own"));
    let properties = &role["Properties"];
    assert!(properties["ManagedPolicyArns"].is_null(), "{binary}");
    let mut grants = BTreeSet::new();
    for policy in each(&properties["Policies"]) {
        for statement in each(&policy["PolicyDocument"]["Statement"]) {
            assert_eq!(statement["Effect"], "Allow");
            for action in each(&statement["Action"]) {
                for resource in each(&statement["Resource"]) {
                    grants.insert(Grant::new(action.as_str().unwrap(), thing(&resource)));
                }
            }
        }
    }
    grants
}

/// The partitions to which the role of the function confines a grant, as patterns; none if it is for all of them.
pub(super) fn limited(binary: &str, grant: &Grant) -> Vec<String> {
    let name = function(binary)["Properties"]["Role"].clone();
    let name = tagged(&name, "GetAtt").and_then(|role| role.strip_suffix(".Arn"));
    let roles = resources(TEMPLATE, "AWS::IAM::Role").into_iter();
    let mut patterns = Vec::new();
    for (_, role) in roles.filter(|(it, _)| Some(it.as_str()) == name) {
        for policy in each(&role["Properties"]["Policies"]) {
            for statement in each(&policy["PolicyDocument"]["Statement"]) {
                let actions = each(&statement["Action"]);
                let on = each(&statement["Resource"]);
                if !actions.iter().any(|it| *it == *grant.action)
                    || !on.iter().any(|it| thing(it) == grant.on)
                {
                    continue;
                }
                let like = &statement["Condition"]["ForAllValues:StringLike"];
                let keys = each(&like["dynamodb:LeadingKeys"]);
                if keys.is_empty() {
                    return Vec::new();
                }
                patterns.extend(keys.iter().map(|it| it.as_str().unwrap().to_owned()));
            }
        }
    }
    patterns
}

/// What the code of the function whose binary is `binary` may do.
pub(super) fn granted(binary: &str) -> BTreeSet<Grant> {
    let mut grants = role(binary);
    grants.retain(|grant| !grant.is_lambdas());
    grants
}

/// The thing that a statement's resource names.
fn thing(resource: &Value) -> String {
    let read = || {
        if let Some(attribute) = tagged(resource, "GetAtt") {
            let stream = attribute.strip_suffix(".StreamArn");
            return stream
                .map(|table| format!("{table}/stream"))
                .or_else(|| Some(attribute.strip_suffix(".Arn")?.to_owned()));
        }
        let connections = tagged(resource, "Sub")
            .and_then(|arn| arn.strip_suffix("/live/*/@connections/*"))
            .and_then(|arn| arn.rsplit_once(":${"));
        if let Some((_, api)) = connections {
            return Some(format!("{}/connections", api.strip_suffix('}')?));
        }
        if let Some(index) = tagged(resource, "Sub") {
            let (table, index) = index.strip_prefix("${")?.split_once(".Arn}")?;
            return Some(format!("{table}{index}"));
        }
        if let Value::Tagged(choice) = resource
            && choice.tag == "If"
        {
            // What is made here, or what there is already.
            return Some(thing(&choice.value[1]));
        }
        tagged(resource, "Ref")
            .or_else(|| resource.as_str())
            .map(ToOwned::to_owned)
    };
    read().unwrap_or_else(|| panic!("{resource:?} is not a resource that this test understands"))
}

#[test]
fn a_function_may_write_its_own_logs_and_no_others() {
    for (name, function) in functions() {
        let logs = tagged(&function["Properties"]["LoggingConfig"]["LogGroup"], "Ref").unwrap();
        let mut found = role(super::binary_of(&function));
        found.retain(|grant| grant.action.starts_with("logs:"));
        let wanted = ["logs:CreateLogStream", "logs:PutLogEvents"];
        let wanted = wanted.map(|action| Grant::new(action, logs));
        assert_eq!(found, BTreeSet::from(wanted), "{name}");
    }
}

#[test]
fn a_function_may_be_fed_from_the_streams_and_queues_it_consumes_and_no_others() {
    for (name, function) in functions() {
        let mut wanted = BTreeSet::new();
        for event in super::events(&function, "DynamoDB") {
            let stream = thing(&event["Stream"]);
            for action in ["DescribeStream", "GetRecords", "GetShardIterator"] {
                wanted.insert(Grant::new(format!("dynamodb:{action}"), &stream));
            }
            wanted.insert(Grant::new("dynamodb:ListStreams", "*"));
            // Where Lambda puts what it gives up.
            let aside = thing(&event["DestinationConfig"]["OnFailure"]["Destination"]);
            wanted.insert(Grant::new("s3:PutObject", format!("{aside}/*")));
            wanted.insert(Grant::new("s3:ListBucket", aside));
        }
        for event in super::events(&function, "SQS") {
            let queue = thing(&event["Queue"]);
            for action in ["DeleteMessage", "GetQueueAttributes", "ReceiveMessage"] {
                wanted.insert(Grant::new(format!("sqs:{action}"), &queue));
            }
        }
        let mut found = role(super::binary_of(&function));
        found.retain(|grant| grant.is_lambdas() && !grant.action.starts_with("logs:"));
        assert_eq!(found, wanted, "{name}");
    }
}

#[test]
fn no_action_is_granted_by_a_pattern() {
    for (_, function) in functions() {
        for grant in role(super::binary_of(&function)) {
            assert!(!grant.action.contains('*'), "{grant:?}");
            assert!(grant.on != "*" || grant.action == "dynamodb:ListStreams");
        }
    }
}

/// What several roles have in common: the use of a customer's key, and traces.
fn shared_by(policy: &str) -> BTreeSet<String> {
    let policies = resources(TEMPLATE, "AWS::IAM::Policy");
    let (_, policy) = policies.iter().find(|(name, _)| name == policy).unwrap();
    each(&policy["Properties"]["Roles"])
        .iter()
        .map(|role| tagged(role, "Ref").unwrap().to_owned())
        .collect()
}

#[test]
fn who_reads_or_writes_what_a_customers_key_encrypts_may_use_the_key() {
    let encrypted = |grant: &Grant| !grant.action.starts_with("sqs:");
    let wanted = functions()
        .into_iter()
        .filter(|(_, function)| granted(super::binary_of(function)).iter().any(encrypted))
        .map(|(name, _)| name.replace("Function", "Role"))
        .collect();
    assert_eq!(shared_by("UseOfKey"), wanted);
}

#[test]
fn who_sends_to_queues_or_receives_from_them_may_use_the_key_that_encrypts_them() {
    let mut wanted: BTreeSet<_> = functions()
        .into_iter()
        .filter(|(_, function)| {
            let grants = role(super::binary_of(function));
            grants.iter().any(|grant| grant.action.starts_with("sqs:"))
        })
        .map(|(name, _)| name.replace("Function", "Role"))
        .collect();
    wanted.insert("ScheduleRole".to_owned());
    assert_eq!(shared_by("UseOfQueuesKey"), wanted);
}

/// Lambda puts what they give up into a bucket in their name.
#[test]
fn who_may_put_into_a_bucket_may_use_the_key_that_encrypts_it() {
    let wanted: BTreeSet<_> = functions()
        .into_iter()
        .filter(|(_, function)| {
            let grants = role(super::binary_of(function));
            grants.iter().any(|grant| grant.action == "s3:PutObject")
        })
        .map(|(name, _)| name.replace("Function", "Role"))
        .collect();
    assert_eq!(shared_by("UseOfBucketsKey"), wanted);
    // Nobody else has the use of S3.
    for (name, policy) in resources(TEMPLATE, "AWS::IAM::Policy") {
        let text = yaml_serde::to_string(&policy).unwrap();
        assert_eq!(text.contains("s3."), name == "UseOfBucketsKey", "{name}");
    }
}

#[test]
fn every_function_may_be_traced() {
    let wanted = functions()
        .into_iter()
        .map(|(name, _)| name.replace("Function", "Role"))
        .collect();
    assert_eq!(shared_by("Traces"), wanted);
}
