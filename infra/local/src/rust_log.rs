//! `RUST_LOG`: what is logged.
//!
//! A directive that could be meant is not passed over: one that names no level, or a module of ours that logs nothing, is
//! refused. Targets of libraries are not checked.

use std::fmt;

use parlance::http::telemetry::OURS;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// What is logged if nobody says: of requests and batches, only those that failed.
const QUIET: &str = "info,parlance::request=warn,parlance::batch=warn";

/// The targets of our lines: the modules that log, and the two kinds of lines that have a name of their own.
const TARGETS: [&str; 51] = [
    "deliver",
    "fanout",
    "heads",
    "parlance::batch",
    "parlance::request",
    "parlance_app::answering",
    "parlance_app::chats::send",
    "parlance_app::crashes",
    "parlance_app::deliveries",
    "parlance_app::deliveries::held",
    "parlance_app::deliveries::overdue",
    "parlance_app::deliveries::redrive",
    "parlance_app::health",
    "parlance_app::live",
    "parlance_app::provider_keys",
    "parlance_app::tools::search",
    "parlance_app::uses",
    "parlance_app::webhooks",
    "parlance_app::webhooks::delivery",
    "parlance_http::counts",
    "parlance_http::serve",
    "parlance_http::telemetry",
    "parlance_http::telemetry::outages",
    "parlance_local::clock",
    "parlance_local::consistency",
    "parlance_local::descriptors",
    "parlance_local::dynamodb",
    "parlance_local::gateway",
    "parlance_local::gateway::connections",
    "parlance_local::housekeeping",
    "parlance_local::queues",
    "parlance_local::running",
    "parlance_local::sockets",
    "parlance_local::sockets::outbox",
    "parlance_local::sockets::upgrade",
    "parlance_local::sqs",
    "parlance_local::sqs::database",
    "parlance_local::storage",
    "parlance_local::stores",
    "parlance_local::streams",
    "parlance_local::streams::batch",
    "parlance_local::streams::checkpoints",
    "parlance_local::streams::retention",
    "parlance_providers::models::far",
    "parlance_providers::operator_key",
    "parlance_providers::outbound",
    "parlance_providers::sealing",
    "parlance_providers::webhook",
    "parlance_runtime::consume::queue",
    "parlance_runtime::consume::stream",
    "reconcile",
];

/// The filter that `asked` is, where lines are text. An empty one asks for nothing.
pub(crate) fn filter(asked: &str) -> Result<EnvFilter, String> {
    let asked = if asked.is_empty() { QUIET } else { asked };
    let wrong = |what: &dyn fmt::Display| {
        format!(
            "RUST_LOG={asked} is not understood: {what}. It looks like `warn` or `info,parlance::request=debug`"
        )
    };
    let words = asked.split(',').map(str::trim);
    let mut words = words.filter(|word| !word.is_empty()).peekable();
    if words.peek().is_none() {
        return Err(wrong(&"it names no level"));
    }
    for word in words {
        if word.parse::<LevelFilter>().is_ok() {
            continue;
        }
        // A word alone may be a target too, which is hardly ever meant.
        let is_target = OURS.contains(&word) || is_path(word) || word.contains(['=', '[']);
        if !is_target {
            return Err(wrong(&format_args!("{word:?} is no level")));
        }
        let target = word.split(['=', '[']).next().unwrap_or_default();
        if is_ours(target) && !is_printed(target) {
            let known = known();
            return Err(wrong(&format_args!(
                "no line of ours has the target {target:?}. There are {known}, and what is below them"
            )));
        }
    }
    EnvFilter::builder()
        .parse(asked)
        .map_err(|error| wrong(&error))
}

/// Whether `word` is the path of a module, as in `parlance::request`.
fn is_path(word: &str) -> bool {
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        !name.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    word.contains("::") && word.split("::").all(is_name)
}

/// Whether `target` is meant to be one of our lines'.
fn is_ours(target: &str) -> bool {
    let of = target.split("::").next().unwrap_or_default();
    of.starts_with("parlance") || OURS.contains(&of)
}

/// Whether a line of ours may have `target`, which is the beginning of a line's own as the filter takes it. A crate that
/// logs nothing yet is known too.
fn is_printed(target: &str) -> bool {
    OURS.contains(&target) || TARGETS.iter().any(|known| known.starts_with(target))
}

