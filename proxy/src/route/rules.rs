//! What routes point to, and what it means when there is none.

use crate::authz::RuleRef;

/// Index of a destination in its [`OutboundPolicy`](super::OutboundPolicy).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DestinationId(pub usize);

/// Why no route serves a request: HTTP status 404, or a closed connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no route to {to}: what this workload is, or what it asked, meets no match of {rule}")]
pub struct NoRoute {
    /// The destination that was asked for.
    pub to: String,
    /// The resource whose every route was filtered out.
    pub rule: RuleRef,
}

impl NoRoute {
    /// The metric label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        "no_route"
    }
}
