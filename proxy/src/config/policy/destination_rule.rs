//! DestinationRule: how a service is reached: TLS, pool limits and subsets.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_identity::SpiffeId;
use rustls_pki_types::ServerName;

use super::host::HostPattern;
use super::resource::Meta;
use super::service_entry::read_subject_alt_names;
use crate::config::decode::{Fields, Node};
use crate::config::report::{Faults, Place, quoted};
use crate::config::values::{dns_label, duration, host, labels};
use crate::route::PoolLimits;

const UNSUPPORTED: [&str; 2] = ["exportTo", "workloadSelector"];
const UNSUPPORTED_IN_POLICY: [&str; 5] =
    ["loadBalancer", "outlierDetection", "proxyProtocol", "retryBudget", "tunnel"];
const UNSUPPORTED_IN_TLS: [&str; 6] =
    ["caCertificates", "caCrl", "clientCertificate", "credentialName", "insecureSkipVerify", "privateKey"];
const UNSUPPORTED_IN_TCP: [&str; 3] = ["idleTimeout", "maxConnectionDuration", "tcpKeepalive"];
const UNSUPPORTED_IN_HTTP: [&str; 6] = [
    "h2UpgradePolicy",
    "idleTimeout",
    "maxConcurrentStreams",
    "maxRequestsPerConnection",
    "maxRetries",
    "useClientProtocol",
];
/// Istio's numbers are signed.
const MAX_NUMBER: u64 = 2_147_483_647;
/// A day: a longer wait for a connection is a typing error.
const MAX_CONNECT_TIMEOUT: Duration = Duration::from_secs(86_400);

/// One validated DestinationRule.
pub(super) struct DestinationRule {
    pub(super) meta: Meta,
    pub(super) host: HostPattern,
    pub(super) host_place: Place,
    policy: TrafficPolicy,
    subsets: BTreeMap<String, Subset>,
}

/// A named part of the service's endpoints.
pub(super) struct Subset {
    pub(super) labels: BTreeMap<String, String>,
    policy: TrafficPolicy,
}

#[derive(Default)]
struct TrafficPolicy {
    all: Settings,
    ports: BTreeMap<u16, Settings>,
}

/// What a traffic policy may set; what it leaves out is inherited, field by field.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    plaintext: Option<bool>,
    pub(super) sni: Option<ServerName<'static>>,
    pub(super) subject_alt_names: Option<Vec<SpiffeId>>,
    max_connections: Option<u32>,
    connect_timeout: Option<Duration>,
    http1_max_pending_requests: Option<u32>,
    http2_max_requests: Option<u32>,
}

impl Settings {
    fn or(self, wider: &Self) -> Self {
        Self {
            plaintext: self.plaintext.or(wider.plaintext),
            sni: self.sni.or_else(|| wider.sni.clone()),
            subject_alt_names: self.subject_alt_names.or_else(|| wider.subject_alt_names.clone()),
            max_connections: self.max_connections.or(wider.max_connections),
            connect_timeout: self.connect_timeout.or(wider.connect_timeout),
            http1_max_pending_requests: self.http1_max_pending_requests.or(wider.http1_max_pending_requests),
            http2_max_requests: self.http2_max_requests.or(wider.http2_max_requests),
        }
    }

    /// Mutual TLS unless DISABLE is written: an omitted mode never means plaintext.
    pub(super) fn is_plaintext(&self) -> bool {
        self.plaintext.unwrap_or(false)
    }

    pub(super) fn limits(&self) -> PoolLimits {
        let default = PoolLimits::default();
        PoolLimits {
            max_connections: self.max_connections.unwrap_or(default.max_connections),
            connect_timeout: self.connect_timeout.unwrap_or(default.connect_timeout),
            http1_max_pending_requests: self
                .http1_max_pending_requests
                .unwrap_or(default.http1_max_pending_requests),
            http2_max_requests: self.http2_max_requests.unwrap_or(default.http2_max_requests),
        }
    }
}

impl DestinationRule {
    /// The settings for a port: the subset's own first, and of each policy those of the port first.
    pub(super) fn settings(&self, port: u16, subset: Option<&Subset>) -> Settings {
        let policies = subset.map(|subset| &subset.policy).into_iter().chain([&self.policy]);
        let narrowest_first =
            policies.flat_map(|policy| policy.ports.get(&port).into_iter().chain([&policy.all]));
        narrowest_first.fold(Settings::default(), Settings::or)
    }

    pub(super) fn subset(&self, name: &str) -> Option<&Subset> {
        self.subsets.get(name)
    }

    fn policies(&self) -> impl Iterator<Item = &TrafficPolicy> {
        self.subsets.values().map(|subset| &subset.policy).chain([&self.policy])
    }

    fn has_exceptions(&self) -> bool {
        let mut settings = self.policies().flat_map(|policy| policy.ports.values().chain([&policy.all]));
        settings.any(Settings::is_plaintext)
    }

    /// Whether the rule makes, or may make, `port` an exception.
    fn is_exception(&self, port: u16) -> bool {
        self.policies().any(|policy| {
            policy.ports.get(&port).unwrap_or(&policy.all).plaintext.or(policy.all.plaintext) == Some(true)
        })
    }
}

