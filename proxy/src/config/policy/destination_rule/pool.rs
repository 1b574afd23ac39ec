//! `connectionPool`: bounds and protocol of one destination's connections.

use std::time::Duration;

use crate::config::decode::{Fields, Node};
use crate::config::report::Faults;
use crate::config::values::istio_duration;
use crate::route::{H2Upgrade, Http2Keepalive, PoolLimits, TcpKeepalive};

/// Istio's numbers are signed.
const MAX_NUMBER: u64 = 2_147_483_647;
/// A longer wait for a connection, or for a sign of life on one, is a typing error.
const A_DAY: Duration = Duration::from_secs(86_400);
/// Ten years: longer than any process lives.
const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Bounds of the Linux kernel: `MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL` and `MAX_TCP_KEEPCNT` (include/net/tcp.h).
const MAX_KEEPALIVE: Duration = Duration::from_secs(32_767);
const MAX_KEEPALIVE_PROBES: u64 = 127;

/// `connectionPool` as written; what is left out is inherited, field by field.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct PoolSettings {
    max_connections: Option<u32>,
    connect_timeout: Option<Duration>,
    tcp_keepalive: Option<TcpKeepalive>,
    max_connection_duration: Option<Duration>,
    /// Zero: never.
    tcp_idle_timeout: Option<Duration>,
    http1_max_pending_requests: Option<u32>,
    http2_max_requests: Option<u32>,
    max_requests_per_connection: Option<u32>,
    max_retries: Option<u32>,
    http_idle_timeout: Option<Duration>,
    max_concurrent_streams: Option<u32>,
    h2_upgrade: Option<H2Upgrade>,
    use_client_protocol: Option<bool>,
    http2_keepalive: Option<Http2Keepalive>,
    /// Of the rule's annotation.
    pub(super) queue_timeout: Option<Duration>,
}

impl PoolSettings {
    pub(super) fn or(self, wider: &Self) -> Self {
        Self {
            max_connections: self.max_connections.or(wider.max_connections),
            connect_timeout: self.connect_timeout.or(wider.connect_timeout),
            tcp_keepalive: self.tcp_keepalive.or(wider.tcp_keepalive),
            max_connection_duration: self.max_connection_duration.or(wider.max_connection_duration),
            tcp_idle_timeout: self.tcp_idle_timeout.or(wider.tcp_idle_timeout),
            http1_max_pending_requests: self.http1_max_pending_requests.or(wider.http1_max_pending_requests),
            http2_max_requests: self.http2_max_requests.or(wider.http2_max_requests),
            max_requests_per_connection: self
                .max_requests_per_connection
                .or(wider.max_requests_per_connection),
            max_retries: self.max_retries.or(wider.max_retries),
            http_idle_timeout: self.http_idle_timeout.or(wider.http_idle_timeout),
            max_concurrent_streams: self.max_concurrent_streams.or(wider.max_concurrent_streams),
            h2_upgrade: self.h2_upgrade.or(wider.h2_upgrade),
            use_client_protocol: self.use_client_protocol.or(wider.use_client_protocol),
            http2_keepalive: self.http2_keepalive.or(wider.http2_keepalive),
            queue_timeout: self.queue_timeout.or(wider.queue_timeout),
        }
    }

    pub(in super::super) fn limits(&self) -> PoolLimits {
        let default = PoolLimits::default();
        PoolLimits {
            max_connections: self.max_connections.unwrap_or(default.max_connections),
            connect_timeout: self.connect_timeout.unwrap_or(default.connect_timeout),
            tcp_keepalive: self.tcp_keepalive,
            max_connection_duration: self.max_connection_duration,
            tcp_idle_timeout: self.tcp_idle_timeout.filter(|timeout| !timeout.is_zero()),
            http1_max_pending_requests: self
                .http1_max_pending_requests
                .unwrap_or(default.http1_max_pending_requests),
            http2_max_requests: self.http2_max_requests.unwrap_or(default.http2_max_requests),
            max_requests_per_connection: self
                .max_requests_per_connection
                .unwrap_or(default.max_requests_per_connection),
            max_retries: self.max_retries.unwrap_or(default.max_retries),
            http_idle_timeout: self.http_idle_timeout,
            max_concurrent_streams: self.max_concurrent_streams.unwrap_or(default.max_concurrent_streams),
            http2_keepalive: self.http2_keepalive,
            queue_timeout: self.queue_timeout,
        }
    }

    pub(in super::super) fn h2_upgrade(&self) -> H2Upgrade {
        self.h2_upgrade.unwrap_or_default()
    }

    pub(in super::super) fn use_client_protocol(&self) -> bool {
        self.use_client_protocol.unwrap_or(false)
    }
}

pub(super) fn read(node: &Node<'_>, faults: &mut Faults) -> PoolSettings {
    let mut settings = PoolSettings::default();
    let Some(mut fields) = node.fields(faults) else { return settings };
    if let Some(tcp) = fields.take("tcp").and_then(|node| node.fields(faults)) {
        read_tcp(&mut settings, tcp, faults);
    }
    if let Some(http) = fields.take("http").and_then(|node| node.fields(faults)) {
        read_http(&mut settings, http, faults);
    }
    fields.finish(&[], faults);
    settings
}

