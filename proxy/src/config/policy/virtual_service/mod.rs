//! VirtualService: ordered routes by who calls and what is asked, to weighted destinations or to an answer.
//!
//! Field by field as Istio has it. What is refused has its reason here; what is read and what the request is
//! matched against is `route`'s.

mod answers;
mod faults;
mod headers;
mod http;
mod matching;
mod retries;
mod rewrite;
mod targets;
mod tcp;
mod values;

use super::PolicyScope;
use super::host::HostPattern;
use super::resource::Meta;
use crate::authz::RuleRef;
use crate::config::decode::{Fields, Node};
use crate::config::report::{Faults, Place};
use crate::config::values::dns_label;

pub(super) use self::http::{ActionSpec, ForwardSpec, HttpSpec};
pub(super) use targets::TargetSpec;
pub(super) use tcp::TcpSpec;

const REFUSED: [(&str, &str); 1] =
    [("tls", "TLS of the app's own travels inside of ours as a stream of bytes: route it with tcp")];
const NO_GATEWAYS: &str = "there are no gateways here: write mesh alone, or remove the field";
/// Istio's word for all sidecars.
const MESH: &str = "mesh";

/// One validated VirtualService.
pub(super) struct VirtualService {
    pub(super) meta: Meta,
    pub(super) hosts: Vec<(HostPattern, Place)>,
    /// `None`: HTTP is not spoken of.
    pub(super) http: Option<Vec<HttpSpec>>,
    /// `None`: TCP is not spoken of.
    pub(super) tcp: Option<Vec<TcpSpec>>,
    visible: Visible,
}

/// The namespaces whose workloads see the resource (`exportTo`).
enum Visible {
    Everywhere,
    In(Vec<String>),
}

impl VirtualService {
    /// Whether it is for the workloads of this one's namespace.
    pub(super) fn is_visible(&self, scope: &PolicyScope) -> bool {
        match &self.visible {
            Visible::Everywhere => true,
            Visible::In(namespaces) => namespaces.iter().any(|name| name == scope.workload.namespace()),
        }
    }

    /// Each route that follows one without conditions, with that one: no request ever gets there.
    pub(super) fn unreachable(&self) -> Vec<(RuleRef, RuleRef)> {
        let http = self.http.iter().map(|specs| {
            specs.iter().map(|spec| (spec.label.as_str(), spec.matches.are_always())).collect::<Vec<_>>()
        });
        let tcp = self.tcp.iter().map(|specs| {
            specs.iter().map(|spec| (spec.label.as_str(), spec.matches.are_always())).collect::<Vec<_>>()
        });
        let mut found = Vec::new();
        for routes in http.chain(tcp) {
            let mut always = None;
            for (label, is_always) in routes {
                let rule = self.meta.rule.with_remark(label);
                match &always {
                    Some(first) => found.push((rule, RuleRef::clone(first))),
                    None if is_always => always = Some(rule),
                    None => {}
                }
            }
        }
        found
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
    spec.refuse(&REFUSED, faults);
    spec.take("gateways").inspect(|node| read_gateways(node, faults));
    let visible = spec.take("exportTo").map(|node| read_export(&node, &meta.namespace, faults));
    let (http, tcp) = (spec.take("http"), spec.take("tcp"));
    if http.is_none() && tcp.is_none() {
        spec.node().fault(faults, "routes nothing: write http or tcp");
    }
    let http = http.map(|node| {
        read_routes(&node, "http", faults, |node, label, faults| {
            self::http::read(node, label, &meta.namespace, faults)
        })
    });
    let tcp = tcp.map(|node| {
        read_routes(&node, "tcp", faults, |node, label, faults| {
            tcp::read(node, label, &meta.namespace, faults)
        })
    });
    spec.finish(&[], faults);
    Some(VirtualService { meta, hosts: hosts?, http, tcp, visible: visible.unwrap_or(Visible::Everywhere) })
}

fn read_routes<T>(
    node: &Node<'_>,
    protocol: &str,
    faults: &mut Faults,
    read: impl Fn(&Node<'_>, &str, &mut Faults) -> Option<T>,
) -> Vec<T> {
    if node.is_empty_list() {
        node.fault(faults, format!("{protocol} must not be empty: nothing would be reachable"));
    }
    let items = node.items(faults).into_iter().enumerate();
    items.filter_map(|(index, item)| read(&item, &format!("{protocol}[{index}]"), faults)).collect()
}

/// Nothing but `[mesh]`: routes of a gateway are not for a sidecar.
fn read_gateways(node: &Node<'_>, faults: &mut Faults) {
    if node.is_empty_list() {
        node.fault(faults, "an empty list is for nobody: remove it, or write mesh");
    }
    for item in node.items(faults) {
        if item.text(faults).is_some_and(|text| text != MESH) {
            item.fault(faults, format!("not supported: gateways; {NO_GATEWAYS}"));
        }
    }
}

/// `*`, `.` and names of namespaces.
fn read_export(node: &Node<'_>, own: &str, faults: &mut Faults) -> Visible {
    if node.is_empty_list() {
        node.fault(faults, "an empty list is for nobody: remove it, or write \"*\" or \".\"");
    }
    let named = node.list(faults, |node, faults| match node.text(faults)? {
        "*" => Some(None),
        "." => Some(Some(own.to_owned())),
        _ => node.parsed(faults, dns_label).map(Some),
    });
    // One "*" is everybody, whatever stands beside it.
    named.into_iter().collect::<Option<Vec<_>>>().map_or(Visible::Everywhere, Visible::In)
}
