//! ServiceEntry: the services that exist, their addresses, ports and endpoints.

mod endpoints;
mod ports;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use portcullis_identity::SpiffeId;

use super::host::Exports;
use super::resource::Meta;
use crate::config::decode::{Fields, Node};
use crate::config::report::{Faults, Place, quoted};
use crate::config::values::{host, ip_address};
use crate::route::{Endpoint, EndpointAddr, Resolution};
use endpoints::EndpointSpec;

pub(super) use ports::ServicePort;

const REFUSED: [(&str, &str); 1] =
    [("workloadSelector", "nobody here knows all workloads: write their addresses as endpoints")];

/// One validated ServiceEntry.
pub(super) struct ServiceEntry {
    pub(super) meta: Meta,
    pub(super) hosts: Vec<(String, Place)>,
    pub(super) addresses: Vec<(IpAddr, Place)>,
    pub(super) ports: Vec<ServicePort>,
    pub(super) resolution: Resolution,
    exports: Exports,
    endpoints: Vec<EndpointSpec>,
    /// `None`: not said. Empty only after a fault.
    pub(super) subject_alt_names: Option<Vec<SpiffeId>>,
}

impl ServiceEntry {
    /// Where the port's servers are. With resolution NONE that is wherever the app dials, and with resolution DNS
    /// and no endpoints wherever the names of the hosts lead.
    pub(super) fn endpoints(&self, port: &ServicePort) -> Vec<Endpoint> {
        let plain = |addr| Endpoint { addr, labels: BTreeMap::new(), weight: 1 };
        match self.resolution {
            Resolution::Original => {
                let at = |address: IpAddr| EndpointAddr::Socket(SocketAddr::new(address, port.number));
                self.addresses.iter().map(|(address, _)| plain(at(*address))).collect()
            }
            Resolution::Dns if self.are_hosts_the_servers() => {
                let at = |host: &str| EndpointAddr::Name(Arc::from(host), port.target);
                self.hosts.iter().map(|(host, _)| plain(at(host))).collect()
            }
            Resolution::Static | Resolution::Dns => {
                self.endpoints.iter().map(|endpoint| endpoint.at(port)).collect()
            }
        }
    }

    /// Whether each host is looked up itself, for want of endpoints.
    pub(super) fn are_hosts_the_servers(&self) -> bool {
        self.resolution == Resolution::Dns && self.endpoints.is_empty()
    }

    /// The service accounts that the endpoints run as; `None` when they do not say.
    pub(super) fn service_accounts(&self) -> Option<Vec<&str>> {
        let accounts = self.endpoints.iter().map(|endpoint| endpoint.service_account.as_deref());
        accounts.collect::<Option<Vec<_>>>().filter(|accounts| !accounts.is_empty())
    }

    /// Whether workloads of `namespace` may see it.
    pub(super) fn is_for(&self, namespace: &str) -> bool {
        self.exports.reach(namespace, &self.meta.namespace)
    }
}

pub(super) fn read(meta: Meta, mut spec: Fields<'_>, faults: &mut Faults) -> Option<ServiceEntry> {
    let hosts = spec.require("hosts", faults).map(|node| read_hosts(&node, faults));
    let addresses = spec
        .take("addresses")
        .map(|node| node.list(faults, |node, faults| Some((node.parsed(faults, ip_address)?, node.place()))));
    let addresses = addresses.unwrap_or_default();
    let ports = spec.require("ports", faults).map(|node| ports::read(&node, faults));
    let resolution_node = spec.require("resolution", faults);
    let resolution = resolution_node.as_ref().and_then(|node| read_resolution(node, faults));
    if let Some(location) = spec.take("location") {
        // Either way mutual TLS is used and the identities have to be known: the word changes nothing here.
        location.word(faults, &[("MESH_EXTERNAL", ()), ("MESH_INTERNAL", ())]);
    }
    let exports = spec.take("exportTo").map(|node| Exports::read(&node, faults)).unwrap_or_default();
    let endpoints_node = spec.take("endpoints");
    let endpoints = endpoints_node
        .as_ref()
        .map(|node| endpoints::read(node, ports.as_deref().unwrap_or_default(), resolution, faults))
        .unwrap_or_default();
    let names_node = spec.take("subjectAltNames");
    if let (Some(node), Some(_)) = (&names_node, endpoints.iter().find(|e| e.service_account.is_some())) {
        node.fault(faults, "the endpoints name service accounts already: write one or the other");
    }
    let subject_alt_names = names_node.map(|node| read_subject_alt_names(&node, faults));
    let several = endpoints.len() > 1;
    if several && resolution_node.is_some_and(|node| node.is_the_text("DNS_ROUND_ROBIN")) {
        spec.node().fault(faults, "resolution DNS_ROUND_ROBIN takes one endpoint: write DNS for several");
    }
    check_resolution(resolution, endpoints_node.as_ref(), addresses.is_empty(), spec.node(), faults);
    spec.refuse(&REFUSED, faults);
    spec.finish(&[], faults);
    Some(ServiceEntry {
        meta,
        hosts: hosts?,
        addresses,
        ports: ports?,
        resolution: resolution?,
        exports,
        endpoints,
        subject_alt_names,
    })
}

