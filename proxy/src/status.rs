//! What `GET /status` and `GET /refusals` of the admin port say: written by the sidecar, read by `portcullis status`
//! and `portcullis verify failures`, or by whoever likes JSON.
//!
//! Moments are RFC 3339 in UTC, lengths of time are in seconds. Every list is bounded; what is left out is counted
//! in `omitted`.

use serde::{Deserialize, Serialize};

pub use crate::pool::PoolStatus;
pub use crate::upstream::NameStatus;

/// `GET /status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of the program.
    pub version: String,
    /// When all this was so.
    pub at: String,
    /// On its way to the end.
    pub draining: bool,
    /// Who the sidecar is, and whom it trusts.
    pub identity: IdentityReport,
    /// What it goes by.
    pub policy: PolicyReport,
    /// Where it listens.
    pub listeners: Vec<Listener>,
    /// What its own ports ask of callers.
    pub inbound: InboundReport,
    /// Where its app may go.
    pub outbound: Vec<DestinationReport>,
    /// Names of servers that DNS resolves.
    #[serde(default)]
    pub names: Vec<NameStatus>,
    /// Connections to other services, at this moment.
    pub pools: Vec<PoolStatus>,
    /// Whom it has refused of late.
    pub refusals: Refusals,
    /// Items that the lists above leave out, for they are too many.
    pub omitted: usize,
}

/// Who the sidecar is, and whom it trusts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IdentityReport {
    /// SPIFFE ID.
    pub id: String,
    /// `certified`, `uncertified`, `expiring` or `expired`.
    pub state: String,
    /// The same in words, with the last error if there is one.
    pub detail: String,
    /// The certificate, once there is one.
    pub certificate: Option<Certificate>,
    /// When the next one is asked for; `null` while that is under way.
    pub renewal: Option<String>,
    /// Until then.
    pub renewal_in_s: Option<i64>,
    /// By trust domain.
    pub trust: Vec<Trust>,
}

/// The own certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// Hexadecimal.
    pub serial: String,
    /// First good moment.
    pub not_before: String,
    /// Last good second.
    pub not_after: String,
    /// Since it was received.
    pub age_s: i64,
    /// Until it ends; negative once it has.
    pub left_s: i64,
    /// Rises with every change of certificate or bundle.
    pub generation: u64,
}

/// One trust bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trust {
    /// Whom it vouches for.
    pub trust_domain: String,
    /// Rises whenever its set of roots changes.
    pub generation: u64,
    /// Its roots.
    pub anchors: Vec<Anchor>,
}

/// One root.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Anchor {
    /// SHA-256 of its DER, hexadecimal.
    pub fingerprint: String,
    /// Its last good second, unless it cannot be read.
    pub not_after: Option<String>,
    /// Until then.
    pub left_s: Option<i64>,
}

/// The policy in force, and the last try to replace it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyReport {
    /// 1 is that of the start.
    pub generation: u64,
    /// Files and directories.
    pub sources: Vec<String>,
    /// When it came into force.
    pub loaded_at: String,
    /// Since then.
    pub age_s: i64,
    /// Why the files are not in force as they are now; `null` when they are.
    pub fault: Option<PolicyFault>,
    /// What an operator should know of it.
    pub warnings: Vec<String>,
}

/// A reload that came to nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyFault {
    /// When.
    pub at: String,
    /// Every fault, one a line, then their number; bounded.
    pub report: String,
}

/// One listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Address and port, or the path of a unix socket.
    pub address: String,
    /// `inbound`, `outbound`, or `own` for probes, metrics and administration.
    pub direction: String,
    /// For whom or what.
    pub purpose: String,
}

/// What the own ports ask of callers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InboundReport {
    /// The rule by which every port is STRICT that is not listed.
    pub default_rule: String,
    /// Ports of which the policy says something.
    pub ports: Vec<PortReport>,
    /// The AuthorizationPolicies that hold for the workload; none: every proven peer may call.
    #[serde(default)]
    pub authorization: Vec<AuthorizationReport>,
}

