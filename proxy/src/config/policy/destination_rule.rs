//! DestinationRule: how a service is reached: TLS, pool limits, balancing and subsets.

mod balancing;
mod pool;
mod tls;

use std::collections::BTreeMap;
use std::path::Path;

use super::PolicyScope;
use super::host::{Exports, HostPattern};
use super::resource::Meta;
use crate::config::decode::{Fields, Node};
use crate::config::report::{Faults, Place, quoted};
use crate::config::values::{dns_label, labels};
use crate::route::{Balancer, OutlierDetection};

pub(super) use pool::{PoolSettings, up_to_a_day};
pub(super) use tls::{TlsMode, TlsSettings};

const REFUSED_IN_POLICY: [(&str, &str); 3] = [
    ("proxyProtocol", "who called is proven by the certificate; remove it"),
    ("retryBudget", "bound retries by connectionPool.http.maxRetries"),
    ("tunnel", "remove it, nothing is tunnelled through another proxy"),
];

/// One validated DestinationRule.
pub(super) struct DestinationRule {
    pub(super) meta: Meta,
    pub(super) host: HostPattern,
    pub(super) host_place: Place,
    exports: Exports,
    /// Labels of the clients that it is for, in its own namespace; `None`: it is for all clients.
    selector: Option<BTreeMap<String, String>>,
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

/// What a traffic policy may set; what it leaves out is inherited: limits and TLS settings one by one, the balancer
/// and the outlier detection as a block.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    pub(super) tls: TlsSettings,
    pub(super) pool: PoolSettings,
    balancer: Option<Balancer>,
    /// Written, and possibly with everything in it switched off.
    outliers: Option<Option<OutlierDetection>>,
}

impl Settings {
    fn or(self, wider: &Self) -> Self {
        Self {
            tls: self.tls.or(&wider.tls),
            pool: self.pool.or(&wider.pool),
            balancer: self.balancer.or(wider.balancer),
            outliers: self.outliers.or_else(|| wider.outliers.clone()),
        }
    }

    pub(super) fn balancer(&self) -> Balancer {
        self.balancer.unwrap_or_default()
    }

    pub(super) fn outliers(&self) -> Option<OutlierDetection> {
        self.outliers.clone().flatten()
    }
}

impl DestinationRule {
    /// The settings for a port: the subset's own first, and of each policy those of the port first.
    pub(super) fn settings(&self, port: u16, subset: Option<&Subset>) -> Settings {
        let policies = subset.map(|subset| &subset.policy).into_iter().chain([&self.policy]);
        let narrowest_first =
            policies.flat_map(|policy| policy.ports.get(&port).into_iter().chain([&policy.all]));
        let mut settings = narrowest_first.fold(Settings::default(), Settings::or);
        // An annotation is of the whole rule.
        settings.pool.queue_timeout = self.meta.queue_timeout;
        settings
    }

    pub(super) fn subset(&self, name: &str) -> Option<&Subset> {
        self.subsets.get(name)
    }

    /// Whether it is for this client: exported to its namespace, and its labels selected.
    pub(super) fn is_for(&self, scope: &PolicyScope) -> bool {
        let namespace = scope.workload.namespace();
        let selected = |labels: &BTreeMap<String, String>| {
            self.meta.namespace == namespace
                && labels.iter().all(|(key, value)| scope.labels.get(key) == Some(value))
        };
        self.exports.reach(namespace, &self.meta.namespace) && self.selector.as_ref().is_none_or(selected)
    }

    /// Whether it is for single clients: such a rule goes before one of the same host for all clients.
    pub(super) fn is_selective(&self) -> bool {
        self.selector.is_some()
    }

    /// Files that its TLS settings name.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let settings = self.policies().flat_map(|policy| policy.ports.values().chain([&policy.all]));
        settings.flat_map(|settings| settings.tls.files())
    }

    fn policies(&self) -> impl Iterator<Item = &TrafficPolicy> {
        self.subsets.values().map(|subset| &subset.policy).chain([&self.policy])
    }

    fn has_exceptions(&self) -> bool {
        let mut settings = self.policies().flat_map(|policy| policy.ports.values().chain([&policy.all]));
        settings.any(|settings| settings.tls.mode == Some(TlsMode::Disable))
    }

    /// Whether the rule makes, or may make, `port` an exception.
    fn is_exception(&self, port: u16) -> bool {
        self.policies().any(|policy| {
            let narrow = policy.ports.get(&port).unwrap_or(&policy.all).tls.mode;
            narrow.or(policy.all.tls.mode) == Some(TlsMode::Disable)
        })
    }
}

