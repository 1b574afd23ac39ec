//! The decision itself. [`authorize`] alone makes a [`Permit`], and a `Permit` is the only way to the app.

use portcullis_identity::{SpiffeId, TrustDomain};

use super::{PortMode, RuleRef};
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
}

impl Permit {
    /// The verified peer; `None` for plaintext by exception.
    #[must_use]
    pub fn peer(&self) -> Option<&VerifiedPeer> {
        self.peer.as_ref()
    }

    /// The rule that let the caller in.
    #[must_use]
    pub fn rule(&self) -> &RuleRef {
        &self.rule
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
}

impl Denial {
    /// The metric label: one of a closed set.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Plaintext { .. } => "plaintext",
            Self::TrustDomain { .. } => "trust_domain",
        }
    }

    /// The rule that refused.
    #[must_use]
    pub fn rule(&self) -> &RuleRef {
        match self {
            Self::Plaintext { rule } | Self::TrustDomain { rule, .. } => rule,
        }
    }
}

/// Decides on one caller of one port. A verified peer is held to the own trust domain even where plaintext
/// is let in: an identity from elsewhere must never reach the app as if it meant something here.
///
/// # Errors
/// [`Denial`], with the rule that refused.
pub fn authorize(mode: &PortMode, caller: Caller<'_>, own: &TrustDomain) -> Result<Permit, Denial> {
    let rule = match mode {
        PortMode::Strict { rule } | PortMode::Plaintext { rule, .. } => rule.clone(),
    };
    match (mode, caller) {
        (_, Caller::Verified(peer)) if peer.id().trust_domain() == own => {
            Ok(Permit { peer: Some(peer.clone()), rule })
        }
        (_, Caller::Verified(peer)) => {
            Err(Denial::TrustDomain { peer: peer.id().clone(), own: own.clone(), rule })
        }
        (PortMode::Plaintext { .. }, Caller::Plaintext) => Ok(Permit { peer: None, rule }),
        (PortMode::Strict { .. }, Caller::Plaintext) => Err(Denial::Plaintext { rule }),
    }
}
