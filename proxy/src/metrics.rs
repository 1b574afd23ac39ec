//! What Prometheus sees. Every label has a closed set of values: nothing a peer says becomes a label.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::throttle::Throttle;

mod policy;
mod recent;

pub use policy::{PolicyMetrics, ReloadLabels, ReloadResult};
pub use recent::{RecentRefusal, RecentRefusals, RefusalKey};

/// Refusals logged in one second.
const REFUSALS_SAID: u32 = 100;

/// Which way a connection goes, seen from the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the variant's name is the label's value")]
pub enum Direction {
    /// Towards the app.
    inbound,
    /// From the app.
    outbound,
}

impl Direction {
    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::inbound => "inbound",
            Self::outbound => "outbound",
        }
    }
}

/// `{direction}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DirectionLabels {
    /// See [`Direction`].
    pub direction: Direction,
}

/// `{direction, reason}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusalLabels {
    /// See [`Direction`].
    pub direction: Direction,
    /// [`crate::refusal::Refusal::label`].
    pub reason: &'static str,
}

/// `{direction, code}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// See [`Direction`].
    pub direction: Direction,
    /// `2xx` and so on.
    pub code: &'static str,
}

/// `{outcome}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// One of a closed set.
    pub outcome: &'static str,
}

/// `{limit, destination}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OverflowLabels {
    /// The field of `connectionPool`, or `queueTimeout`.
    pub limit: &'static str,
    /// The service, as the policy names it; as many as it declares.
    pub destination: String,
}

/// `{direction, port, justified}`: an open exception.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ExceptionLabels {
    /// See [`Direction`].
    pub direction: Direction,
    /// Workload port; as many as the policy declares.
    pub port: u16,
    /// `true` with a plan, `false` without.
    pub justified: &'static str,
}

/// All counters and gauges of one sidecar.
pub struct Metrics {
    registry: Registry,
    /// Bounds the log lines about refusals; the counters count them all.
    pub refusal_log: Throttle,
    /// The refusals of late, for `portcullis status`.
    pub recent: RecentRefusals,
    /// Reloads of the policy.
    pub policy: PolicyMetrics,
    /// Connections accepted.
    pub connections: Family<DirectionLabels, Counter>,
    /// Connections open now.
    pub open_connections: Family<DirectionLabels, Gauge>,
    /// Connections and requests refused, by reason.
    pub refusals: Family<RefusalLabels, Counter>,
    /// HTTP requests answered, by class of status code.
    pub requests: Family<RequestLabels, Counter>,
    /// Connections ended because the certificate or exception behind them ran out.
    pub expired_connections: Family<DirectionLabels, Counter>,
    /// Plaintext exceptions open now.
    pub exceptions: Family<ExceptionLabels, Gauge>,
    /// When the own certificate ends, seconds since the epoch; 0 while uncertified.
    pub certificate_expiry: Gauge<f64, AtomicU64>,
    /// Generation of certificate and trust bundle in use.
    pub identity_generation: Gauge,
    /// Certificates received since the start.
    pub certificates_issued: Gauge,
    /// Attempts to get a certificate that failed since the start.
    pub certificates_failed: Gauge,
    /// 1 when ready: certified, and renewal not overdue.
    pub ready: Gauge,
    /// Requests of the app that were sent again, or were not although the rules name the failure: `retried`,
    /// `exhausted`, `budget`, `body`. And `stale`: sent again after a used connection had ended without an answer.
    pub retries: Family<OutcomeLabels, Counter>,
    /// Copies of requests: `answered`, `failed`, and `dropped` because too many were under way or one lagged.
    pub mirrors: Family<OutcomeLabels, Counter>,
    /// Faults that the rules injected: `delay`, `abort`.
    pub faults: Family<OutcomeLabels, Counter>,
    /// What a limit of a connection pool refused.
    pub overflows: Family<OverflowLabels, Counter>,
}

