//! One port of one service, as this client reaches it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;

use super::rules::RouteRules;
use crate::authz::{Exception, Plan, RuleRef};
use crate::tls::ExpectedPeer;

/// What the app speaks on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppProtocol {
    /// HTTP/1.1.
    Http,
    /// Anything else: bytes.
    Tcp,
    /// Not said: the first bytes tell.
    Undeclared,
}

/// How bytes travel to a destination.
#[derive(Debug, Clone)]
pub enum Transport {
    /// Mutual TLS.
    MutualTls {
        /// The name asked for.
        sni: ServerName<'static>,
        /// Who may answer.
        expected: ExpectedPeer,
    },
    /// In the clear, by exception.
    Plaintext {
        /// What allows it.
        exception: Arc<Exception>,
    },
}

/// Why there is no transport to a destination at this moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTransport {
    /// The plaintext exception has run out, and nothing says who may answer over mutual TLS.
    #[error("{to}: the plaintext exception is over, and no subjectAltNames say who may answer; {rule}")]
    ExceptionOver {
        /// The destination.
        to: String,
        /// The rule that made the exception.
        rule: RuleRef,
    },
    /// Plaintext without a plan, where plans are required.
    #[error("{to}: plaintext needs a plan; {rule} lacks the annotation {}", Plan::annotation(*port))]
    NoPlan {
        /// The destination.
        to: String,
        /// The port that the annotation names.
        port: u16,
        /// The rule that asks for plaintext.
        rule: RuleRef,
    },
}

impl NoTransport {
    /// The metric label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::ExceptionOver { .. } => "exception_over",
            Self::NoPlan { .. } => "no_plan",
        }
    }
}

/// How a destination is reached, over time.
#[derive(Debug, Clone)]
pub enum TransportPlan {
    /// Mutual TLS for ever.
    MutualTls(Transport),
    /// Plaintext while the exception is open, then mutual TLS if it is known who may answer.
    Plaintext {
        /// What allows plaintext.
        exception: Arc<Exception>,
        /// The transport that it allows.
        plaintext: Transport,
        /// What follows.
        after: Option<Transport>,
    },
    /// Nothing: plaintext was asked for without the plan that is required.
    Refused,
}

impl TransportPlan {
    /// Mutual TLS with `sni`, towards `expected`.
    #[must_use]
    pub fn mutual_tls(sni: ServerName<'static>, expected: ExpectedPeer) -> Self {
        Self::MutualTls(Transport::MutualTls { sni, expected })
    }

    /// Plaintext by `exception`, then mutual TLS with `after`.
    #[must_use]
    pub fn plaintext(exception: Arc<Exception>, after: Option<(ServerName<'static>, ExpectedPeer)>) -> Self {
        Self::Plaintext {
            plaintext: Transport::Plaintext { exception: Arc::clone(&exception) },
            exception,
            after: after.map(|(sni, expected)| Transport::MutualTls { sni, expected }),
        }
    }
}

/// Who chooses the address to dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// The balancer, among the endpoints.
    Static,
    /// The app: an intercepted connection goes to the address that the app dialled. A caller without one (an
    /// explicit listener) may use any endpoint.
    Original,
}

/// One server behind a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where to dial.
    pub addr: SocketAddr,
    /// Labels that subsets select by.
    pub labels: BTreeMap<String, String>,
}

/// Bounds of one destination's connection pool; unset ones have Istio's defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Connections open at once.
    pub max_connections: u32,
    /// Longest wait for a connection to open.
    pub connect_timeout: Duration,
    /// Requests waiting for a connection.
    pub http1_max_pending_requests: u32,
    /// Requests in flight.
    pub http2_max_requests: u32,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            max_connections: u32::MAX,
            connect_timeout: Duration::from_secs(10),
            http1_max_pending_requests: u32::MAX,
            http2_max_requests: u32::MAX,
        }
    }
}

/// One port of one service (or of one subset of it), and all that a client needs to reach it.
#[derive(Debug)]
pub struct Destination {
    /// Full host name.
    pub host: String,
    /// The service's port.
    pub port: u16,
    /// The subset's name, when this is one.
    pub subset: Option<String>,
    /// What the app speaks.
    pub protocol: AppProtocol,
    /// Who chooses the endpoint.
    pub resolution: Resolution,
    /// Never empty.
    pub endpoints: Vec<Endpoint>,
    /// Pool bounds.
    pub limits: PoolLimits,
    /// The rules for HTTP requests to it.
    pub routes: RouteRules,
    /// The rules for TCP connections to it.
    pub tcp_routes: RouteRules,
    /// The rule that governs it: its DestinationRule, or else the ServiceEntry that declares it.
    pub rule: RuleRef,
    /// How it is reached; ask [`Destination::transport`].
    pub transport_plan: TransportPlan,
}

impl Destination {
    /// How to reach it at `now` (since the epoch): an exception whose plan is over falls back to mutual TLS.
    ///
    /// # Errors
    /// [`NoTransport`] when it is not to be reached at all.
    pub fn transport(&self, now: Duration) -> Result<&Transport, NoTransport> {
        let over = || NoTransport::ExceptionOver { to: self.to_string(), rule: self.rule.clone() };
        match &self.transport_plan {
            TransportPlan::MutualTls(transport) => Ok(transport),
            TransportPlan::Plaintext { exception, plaintext, .. } if exception.is_open(now) => Ok(plaintext),
            TransportPlan::Plaintext { after, .. } => after.as_ref().ok_or_else(over),
            TransportPlan::Refused => {
                Err(NoTransport::NoPlan { to: self.to_string(), port: self.port, rule: self.rule.clone() })
            }
        }
    }

    /// The plaintext exception, open or over.
    #[must_use]
    pub fn exception(&self) -> Option<&Arc<Exception>> {
        match &self.transport_plan {
            TransportPlan::Plaintext { exception, .. } => Some(exception),
            TransportPlan::MutualTls(_) | TransportPlan::Refused => None,
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)?;
        self.subset.as_ref().map_or(Ok(()), |subset| write!(f, " subset {subset}"))
    }
}
