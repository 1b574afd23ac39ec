//! The decision itself. Only [`Admitted`](super::Admitted) gives a [`Permit`], and a `Permit` is the only way to the app.

use portcullis_identity::{SpiffeId, TrustDomain};

use super::{AmbiguousPath, RuleRef};
use crate::tls::VerifiedPeer;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub enum Caller<'a> {
    /// A peer that has proven its identity.
    Verified(&'a VerifiedPeer),
    /// Somebody who spoke plaintext.
    Plaintext,
}

/// Leave to reach the app.
#[derive(Debug, Clone)]
pub struct Permit {
    peer: Option<VerifiedPeer>,
    rule: RuleRef,
    audits: Vec<RuleRef>,
}

impl Permit {
    pub(super) fn new(peer: Option<VerifiedPeer>, rule: RuleRef, audits: Vec<RuleRef>) -> Self {
        Self { peer, rule, audits }
    }

    /// The verified peer; `None` for plaintext by exception.
    #[must_use]
    pub fn peer(&self) -> Option<&VerifiedPeer> {
        self.peer.as_ref()
    }

    /// The rule that let the caller in: an ALLOW policy's, or the port's, with the remark that there is none.
    #[must_use]
    pub fn rule(&self) -> &RuleRef {
        &self.rule
    }

    /// The AUDIT rules that were met, to be logged.
    #[must_use]
    pub fn audits(&self) -> &[RuleRef] {
        &self.audits
    }
}

/// Why a caller is refused, and by which rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// Plaintext on a STRICT port.
    #[error("plaintext on a STRICT port; {rule}")]
    Plaintext {
        /// The rule that asks for mutual TLS.
        rule: RuleRef,
    },
    /// A peer of another trust domain.
    #[error("{peer} is not of trust domain {own}; {rule}")]
    TrustDomain {
        /// Who asked.
        peer: SpiffeId,
        /// Whose peers may come in.
        own: TrustDomain,
        /// The rule that asks for mutual TLS.
        rule: RuleRef,
    },
    /// A DENY policy is met.
    #[error("{} may not use port {port}: denied by {rule}", name(peer.as_ref()))]
    ByPolicy {
        /// Who asked; `None` for plaintext by exception.
        peer: Option<SpiffeId>,
        /// The workload's port.
        port: u16,
        /// The rule that is met.
        rule: RuleRef,
    },
    /// There are ALLOW policies, and none is met.
    #[error("{} may not use port {port}: {rule}", name(peer.as_ref()))]
    NotAllowed {
        /// Who asked; `None` for plaintext by exception.
        peer: Option<SpiffeId>,
        /// The workload's port.
        port: u16,
        /// The policies of which one would have to be met.
        rule: RuleRef,
    },
    /// Bytes that nobody looks at, where a rule asks about requests.
    #[error("{} does not speak HTTP to port {port}, and {rule} asks about requests", name(peer.as_ref()))]
    NeedsHttp {
        /// Who asked; `None` for plaintext by exception.
        peer: Option<SpiffeId>,
        /// The workload's port.
        port: u16,
        /// The rule that cannot be answered.
        rule: RuleRef,
    },
    /// A path that could mean two things, where a rule asks about paths: a bad request, whoever sends it.
    #[error("bad request: the path could mean two things, {defect}; {rule} asks about paths")]
    AmbiguousPath {
        /// What is odd about it.
        defect: AmbiguousPath,
        /// The rule that asks.
        rule: RuleRef,
    },
}

fn name(peer: Option<&SpiffeId>) -> &str {
    peer.map_or("a plaintext caller", SpiffeId::as_str)
}

impl Denial {
    /// Whether the request itself is at fault, rather than who sent it.
    #[must_use]
    pub fn is_bad_request(&self) -> bool {
        matches!(self, Self::AmbiguousPath { .. })
    }

    /// The metric label: one of a closed set.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Plaintext { .. } => "plaintext",
            Self::TrustDomain { .. } => "trust_domain",
            Self::ByPolicy { .. } => "denied_by_policy",
            Self::NotAllowed { .. } => "not_allowed",
            Self::NeedsHttp { .. } => "needs_http",
            Self::AmbiguousPath { .. } => "ambiguous_path",
        }
    }

    /// The rule that refused.
    #[must_use]
    pub fn rule(&self) -> &RuleRef {
        match self {
            Self::Plaintext { rule }
            | Self::TrustDomain { rule, .. }
            | Self::ByPolicy { rule, .. }
            | Self::NotAllowed { rule, .. }
            | Self::NeedsHttp { rule, .. }
            | Self::AmbiguousPath { rule, .. } => rule,
        }
    }

    /// The workload's port, where the policy was asked.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::ByPolicy { port, .. } | Self::NotAllowed { port, .. } | Self::NeedsHttp { port, .. } => {
                Some(*port)
            }
            Self::Plaintext { .. } | Self::TrustDomain { .. } | Self::AmbiguousPath { .. } => None,
        }
    }

    /// Who was refused, if it has proven who it is.
    #[must_use]
    pub fn peer(&self) -> Option<&SpiffeId> {
        match self {
            Self::Plaintext { .. } | Self::AmbiguousPath { .. } => None,
            Self::TrustDomain { peer, .. } => Some(peer),
            Self::ByPolicy { peer, .. } | Self::NotAllowed { peer, .. } | Self::NeedsHttp { peer, .. } => {
                peer.as_ref()
            }
        }
    }
}
