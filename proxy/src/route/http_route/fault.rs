//! Faults on purpose, and parts of all requests.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

/// A part of all requests, in parts per million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    /// All of them.
    pub const ALL: Self = Self(1_000_000);

    /// Of a percentage from 0 to 100; `None` for anything else.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be within the range"
    )]
    pub fn percent(percent: f64) -> Option<Self> {
        (0.0..=100.0).contains(&percent).then(|| Self((percent * 10_000.0).round() as u32))
    }

    /// Whether a `roll` of `0..1_000_000` falls into it.
    #[must_use]
    pub fn has(self, roll: u64) -> bool {
        roll < u64::from(self.0)
    }
}

impl fmt::Display for Share {
    /// As a percentage: `0.1%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 10_000.0)
    }
}

/// What goes wrong on purpose.
#[derive(Debug, Clone, Default)]
pub struct Fault {
    /// How long requests wait first.
    pub delay: Option<(Duration, Share)>,
    /// What they are answered instead.
    pub abort: Option<(FaultStatus, Share)>,
}

/// The answer of an abort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultStatus {
    /// An HTTP status.
    Http(StatusCode),
    /// A gRPC status, in the trailers-only form.
    Grpc(u8),
}
