//! Every reason to refuse, and the one place that maps it to a log line, a metric label and an HTTP status.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

use crate::addr::ClientAddr;
use crate::authz::{Denial, RuleRef};
use crate::intercept::NoOriginalDst;
use crate::metrics::{Direction, Metrics, RefusalLabels};
use crate::route::{NoRoute, NoTransport, UnknownDestination};
use crate::tls::NoMutualTls;

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
            Self::NoEndpoints { .. } => "no_endpoints",
            Self::Unreachable { .. } => "upstream_unreachable",
            Self::Broken { .. } => "upstream_broken",
            Self::Expired { .. } => "upstream_expired",
        }
    }

    /// Whether another endpoint of the same service may do better: nothing was proven wrong.
    #[must_use]
    pub fn is_of_the_endpoint(&self) -> bool {
        let Self::UpstreamIdentity { source, .. } = self else { return false };
        matches!(**source, NoMutualTls::Timeout(_) | NoMutualTls::Closed | NoMutualTls::Io(_))
    }

    /// What an HTTP caller gets.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::Unreadable(_) => StatusCode::BAD_REQUEST,
            Self::Denied(_) | Self::Plaintext { .. } | Self::NoMutualTls { .. } | Self::NoTransport(_) => {
                StatusCode::FORBIDDEN
            }
            Self::NoRoute(_) => StatusCode::NOT_FOUND,
            Self::UnknownDestination(_)
            | Self::Broken { .. }
            | Self::Expired { .. }
            | Self::UpstreamIdentity { .. } => StatusCode::BAD_GATEWAY,
            Self::NoOriginalDst(_)
            | Self::Uncertified(_)
            | Self::Undetected
            | Self::NoApp { .. }
            | Self::Overflow { .. }
            | Self::NoEndpoints { .. }
            | Self::Unreachable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The answer to an HTTP caller: the status, and the reason as JSON.
    #[must_use]
    pub fn response(&self) -> Response<Full<Bytes>> {
        let body = serde_json::json!({ "refused": self.label(), "reason": self.to_string() });
        let mut response = Response::new(Full::from(format!("{body}\n")));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("x-portcullis-refused", HeaderValue::from_static(self.label()));
        if let Self::BadRequest(_) = self {
            // What follows on the connection may be part of what could not be told apart (RFC 9112, 6.3).
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Self::Overflow { limit, .. } = self {
            headers.insert("x-portcullis-overflow", HeaderValue::from_static(limit));
            headers.insert("x-envoy-overloaded", HeaderValue::from_static("true"));
        }
        response
    }

    /// Counts it, and says it with who, what and which rule. Under a flood not every one is said; `unsaid` tells
    /// how many were not.
    pub fn report(&self, metrics: &Metrics, direction: Direction, client: ClientAddr) {
        let labels = RefusalLabels { direction, reason: self.label() };
        metrics.refusals.get_or_create(&labels).inc();
        let Some(unsaid) = metrics.refusal_log.pass() else { return };
        tracing::warn!(
            direction = direction.as_str(),
            %client,
            reason = self.label(),
            unsaid,
            "refused: {} {client} {self}",
            match direction {
                Direction::inbound => "peer",
                Direction::outbound => "app",
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