impl Metrics {
    /// A fresh registry.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("portcullis"),
            refusal_log: Throttle::new(REFUSALS_SAID),
            recent: RecentRefusals::new(),
            policy: PolicyMetrics::default(),
            connections: Family::default(),
            open_connections: Family::default(),
            refusals: Family::default(),
            requests: Family::default(),
            expired_connections: Family::default(),
            exceptions: Family::default(),
            certificate_expiry: Gauge::default(),
            identity_generation: Gauge::default(),
            certificates_issued: Gauge::default(),
            certificates_failed: Gauge::default(),
            ready: Gauge::default(),
            retries: Family::default(),
            mirrors: Family::default(),
            faults: Family::default(),
            overflows: Family::default(),
        };
        let r = &mut metrics.registry;
        r.register("connections", "Connections accepted", metrics.connections.clone());
        r.register("connections_open", "Connections open now", metrics.open_connections.clone());
        r.register("refusals", "Connections and requests refused, by reason", metrics.refusals.clone());
        r.register("requests", "HTTP requests answered, by class of status code", metrics.requests.clone());
        r.register(
            "connections_expired",
            "Connections ended because the proof behind them ran out",
            metrics.expired_connections.clone(),
        );
        r.register("exception_open", "Plaintext exceptions open now, by port", metrics.exceptions.clone());
        r.register_with_unit(
            "certificate_expiry",
            "When the own certificate ends, since the Unix epoch",
            Unit::Seconds,
            metrics.certificate_expiry.clone(),
        );
        r.register(
            "identity_generation",
            "Generation of certificate and trust bundle in use",
            metrics.identity_generation.clone(),
        );
        r.register(
            "certificates_received",
            "Certificates received since the start",
            metrics.certificates_issued.clone(),
        );
        r.register(
            "certificates_failed",
            "Attempts to get a certificate that failed since the start",
            metrics.certificates_failed.clone(),
        );
        metrics.policy.register(r);
        r.register("ready", "1 when certified and renewal is not overdue", metrics.ready.clone());
        r.register("retries", "Requests sent again, or why not", metrics.retries.clone());
        r.register("mirrors", "Copies of requests, by how they ended", metrics.mirrors.clone());
        r.register("faults", "Faults injected by the rules", metrics.faults.clone());
        r.register("overflows", "Refused by a limit of a connection pool", metrics.overflows.clone());
        metrics
    }

    /// Counts a connection that ended because the proof behind it did.
    pub fn expired(&self, direction: Direction) {
        self.expired_connections.get_or_create(&DirectionLabels { direction }).inc();
    }

    /// Counts what `limit` of the pool of `destination` refused.
    pub fn overflow(&self, limit: &'static str, destination: &str) {
        // Under `resolution: NONE` each address has a pool: `HOST:PORT at ADDRESS`. Apps choose addresses, so these
        // are no labels.
        let (service, _) = destination.split_once(" at ").unwrap_or((destination, ""));
        let labels = OverflowLabels { limit, destination: service.to_owned() };
        self.overflows.get_or_create(&labels).inc();
    }

    /// Counts one of a family by its outcome.
    pub fn outcome(family: &Family<OutcomeLabels, Counter>, outcome: &'static str) {
        family.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// The text that a scrape gets (OpenMetrics).
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail; half a scrape would be no scrape.
        if text::encode(&mut out, &self.registry).is_err() {
            out.clear();
        }
        out
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The class of a status code, as a label.
#[must_use]
pub fn code_class(status: http::StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

/// Counts one open connection for as long as it lives.
pub struct OpenConnection(Gauge);

impl OpenConnection {
    /// Counts it as accepted and as open.
    #[must_use]
    pub fn count(metrics: &Metrics, direction: Direction) -> Self {
        let labels = DirectionLabels { direction };
        metrics.connections.get_or_create(&labels).inc();
        let gauge = metrics.open_connections.get_or_create_owned(&labels);
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