fn read_tcp(settings: &mut PoolSettings, mut tcp: Fields<'_>, faults: &mut Faults) {
    settings.max_connections = tcp.take("maxConnections").and_then(|node| limit(&node, faults));
    settings.connect_timeout = tcp.take("connectTimeout").and_then(|node| node.duration(faults, up_to_a_day));
    settings.tcp_keepalive = tcp.take("tcpKeepalive").and_then(|node| read_keepalive(&node, faults));
    settings.tcp_idle_timeout =
        tcp.take("idleTimeout").and_then(|node| node.duration(faults, positive_or_zero));
    settings.max_connection_duration =
        tcp.take("maxConnectionDuration").and_then(|node| node.duration(faults, positive));
    tcp.finish(&[], faults);
}

fn read_http(settings: &mut PoolSettings, mut http: Fields<'_>, faults: &mut Faults) {
    let mut bound = |name| http.take(name).and_then(|node| limit(&node, faults));
    settings.http1_max_pending_requests = bound("http1MaxPendingRequests");
    settings.http2_max_requests = bound("http2MaxRequests");
    settings.max_retries = bound("maxRetries");
    settings.max_concurrent_streams = bound("maxConcurrentStreams");
    settings.max_requests_per_connection =
        http.take("maxRequestsPerConnection").and_then(|node| node.integer(faults, 0..=MAX_NUMBER));
    settings.http_idle_timeout = http.take("idleTimeout").and_then(|node| node.duration(faults, positive));
    settings.h2_upgrade = http.take("h2UpgradePolicy").and_then(|node| {
        let (no, yes) = (H2Upgrade::No, H2Upgrade::Yes);
        node.word(faults, &[("DEFAULT", no), ("DO_NOT_UPGRADE", no), ("UPGRADE", yes)])
    });
    settings.use_client_protocol = http.take("useClientProtocol").and_then(|node| node.boolean(faults));
    settings.http2_keepalive =
        http.take("http2KeepAlive").and_then(|node| read_http2_keepalive(&node, faults));
    http.finish(&[], faults);
}

/// A bound. 0 is no bound, as in Istio, where 0 and nothing are the same.
fn limit(node: &Node<'_>, faults: &mut Faults) -> Option<u32> {
    node.integer(faults, 0..=MAX_NUMBER).map(|number| if number == 0 { u32::MAX } else { number })
}

fn read_keepalive(node: &Node<'_>, faults: &mut Faults) -> Option<TcpKeepalive> {
    let mut fields = node.fields(faults)?;
    let probes: Option<u32> =
        fields.take("probes").and_then(|node| node.integer(faults, 0..=MAX_KEEPALIVE_PROBES));
    let time = fields.take("time").and_then(|node| node.duration(faults, keepalive));
    let interval = fields.take("interval").and_then(|node| node.duration(faults, keepalive));
    fields.finish(&[], faults);
    Some(TcpKeepalive { probes: probes.filter(|probes| *probes > 0), time, interval })
}

/// `{interval, timeout}`. Without an interval nothing would be probed: it is asked for.
fn read_http2_keepalive(node: &Node<'_>, faults: &mut Faults) -> Option<Http2Keepalive> {
    let mut fields = node.fields(faults)?;
    let interval = fields.require("interval", faults).and_then(|node| node.duration(faults, up_to_a_day));
    let timeout = fields.take("timeout").map(|node| node.duration(faults, up_to_a_day));
    fields.finish(&[], faults);
    let timeout = timeout.unwrap_or(Some(Http2Keepalive::default().timeout));
    Some(Http2Keepalive { interval: interval?, timeout: timeout? })
}

fn keepalive(text: &str) -> Result<Duration, String> {
    let time = istio_duration(text)?;
    let whole = time.subsec_nanos() == 0 && !time.is_zero();
    if whole && time <= MAX_KEEPALIVE {
        Ok(time)
    } else {
        Err("not whole seconds from 1s to 32767s".to_owned())
    }
}

pub(in super::super) fn up_to_a_day(text: &str) -> Result<Duration, String> {
    let timeout = istio_duration(text)?;
    if timeout.is_zero() || timeout > A_DAY { Err("not between 1ms and 24h".to_owned()) } else { Ok(timeout) }
}

/// A duration that is not zero.
pub(super) fn positive(text: &str) -> Result<Duration, String> {
    let time = positive_or_zero(text)?;
    if time.is_zero() { Err("not between 1ms and 87600h".to_owned()) } else { Ok(time) }
}

fn positive_or_zero(text: &str) -> Result<Duration, String> {
    let time = istio_duration(text)?;
    if time > MAX_DURATION { Err("longer than 87600h".to_owned()) } else { Ok(time) }
}
