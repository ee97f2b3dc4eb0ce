//! Runs function binaries ("bootstraps") as AWS Lambda does, behind a gateway that makes the events of an
//! API Gateway HTTP API.
//!
//! ```text
//! HTTP request ── Gateway ── event ── Function ── Runtime API ── bootstrap (a process)
//!                    │                    │                          │
//!              routes of the       one invocation at a time     only what Lambda and
//!                template          per process, several           the template put into
//!                                       processes                  its environment
//! ```
//!
//! It exists so that the very files that are deployed can be tested and measured on one machine. What it does
//! as AWS does is said, with its source, where it is done. What it leaves out: a process is not frozen between
//! invocations, and a function at its limit of processes lets a request wait where Lambda would throttle it.

mod function;
mod gateway;
mod instance;
mod kms;
mod runtime_api;
mod secrets;
mod surroundings;
mod template;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub use function::Function;
pub use gateway::{Conflict, FunctionUrl, Gateway};
pub use instance::{End, Instance};
pub use kms::with_keys;
pub use runtime_api::Failure;
pub use secrets::with_secrets;
pub use surroundings::Surroundings;
pub use template::{Definition, Route, TemplateError, definitions, names};

/// The functions of a stack, each with its processes.
#[derive(Debug, Clone)]
pub struct Lambda(Arc<BTreeMap<String, Function>>);

impl Lambda {
    /// The functions that `definitions` describe, whose bootstraps are in `folder`. Their processes start when
    /// they are needed, on the Tokio runtime that this is called on.
    ///
    /// # Errors
    ///
    /// If a bootstrap is not in `folder`; the names of all that are missing.
    pub fn new(
        definitions: Vec<Definition>,
        folder: &Path,
        surroundings: &Surroundings,
    ) -> Result<Self, MissingBootstraps> {
        let mut functions = BTreeMap::new();
        let mut missing = Vec::new();
        for definition in definitions {
            match bootstrap(folder, &definition) {
                Some(file) => {
                    let name = definition.name.clone();
                    functions.insert(name, Function::new(definition, file, surroundings.clone()));
                }
                None => missing.push(definition.binary),
            }
        }
        if missing.is_empty() {
            Ok(Self(Arc::new(functions)))
        } else {
            Err(MissingBootstraps(missing))
        }
    }

    /// The function of this logical id.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.0.get(name)
    }

    /// Asks the processes that wait for an event to end, and kills those that do not. The others are killed when
    /// the last of their owners is gone.
    pub async fn stop(&self) {
        for function in self.functions() {
            function.stop().await;
        }
    }

    /// All functions, by their logical ids.
    pub fn functions(&self) -> impl Iterator<Item = &Function> {
        self.0.values()
    }
}

/// The bootstrap of a function: as cargo lays it down, as cargo-lambda does, or as SAM does.
fn bootstrap(folder: &Path, definition: &Definition) -> Option<std::path::PathBuf> {
    [
        folder.join(&definition.binary),
        folder.join(&definition.binary).join("bootstrap"),
        folder.join(&definition.name).join("bootstrap"),
    ]
    .into_iter()
    .find(|file| file.is_file())
}

/// Bootstraps that were not built.
#[derive(Debug)]
pub struct MissingBootstraps(Vec<String>);

impl std::fmt::Display for MissingBootstraps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no bootstrap was found for {}", self.0.join(", "))
    }
}

impl std::error::Error for MissingBootstraps {}
