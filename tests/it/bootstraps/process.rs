//! A process from its start to its end.

use std::time::Duration;

use parlance_lambda::Function;

use super::{deployment, folder};
use crate::support::{World, deployed::Deployed, world_over};

/// What Lambda gives a process whose start takes long.
const START: Duration = Duration::from_secs(10);
/// What Lambda gives a process to end, if an extension has registered.
const GRACE: Duration = Duration::from_secs(2);
/// Those that are fed by a stream or a queue.
const CONSUMERS: [&str; 5] = [
    "DeliverFunction",
    "FanoutFunction",
    "HeadsFunction",
    "LiveFunction",
    "SweepFunction",
];

fn functions(world: &World) -> Vec<Function> {
    let Deployed { lambda, .. } = world.deployed.as_ref().unwrap();
    lambda.functions().cloned().collect()
}

#[tokio::test]
async fn every_function_starts_and_ends_well_when_it_is_told_to() {
    let Some(world) = deployment().await else {
        return;
    };
    for function in functions(&world) {
        let name = &function.definition().name;
        let process = function.start().await.unwrap();
        process.ready(START).await.unwrap();

        let end = process.stop(GRACE).await;

        assert!(end.status.success(), "{name}: {} {}", end.status, end.log);
        assert_eq!(end.log, "", "{name}");
    }
}

/// What every function says that was started with `variables` changed.
async fn refusals(variables: &[(&str, Option<&str>)]) -> Vec<(String, String)> {
    let Some(folder) = folder() else {
        return Vec::new();
    };
    let world = world_over(|client| client).await;
    let world = world.deployed_at(&folder, &world.served(), |definitions| {
        for definition in definitions {
            for (name, value) in variables {
                match value {
                    Some(value) => {
                        let variable = definition.environment.get_mut(*name);
                        if let Some(variable) = variable {
                            (*value).clone_into(variable);
                        }
                    }
                    None => drop(definition.environment.remove(*name)),
                }
            }
        }
    });
    let mut refusals = Vec::new();
    for function in functions(&world) {
        let name = function.definition().name.clone();
        let mut process = function.start().await.unwrap();
        assert!(process.ready(START).await.is_err(), "{name} started");
        let end = process.end().await;
        assert_eq!(end.status.code(), Some(1), "{name}");
        refusals.push((name, end.log));
    }
    assert!(!refusals.is_empty());
    refusals
}

#[tokio::test]
async fn a_function_names_all_settings_that_it_misses_and_does_not_start() {
    let tables = [
        "TENANTS_TABLE",
        "KEYS_TABLE",
        "ROOMS_TABLE",
        "MESSAGES_TABLE",
        "EVENTS_TABLE",
        "DELIVERIES_TABLE",
        "GUARDS_TABLE",
    ];
    let mut missing: Vec<_> = tables.iter().map(|name| (*name, None)).collect();
    missing.extend(
        [
            "FANOUT_QUEUE",
            "DELIVERY_QUEUE",
            "SWEEP_QUEUE",
            "POISON_QUEUE",
        ]
        .map(|name| (name, None)),
    );
    for (function, log) in refusals(&missing).await {
        let is_consumer = CONSUMERS.contains(&function.as_str());
        for (name, _) in &missing {
            let expected = is_consumer || *name != "POISON_QUEUE";
            let says = log.contains(&format!("{name} is not set"));
            assert_eq!(says, expected, "{function}, {name}: {log}");
        }
    }
}

#[tokio::test]
async fn a_function_names_all_settings_that_are_malformed_and_does_not_start() {
    let malformed = [
        ("KEYS_TABLE", Some("a name")),
        ("GUARDS_TABLE", Some("ab")),
        ("POISON_QUEUE", Some("Poison")),
    ];
    for (function, log) in refusals(&malformed).await {
        assert!(log.contains("KEYS_TABLE is not a table name"), "{log}");
        assert!(log.contains("GUARDS_TABLE is not a table name"), "{log}");
        let says = log.contains("POISON_QUEUE is not a queue URL");
        let is_consumer = CONSUMERS.contains(&function.as_str());
        assert_eq!(says, is_consumer, "{function}: {log}");
    }
}
