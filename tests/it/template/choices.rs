//! What the stack is with other parameters: conditions and rules, worked out as CloudFormation does.

use std::collections::BTreeMap;

use yaml_serde::{Value, value::TaggedValue};

use super::{TEMPLATE, each, resources};

const KEY: &str = "arn:aws:kms:eu-west-1:123456789012:key/one";
const CERTIFICATE: &str = "arn:aws:acm:eu-west-1:123456789012:certificate/one";

/// The template with parameters that somebody has chosen, and its own defaults for the others.
struct Chosen {
    template: Value,
    parameters: BTreeMap<String, String>,
}

/// The template with these parameters, in eu-west-1 if nothing else is said.
fn with(chosen: &[(&str, &str)]) -> Chosen {
    let template: Value = yaml_serde::from_str(TEMPLATE).unwrap();
    let mut parameters = BTreeMap::from([("AWS::Region".to_owned(), "eu-west-1".to_owned())]);
    for (name, parameter) in template["Parameters"].as_mapping().unwrap() {
        let default = match &parameter["Default"] {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other => panic!("{name:?} has the default {other:?}"),
        };
        parameters.insert(name.as_str().unwrap().to_owned(), default);
    }
    for (name, value) in chosen {
        let known = parameters.insert((*name).to_owned(), (*value).to_owned());
        assert!(known.is_some(), "there is no parameter {name}");
    }
    Chosen {
        template,
        parameters,
    }
}

impl Chosen {
    /// What `value` comes to. A reference to a resource is its name.
    fn resolve(&self, value: &Value) -> Value {
        let Value::Tagged(tagged) = value else {
            return value.clone();
        };
        let TaggedValue { tag, value } = tagged.as_ref();
        let arguments = each(value);
        let holds = |of: &Value| self.holds(of);
        if tag == "Ref" {
            let name = value.as_str().unwrap();
            if name == "AWS::NoValue" {
                return Value::Null;
            }
            let known = self.parameters.get(name);
            return Value::String(known.map_or(name, String::as_str).to_owned());
        }
        if tag == "If" {
            let choice = if holds(&arguments[0]) { 1 } else { 2 };
            return self.resolve(&arguments[choice]);
        }
        let text = |of: &Value| match self.resolve(of) {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            other => panic!("{other:?} is compared"),
        };
        if tag == "Equals" {
            return Value::Bool(text(&arguments[0]) == text(&arguments[1]));
        }
        if tag == "Not" {
            return Value::Bool(!holds(&arguments[0]));
        }
        if tag == "And" {
            return Value::Bool(arguments.iter().all(holds));
        }
        if tag == "Or" {
            return Value::Bool(arguments.iter().any(holds));
        }
        if tag == "Condition" {
            return Value::Bool(self.holds(value));
        }
        value.clone()
    }

    /// Whether a condition holds, by its name or as it is written.
    fn holds(&self, condition: &Value) -> bool {
        let condition = match condition.as_str() {
            Some(name) => &self.template["Conditions"][name],
            None => condition,
        };
        self.resolve(condition).as_bool().unwrap()
    }

    /// Why CloudFormation refuses these parameters.
    fn refusals(&self) -> Vec<String> {
        let mut refusals = Vec::new();
        for rule in self.template["Rules"].as_mapping().unwrap().values() {
            if !self.holds(&rule["RuleCondition"]) {
                continue;
            }
            for it in each(&rule["Assertions"]) {
                if !self.holds(&it["Assert"]) {
                    refusals.push(it["AssertDescription"].as_str().unwrap().to_owned());
                }
            }
        }
        refusals
    }

    /// What an output says, if it is there.
    fn output(&self, name: &str) -> Option<String> {
        let output = &self.template["Outputs"][name];
        assert!(!output.is_null(), "{name}");
        let is_there = output["Condition"].is_null() || self.holds(&output["Condition"]);
        is_there.then(|| self.resolve(&output["Value"]).as_str().unwrap().to_owned())
    }

    /// Whether the stack makes a resource.
    fn makes(&self, name: &str) -> bool {
        let resource = &self.template["Resources"][name];
        assert!(!resource.is_null(), "{name}");
        resource["Condition"].is_null() || self.holds(&resource["Condition"])
    }
}

#[track_caller]
fn assert_refused(chosen: &[(&str, &str)], why: &str) {
    let refusals = with(chosen).refusals();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert!(refusals[0].contains(why), "{refusals:?}");
}

#[track_caller]
fn assert_allowed(chosen: &[(&str, &str)]) {
    assert_eq!(with(chosen).refusals(), [""; 0]);
}

