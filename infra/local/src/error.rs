//! Why the runner did not start.

use std::fmt;
use std::io;

use crate::data::DataError;
use crate::provision::ProvisionError;
use crate::template::TemplateError;

/// Why the runner did not start, in one line.
#[derive(Debug)]
pub enum StartError {
    /// The port cannot be listened on.
    Port {
        /// As on the command line.
        address: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The data folder.
    Data(DataError),
    /// An embedded store.
    Store(String),
    /// The compiled-in template, or functions that do not fit it.
    Template(TemplateError),
    /// A stream of the template whose function the runner does not know.
    UnknownFunction(String),
    /// A table or a queue.
    Provision(ProvisionError),
    /// A setting of the functions.
    Settings(String),
    /// The first tenant.
    FirstTenant(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { address, source } if source.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "{address} is in use by another process; choose another port"
                )
            }
            Self::Port { address, source } => write!(f, "cannot listen on {address}: {source}"),
            Self::Data(error) => error.fmt(f),
            Self::Store(reason) | Self::Settings(reason) => f.write_str(reason),
            Self::Template(error) => error.fmt(f),
            Self::UnknownFunction(name) => {
                write!(
                    f,
                    "template.yaml: {name} consumes a stream and is unknown to the runner"
                )
            }
            Self::Provision(error) => error.fmt(f),
            Self::FirstTenant(reason) => write!(f, "cannot create the first tenant: {reason}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<DataError> for StartError {
    fn from(error: DataError) -> Self {
        Self::Data(error)
    }
}

impl From<TemplateError> for StartError {
    fn from(error: TemplateError) -> Self {
        Self::Template(error)
    }
}

impl From<ProvisionError> for StartError {
    fn from(error: ProvisionError) -> Self {
        Self::Provision(error)
    }
}
