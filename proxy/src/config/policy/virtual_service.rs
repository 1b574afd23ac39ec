//! VirtualService: ordered routes by who calls and which port, to weighted destinations.

use std::collections::BTreeMap;

use super::PolicyScope;
use super::destination_rule::read_port_number;
use super::host::{HostPattern, full_name};
use super::resource::Meta;
use crate::config::decode::{Fields, Node};
use crate::config::report::{Faults, Place};
use crate::config::values::{dns_label, labels};

const UNSUPPORTED: [&str; 3] = ["exportTo", "gateways", "tls"];
const UNSUPPORTED_IN_HTTP: [&str; 13] = [
    "corsPolicy",
    "delegate",
    "directResponse",
    "fault",
    "headers",
    "mirror",
    "mirrorPercent",
    "mirrorPercentage",
    "mirrors",
    "redirect",
    "retries",
    "rewrite",
    "timeout",
];
const UNSUPPORTED_IN_MATCH: [&str; 12] = [
    "authority",
    "destinationSubnets",
    "gateways",
    "headers",
    "ignoreUriCase",
    "method",
    "name",
    "queryParams",
    "scheme",
    "statPrefix",
    "uri",
    "withoutHeaders",
];
/// Istio's numbers are signed.
const MAX_WEIGHT: u64 = 2_147_483_647;

/// One validated VirtualService.
pub(super) struct VirtualService {
    pub(super) meta: Meta,
    pub(super) hosts: Vec<(HostPattern, Place)>,
    /// `None`: HTTP is not spoken of.
    pub(super) http: Option<Vec<RouteSpec>>,
    /// `None`: TCP is not spoken of.
    pub(super) tcp: Option<Vec<RouteSpec>>,
}

/// One route as written.
pub(super) struct RouteSpec {
    /// `http[0]`, or `http[0] NAME`.
    pub(super) label: String,
    /// Alternatives; none: always.
    matches: Vec<Match>,
    pub(super) targets: Vec<TargetSpec>,
}

/// Conditions that must all hold.
struct Match {
    source_labels: BTreeMap<String, String>,
    source_namespace: Option<String>,
    port: Option<u16>,
}

/// One weighted destination as written.
pub(super) struct TargetSpec {
    pub(super) host: String,
    pub(super) subset: Option<String>,
    /// `None`: the port that was asked for.
    pub(super) port: Option<u16>,
    pub(super) weight: u32,
    pub(super) place: Place,
}

impl RouteSpec {
    /// Whether the route is for this workload when it asks for `port`.
    pub(super) fn applies(&self, scope: &PolicyScope, port: u16) -> bool {
        self.matches.is_empty() || self.matches.iter().any(|conditions| conditions.hold(scope, port))
    }
}

impl Match {
    fn hold(&self, scope: &PolicyScope, port: u16) -> bool {
        self.port.is_none_or(|wanted| wanted == port)
            && self.source_namespace.as_ref().is_none_or(|namespace| namespace == scope.workload.namespace())
            && self.source_labels.iter().all(|(key, value)| scope.labels.get(key) == Some(value))
    }
}

pub(super) fn read(meta: Meta, mut spec: Fields<'_>, faults: &mut Faults) -> Option<VirtualService> {
    let hosts_node = spec.require("hosts", faults);
    let hosts = hosts_node.as_ref().map(|node| {
        let pattern = |text: &str| HostPattern::parse(text, &meta.namespace);
        node.list(faults, |node, faults| Some((node.parsed(faults, pattern)?, node.place())))
    });
    if let Some(node) = hosts_node.filter(Node::is_empty_list) {
        node.fault(faults, "hosts must not be empty");
    }
    let http = spec.take("http");
    let tcp = spec.take("tcp");
    if http.is_none() && tcp.is_none() {
        spec.node().fault(faults, "routes nothing: write http or tcp");
    }
    let http = http.map(|node| read_routes(&node, "http", &meta.namespace, faults));
    let tcp = tcp.map(|node| read_routes(&node, "tcp", &meta.namespace, faults));
    spec.finish(&UNSUPPORTED, faults);
    Some(VirtualService { meta, hosts: hosts?, http, tcp })
}