pub(super) fn read(meta: Meta, mut spec: Fields<'_>, faults: &mut Faults) -> Option<DestinationRule> {
    let host = spec.require("host", faults).and_then(|node| {
        Some((node.parsed(faults, |text| HostPattern::parse(text, &meta.namespace))?, node.place()))
    });
    let exports = spec.take("exportTo").map(|node| Exports::read(&node, faults)).unwrap_or_default();
    let selector = spec.take("workloadSelector").map(|node| read_selector(&node, faults));
    let mesh = TlsMode::IstioMutual;
    let policy = spec.take("trafficPolicy").map(|node| read_policy(&node, mesh, faults)).unwrap_or_default();
    let wider = policy.all.tls.mode.unwrap_or(mesh);
    let mut subsets = BTreeMap::new();
    for node in spec.take("subsets").map(|node| node.items(faults)).unwrap_or_default() {
        let Some((name, subset)) = read_subset(&node, wider, faults) else { continue };
        if subsets.contains_key(&name) {
            node.fault(faults, format!("the subset {} appears twice", quoted(&name)));
        }
        subsets.insert(name, subset);
    }
    spec.finish(&[], faults);
    let (host, host_place) = host?;
    let rule = DestinationRule { meta, host, host_place, exports, selector, policy, subsets };
    rule.meta.check_plans(|port| rule.is_exception(port), faults);
    if !matches!(rule.host, HostPattern::Exact(_)) && rule.has_exceptions() {
        faults.add(
            rule.host_place.clone(),
            "DISABLE for a family of hosts is refused: write a DestinationRule for each host that needs plaintext",
        );
    }
    Some(rule)
}

/// `{matchLabels: {...}}`.
fn read_selector(node: &Node<'_>, faults: &mut Faults) -> BTreeMap<String, String> {
    let Some(mut fields) = node.fields(faults) else { return BTreeMap::new() };
    let labels = fields.take("matchLabels").map(|node| labels(&node, faults)).unwrap_or_default();
    if labels.is_empty() && fields.is_finished() {
        node.fault(faults, "selects nobody in particular: remove it, or write matchLabels: {KEY: VALUE}");
    }
    fields.finish(&[], faults);
    labels
}

fn read_subset(node: &Node<'_>, wider: TlsMode, faults: &mut Faults) -> Option<(String, Subset)> {
    let mut fields = node.fields(faults)?;
    let name = fields.require("name", faults).and_then(|node| node.parsed(faults, dns_label));
    let labels = fields.take("labels").map(|node| labels(&node, faults)).unwrap_or_default();
    let policy =
        fields.take("trafficPolicy").map(|node| read_policy(&node, wider, faults)).unwrap_or_default();
    fields.finish(&[], faults);
    Some((name?, Subset { labels, policy }))
}

/// `wider` is the TLS mode that holds where none is written.
fn read_policy(node: &Node<'_>, wider: TlsMode, faults: &mut Faults) -> TrafficPolicy {
    let Some(mut fields) = node.fields(faults) else { return TrafficPolicy::default() };
    let all = read_settings(&mut fields, wider, faults);
    let wider = all.tls.mode.unwrap_or(wider);
    let mut ports = BTreeMap::new();
    for node in fields.take("portLevelSettings").map(|node| node.items(faults)).unwrap_or_default() {
        let Some((port, settings)) = read_port_level(&node, wider, faults) else { continue };
        if ports.insert(port, settings).is_some() {
            node.fault(faults, format!("port {port} appears twice"));
        }
    }
    fields.refuse(&REFUSED_IN_POLICY, faults);
    fields.finish(&[], faults);
    TrafficPolicy { all, ports }
}

fn read_port_level(node: &Node<'_>, wider: TlsMode, faults: &mut Faults) -> Option<(u16, Settings)> {
    let mut fields = node.fields(faults)?;
    let port = fields.require("port", faults).and_then(|node| read_port_number(&node, faults));
    let settings = read_settings(&mut fields, wider, faults);
    fields.refuse(&REFUSED_IN_POLICY, faults);
    fields.finish(&[], faults);
    Some((port?, settings))
}

/// `{number: PORT}`.
pub(super) fn read_port_number(node: &Node<'_>, faults: &mut Faults) -> Option<u16> {
    let mut fields = node.fields(faults)?;
    let number = fields.require("number", faults).and_then(|node| node.port(faults));
    fields.finish(&[], faults);
    number
}

fn read_settings(fields: &mut Fields<'_>, wider: TlsMode, faults: &mut Faults) -> Settings {
    Settings {
        tls: fields.take("tls").map(|node| tls::read(&node, wider, faults)).unwrap_or_default(),
        pool: fields.take("connectionPool").map(|node| pool::read(&node, faults)).unwrap_or_default(),
        balancer: fields.take("loadBalancer").and_then(|node| balancing::read_balancer(&node, faults)),
        outliers: fields.take("outlierDetection").map(|node| balancing::read_outliers(&node, faults)),
    }
}
