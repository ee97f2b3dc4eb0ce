//! What the functions are told: exactly what their code reads.

use std::{cell::RefCell, collections::BTreeSet, fs, path::Path};

use parlance::app::Settings;
use yaml_serde::Value;

use super::{TEMPLATE, binary_of, functions};

/// Set where there is no template: by the one-machine runner, or by hand.
const ELSEWHERE: [&str; 4] = ["MASTER_API_KEY", "RUST_LOG", "SEALING_KEY", "SINGLE_WRITER"];

fn variables(of: &Value) -> BTreeSet<String> {
    let variables = of["Environment"]["Variables"].as_mapping();
    variables
        .into_iter()
        .flat_map(yaml_serde::Mapping::keys)
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

fn told_to_all() -> BTreeSet<String> {
    let template: Value = yaml_serde::from_str(TEMPLATE).unwrap();
    variables(&template["Globals"]["Function"])
}

#[test]
fn every_function_is_told_the_settings_that_all_read_and_no_others() {
    let read = RefCell::new(BTreeSet::new());
    let settings = Settings::from_env(|name| {
        read.borrow_mut().insert(name.to_owned());
        let is_queue = name.ends_with("_QUEUE");
        Some(if is_queue { "https://told" } else { "told" }.to_owned())
    });
    assert!(settings.is_ok());
    let mut read = read.into_inner();
    read.retain(|name| !ELSEWHERE.contains(&name.as_str()));
    assert_eq!(told_to_all(), read);
}

/// The names in capitals that are handed to a call, below a folder of sources: `need("GUARDS_TABLE")`.
fn read_below(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_below(&path, names);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            let arguments = source.split("(\"").skip(1);
            let arguments = arguments.filter_map(|call| call.split('"').next());
            names.extend(arguments.filter(|it| is_name(it)).map(ToOwned::to_owned));
        }
    }
}

fn is_name(argument: &str) -> bool {
    argument.contains('_') && argument.chars().all(|c| c == '_' || c.is_ascii_uppercase())
}

#[test]
fn the_functions_are_told_what_their_sources_read_and_nothing_else() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut read = BTreeSet::new();
    read_below(&root.join("shared"), &mut read);
    read_below(&root.join("functions"), &mut read);
    // The SDK's, and those that a build reads.
    let is_ours = |name: &str| !name.starts_with("AWS_") && !name.starts_with("CARGO_");
    read.retain(|name| is_ours(name) && !ELSEWHERE.contains(&name.as_str()));
    let mut told = told_to_all();
    for (_, function) in functions() {
        told.extend(variables(&function["Properties"]));
    }
    assert_eq!(told, read);
}

#[test]
fn only_who_needs_a_setting_of_its_own_has_one() {
    for (_, function) in functions() {
        let own: Vec<_> = variables(&function["Properties"]).into_iter().collect();
        let wanted: &[&str] = match binary_of(&function) {
            "admin" => &["MASTER_API_KEY_SECRET"],
            "heads" | "fanout" | "sweep" => &["POISON_QUEUE"],
            "live" => &["POISON_QUEUE", "SOCKETS_ENDPOINT"],
            "deliver" => &[
                "POISON_QUEUE",
                "SEALING_KEY_SECRET",
                "SOCKETS_ENDPOINT",
                "WEBHOOK_TARGETS",
            ],
            "chats" | "chat-stream" => &["DEFAULT_MODEL", "MODEL_TARGETS", "PROVIDER_KEYS_KEY"],
            "keys" => &[
                "MASTER_API_KEY_SECRET",
                "MODEL_TARGETS",
                "PROVIDER_KEYS_KEY",
            ],
            "webhooks" => &["SEALING_KEY_SECRET", "WEBHOOK_TARGETS"],
            "sockets" => &["CONNECTIONS_PER_USER", "SOCKETS_ENDPOINT"],
            _ => &[],
        };
        assert_eq!(own, wanted, "{}", binary_of(&function));
    }
}

#[test]
fn no_setting_is_a_secret() {
    let template: Value = yaml_serde::from_str(TEMPLATE).unwrap();
    for (name, parameter) in template["Parameters"].as_mapping().unwrap() {
        assert!(parameter["NoEcho"].is_null(), "{name:?} is a secret");
    }
    let told = functions()
        .iter()
        .flat_map(|(_, function)| variables(&function["Properties"]))
        .chain(told_to_all())
        .any(|name| ["MASTER_API_KEY", "SEALING_KEY"].contains(&name.as_str()));
    assert!(!told);
}

/// `name = "value"` lines of a section of `samconfig.toml`.
fn deploys(stage: &str) -> (String, BTreeSet<String>) {
    const CONFIG: &str = include_str!("../../../samconfig.toml");
    let section = CONFIG.split("\n[").find(|it| it.starts_with(stage));
    let section = section.unwrap_or_else(|| panic!("no {stage}"));
    let line = section
        .lines()
        .find_map(|line| line.strip_prefix("parameter_overrides = "));
    let names = line.unwrap_or_default().trim_matches('"').split(' ');
    let names = names.filter_map(|it| Some(it.split_once('=')?.0.to_owned()));
    (section.to_owned(), names.collect())
}

#[test]
fn the_stages_set_parameters_that_exist() {
    let template: Value = yaml_serde::from_str(TEMPLATE).unwrap();
    for stage in ["dev.deploy", "prod.deploy"] {
        let (section, names) = deploys(stage);
        assert!(names.len() > 3, "{stage}");
        for name in names {
            assert!(!template["Parameters"][name.as_str()].is_null(), "{name}");
        }
        // They are for any account.
        assert!(!section.contains("arn:"), "{stage}");
        for word in section.split(|c: char| !c.is_ascii_digit()) {
            assert!(word.len() < 12, "{stage} names an account");
        }
    }
}

#[test]
fn every_parameter_is_explained() {
    const DEPLOY: &str = include_str!("../../../docs/deploy.md");
    let template: Value = yaml_serde::from_str(TEMPLATE).unwrap();
    let table = DEPLOY.lines().filter(|line| line.starts_with("| `"));
    let explained: BTreeSet<_> = table
        .flat_map(|line| line.split('|').nth(1).unwrap().split(','))
        .map(|name| name.trim().trim_matches('`').to_owned())
        .collect();
    let parameters = template["Parameters"].as_mapping().unwrap().keys();
    let parameters = parameters.map(|name| name.as_str().unwrap().to_owned());
    assert_eq!(explained, parameters.collect());
}