fn read_routes(node: &Node<'_>, protocol: &str, namespace: &str, faults: &mut Faults) -> Vec<RouteSpec> {
    if node.is_empty_list() {
        node.fault(faults, format!("{protocol} must not be empty: nothing would be reachable"));
    }
    let items = node.items(faults).into_iter().enumerate();
    let read = |(index, item): (usize, Node<'_>)| {
        read_route(&item, &format!("{protocol}[{index}]"), namespace, faults)
    };
    items.filter_map(read).collect()
}

fn read_route(node: &Node<'_>, label: &str, namespace: &str, faults: &mut Faults) -> Option<RouteSpec> {
    let mut fields = node.fields(faults)?;
    let name = fields.take("name").and_then(|node| node.parsed(faults, dns_label));
    let matches = fields.take("match").map(|node| {
        if node.is_empty_list() {
            node.fault(faults, "an empty list matches nothing: remove it to match everything");
        }
        node.list(faults, read_match)
    });
    let targets = fields.require("route", faults).map(|node| read_targets(&node, namespace, faults));
    fields.finish(&UNSUPPORTED_IN_HTTP, faults);
    let label = name.map_or_else(|| label.to_owned(), |name| format!("{label} {name}"));
    Some(RouteSpec { label, matches: matches.unwrap_or_default(), targets: targets? })
}

fn read_match(node: &Node<'_>, faults: &mut Faults) -> Option<Match> {
    let mut fields = node.fields(faults)?;
    let source_labels = fields.take("sourceLabels").map(|node| labels(&node, faults));
    let source_namespace = fields.take("sourceNamespace").map(|node| node.parsed(faults, dns_label));
    let port = fields.take("port").map(|node| node.port(faults));
    let says_nothing =
        source_labels.as_ref().is_none_or(BTreeMap::is_empty) && source_namespace.is_none() && port.is_none();
    if says_nothing && fields.is_finished() {
        node.fault(faults, "an empty condition: remove it, or write sourceLabels, sourceNamespace or port");
    }
    fields.finish(&UNSUPPORTED_IN_MATCH, faults);
    Some(Match {
        source_labels: source_labels.unwrap_or_default(),
        source_namespace: source_namespace.map_or(Some(None), |value| value.map(Some))?,
        port: port.map_or(Some(None), |value| value.map(Some))?,
    })
}

fn read_targets(node: &Node<'_>, namespace: &str, faults: &mut Faults) -> Vec<TargetSpec> {
    let items = node.items(faults);
    let alone = items.len() == 1;
    let targets: Vec<TargetSpec> =
        items.iter().filter_map(|item| read_target(item, alone, namespace, faults)).collect();
    if node.is_empty_list() {
        node.fault(faults, "a route needs a destination");
    } else if targets.len() == items.len() && targets.iter().all(|target| target.weight == 0) {
        node.fault(faults, "all weights are 0: nothing would be reachable");
    }
    targets
}

/// A destination that stands alone gets everything, whatever its weight (as in Istio).
fn read_target(node: &Node<'_>, alone: bool, namespace: &str, faults: &mut Faults) -> Option<TargetSpec> {
    let mut fields = node.fields(faults)?;
    let destination = fields.require("destination", faults);
    let weight = match (fields.take("weight"), alone) {
        (Some(node), _) => node.integer(faults, 0..=MAX_WEIGHT).map(|weight| if alone { 1 } else { weight }),
        (None, true) => Some(1),
        (None, false) => {
            node.fault(faults, "weight is missing: with several destinations each needs one");
            None
        }
    };
    fields.finish(&["headers"], faults);
    let destination = destination?;
    let mut fields = destination.fields(faults)?;
    let full = |text: &str| full_name(text, namespace);
    let host = fields.require("host", faults).and_then(|node| node.parsed(faults, full));
    let subset = fields.take("subset").map(|node| node.parsed(faults, dns_label));
    let port = fields.take("port").map(|node| read_port_number(&node, faults));
    fields.finish(&[], faults);
    Some(TargetSpec {
        host: host?,
        subset: subset.map_or(Some(None), |value| value.map(Some))?,
        port: port.map_or(Some(None), |value| value.map(Some))?,
        weight: weight?,
        place: destination.place(),
    })
}
