//! How destinations are reached.

use std::sync::Arc;

use super::{host_and_port, now, options};
use crate::config::Policy;
use crate::route::{Balancer, Destination, H2Upgrade, Http2Keepalive, PoolLimits, Transport};

/// `HOST:PORT subset=NAME`
fn destination<'a>(policy: &'a Policy, text: &str) -> Option<&'a Arc<Destination>> {
    let mut words = text.split_whitespace();
    let (host, port) = host_and_port(words.next().unwrap());
    let (options, _) = options(words);
    let subset = options.get("subset");
    policy.outbound.destinations().find(|destination| {
        destination.host == host && destination.port == port && destination.subset.as_ref() == subset
    })
}

pub(super) fn transport(policy: &Policy, text: &str) -> String {
    let Some(destination) = destination(policy, text) else { return "unknown".to_owned() };
    match destination.transport(now()) {
        Ok(Transport::MutualTls { sni, expected }) => {
            format!("ISTIO_MUTUAL sni={} {expected}", sni.to_str())
        }
        Ok(Transport::Tls(egress)) => format!("TLS sni={}", egress.sni().to_str()),
        Ok(Transport::Plaintext { .. }) => format!("PLAINTEXT by {}", destination.rule),
        Err(none) => format!("refused: {none}"),
    }
}

/// What differs from the defaults.
pub(super) fn limits(policy: &Policy, text: &str) -> String {
    let Some(destination) = destination(policy, text) else { return "unknown".to_owned() };
    let (set, default) = (&destination.limits, PoolLimits::default());
    let mut told = Vec::new();
    let mut number = |name: &str, value: u32, default: u32| {
        if value != default {
            told.push(format!("{name}={value}"));
        }
    };
    number("maxConnections", set.max_connections, default.max_connections);
    number("http1MaxPendingRequests", set.http1_max_pending_requests, default.http1_max_pending_requests);
    number("http2MaxRequests", set.http2_max_requests, default.http2_max_requests);
    number("maxRequestsPerConnection", set.max_requests_per_connection, default.max_requests_per_connection);
    number("maxRetries", set.max_retries, default.max_retries);
    number("maxConcurrentStreams", set.max_concurrent_streams, default.max_concurrent_streams);
    if set.connect_timeout != default.connect_timeout {
        told.push(format!("connectTimeout={:?}", set.connect_timeout));
    }
    let times = [
        ("maxConnectionDuration", set.max_connection_duration),
        ("tcp.idleTimeout", set.tcp_idle_timeout),
        ("http.idleTimeout", set.http_idle_timeout),
        ("queueTimeout", set.queue_timeout),
    ];
    told.extend(times.into_iter().filter_map(|(name, time)| Some(format!("{name}={:?}", time?))));
    if let Some(keepalive) = set.tcp_keepalive {
        told.push(format!("keepalive={:?}/{:?}/{:?}", keepalive.probes, keepalive.time, keepalive.interval));
    }
    if let Some(Http2Keepalive { interval, timeout }) = set.http2_keepalive {
        told.push(format!("http2KeepAlive={interval:?}/{timeout:?}"));
    }
    if destination.h2_upgrade == H2Upgrade::Yes {
        told.push("h2UpgradePolicy=UPGRADE".to_owned());
    }
    if destination.use_client_protocol {
        told.push("useClientProtocol".to_owned());
    }
    match destination.balancer {
        Balancer::LeastRequest => {}
        Balancer::RoundRobin => told.push("ROUND_ROBIN".to_owned()),
        Balancer::Random => told.push("RANDOM".to_owned()),
    }
    if let Some(outliers) = &destination.outliers {
        told.push(format!(
            "outliers 5xx={:?} gateway={:?} every {:?} for {:?} max {}% min {}%",
            outliers.consecutive_5xx,
            outliers.consecutive_gateway,
            outliers.interval,
            outliers.base_ejection,
            outliers.max_ejection_percent,
            outliers.min_health_percent
        ));
    }
    if told.is_empty() { "defaults".to_owned() } else { told.join(" ") }
}
