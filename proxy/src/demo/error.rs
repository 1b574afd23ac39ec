//! Why a line of the demonstration does not hold, or why there is none to show.

use std::io;

use super::lab::LabError;

/// What came in the way.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The network or a program in it.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A file, a socket.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A certificate for the intruder that could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// Something else happened than what should have.
    #[error("{0}")]
    Unexpected(String),
}

impl DemoError {
    /// For `map_err`: says what was tried.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }
}

/// Fails with what was seen unless `holds`.
pub(super) fn ensure(holds: bool, seen: impl FnOnce() -> String) -> Result<(), DemoError> {
    if holds { Ok(()) } else { Err(DemoError::Unexpected(seen())) }
}