#[test]
fn no_rule_refuses_the_defaults() {
    assert_allowed(&[]);
}

#[test]
fn a_name_without_a_certificate_is_refused() {
    let name = ("DomainName", "api.example.com");
    assert_refused(&[name], "needs CertificateArn");
    assert_allowed(&[name, ("CertificateArn", CERTIFICATE)]);
}

/// Else it would be left out without a word.
#[test]
fn a_name_of_the_sockets_that_cannot_be_made_is_refused() {
    let certificate = ("CertificateArn", CERTIFICATE);
    let (name, sockets) = (
        ("DomainName", "api.example.com"),
        ("WebSocketDomainName", "live.example.com"),
    );
    assert_refused(&[sockets], "beside DomainName");
    let fronted = [
        name,
        sockets,
        certificate,
        ("Front", "true"),
        ("AWS::Region", "us-east-1"),
    ];
    assert_refused(&fronted, "without Front");
    assert_allowed(&[name, sockets, certificate]);
}

/// Nothing of it is there before, so a refusal here leaves nothing behind.
#[test]
fn a_web_acl_that_cannot_be_made_is_refused_before_anything_is() {
    let front = ("Front", "true");
    assert_refused(&[front], "us-east-1");
    assert_allowed(&[front, ("AWS::Region", "us-east-1")]);
    let own = "arn:aws:wafv2:us-east-1:123456789012:global/webacl/one/two";
    assert_allowed(&[front, ("WebAclArn", own)]);
}

#[test]
fn a_stack_whose_failures_nobody_is_told_says_so_and_names_only_what_it_has() {
    let (mail, unwatched) = (("AlarmEmail", "a@example.com"), ("Watch", "false"));
    let warning = |chosen: &[(&str, &str)]| with(chosen).output("AlarmsReachNobody");
    assert_eq!(warning(&[mail]), None);
    assert!(warning(&[]).unwrap().contains("AlarmTopic"));
    assert!(with(&[]).output("AlarmTopic").is_some());
    for chosen in [&[unwatched][..], &[mail, unwatched]] {
        let told = warning(chosen).unwrap();
        assert!(told.contains("Watch=true") && !told.contains("AlarmTopic"));
        assert_eq!(with(chosen).output("AlarmTopic"), None);
    }
}

#[test]
fn secrets_and_the_bucket_are_under_the_key_of_choice() {
    let key_of = |properties: &Value, kind: &str| match kind {
        "AWS::S3::Bucket" => {
            let rule = &properties["BucketEncryption"]["ServerSideEncryptionConfiguration"][0];
            rule["ServerSideEncryptionByDefault"]["KMSMasterKeyID"].clone()
        }
        _ => properties["KmsKeyId"].clone(),
    };
    for kind in ["AWS::SecretsManager::Secret", "AWS::S3::Bucket"] {
        let found = resources(TEMPLATE, kind);
        assert!(!found.is_empty(), "{kind}");
        for (name, resource) in found {
            let key = key_of(&resource["Properties"], kind);
            let own = with(&[("EncryptionKey", KEY)]).resolve(&key);
            assert_eq!(own, KEY, "{name}");
            for other in ["owned", "managed"] {
                let key = with(&[("EncryptionKey", other)]).resolve(&key);
                assert!(key.is_null(), "{name} under {other}");
            }
        }
    }
}

/// What it sealed opens with it alone, so one that is named goes before the key of all else.
#[test]
fn the_keys_of_providers_are_sealed_by_the_key_of_choice_and_no_other_is_made() {
    let named = "arn:aws:kms:eu-west-1:123456789012:key/two";
    let mut told = 0;
    for (name, function) in super::functions() {
        let key = &function["Properties"]["Environment"]["Variables"]["PROVIDER_KEYS_KEY"];
        if key.is_null() {
            continue;
        }
        told += 1;
        for (chosen, sealed_by) in [
            (&[][..], "ProviderKeys.Arn"),
            (&[("EncryptionKey", KEY)], KEY),
            (
                &[("EncryptionKey", KEY), ("ProviderKeysKeyArn", named)],
                named,
            ),
            (&[("ProviderKeysKeyArn", named)], named),
        ] {
            let stack = with(chosen);
            assert_eq!(stack.resolve(key), sealed_by, "{name} with {chosen:?}");
            let is_made = sealed_by == "ProviderKeys.Arn";
            assert_eq!(stack.makes("ProviderKeys"), is_made, "{chosen:?}");
        }
    }
    assert_eq!(told, 3);
}
