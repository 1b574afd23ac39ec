//! What the `status` page says of one destination.

use std::time::Duration;

use super::{exception_report, protocol};
use crate::route::{Balancer, Destination, EndpointAddr, HttpRules, PoolLimits, TcpRules, Transport};
use crate::status::{DestinationReport, LimitsReport, TransportReport};

/// Endpoints or rules of one destination that are listed; a last entry says how many are not.
const MAX_EACH: usize = 32;

pub(super) fn destination(destination: &Destination, now: Duration) -> DestinationReport {
    let http_routes = match &destination.routes {
        HttpRules::Direct => Vec::new(),
        HttpRules::Ordered { rule, routes } if routes.is_empty() => {
            vec![format!("{rule}: no route applies here")]
        }
        HttpRules::Ordered { routes, .. } => listed(routes.iter().map(|route| route.rule.to_string())),
    };
    let tcp_routes = match &destination.tcp_routes {
        TcpRules::Direct => Vec::new(),
        TcpRules::Ordered { rule, routes } if routes.is_empty() => {
            vec![format!("{rule}: no route applies here")]
        }
        TcpRules::Ordered { routes, .. } => listed(routes.iter().map(|route| route.rule.to_string())),
    };
    let endpoints = destination.endpoints.iter().map(|endpoint| match &endpoint.addr {
        EndpointAddr::Socket(addr) => addr.to_string(),
        EndpointAddr::Name(name, port) => format!("{name}:{port}"),
    });
    let balancer = match destination.balancer {
        Balancer::RoundRobin => "ROUND_ROBIN",
        Balancer::LeastRequest => "LEAST_REQUEST",
        Balancer::Random => "RANDOM",
    };
    DestinationReport {
        destination: destination.to_string(),
        protocol: protocol(destination.protocol).to_owned(),
        transport: transport(destination, now),
        endpoints: listed(endpoints),
        rule: destination.rule.to_string(),
        http_routes,
        tcp_routes,
        limits: limits(&destination.limits),
        balancer: balancer.to_owned(),
        outlier_detection: destination.outliers.is_some(),
    }
}

pub(super) fn listed(items: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    let beyond = items.len().saturating_sub(MAX_EACH);
    let more = (beyond > 0).then(|| format!("and {beyond} more"));
    items.take(MAX_EACH).chain(more).collect()
}

fn transport(destination: &Destination, now: Duration) -> TransportReport {
    let exception = destination.exception().map(|exception| exception_report(exception, now));
    let report = |kind: &str| TransportReport {
        kind: kind.to_owned(),
        sni: None,
        expected: None,
        reason: None,
        exception: exception.clone(),
    };
    match destination.transport(now) {
        Ok(Transport::MutualTls { sni, expected }) => TransportReport {
            sni: Some(sni.to_str().into_owned()),
            expected: Some(expected.to_string()),
            ..report("mutual TLS")
        },
        Ok(Transport::Tls(tls)) => {
            TransportReport { sni: Some(tls.sni().to_str().into_owned()), ..report("TLS") }
        }
        Ok(Transport::Plaintext { .. }) => report("plaintext"),
        Err(why) => TransportReport { reason: Some(why.to_string()), ..report("refused") },
    }
}

fn limits(limits: &PoolLimits) -> LimitsReport {
    let set = |value: u32| (value != u32::MAX).then_some(value);
    LimitsReport {
        max_connections: set(limits.max_connections),
        connect_timeout_ms: u64::try_from(limits.connect_timeout.as_millis()).unwrap_or(u64::MAX),
        http1_max_pending_requests: set(limits.http1_max_pending_requests),
        http2_max_requests: set(limits.http2_max_requests),
        max_requests_per_connection: Some(limits.max_requests_per_connection).filter(|most| *most > 0),
        max_retries: set(limits.max_retries),
        max_concurrent_streams: set(limits.max_concurrent_streams),
    }
}
