//! What each inbound port asks of a caller, after all PeerAuthentications have been weighed for this workload.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Exception, RuleRef};

/// What a port asks of a caller at one moment.
#[derive(Debug, Clone)]
pub enum PortMode {
    /// Mutual TLS or nothing.
    Strict {
        /// The rule that says so.
        rule: RuleRef,
    },
    /// Plaintext is let in, by exception.
    Plaintext {
        /// What allows it.
        exception: Arc<Exception>,
        /// The rule that says so.
        rule: RuleRef,
    },
}

impl PortMode {
    /// Whether plaintext is let in.
    #[must_use]
    pub fn is_plaintext(&self) -> bool {
        matches!(self, Self::Plaintext { .. })
    }

    /// When an exception is over, since the epoch; `None` for STRICT and for one without a plan.
    #[must_use]
    pub fn ends(&self) -> Option<Duration> {
        match self {
            Self::Strict { .. } => None,
            Self::Plaintext { exception, .. } => exception.ends(),
        }
    }
}

/// What the policy says of one port, at any time.
#[derive(Debug, Clone)]
pub enum PortRule {
    /// STRICT, for ever.
    Strict(RuleRef),
    /// Plaintext for as long as the exception is open, STRICT afterwards.
    Plaintext(Arc<Exception>, RuleRef),
}

/// PeerAuthentication resolved for one workload.
#[derive(Debug, Clone)]
pub struct InboundPolicy {
    default: RuleRef,
    ports: BTreeMap<u16, PortRule>,
}

impl InboundPolicy {
    /// Every port STRICT: what holds without any policy.
    #[must_use]
    pub fn strict_everywhere() -> Self {
        Self::new(RuleRef::built_in(), BTreeMap::new())
    }

    /// STRICT by `default`, but for `ports`.
    #[must_use]
    pub fn new(default: RuleRef, ports: BTreeMap<u16, PortRule>) -> Self {
        Self { default, ports }
    }

    /// What `port` asks of a caller at `now` (since the epoch).
    #[must_use]
    pub fn mode(&self, port: u16, now: Duration) -> PortMode {
        match self.ports.get(&port) {
            None => PortMode::Strict { rule: self.default.clone() },
            Some(PortRule::Strict(rule)) => PortMode::Strict { rule: rule.clone() },
            Some(PortRule::Plaintext(exception, rule)) if exception.is_open(now) => {
                PortMode::Plaintext { exception: Arc::clone(exception), rule: rule.clone() }
            }
            Some(PortRule::Plaintext(_, rule)) => {
                PortMode::Strict { rule: rule.with_remark("the plan of its plaintext exception is over") }
            }
        }
    }

    /// All exceptions, open or over, in the order of their ports.
    pub fn exceptions(&self) -> impl Iterator<Item = &Arc<Exception>> {
        self.ports.values().filter_map(|rule| match rule {
            PortRule::Plaintext(exception, _) => Some(exception),
            PortRule::Strict(_) => None,
        })
    }
}