/// The first two names of each target.
fn known() -> String {
    let mut known = TARGETS.map(|target| {
        let mut ends = target.match_indices("::").map(|(end, _)| end);
        ends.nth(1).map_or(target, |end| &target[..end])
    });
    known.sort_unstable();
    let mut known = known.to_vec();
    known.dedup();
    known.join(", ")
}

/// The level that `asked` is, where lines are JSON. An empty one asks for nothing.
pub(crate) fn level(asked: &str) -> Result<LevelFilter, String> {
    let wrong = || {
        format!(
            "RUST_LOG={asked} is no level: with --log json it is one of error, warn, info, debug, trace, off"
        )
    };
    match (asked, asked.trim()) {
        ("", _) => Ok(LevelFilter::INFO),
        // It would be parsed as `error`.
        (_, "") => Err(wrong()),
        (_, level) => level.parse().map_err(|_| wrong()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn rust_log_is_levels_of_targets_or_a_level() {
        for good in [
            "",
            "warn",
            "off",
            "parlance",
            "parlance::request",
            "info,parlance::request=debug",
            "info,hyper=warn,",
            "hyper=warn",
            "hyper::client=debug",
            "[span]=debug",
        ] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in [
            "loud",
            "parlance=loud",
            "info,wran",
            " ",
            ",",
            " , ",
            "=",
            "::",
            "info;warn",
            "info warn",
        ] {
            let error = filter(bad).unwrap_err();
            assert!(
                error.starts_with(&format!("RUST_LOG={bad} is not understood")),
                "{error}"
            );
        }
        assert_eq!(level(""), Ok(LevelFilter::INFO));
        assert_eq!(level("WARN"), Ok(LevelFilter::WARN));
        for bad in ["loud", "parlance=debug", " ", ",", "info,"] {
            let error = level(bad).unwrap_err();
            assert!(
                error.starts_with(&format!("RUST_LOG={bad} is no level")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_target_of_ours_that_no_line_has_is_refused() {
        for good in [
            "parlance_app=debug",
            "parlance_app::live=debug",
            "parlance_local::streams[span]=debug",
            "live=debug",
            "rooms=debug",
        ] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in [
            "parlance::reqest",
            "parlance::reqest=debug",
            "info,parlance_app::rooms=debug",
            "parlance_lokal=debug",
            "parlance::request::body=debug",
            "live::push=debug",
        ] {
            let error = filter(bad).unwrap_err();
            assert!(error.contains("no line of ours has the target"), "{error}");
            assert!(error.contains(" parlance_http::counts, "), "{error}");
        }
    }

    /// The modules below `folder` whose lines have the target of their module, which is `path`.
    fn modules(folder: &Path, path: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let file = entry.unwrap().path();
            let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
            if file.is_dir() {
                if name != "tests" {
                    modules(&file, &format!("{path}::{name}"), found);
                }
                continue;
            }
            let text = fs::read_to_string(&file).unwrap();
            let mut lines = text.split("tracing::").skip(1);
            let logs = lines.any(|line| {
                let mut macros = ["error!(", "warn!(", "info!(", "debug!(", "trace!("].iter();
                let logs = macros.any(|it| line.starts_with(it));
                logs && !line
                    .split_once('(')
                    .unwrap()
                    .1
                    .trim_start()
                    .starts_with("target:")
            });
            if logs {
                found.insert(match name.as_str() {
                    "mod" | "lib" => path.to_owned(),
                    name => format!("{path}::{name}"),
                });
            }
        }
    }

    #[test]
    fn the_targets_are_those_of_all_modules_that_log() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut found = BTreeSet::from(["parlance::batch", "parlance::request"].map(str::to_owned));
        for floor in fs::read_dir(root.join("shared")).unwrap() {
            let floor = floor.unwrap();
            let name = floor.file_name().into_string().unwrap();
            // The one that names the floors says nothing.
            if floor.path().join("src").is_dir() {
                let path = format!("parlance_{name}");
                modules(&floor.path().join("src"), &path, &mut found);
            }
        }
        modules(&root.join("infra/local/src"), "parlance_local", &mut found);
        for function in fs::read_dir(root.join("functions")).unwrap() {
            let function = function.unwrap();
            let name = function.file_name().into_string().unwrap();
            modules(&function.path().join("src"), &name, &mut found);
        }
        assert_eq!(Vec::from_iter(found), TARGETS);
    }
}