/// One AuthorizationPolicy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizationReport {
    /// `ALLOW`, `DENY` or `AUDIT`.
    pub action: String,
    /// The resource.
    pub rule: String,
    /// How many rules it has, of which one must be met; 0: it never is.
    pub rules: usize,
}

/// One own port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PortReport {
    /// The workload's port.
    pub port: u16,
    /// `STRICT` or `DISABLE`, at this moment.
    pub mode: String,
    /// What the app speaks, as a ServiceEntry declares it.
    pub protocol: String,
    /// What says so.
    pub rule: String,
    /// The plaintext exception, open or over.
    pub exception: Option<ExceptionReport>,
}

/// A plaintext exception.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExceptionReport {
    /// Whether plaintext is let through at this moment.
    pub open: bool,
    /// Why; `null` without a plan, and so are the others.
    pub reason: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// The day with which it is over.
    pub expires: Option<String>,
    /// Until then; 0 or less: over.
    pub days_left: Option<i64>,
}

/// One port of one service, or of a subset of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DestinationReport {
    /// `HOST:PORT`, with ` subset NAME` for a subset.
    pub destination: String,
    /// What the app speaks.
    pub protocol: String,
    /// How it is reached.
    pub transport: TransportReport,
    /// Servers, or names of them.
    pub endpoints: Vec<String>,
    /// The rule that governs it.
    pub rule: String,
    /// Rules for HTTP requests, in order; empty: it serves itself.
    pub http_routes: Vec<String>,
    /// Rules for TCP connections, in order; empty: it serves itself.
    pub tcp_routes: Vec<String>,
    /// Bounds of its connection pool.
    pub limits: LimitsReport,
    /// How a server is chosen.
    pub balancer: String,
    /// Whether servers that fail are left out for a while.
    pub outlier_detection: bool,
}

/// How a destination is reached at this moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransportReport {
    /// `mutual TLS`, `TLS`, `plaintext` or `refused`.
    pub kind: String,
    /// The name asked for.
    pub sni: Option<String>,
    /// Who may answer.
    pub expected: Option<String>,
    /// Why it is refused.
    pub reason: Option<String>,
    /// The plaintext exception, open or over.
    pub exception: Option<ExceptionReport>,
}

/// Bounds of a connection pool; `null`: none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitsReport {
    /// `maxConnections`.
    pub max_connections: Option<u32>,
    /// `connectTimeout`, in milliseconds.
    pub connect_timeout_ms: u64,
    /// `http1MaxPendingRequests`.
    pub http1_max_pending_requests: Option<u32>,
    /// `http2MaxRequests`.
    pub http2_max_requests: Option<u32>,
    /// `maxRequestsPerConnection`.
    pub max_requests_per_connection: Option<u32>,
    /// `maxRetries`.
    pub max_retries: Option<u32>,
    /// `maxConcurrentStreams`.
    pub max_concurrent_streams: Option<u32>,
}

/// `GET /refusals`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Refusals {
    /// The newest first.
    pub recent: Vec<RefusalReport>,
    /// Refusals that none of the above counts, for there is a bound on them.
    pub unlisted: u64,
}

/// Refusals of one peer, port and reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalReport {
    /// `inbound`: somebody was refused here. `outbound`: the own app was.
    pub direction: String,
    /// The address of who connected.
    pub peer: String,
    /// The other side's identity, if it was proven.
    pub identity: Option<String>,
    /// The workload's port (inbound) or the service's (outbound).
    pub port: Option<u16>,
    /// The metric label.
    pub reason: String,
    /// The rule that refused, if it was one.
    pub rule: Option<String>,
    /// How many.
    pub count: u64,
    /// The first of them.
    pub first: String,
    /// The last of them.
    pub last: String,
    /// Since the last.
    pub last_ago_s: u64,
    /// What was said of the last.
    pub text: String,
}
