//! An error with all its causes, in one line.

use std::error::Error;
use std::fmt;

/// Shows an error and what caused it. The SDK's errors say little by themselves.
pub(crate) struct Cause<'a>(pub(crate) &'a dyn Error);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
