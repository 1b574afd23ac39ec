//! What each inbound port asks of a caller, after all PeerAuthentications have been weighed for this workload, and the
//! AuthorizationPolicies that hold for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Authorization, Exception, RuleRef};
use crate::route::AppProtocol;

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

/// PeerAuthentication and AuthorizationPolicy resolved for one workload.
#[derive(Debug, Clone)]
pub struct InboundPolicy {
    default: RuleRef,
    ports: BTreeMap<u16, PortRule>,
    protocols: BTreeMap<u16, AppProtocol>,
    authorization: Arc<Authorization>,
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
        Self { default, ports, protocols: BTreeMap::new(), authorization: Arc::default() }
    }

    /// The same with what the AuthorizationPolicies say.
    #[must_use]
    pub fn with_authorization(self, authorization: Authorization) -> Self {
        Self { authorization: Arc::new(authorization), ..self }
    }

    /// What the AuthorizationPolicies say.
    #[must_use]
    pub fn authorization(&self) -> &Authorization {
        &self.authorization
    }

    /// The same with what the app speaks on its own ports, as ServiceEntries declare it.
    #[must_use]
    pub fn with_protocols(self, protocols: BTreeMap<u16, AppProtocol>) -> Self {
        Self { protocols, ..self }
    }

    /// What the app speaks on `port`.
    #[must_use]
    pub fn protocol(&self, port: u16) -> AppProtocol {
        self.protocols.get(&port).copied().unwrap_or(AppProtocol::Undeclared)
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

    /// What holds for every port that has no rule of its own: STRICT, by this rule.
    #[must_use]
    pub fn default_rule(&self) -> &RuleRef {
        &self.default
    }

    /// The ports that have a rule or a protocol of their own, in order.
    #[must_use]
    pub fn ports(&self) -> BTreeSet<u16> {
        self.ports.keys().chain(self.protocols.keys()).copied().collect()
    }

    /// The plaintext exception of `port`, open or over.
    #[must_use]
    pub fn exception(&self, port: u16) -> Option<&Arc<Exception>> {
        match self.ports.get(&port)? {
            PortRule::Plaintext(exception, _) => Some(exception),
            PortRule::Strict(_) => None,
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
