//! What can go wrong in a lab.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

/// Why a lab could not be built or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// No right to make or enter a network namespace.
    #[error(
        "cannot {action} a network namespace: {source}; run as root, or allow unprivileged user namespaces"
    )]
    Namespace {
        /// `make` or `enter`.
        action: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// All 253 addresses are taken.
    #[error("the lab is full: 253 hosts")]
    Full,
    /// A program that could not be started.
    #[error("cannot start `{command}`: {source}")]
    Start {
        /// The command line.
        command: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A program that should succeed and did not.
    #[error("`{command}` failed ({status}): {output}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed last.
        output: String,
    },
    /// What was waited for did not come.
    #[error("`{command}` did not {what} within {within:?}; its last lines: {output}")]
    Late {
        /// The command line.
        command: String,
        /// What was waited for.
        what: &'static str,
        /// The time it had.
        within: Duration,
        /// What it printed last.
        output: String,
    },
    /// A process that ended while a line was awaited from it.
    #[error("`{command}` ended ({status}) before it printed the awaited line; its last lines: {output}")]
    Ended {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed last.
        output: String,
    },
    /// A thread or a pipe that the system refused.
    #[error("the system refused {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}
