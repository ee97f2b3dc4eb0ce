//! What every function is given beside routes and permissions.

use std::collections::BTreeMap;

use super::{TEMPLATE, binary_of, events, function, functions, resources, tagged};

/// What is decided for each function, each time with a reason.
const DECIDED: [&str; 3] = ["MemorySize:", "Timeout:", "ReservedConcurrentExecutions:"];

#[test]
fn every_function_keeps_its_logs_for_a_while_only() {
    let groups: BTreeMap<_, _> = resources(TEMPLATE, "AWS::Logs::LogGroup")
        .into_iter()
        .collect();
    for (name, function) in functions() {
        let group = &function["Properties"]["LoggingConfig"]["LogGroup"];
        let group = &groups[tagged(group, "Ref").unwrap()]["Properties"];
        let retention = tagged(&group["RetentionInDays"], "Ref");
        assert_eq!(retention, Some("LogRetentionDays"), "{name}");
        let named = tagged(&group["LogGroupName"], "Sub").unwrap();
        assert_eq!(
            named,
            format!("/aws/lambda/${{AWS::StackName}}-{}", binary_of(&function))
        );
    }
    for (name, group) in groups {
        let retention = tagged(&group["Properties"]["RetentionInDays"], "Ref");
        assert_eq!(retention, Some("LogRetentionDays"), "{name}");
    }
}

#[test]
fn every_function_says_what_memory_and_time_it_has() {
    for (name, function) in functions() {
        let number = |property: &str| function["Properties"][property].as_u64();
        let memory = number("MemorySize").unwrap_or_default();
        assert!((128..=256).contains(&memory), "{name}: {memory} MB");
        let time_out = number("Timeout").unwrap_or_default();
        // API Gateway answers for a function after 30 s; an attempt's lease is over after 60.
        let longest = if events(&function, "SQS").is_empty() {
            30
        } else {
            59
        };
        assert!((5..=longest).contains(&time_out), "{name}: {time_out} s");
    }
}

/// A reason is a comment above the first of such lines.
#[test]
fn memory_time_and_reserved_concurrency_have_their_reasons() {
    let lines: Vec<_> = TEMPLATE.lines().map(str::trim).collect();
    let is_decided = |line: &str| DECIDED.iter().any(|it| line.starts_with(it));
    let mut found = 0;
    for (number, line) in lines.iter().enumerate() {
        if !is_decided(line) {
            continue;
        }
        found += 1;
        let above = lines[..number].iter().rev().find(|line| !is_decided(line));
        let reason = above.is_some_and(|line| line.starts_with('#'));
        assert!(reason, "line {}: {line} has no reason", number + 1);
    }
    assert!(found >= 2 * functions().len(), "{found} lines");
}

#[test]
fn functions_that_strangers_reach_or_wait_for_are_capped_unless_told_otherwise() {
    for binary in [
        "admin",
        "health",
        "edge",
        "webhooks",
        "keys",
        "chats",
        "chat-stream",
        "sweep",
    ] {
        let cap = &function(binary)["Properties"]["ReservedConcurrentExecutions"];
        let template: yaml_serde::Value = yaml_serde::from_str(TEMPLATE).unwrap();
        assert_eq!(template["Parameters"]["CapConcurrency"]["Default"], "true");
        let yaml_serde::Value::Tagged(cap) = cap else {
            panic!("{binary} is not capped");
        };
        assert_eq!(cap.value[0], "Capped", "{binary}");
    }
}

/// What the account has left is for all others: Lambda wants 100 of it. The parameters and the docs say how much that is.
#[test]
fn what_the_caps_set_aside_is_what_is_said_of_it() {
    const LEAST_LEFT: u64 = 100;
    let template: yaml_serde::Value = yaml_serde::from_str(TEMPLATE).unwrap();
    let caps: u64 = functions()
        .iter()
        .filter_map(
            |(_, it)| match &it["Properties"]["ReservedConcurrentExecutions"] {
                yaml_serde::Value::Tagged(cap) => cap.value[1].as_u64(),
                _ => None,
            },
        )
        .sum();
    let at_once = &template["Parameters"]["QueueConcurrency"]["Default"];
    let queues = 2 * at_once.as_u64().unwrap();
    let said = &template["Parameters"]["CapConcurrency"]["Description"];
    assert!(
        said.as_str().unwrap().contains(&format!("sets {caps} of")),
        "{caps}"
    );
    let docs = include_str!("../../../docs/deploy.md");
    for said in [
        format!("sets {caps} of"),
        format!("less than {}", caps + LEAST_LEFT),
        format!("so {} leaves 100", caps + queues + 100),
    ] {
        assert!(docs.contains(&said), "{said}");
    }
}

/// A stream has as many shards as its table is busy, and one that waits for a turn falls behind.
#[test]
fn functions_that_read_streams_are_not_capped() {
    for binary in ["heads", "fanout"] {
        let cap = &function(binary)["Properties"]["ReservedConcurrentExecutions"];
        assert!(cap.is_null(), "{binary}");
    }
}