pub(super) fn read(meta: Meta, mut spec: Fields<'_>, faults: &mut Faults) -> Option<DestinationRule> {
    let host = spec.require("host", faults).and_then(|node| {
        Some((node.parsed(faults, |text| HostPattern::parse(text, &meta.namespace))?, node.place()))
    });
    let policy = spec.take("trafficPolicy").map(|node| read_policy(&node, faults)).unwrap_or_default();
    let mut subsets = BTreeMap::new();
    for node in spec.take("subsets").map(|node| node.items(faults)).unwrap_or_default() {
        let Some((name, subset)) = read_subset(&node, faults) else { continue };
        if subsets.contains_key(&name) {
            node.fault(faults, format!("the subset {} appears twice", quoted(&name)));
        }
        subsets.insert(name, subset);
    }
    spec.finish(&UNSUPPORTED, faults);
    let (host, host_place) = host?;
    let rule = DestinationRule { meta, host, host_place, policy, subsets };
    rule.meta.check_plans(|port| rule.is_exception(port), faults);
    if !matches!(rule.host, HostPattern::Exact(_)) && rule.has_exceptions() {
        faults.add(
            rule.host_place.clone(),
            "DISABLE for a family of hosts is refused: write a DestinationRule for each host that needs plaintext",
        );
    }
    Some(rule)
}

fn read_subset(node: &Node<'_>, faults: &mut Faults) -> Option<(String, Subset)> {
    let mut fields = node.fields(faults)?;
    let name = fields.require("name", faults).and_then(|node| node.parsed(faults, dns_label));
    let labels = fields.take("labels").map(|node| labels(&node, faults)).unwrap_or_default();
    let policy = fields.take("trafficPolicy").map(|node| read_policy(&node, faults)).unwrap_or_default();
    fields.finish(&[], faults);
    Some((name?, Subset { labels, policy }))
}

fn read_policy(node: &Node<'_>, faults: &mut Faults) -> TrafficPolicy {
    let Some(mut fields) = node.fields(faults) else { return TrafficPolicy::default() };
    let all = read_settings(&mut fields, faults);
    let mut ports = BTreeMap::new();
    for node in fields.take("portLevelSettings").map(|node| node.items(faults)).unwrap_or_default() {
        let Some((port, settings)) = read_port_level(&node, faults) else { continue };
        if ports.insert(port, settings).is_some() {
            node.fault(faults, format!("port {port} appears twice"));
        }
    }
    fields.finish(&UNSUPPORTED_IN_POLICY, faults);
    TrafficPolicy { all, ports }
}

fn read_port_level(node: &Node<'_>, faults: &mut Faults) -> Option<(u16, Settings)> {
    let mut fields = node.fields(faults)?;
    let port = fields.require("port", faults).and_then(|node| read_port_number(&node, faults));
    let settings = read_settings(&mut fields, faults);
    fields.finish(&UNSUPPORTED_IN_POLICY, faults);
    Some((port?, settings))
}

/// `{number: PORT}`.
pub(super) fn read_port_number(node: &Node<'_>, faults: &mut Faults) -> Option<u16> {
    let mut fields = node.fields(faults)?;
    let number = fields.require("number", faults).and_then(|node| node.port(faults));
    fields.finish(&[], faults);
    number
}

fn read_settings(fields: &mut Fields<'_>, faults: &mut Faults) -> Settings {
    let mut settings = Settings::default();
    if let Some(mut tls) = fields.take("tls").and_then(|node| node.fields(faults)) {
        settings.plaintext = tls.take("mode").and_then(|node| read_tls_mode(&node, faults));
        let server_name =
            |text: &str| ServerName::try_from(host(text)?).map_err(|_| "not a DNS name".to_owned());
        settings.sni = tls.take("sni").and_then(|node| node.parsed(faults, server_name));
        settings.subject_alt_names =
            tls.take("subjectAltNames").map(|node| read_subject_alt_names(&node, faults));
        tls.finish(&UNSUPPORTED_IN_TLS, faults);
    }
    let Some(mut pool) = fields.take("connectionPool").and_then(|node| node.fields(faults)) else {
        return settings;
    };
    if let Some(mut tcp) = pool.take("tcp").and_then(|node| node.fields(faults)) {
        settings.max_connections =
            tcp.take("maxConnections").and_then(|node| node.integer(faults, 1..=MAX_NUMBER));
        settings.connect_timeout =
            tcp.take("connectTimeout").and_then(|node| node.duration(faults, connect_timeout));
        tcp.finish(&UNSUPPORTED_IN_TCP, faults);
    }
    if let Some(mut http) = pool.take("http").and_then(|node| node.fields(faults)) {
        let mut number = |name| http.take(name).and_then(|node| node.integer(faults, 1..=MAX_NUMBER));
        settings.http1_max_pending_requests = number("http1MaxPendingRequests");
        settings.http2_max_requests = number("http2MaxRequests");
        http.finish(&UNSUPPORTED_IN_HTTP, faults);
    }
    pool.finish(&[], faults);
    settings
}

fn connect_timeout(text: &str) -> Result<Duration, String> {
    let timeout = duration(text)?;
    if timeout.is_zero() || timeout > MAX_CONNECT_TIMEOUT {
        Err("not between 1ms and 24h".to_owned())
    } else {
        Ok(timeout)
    }
}

/// Whether the mode means plaintext.
fn read_tls_mode(node: &Node<'_>, faults: &mut Faults) -> Option<bool> {
    let text = node.text(faults)?;
    match text {
        "ISTIO_MUTUAL" => return Some(false),
        "DISABLE" => return Some(true),
        "MUTUAL" | "SIMPLE" => {
            node.fault(
                faults,
                format!("not supported: mode {text}; write ISTIO_MUTUAL, certificates are managed"),
            );
        }
        other => {
            node.fault(faults, format!("{} is not a mode: write ISTIO_MUTUAL or DISABLE", quoted(other)))
        }
    }
    None
}
