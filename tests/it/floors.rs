//! The house keeps its floors: `domain` ← `store` ← `app` ← `http` ← `runtime` ← `functions` ← `infra`.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The floors, a crate each under `shared/`, with their heights.
const FLOORS: [(&str, usize); 7] = [
    ("domain", 0),
    ("store", 1),
    ("queue", 1),
    ("providers", 1),
    ("app", 2),
    ("http", 3),
    ("runtime", 4),
];
/// What a floor must not know, besides the floors above it.
const FOREIGN: [(&str, &[&str]); 4] = [
    (
        "domain",
        &[
            "aws_",
            "axum",
            "lambda_",
            "SystemTime",
            "getrandom",
            "Uuid::new_v",
            "OffsetDateTime::now",
        ],
    ),
    (
        "store",
        &["axum", "lambda_", "SystemTime", "getrandom", "StatusCode"],
    ),
    (
        "providers",
        &["axum", "lambda_", "SystemTime", "getrandom", "StatusCode"],
    ),
    (
        "app",
        &["axum", "lambda_", "SystemTime", "getrandom", "StatusCode"],
    ),
];

/// The files of a floor: a folder, or one file of its name.
fn sources(folder: &Path) -> Vec<PathBuf> {
    if !folder.is_dir() {
        return vec![folder.with_extension("rs")];
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The code of a file without its comments.
fn code(path: &Path) -> String {
    fs::read_to_string(path)
        .unwrap()
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The floors that the crate of `floor` depends on, tests aside.
fn below(floor: &str) -> Vec<&'static str> {
    let manifest = root().join("shared").join(floor).join("Cargo.toml");
    let manifest = fs::read_to_string(manifest).unwrap();
    let (_, dependencies) = manifest.split_once("\n[dependencies]\n").unwrap();
    let dependencies = dependencies.split("\n[").next().unwrap();
    let named = |floor: &&str| dependencies.contains(&format!("parlance-{floor}.workspace"));
    FLOORS.into_iter().map(|(it, _)| it).filter(named).collect()
}

/// Cargo refuses circles, and whatever a crate does not depend on.
#[test]
fn no_floor_depends_on_one_that_is_not_below_it() {
    let mut found = 0;
    for (floor, height) in FLOORS {
        for used in below(floor) {
            let (_, of_it) = FLOORS.into_iter().find(|(it, _)| *it == used).unwrap();
            assert!(of_it < height, "{floor} depends on {used}");
            found += 1;
        }
    }
    assert!(found >= 10, "{found}");
}

#[test]
fn no_floor_knows_what_is_not_its_own() {
    for (floor, foreign) in FOREIGN {
        for path in sources(&root().join("shared").join(floor).join("src")) {
            let code = code(&path);
            for word in foreign {
                assert!(!code.contains(word), "{} uses {word}", path.display());
            }
        }
    }
}

#[test]
fn functions_know_neither_each_other_nor_the_runner() {
    let functions: Vec<_> = fs::read_dir(root().join("functions"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    for function in &functions {
        let manifest = fs::read_to_string(function.join("Cargo.toml")).unwrap();
        for other in &functions {
            let name = other.file_name().unwrap().to_str().unwrap();
            assert!(
                !manifest.contains(&format!("\n{name}.workspace")),
                "{} depends on {name}",
                function.display()
            );
        }
        assert!(
            !manifest.contains("parlance-local"),
            "{}",
            function.display()
        );
    }
}