fn check_resolution(
    resolution: Option<Resolution>,
    endpoints: Option<&Node<'_>>,
    no_addresses: bool,
    spec: &Node<'_>,
    faults: &mut Faults,
) {
    match (resolution, endpoints) {
        (Some(Resolution::Static), None) => {
            spec.fault(faults, "resolution STATIC needs endpoints: write endpoints: [{address: IP}]");
        }
        (Some(Resolution::Static), Some(node)) if node.is_empty_list() => {
            node.fault(faults, "resolution STATIC needs endpoints: write endpoints: [{address: IP}]");
        }
        (Some(Resolution::Original), Some(node)) => {
            node.fault(
                faults,
                "resolution NONE dials what the app dialled: write STATIC, or remove the endpoints",
            );
        }
        (Some(Resolution::Original), None) if no_addresses => {
            spec.fault(faults, "resolution NONE needs addresses: without one nothing leads to the service");
        }
        _ => {}
    }
}

fn read_hosts(node: &Node<'_>, faults: &mut Faults) -> Vec<(String, Place)> {
    let full = |text: &str| match text {
        _ if text.starts_with('*') => Err(
            "not supported: a service with a wildcard host, nobody can say who answers for it; write each \
                 host"
                .to_owned(),
        ),
        _ if !text.contains('.') => {
            Err("write the full name, such as api.production.svc.cluster.local".to_owned())
        }
        _ => host(text),
    };
    let hosts = node.list(faults, |node, faults| Some((node.parsed(faults, full)?, node.place())));
    not_empty(node, "hosts", faults);
    hosts
}

/// A fault for a list with nothing in it.
fn not_empty(node: &Node<'_>, what: &str, faults: &mut Faults) {
    if node.is_empty_list() {
        node.fault(faults, format!("{what} must not be empty"));
    }
}

fn read_resolution(node: &Node<'_>, faults: &mut Faults) -> Option<Resolution> {
    match node.text(faults)? {
        "STATIC" => Some(Resolution::Static),
        "NONE" => Some(Resolution::Original),
        // Round robin in Istio's sense takes one address of many for each connection: the balancer does so too.
        "DNS" | "DNS_ROUND_ROBIN" => Some(Resolution::Dns),
        "DYNAMIC_DNS" => {
            node.fault(
                faults,
                "not supported: DYNAMIC_DNS, it follows a name that the client chooses; write DNS and each host",
            );
            None
        }
        other => {
            node.fault(faults, format!("{} is not known: write STATIC, DNS or NONE", quoted(other)));
            None
        }
    }
}

/// The SPIFFE IDs that a server may have. An empty list is a fault: it never means any.
pub(super) fn read_subject_alt_names(node: &Node<'_>, faults: &mut Faults) -> Vec<SpiffeId> {
    let identity = |text: &str| {
        let id = SpiffeId::parse(text).map_err(|defect| defect.to_string())?;
        if id.path().is_empty() { Err("the SPIFFE ID has no path".to_owned()) } else { Ok(id) }
    };
    if node.is_empty_list() {
        node.fault(faults, "an empty list never means any: write a SPIFFE ID, or remove the field");
    }
    node.list(faults, |node, faults| node.parsed(faults, identity))
}
