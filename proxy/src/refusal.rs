//! Every reason to refuse, and the one place that maps it to what is seen of it.
//!
//! The reasons, their text and their metric label are here; what a caller gets is in `answer`, what the sidecar keeps
//! and says of it in `report`, and what else a refusal knows (port, rule, peer) in `facts`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::authz::{Denial, RuleRef};
use crate::intercept::NoOriginalDst;
use crate::protocol::upgrade::NotAsked;
use crate::route::{NoRoute, NoTransport, NotRewritable, UnknownDestination};
use crate::tls::NoMutualTls;

mod answer;
mod facts;
mod report;

pub use facts::{Bound, Facts, Overflow};

/// What came to a STRICT port instead of a TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Spoke {
    /// A request line with this method.
    #[error("spoke plaintext (HTTP {0})")]
    Http(&'static str),
    /// Some other protocol.
    #[error("spoke plaintext (not HTTP)")]
    Other,
    /// No byte before the deadline.
    #[error("said nothing")]
    Nothing,
    /// The end, before any byte.
    #[error("connected and left")]
    Left,
}

/// Why a connection or a request went no further.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The kernel knows no destination before the redirect, or it is the sidecar itself.
    #[error("{0}")]
    NoOriginalDst(#[from] NoOriginalDst),
    /// No certificate yet, or it ran out unrenewed.
    #[error("this sidecar holds no valid certificate: {0}")]
    Uncertified(String),
    /// Anything but TLS on a STRICT port.
    #[error("{spoke} to STRICT port {port}; {rule}")]
    Plaintext {
        /// What the first bytes were.
        spoke: Spoke,
        /// Workload port.
        port: u16,
        /// What made the port STRICT.
        rule: RuleRef,
    },
    /// TLS without a proof of identity.
    #[error("{source}; STRICT port {port}; {rule}")]
    NoMutualTls {
        /// What was missing.
        #[source]
        source: Box<NoMutualTls>,
        /// Workload port.
        port: u16,
        /// What made the port STRICT.
        rule: RuleRef,
    },
    /// Proven, and not permitted.
    #[error("{0}")]
    Denied(#[from] Denial),
    /// Nobody spoke, or too slowly to tell the protocol.
    #[error("the protocol could not be told from the first bytes")]
    Undetected,
    /// The own app does not take connections.
    #[error("the app at {addr} cannot be reached: {source}")]
    NoApp {
        /// Where it should listen.
        addr: SocketAddr,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A request that could be read in two ways.
    #[error("bad request: {0}")]
    BadRequest(&'static str),
    /// Bytes that are no HTTP/1.1, or a head that is too long. hyper has answered already.
    #[error("bad request: {0}")]
    Unreadable(#[source] hyper::Error),
    /// No ServiceEntry.
    #[error("{0}")]
    UnknownDestination(#[from] UnknownDestination),
    /// No VirtualService rule applies.
    #[error("{0}")]
    NoRoute(#[from] NoRoute),
    /// A plaintext exception that is over, or was never planned.
    #[error("{0}")]
    NoTransport(#[from] NoTransport),
    /// A limit of the connection pool.
    #[error("{destination} is at its limit {limit}: {value}")]
    Overflow {
        /// The DestinationRule field.
        limit: &'static str,
        /// Its value.
        value: u32,
        /// Which service.
        destination: String,
    },
    /// A wait for a place under a limit that took too long: the queue was not full, and did not move on.
    #[error("{destination} had no connection free within {} ms (queueTimeout)", waited.as_millis())]
    QueueTimeout {
        /// Which service.
        destination: String,
        /// How long the request waited: the queue timeout.
        waited: Duration,
    },
    /// A service without addresses.
    #[error("{destination} has no endpoints: its ServiceEntry names none")]
    NoEndpoints {
        /// Which service.
        destination: String,
    },
    /// No endpoint took the connection.
    #[error("{destination} cannot be reached at {addr}: {source}")]
    Unreachable {
        /// Which service.
        destination: String,
        /// The endpoint tried last.
        addr: SocketAddr,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The other side did not prove to be the service asked for.
    #[error("{destination} at {addr}: {source}")]
    UpstreamIdentity {
        /// Which service.
        destination: String,
        /// The endpoint.
        addr: SocketAddr,
        /// What was missing.
        #[source]
        source: Box<NoMutualTls>,
    },
    /// The connection broke with the request on its way.
    #[error("the connection to {destination} broke: {}", causes(source))]
    Broken {
        /// The service, or the app.
        destination: String,
        /// What happened.
        #[source]
        source: hyper::Error,
    },
    /// The proof behind the connection ended with the request on its way.
    #[error("the connection to {destination} was cut: the certificate or exception behind it has ended")]
    Expired {
        /// Which service.
        destination: String,
    },
    /// Another protocol than the port is for.
    #[error("port {port} is for {wanted} and the peer speaks {spoke}: correct the ServiceEntry, or the peer")]
    WrongProtocol {
        /// Workload port.
        port: u16,
        /// What is let in.
        wanted: &'static str,
        /// What came.
        spoke: &'static str,
    },
    /// Permitted at first, and under way when the policy was replaced.
    #[error("no longer permitted since the policy changed: {0}")]
    Revoked(#[source] Denial),
    /// An answer of 101 that nobody asked for.
    #[error("{destination}: {source}")]
    BadUpgrade {
        /// The service, or the app.
        destination: String,
        /// What happened.
        #[source]
        source: NotAsked,
    },
    /// A service whose names have no addresses.
    #[error("{destination} has no endpoints: no address is known for {name}; ask its DNS server")]
    NotResolved {
        /// Which service.
        destination: String,
        /// The name, or the first of several.
        name: String,
    },
    /// What one attempt to connect told all requests that waited for it.
    #[error("{0}")]
    Shared(Arc<Refusal>),
    /// Too slow, by the rule's own measure.
    #[error("no answer from {destination} within {} ms ({field}); {rule}", limit.as_millis())]
    TimedOut {
        /// Which service.
        destination: String,
        /// The route's field: `timeout`, or `retries.perTryTimeout`.
        field: &'static str,
        /// Its value.
        limit: Duration,
        /// The route.
        rule: RuleRef,
    },
    /// An upgrade needs HTTP/1.1, and the service is declared to speak HTTP/2.
    #[error(
        "{destination} is declared HTTP/2, over which nothing is upgraded; declare its port HTTP, or do not ask \
         for an upgrade"
    )]
    NoUpgrade {
        /// Which service.
        destination: String,
    },
    /// A rewrite that makes no request target of this request's.
    #[error("the request cannot be rewritten: {source}; {rule}")]
    NotRewritable {
        /// What came out.
        #[source]
        source: NotRewritable,
        /// The route.
        rule: RuleRef,
    },
}

/// An error and what is behind it, which hyper's own text leaves out.
fn causes(error: &dyn std::error::Error) -> String {
    let behind = std::iter::successors(error.source(), |cause| cause.source());
    behind.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl Refusal {
    /// The metric label; one of a closed set.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoOriginalDst(cause) => cause.label(),
            Self::Uncertified(_) => "uncertified",
            Self::Plaintext { .. } => "plaintext",
            Self::NoMutualTls { source, .. } | Self::UpstreamIdentity { source, .. } => source.label(),
            Self::Denied(denial) => denial.label(),
            Self::Undetected => "undetected_protocol",
            Self::NoApp { .. } => "app_unreachable",
            Self::BadRequest(_) | Self::Unreadable(_) => "bad_request",
            Self::UnknownDestination(unknown) => unknown.label(),
            Self::NoRoute(_) => "no_route",
            Self::NoTransport(cause) => cause.label(),
            Self::Overflow { limit, .. } => limit,
            Self::QueueTimeout { .. } => "queueTimeout",
            Self::NoEndpoints { .. } => "no_endpoints",
            Self::Unreachable { .. } => "upstream_unreachable",
            Self::Broken { .. } => "upstream_broken",
            Self::Expired { .. } => "upstream_expired",
            Self::WrongProtocol { .. } => "wrong_protocol",
            Self::Revoked(_) => "revoked",
            Self::BadUpgrade { .. } => "upstream_upgrade",
            Self::NotResolved { .. } => "not_resolved",
            Self::Shared(refusal) => refusal.label(),
            Self::TimedOut { .. } => "timeout",
            Self::NoUpgrade { .. } => "no_upgrade",
            Self::NotRewritable { .. } => "not_rewritable",
        }
    }

    /// The limit of a connection pool that refused, if one did.
    #[must_use]
    pub fn overflow(&self) -> Option<Overflow<'_>> {
        if let Self::Shared(refusal) = self {
            return refusal.overflow();
        }
        if let Self::Overflow { limit, value, destination } = self {
            return Some(Overflow { limit, value: Bound::Number(*value), destination });
        }
        let Self::QueueTimeout { destination, waited } = self else { return None };
        Some(Overflow { limit: self.label(), value: Bound::Time(*waited), destination })
    }

    /// Whether another endpoint of the same service may do better: nothing was proven wrong.
    #[must_use]
    pub fn is_of_the_endpoint(&self) -> bool {
        if let Self::Shared(refusal) = self {
            return refusal.is_of_the_endpoint();
        }
        let Self::UpstreamIdentity { source, .. } = self else {
            return matches!(self, Self::Unreachable { .. });
        };
        matches!(**source, NoMutualTls::Timeout(_) | NoMutualTls::Closed | NoMutualTls::Io(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_endpoint_is_tried_after_silence_and_never_after_a_wrong_proof() {
        let of = |source| Refusal::UpstreamIdentity {
            destination: "api:8443".into(),
            addr: SocketAddr::from(([10, 0, 0, 1], 8443)),
            source: Box::new(source),
        };
        let silent = io::Error::from(io::ErrorKind::ConnectionReset);
        for source in [NoMutualTls::Closed, NoMutualTls::Timeout(Duration::ZERO), NoMutualTls::Io(silent)] {
            assert!(of(source).is_of_the_endpoint());
        }
        for source in [NoMutualTls::BadSignature, NoMutualTls::NotMutual, NoMutualTls::NotTls] {
            assert!(!of(source).is_of_the_endpoint());
        }
        assert!(!Refusal::Undetected.is_of_the_endpoint());
    }
}
