//! One port of one service, as this client reaches it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls_pki_types::ServerName;

use super::balance::{Balancer, OutlierDetection};
use super::{HttpRules, TcpRules};
use crate::authz::{Exception, Plan, RuleRef};
use crate::tls::{EgressTls, ExpectedPeer};

/// A version of HTTP on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.1, or 1.0.
    Http1,
    /// HTTP/2: prior knowledge in the clear, ALPN `h2` over TLS.
    Http2,
}

/// What the app speaks on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppProtocol {
    /// HTTP/1.1 (`HTTP`).
    Http,
    /// HTTP/2 (`HTTP2`, `GRPC`, `GRPC-WEB`).
    Http2,
    /// HTTP/1.1 with CONNECT (`HTTP_PROXY`).
    HttpProxy,
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
    /// TLS towards a server outside of the mesh, which proves a DNS name and not a SPIFFE ID.
    Tls(Arc<EgressTls>),
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
    /// TLS towards a server outside of the mesh.
    Tls(Transport),
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
    /// The balancer, among the addresses that the endpoints' names have.
    Dns,
    /// The app: an intercepted connection goes to the address that the app dialled. A caller without one (an
    /// explicit listener) may use any endpoint.
    Original,
}

/// One server behind a destination, or with a name all servers of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where to dial.
    pub addr: EndpointAddr,
    /// Labels that subsets select by.
    pub labels: BTreeMap<String, String>,
    /// How often it is chosen, in relation to the others; never 0.
    pub weight: u32,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EndpointAddr {
    /// At an address.
    Socket(SocketAddr),
    /// Wherever a DNS name leads, on this port.
    Name(Arc<str>, u16),
}

impl EndpointAddr {
    /// The address, if it is none that has to be looked up.
    #[must_use]
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(addr) => Some(*addr),
            Self::Name(..) => None,
        }
    }
}

/// Whether HTTP/1.1 requests of the app travel as HTTP/2 (`h2UpgradePolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum H2Upgrade {
    /// `DEFAULT` and `DO_NOT_UPGRADE`: as the port declares, or else as the app speaks.
    #[default]
    No,
    /// `UPGRADE`.
    Yes,
}

/// `tcpKeepalive`; what is not given is the system's. Without the block connections have the keepalive of all sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpKeepalive {
    /// Unanswered probes until the connection is given up.
    pub probes: Option<u32>,
    /// Silence before the first probe.
    pub time: Option<Duration>,
    /// Between probes.
    pub interval: Option<Duration>,
}

/// `http2KeepAlive`: when a silent HTTP/2 connection is probed (PING), and when it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http2Keepalive {
    /// Silence before a probe.
    pub interval: Duration,
    /// Longest wait for its answer.
    pub timeout: Duration,
}

impl Default for Http2Keepalive {
    /// What holds between sidecars where nothing is written.
    fn default() -> Self {
        Self { interval: Duration::from_secs(30), timeout: Duration::from_secs(20) }
    }
}

/// Bounds of one destination's connection pool; unset ones have Istio's defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Connections open at once.
    pub max_connections: u32,
    /// Longest wait for a connection to open.
    pub connect_timeout: Duration,
    /// Keepalive probes; `None`: those of every socket of the data path.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Longest life of a connection; `None`: as long as its proof.
    pub max_connection_duration: Option<Duration>,
    /// Longest silence on a TCP stream; `None`: for ever.
    pub tcp_idle_timeout: Option<Duration>,
    /// Requests waiting for a connection.
    pub http1_max_pending_requests: u32,
    /// Requests in flight.
    pub http2_max_requests: u32,
    /// Requests on one connection; 0: as many as come.
    pub max_requests_per_connection: u32,
    /// Retries under way at once, over all requests to the destination.
    pub max_retries: u32,
    /// How long an HTTP connection is kept without a request; `None`: a minute, which is less than a server waits.
    pub http_idle_timeout: Option<Duration>,
    /// Streams at once on one HTTP/2 connection.
    pub max_concurrent_streams: u32,
    /// Probes of silent HTTP/2 connections; `None`: [`Http2Keepalive::default`] between sidecars, none elsewhere.
    pub http2_keepalive: Option<Http2Keepalive>,
    /// Longest wait for a connection (annotation `portcullis.dev/queue-timeout`); `None`: 15 s. The route's timeout
    /// ends the wait in any case.
    pub queue_timeout: Option<Duration>,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            max_connections: u32::MAX,
            connect_timeout: Duration::from_secs(10),
            tcp_keepalive: None,
            max_connection_duration: None,
            tcp_idle_timeout: None,
            http1_max_pending_requests: u32::MAX,
            http2_max_requests: u32::MAX,
            max_requests_per_connection: 0,
            max_retries: u32::MAX,
            http_idle_timeout: None,
            max_concurrent_streams: u32::MAX,
            http2_keepalive: None,
            queue_timeout: None,
        }
    }
}

/// A number in the order in which destinations were made: of two of the same name, the later one is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edition(u64);

impl Edition {
    /// After all others.
    #[must_use]
    pub fn next() -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        Self(MADE.fetch_add(1, Ordering::Relaxed))
    }
}

/// One port of one service (or of one subset of it), and all that a client needs to reach it.
#[derive(Debug)]
pub struct Destination {
    /// Which of those of its name.
    pub edition: Edition,
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
    /// Whether HTTP/1.1 requests travel as HTTP/2.
    pub h2_upgrade: H2Upgrade,
    /// Requests travel in the version that the app speaks, whatever else is said (`useClientProtocol`).
    pub use_client_protocol: bool,
    /// How an endpoint is chosen.
    pub balancer: Balancer,
    /// When an endpoint is left out for a while.
    pub outliers: Option<OutlierDetection>,
    /// The rules for HTTP requests to it.
    pub routes: HttpRules,
    /// The rules for TCP connections to it.
    pub tcp_routes: TcpRules,
    /// The rule that governs it: its DestinationRule, or else the ServiceEntry that declares it.
    pub rule: RuleRef,
    /// How it is reached; ask [`Destination::transport`].
    pub transport_plan: TransportPlan,
}

impl Destination {
    /// The version in which a request travels that the app spoke in version `client`.
    #[must_use]
    pub fn wire_version(&self, client: HttpVersion) -> HttpVersion {
        match (self.protocol, self.h2_upgrade) {
            _ if self.use_client_protocol => client,
            (AppProtocol::Http2, _) => HttpVersion::Http2,
            (AppProtocol::HttpProxy, _) => HttpVersion::Http1,
            (_, H2Upgrade::Yes) => HttpVersion::Http2,
            (AppProtocol::Http, H2Upgrade::No) => HttpVersion::Http1,
            (AppProtocol::Tcp | AppProtocol::Undeclared, H2Upgrade::No) => client,
        }
    }

    /// How to reach it at `now` (since the epoch): an exception whose plan is over falls back to mutual TLS.
    ///
    /// # Errors
    /// [`NoTransport`] when it is not to be reached at all.
    pub fn transport(&self, now: Duration) -> Result<&Transport, NoTransport> {
        let over = || NoTransport::ExceptionOver { to: self.to_string(), rule: self.rule.clone() };
        match &self.transport_plan {
            TransportPlan::MutualTls(transport) | TransportPlan::Tls(transport) => Ok(transport),
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
            TransportPlan::MutualTls(_) | TransportPlan::Tls(_) | TransportPlan::Refused => None,
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)?;
        self.subset.as_ref().map_or(Ok(()), |subset| write!(f, " subset {subset}"))
    }
}
