//! Whoever runs `sam build` builds every function: its list, the folders and the template name the same.

use std::{collections::BTreeSet, fs, path::Path};

use yaml_serde::Value;

const TEMPLATE: &str = include_str!("../../template.yaml");
const WORKSPACE: &str = include_str!("../../Cargo.toml");

/// The packages that `sam build` looks for binaries in.
fn built() -> BTreeSet<String> {
    let (_, section) = WORKSPACE
        .split_once("[workspace.metadata.lambda.build]")
        .unwrap();
    let list = section
        .lines()
        .find_map(|line| line.strip_prefix("packages = "));
    // A list of strings is the same in TOML and in JSON.
    serde_json::from_str(list.unwrap()).unwrap()
}

fn functions() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../functions")
}

fn folders() -> BTreeSet<String> {
    let folders = fs::read_dir(functions()).unwrap();
    folders
        .map(|folder| folder.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// What the packages in the folders are built to: a binary of their name, or those that they name.
fn binaries() -> BTreeSet<String> {
    let mut binaries = BTreeSet::new();
    for folder in folders() {
        let manifest = fs::read_to_string(functions().join(&folder).join("Cargo.toml")).unwrap();
        let sections = manifest.split("[[bin]]").skip(1);
        let named = sections.map(|section| {
            let name = section.lines().find_map(|it| it.strip_prefix("name = "));
            name.unwrap().trim_matches('"').to_owned()
        });
        let named: Vec<_> = named.collect();
        if named.is_empty() {
            binaries.insert(folder);
        } else {
            binaries.extend(named);
        }
    }
    binaries
}

fn deployed() -> BTreeSet<String> {
    let template: Value = yaml_serde::from_str(TEMPLATE).unwrap();
    let resources = template["Resources"].as_mapping().unwrap();
    resources
        .values()
        .filter_map(|it| it["Metadata"]["BuildProperties"]["Binary"].as_str())
        .map(str::to_owned)
        .collect()
}

#[test]
fn sam_builds_every_function_that_is_deployed_and_the_probes() {
    assert_eq!(deployed(), binaries());
    let mut expected = folders();
    expected.insert("probes".to_owned());
    assert_eq!(built(), expected);
}
