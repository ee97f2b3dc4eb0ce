//! Which methods each path takes, read from the API's description.

use std::{collections::BTreeMap, sync::OnceLock};

use matchit::Router;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::OPENAPI;

#[derive(Deserialize)]
struct Description {
    paths: BTreeMap<String, BTreeMap<String, Box<RawValue>>>,
}

/// The paths that describe the API itself.
const OWN: [&str; 2] = ["/openapi.json", "/docs"];
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// The methods that `path` takes; none if there is no such path.
pub(crate) fn allowed(path: &str) -> &'static [&'static str] {
    static TABLE: OnceLock<Router<Vec<&'static str>>> = OnceLock::new();
    TABLE
        .get_or_init(table)
        .at(path)
        .map_or(&[], |found| found.value.as_slice())
}

fn table() -> Router<Vec<&'static str>> {
    let mut table = Router::new();
    let described = serde_json::from_str(OPENAPI).unwrap_or_else(|error| {
        // A test reads the same file: this cannot be.
        tracing::error!(%error, "the API's description cannot be read");
        Description {
            paths: BTreeMap::new(),
        }
    });
    let own = OWN.map(|path| (path.to_owned(), vec!["GET"]));
    let described = described.paths.into_iter().map(|(path, operations)| {
        let methods = METHODS
            .into_iter()
            .filter(|method| operations.contains_key(&method.to_lowercase()))
            .collect();
        (path, methods)
    });
    for (path, methods) in own.into_iter().chain(described) {
        if let Err(error) = table.insert(&path, methods) {
            tracing::error!(%error, path, "a path of the API's description cannot be routed");
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_knows_its_methods() {
        assert_eq!(allowed("/health"), ["GET"]);
        assert_eq!(allowed("/rooms/room_1"), ["GET", "PATCH"]);
        assert_eq!(allowed("/docs"), ["GET"]);
        assert!(allowed("/nope").is_empty());
    }
}
