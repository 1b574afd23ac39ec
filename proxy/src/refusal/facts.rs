//! What a refusal knows beside its text, as far as its kind does.

use std::fmt;
use std::time::Duration;

use portcullis_identity::SpiffeId;

use super::Refusal;
use crate::authz::RuleRef;
use crate::route::{NoTransport, UnknownDestination};
use crate::tls::{NoMutualTls, PeerDefect};

/// Port, rule and proven identity behind a refusal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The workload's port (inbound) or the service's (outbound).
    pub port: Option<u16>,
    /// The rule that refused.
    pub rule: Option<&'a RuleRef>,
    /// Who the other side has proven to be.
    pub peer: Option<&'a SpiffeId>,
}

/// A limit of a connection pool that refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow<'a> {
    /// The field of `connectionPool`, or `queueTimeout`.
    pub limit: &'static str,
    /// Its value.
    pub value: Bound,
    /// Which service.
    pub destination: &'a str,
}

/// The value of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// So many.
    Number(u32),
    /// So long.
    Time(Duration),
}

impl fmt::Display for Bound {
    /// As the policy writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Time(time) => write!(f, "{}ms", time.as_millis()),
        }
    }
}

impl Refusal {
    /// See [`Facts`].
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        let none = Facts::default();
        match self {
            Self::Plaintext { port, rule, .. } => Facts { port: Some(*port), rule: Some(rule), ..none },
            Self::NoMutualTls { source, port, rule } => {
                Facts { port: Some(*port), rule: Some(rule), peer: proven(source) }
            }
            Self::Denied(denial) | Self::Revoked(denial) => {
                Facts { port: denial.port(), rule: Some(denial.rule()), peer: denial.peer() }
            }
            Self::WrongProtocol { port, .. } => Facts { port: Some(*port), ..none },
            Self::Shared(refusal) => refusal.facts(),
            Self::TimedOut { destination, rule, .. } => {
                Facts { port: port_of(destination), rule: Some(rule), ..none }
            }
            Self::NotRewritable { rule, .. } => Facts { rule: Some(rule), ..none },
            Self::NoApp { addr, .. } | Self::Unreachable { addr, .. } => {
                Facts { port: Some(addr.port()), ..none }
            }
            Self::UnknownDestination(unknown) => {
                let port = match unknown {
                    UnknownDestination::Address(addr) => addr.port(),
                    UnknownDestination::Host { port, .. } => *port,
                };
                Facts { port: Some(port), ..none }
            }
            Self::NoRoute(none_met) => {
                Facts { port: port_of(&none_met.to), rule: Some(&none_met.rule), ..none }
            }
            Self::NoTransport(cause) => {
                let (NoTransport::ExceptionOver { to, rule } | NoTransport::NoPlan { to, rule, .. }) = cause;
                Facts { port: port_of(to), rule: Some(rule), ..none }
            }
            Self::UpstreamIdentity { source, addr, .. } => {
                Facts { port: Some(addr.port()), peer: proven(source), ..none }
            }
            Self::Overflow { destination, .. }
            | Self::QueueTimeout { destination, .. }
            | Self::NoEndpoints { destination }
            | Self::Broken { destination, .. }
            | Self::BadUpgrade { destination, .. }
            | Self::NotResolved { destination, .. }
            | Self::NoUpgrade { destination }
            | Self::Expired { destination } => Facts { port: port_of(destination), ..none },
            Self::NoOriginalDst(_)
            | Self::Uncertified(_)
            | Self::Undetected
            | Self::BadRequest(_)
            | Self::Unreadable(_) => none,
        }
    }

    /// The workload's port (inbound) or the service's (outbound), if the refusal knows it.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.facts().port
    }

    /// The rule that refused, if it was one.
    #[must_use]
    pub fn rule(&self) -> Option<&RuleRef> {
        self.facts().rule
    }

    /// Who the other side has proven to be, if it has.
    #[must_use]
    pub fn peer(&self) -> Option<&SpiffeId> {
        self.facts().peer
    }
}

/// Of `HOST:PORT`, which may be followed by ` subset NAME`.
fn port_of(destination: &str) -> Option<u16> {
    destination.split(' ').next()?.rsplit_once(':')?.1.parse().ok()
}

/// A valid identity, though another than the one that was called.
fn proven(source: &NoMutualTls) -> Option<&SpiffeId> {
    match source {
        NoMutualTls::Peer(PeerDefect::UnexpectedPeer { found, .. }) => Some(found),
        NoMutualTls::Peer(PeerDefect::Chain(_) | PeerDefect::WrongRoot { .. })
        | NoMutualTls::Timeout(_)
        | NoMutualTls::Closed
        | NoMutualTls::Io(_)
        | NoMutualTls::NotTls
        | NoMutualTls::NoClientCertificate
        | NoMutualTls::NotMutual
        | NoMutualTls::BadSignature
        | NoMutualTls::TlsVersion
        | NoMutualTls::NoCommonAlpn
        | NoMutualTls::Incompatible(_)
        | NoMutualTls::Refused(_)
        | NoMutualTls::Protocol(_)
        | NoMutualTls::OwnCertificateExpired { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_names_its_port() {
        assert_eq!(port_of("api.production.svc.cluster.local:8443"), Some(8443));
        assert_eq!(port_of("api:8443 subset v1"), Some(8443));
        assert_eq!(port_of("[::1]:80"), Some(80));
        assert_eq!(port_of("the app"), None);
        assert_eq!(port_of(""), None);
    }

    #[test]
    fn a_refusal_knows_its_port_and_rule() {
        let rule = RuleRef::built_in();
        let spoke = crate::refusal::Spoke::Other;
        let refusal = Refusal::Plaintext { spoke, port: 8080, rule: rule.clone() };
        assert_eq!(refusal.facts(), Facts { port: Some(8080), rule: Some(&rule), peer: None });
        assert_eq!(Refusal::Undetected.facts(), Facts::default());
    }
}
