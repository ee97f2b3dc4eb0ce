//! The house keeps its floors: `domain` ← `store` ← `app` ← `http` ← `runtime` ← `functions` ← `infra`.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The floors of the shared crate, with their heights.
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

/// The floors that `code` imports from the crate's root, also in nested imports.
fn imports(code: &str) -> Vec<&'static str> {
    let flat: String = code.split_whitespace().collect();
    FLOORS
        .into_iter()
        .map(|(floor, _)| floor)
        .filter(|floor| {
            let nested = flat.split("usecrate::{").skip(1).any(|import| {
                let import = import.split(';').next().unwrap_or_default();
                import.starts_with(&format!("{floor}::")) || import.contains(&format!(",{floor}::"))
            });
            nested || flat.contains(&format!("crate::{floor}"))
        })
        .collect()
}

#[test]
fn no_floor_uses_a_higher_one() {
    for (floor, height) in FLOORS {
        for path in sources(&root().join("shared/src").join(floor)) {
            for used in imports(&code(&path)) {
                let (_, above) = FLOORS
                    .into_iter()
                    .find(|(floor, _)| *floor == used)
                    .unwrap();
                assert!(
                    above < height || used == floor,
                    "{} uses {used}, which is not below {floor}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn no_floor_knows_what_is_not_its_own() {
    for (floor, foreign) in FOREIGN {
        for path in sources(&root().join("shared/src").join(floor)) {
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

#[test]
fn an_upward_import_would_be_found() {
    assert_eq!(imports("use crate::http::edge;"), ["http"]);
    assert_eq!(
        imports("use crate::{\n    domain::Error,\n    app::App,\n};"),
        ["domain", "app"]
    );
    assert!(imports("use super::item;").is_empty());
}
