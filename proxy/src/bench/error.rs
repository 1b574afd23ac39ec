//! Why a sweep ended before its end.

use std::io;
use std::path::PathBuf;

use super::load::LoadError;
use crate::demo::DemoError;

/// What came in the way.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Ctrl-C or SIGTERM.
    #[error("interrupted")]
    Interrupted,
    /// A program that takes part is not there.
    #[error("{} is missing: it has to be beside portcullis; build the workspace first (make does)", .0.display())]
    Missing(PathBuf),
    /// Nothing to compare with.
    #[error("{0}")]
    NoEnvoy(String),
    /// A process or a file of the pair.
    #[error("the pair that carries the load cannot be set up: {0}")]
    Setup(#[from] DemoError),
    /// A certificate for Envoy.
    #[error("cannot make a certificate for Envoy: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A process of the pair ended by itself.
    #[error("{who} ended in the middle ({how}); its last lines: {log}")]
    Died {
        /// Which.
        who: &'static str,
        /// Its exit status.
        how: String,
        /// What it said last.
        log: String,
    },
    /// The load could not be offered.
    #[error("the load cannot be offered: {0}")]
    Load(#[from] LoadError),
    /// The load generator did not come to its end.
    #[error(
        "the load of {rate}/s did not end within {within} s of when it should have: is the machine overloaded?"
    )]
    Stuck {
        /// The offered load, per second.
        rate: u32,
        /// Seconds.
        within: u64,
    },
    /// Requests of one point are still under way when the next should begin.
    #[error(
        "{active} requests are still under way and {waiting} waiting {within} s after the load has ended"
    )]
    Busy {
        /// Under way.
        active: u64,
        /// Waiting.
        waiting: u64,
        /// Seconds.
        within: u64,
    },
    /// A file, a socket, a thread.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl BenchError {
    /// For `map_err`: says what was tried.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }
}

/// The last lines of a log, in one.
pub(super) fn last_lines(log: &str) -> String {
    const LINES: usize = 5;
    let lines: Vec<&str> = log.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(LINES)).copied().collect::<Vec<_>>().join(" | ")
}
